"""Several seats that learn in one match: whose reward is whose, what counts as one match, who is asked with whom."""

import dataclasses
from typing import ClassVar

import pytest

from lapwing.core.types import Transition
from lapwing.games.rotated import Rotated
from lapwing.games.snake import Snake
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.agent import InvalidRule
from lapwing.policies.baselines import Random
from lapwing.rollout.collector import LocalCollector
from lapwing.rollout.ledger import count_matches
from lapwing.rollout.play import play
from lapwing.samplers.grouped import Grouped


@dataclasses.dataclass(frozen=True)
class Turns:
    """Two players count up in turn; every move pays the mover 1 and the other 10 times the count."""

    length: int = 3
    num_players: ClassVar[int] = 2
    reward_range: ClassVar[tuple[float, float]] = (0.0, 100.0)
    restorable: ClassVar[bool] = True

    def initial(self, rng):
        return 0

    def players(self, state):
        return (state % 2,)

    def view(self, state, player):
        return ("count", state, player)

    def legal(self, state, player):
        return ("on",)

    def step(self, state, actions, rng):
        mover = state % 2
        ended = state + 1 == self.length
        outcome = {0: 0.5, 1: -0.5} if ended else None
        return Transition(state + 1, {mover: 1.0, 1 - mover: 10.0 * state}, terminated=ended, outcome=outcome)


def drawn(game, **settings):
    return Grouped(game, seed=1, **{"groups": 2, "group_size": 3, "max_steps": 9, **settings}).draw(0)


def collector(policy=None, **settings):
    policy = policy or Random()
    return LocalCollector(policy, opponents={1: policy}, learners=(0, 1), invalid=InvalidRule(), **settings)


def test_each_seat_gets_its_own_rewards():
    (match, *_) = drawn(Turns())
    first, second = collector().play([match])
    # Moves 0, 1, 2 are of seats 0, 1, 0. To seat 0: 1, then 10 · 1 between its decisions, then 1; and 0.5 at the end.
    # To seat 1: 10 · 0 before its first decision is nobody's; 1, then 10 · 2 after its last; and −0.5 at the end.
    assert [step.reward for step in first.steps] == [11.0, 1.0]
    assert [step.reward for step in second.steps] == [21.0]
    assert (first.player, first.episode_return, second.player, second.episode_return) == (0, 12.5, 1, 20.5)


def test_episodes_come_match_by_match_and_seat_by_seat_in_groups_of_their_own():
    rollout = collector().collect(drawn(TicTacToe()))
    assert [(e.match.identifier, e.player) for e in rollout.episodes] == [
        (match.identifier, seat) for match in drawn(TicTacToe()) for seat in (0, 1)
    ]
    assert rollout.batch.group.tolist() == [0, 1] * 3 + [2, 3] * 3
    # What one wins the other loses.
    returns = rollout.batch.episode_return
    assert (returns[::2] == -returns[1::2]).all()
    assert returns.any()


# Fails when episodes are counted for matches: twelve of them came back, of six that were issued.
def test_a_match_is_counted_once_however_many_seats_learn():
    one = collector()
    one.collect(drawn(TicTacToe()))
    assert (one.ledger.issued, one.ledger.finished, one.dropped) == (6, 6, 0)
    # With one move only who begins has an episode, and the match is no less finished for that.
    short = collector()
    rollout = short.collect(drawn(TicTacToe(first=1), max_steps=1))
    assert [episode.player for episode in rollout.episodes] == [1] * 6
    assert (short.ledger.finished, short.dropped) == (6, 0)
    late = collector(deadline_seconds=0.0)
    assert late.play(drawn(TicTacToe())) == []
    assert (late.ledger.finished, late.ledger.dropped) == (0, 6)
    assert count_matches(rollout.episodes) == 6


class Counting(Random):
    """Notes how many decisions it is asked for at once."""

    def __init__(self):
        self.asked = []

    def act_many(self, asks):
        self.asked.append(len(asks))
        return super().act_many(asks)


def test_simultaneous_seats_are_asked_in_one_batch():
    policy = Counting()
    game = Snake(width=6, height=6, num_snakes=2)
    rollout = collector(policy).collect(drawn(game, max_steps=1))
    assert policy.asked == [12]
    assert rollout.batch.num_episodes == 12


def test_seats_of_one_policy_reply_with_noise_of_their_own():
    # Fails when a seat's key is left out: at the start of Snake all would move alike.
    episodes = collector().play(drawn(Snake(width=6, height=6, num_snakes=2), max_steps=1, groups=40))
    moves = [episode.steps[0].action for episode in episodes]
    assert 0.1 < sum(a == b for a, b in zip(moves[::2], moves[1::2], strict=True)) / 120 < 0.45


@pytest.mark.parametrize("seat", [0, 1])
def test_a_seat_that_forfeits_ends_the_match_for_both(seat):
    from lapwing.policies.baselines import _Baseline, plain_decision

    class Mute(_Baseline):
        def act_many(self, asks):
            return [(plain_decision("", valid=False, reason="nothing"), None) for _ in asks]

    policies = {seat: Mute(), 1 - seat: Random()}
    rule = InvalidRule("forfeit", penalty=2.0)
    (match, *_) = drawn(Snake(width=6, height=6, num_snakes=2))
    episodes = play([match], policies, learners=(0, 1), invalid=rule)
    assert [episode.episode_return for episode in episodes] == [-2.0 if player == seat else 0.0 for player in (0, 1)]
    assert [len(episode.steps) for episode in episodes] == [1, 1]


def test_rotated_seats_learn_too():
    rollout = collector().collect(drawn(Rotated(), groups=8))
    # Seat 0 begins in some groups, in all of their matches, and not in others.
    begins = {group.episodes[0].match.group: {len(e.steps) > 2 for e in group.episodes} for group in rollout.groups()}
    assert len(begins) == 8
