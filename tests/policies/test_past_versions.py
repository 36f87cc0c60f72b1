"""The pool of past versions: what is in it, and who is drawn from it."""

import types
from collections import Counter

import pytest

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.games.snake import Snake
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.agent import InvalidRule
from lapwing.policies.baselines import Random, _Baseline, plain_decision
from lapwing.policies.past_versions import NOW, PastSettings, PastVersions
from lapwing.rollout.play import play


class Frozen(Random):
    """A policy that knows which weights it was made of."""

    def __init__(self, weights):
        self.weights = weights
        self.forgotten = 0
        self.generator = types.SimpleNamespace(forget=self.forget)

    def forget(self):
        self.forgotten += 1


def pool(*, every=10, size=5, latest=0.5, current=None, made=None):
    """A pool whose weights are the number of copies that were taken so far."""
    copies = iter(range(1000))

    def freeze(weights):
        if made is not None:
            made.append(weights["w"])
        return Frozen(weights["w"])

    return PastVersions(
        current or Random(),
        PastSettings(every, size, latest),
        weights=lambda: {"w": next(copies)},
        freeze=freeze,
        invalid=InvalidRule("default"),
    )


def held(one):
    return [(version.iteration, version.weights["w"]) for version in one.versions]


def test_a_version_joins_every_so_often_and_the_oldest_leaves():
    one = pool(every=3, size=2)
    seen = []
    for iteration in range(8):
        one.note(iteration)
        seen.append([number for number, _ in held(one)])
    assert seen == [[0], [0], [0], [0, 3], [0, 3], [0, 3], [3, 6], [3, 6]]
    # An iteration that is played again, as after a fault, takes no second copy.
    one.note(6)
    assert held(one) == [(3, 1), (6, 2)]


def test_who_plays_is_drawn_by_a_key_of_the_match(make_match):
    one = pool(every=1, size=2, latest=0.25)
    for iteration in range(3):
        one.note(iteration)
    for group in range(60):
        match = make_match(group=group, member=3)
        height = rng.unit(rng.fold(0, "opponent", 0, "train", 0, group, "shared"))
        # A quarter for now, and half of the rest for each of the versions 1 and 2.
        expected = NOW if height < 0.25 else 1 if height < 0.625 else 2
        drawn = one.drawn(match)
        assert drawn.iteration == expected
        # The whole group shares its opponent, as it shares its chance.
        assert {one.drawn(make_match(group=group, member=member)).iteration for member in range(4)} == {expected}
    alone = Counter(
        one.drawn(make_match(group=0, member=member, share_chance=False)).iteration for member in range(2000)
    )
    for version, share in ((NOW, 0.25), (1, 0.375), (2, 0.375)):
        assert abs(alone[version] / 2000 - share) < 4 * (share * (1 - share) / 2000) ** 0.5


@pytest.mark.parametrize(("latest", "versions"), [(0.0, {0}), (1.0, {NOW})])
def test_the_ends_of_latest(make_match, latest, versions):
    one = pool(latest=latest)
    one.note(0)
    assert {one.drawn(make_match(group=group)).iteration for group in range(50)} == versions


def test_each_version_is_made_once_and_dropped_when_it_leaves(make_match):
    made = []
    one = pool(every=1, size=2, latest=0.0, made=made)
    one.note(0)
    first = one.drawn(make_match()).policy
    assert one.drawn(make_match(group=5)).policy is first
    assert made == [0]
    one.forget()
    assert first.forgotten == 1
    one.note(1)
    one.note(2)
    assert one.frozen == []
    # What is put back is what the pool was, whatever was made of it since.
    before = one.versions
    one.note(3)
    one.restore(before)
    assert held(one) == [(1, 1), (2, 2)]


class Named(_Baseline):
    """Plays the last legal action, and counts."""

    def __init__(self):
        self.count = 0

    def choose(self, ask):
        self.count += 1
        return ask.legal[-1]


def test_episodes_tell_against_which_version_they_were_played_and_are_the_learners_alone(make_match):
    one = pool(every=1, size=3, latest=0.3)
    for iteration in range(4):
        one.note(iteration)
    matches = [make_match(game=TicTacToe(), group=group, max_steps=9) for group in range(30)]
    learner = Named()
    episodes = play(matches, {0: learner, 1: one})
    assert [episode.player for episode in episodes] == [0] * 30
    assert [episode.opponent_version for episode in episodes] == [one.drawn(match).iteration for match in matches]
    assert {NOW, 1, 2, 3} == {episode.opponent_version for episode in episodes}
    # Who learns is nobody's opponent: all decisions of seat 0 and none of seat 1 are its own.
    assert learner.count == sum(len(episode.steps) for episode in episodes)


def test_without_a_pool_no_version_is_told(make_match):
    (episode,) = play([make_match(game=TicTacToe(), max_steps=9)], {0: Random(), 1: Random()})
    assert episode.opponent_version is None


def test_a_frozen_seat_replies_under_the_rule_of_the_learner(make_match):
    class Mute(_Baseline):
        def act_many(self, asks):
            return [(plain_decision("", valid=False, reason="nothing"), None) for _ in asks]

    one = PastVersions(
        Random(),
        PastSettings(latest=0.0),
        weights=dict,
        freeze=lambda _: Mute(),
        invalid=InvalidRule("forfeit"),
    )
    one.note(0)
    match = make_match(game=Snake(width=6, height=6, num_snakes=2), max_steps=5)
    (episode,) = play([match], {0: Random(), 1: one})
    # Fails when an opponent's invalid replies are played as its first action: the match would go on.
    assert (len(episode.steps), episode.terminated) == (1, True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"every": 0}, "at least 1"), ({"size": 0}, "from 1"), ({"latest": 1.5}, r"\[0, 1\]")],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        PastSettings(**settings)
