"""Rounds of play and review, with a sampler and a collector put in by hand, and through the loop."""

import dataclasses

import numpy as np
import pytest

from lapwing import build
from lapwing.core.errors import LapwingError, NothingPlayedError
from lapwing.core.rollout import Rollout
from lapwing.core.types import Decision, Episode, Step, Verdict
from lapwing.rollout.ledger import Ledger
from lapwing.training.loop import iterate
from lapwing.training.metrics import METRICS
from lapwing.training.review import play_and_review


def episode(match, reward, parts=None):
    decision = Decision("up", True, "up", np.arange(3, dtype=np.int32), np.arange(2, dtype=np.int32), np.zeros(2))
    step = Step(decision, "up", None, 1, 2, 3, reward, reward, parts or {})
    return Episode(match, 0, [step], True, False, success=reward > 0.0)


class Script:
    """Pays members what a function says, and keeps what it was asked to play."""

    def __init__(self, reward, parts=None):
        self.reward, self.parts = reward, parts or (lambda match: {})
        self.asked = []
        self.ledger = Ledger()

    def collect(self, matches):
        self.asked.append([(match.group, match.member) for match in matches])
        return Rollout.of([episode(match, self.reward(match), self.parts(match)) for match in matches])


class Again:
    """Asks once more for every group that failed, up to `most` times, under new numbers."""

    def __init__(self, make_match, most):
        self.make_match, self.most = make_match, most
        self.next, self.reviewed = 10, []

    def group(self, number, start):
        return [self.make_match(group=number, member=member, start=start) for member in range(2)]

    def review(self, group):
        match = group.episodes[0].match
        self.reviewed.append((group.index, match.group, group.success.tolist(), group.episode_return.tolist()))
        if group.success.any() or self.next >= 10 + self.most:
            return Verdict(accept=bool(group.success.any()))
        self.next += 1
        return Verdict(False, tuple(self.group(self.next - 1, match.start_address)))

    def metrics(self):
        return {"sampler/hint_ratio": 0.5}


# Group 0 succeeds; group 1 fails, and so does its first replay, 10, but not the second, 11.
def wins(match):
    return float(match.member == 1 and match.group in (0, 11))


def test_groups_are_replayed_until_nothing_is_asked_for_and_numbered_on(make_match):
    sampler, collector = Again(make_match, most=5), Script(wins)
    matches = [*sampler.group(0, (0, 0)), *sampler.group(1, (0, 1))]
    rollout, kept, metrics = play_and_review(sampler, collector, matches)
    assert collector.asked == [[(0, 0), (0, 1), (1, 0), (1, 1)], [(10, 0), (10, 1)], [(11, 0), (11, 1)]]
    # The index that a review sees is that of the round's own batch.
    assert sampler.reviewed == [
        (0, 0, [0.0, 1.0], [0.0, 1.0]),
        (1, 1, [0.0, 0.0], [0.0, 0.0]),
        (0, 10, [0.0, 0.0], [0.0, 0.0]),
        (0, 11, [0.0, 1.0], [0.0, 1.0]),
    ]
    assert rollout.batch.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert rollout.batch.match.tolist() == list(range(8))
    assert [one.match.group for one in rollout.episodes] == [0, 0, 1, 1, 10, 10, 11, 11]
    assert {one.match.start_address for one in rollout.episodes[2:]} == {(0, 1)}
    assert kept.tolist() == [True, True, False, False, False, False, True, True]
    assert metrics == {
        "sampler/rounds": 3,
        "sampler/replayed_groups": 2,
        "sampler/dropped_groups": 2,
        "sampler/unfiltered_success": 0.25,
        "sampler/hint_ratio": 0.5,
    }
    assert set(metrics) <= set(METRICS)


# Fails when the loop goes on although the sampler's cap is reached, or accepts what was not accepted.
def test_a_capped_sampler_ends_and_nothing_is_kept(make_match):
    sampler, collector = Again(make_match, most=3), Script(lambda match: 0.0)
    _, kept, metrics = play_and_review(sampler, collector, sampler.group(0, (0, 0)))
    assert len(collector.asked) == 4
    assert not kept.any()
    assert metrics["sampler/rounds"] == 4
    assert metrics["sampler/dropped_groups"] == 4


def test_a_number_that_was_played_already_is_refused(make_match):
    sampler = Again(make_match, most=5)
    sampler.next = 0
    with pytest.raises(LapwingError, match="Again asked for a group under a number that was played already"):
        play_and_review(sampler, Script(lambda match: 0.0), sampler.group(0, (0, 0)))


def test_a_sampler_without_metrics_logs_nothing_and_its_rollout_is_the_collectors(make_match):
    class Plain:
        def review(self, group):
            return Verdict()

    played = []

    class Kept(Script):
        def collect(self, matches):
            played.append(super().collect(matches))
            return played[-1]

    rollout, kept, metrics = play_and_review(Plain(), Kept(wins), [make_match(member=member) for member in range(2)])
    assert rollout is played[0]
    assert kept.all()
    assert metrics == {}


# Fails when batches of different columns are laid end to end as they are.
def test_a_part_of_the_reward_that_one_round_alone_saw_is_zero_in_the_other(make_match):
    sampler = Again(make_match, most=5)
    collector = Script(wins, lambda match: {"bonus": 2.0} if match.group == 11 else {})
    rollout, _, _ = play_and_review(sampler, collector, sampler.group(1, (0, 1)))
    assert rollout.batch.column("part:bonus").tolist() == [0.0] * 4 + [2.0] * 2
    again = Rollout.of(list(rollout.episodes)).batch
    assert set(again.extra) == set(rollout.batch.extra)
    for name in ("group", "match", "reward", "token", "context_splits", "token_splits", "step_splits"):
        assert getattr(rollout.batch, name).tolist() == getattr(again, name).tolist()


@pytest.fixture
def make_stage(small):
    """The main stage of a recipe, small; two iterations."""

    def make(recipe, *overrides):
        changes = [change for change in small if not change.startswith("iterations")]
        read = build.read_recipe(recipe, overrides=[*changes, "iterations=2", *overrides])
        plan = build.plan(read)[-1]
        return build.make_stage(plan, build.make_workshop(plan, read.seed))

    return make


def rows_of(stage):
    return list(iterate(stage, stage.make_learner(), 0, lambda rollout: None))


def what_repeats(row):
    return {name: value for name, value in row.items() if not name.startswith("time/")}


@pytest.mark.parametrize(
    "recipe", ["frozen_lake_fixed_dynamic", "frozen_lake_fixed_ghpo_text", "frozen_lake_fixed_policy_rollout"]
)
def test_the_loop_logs_the_review_and_repeats_to_the_last_bit(make_stage, recipe):
    first, second = rows_of(make_stage(recipe)), rows_of(make_stage(recipe))
    assert [what_repeats(row) for row in first] == [what_repeats(row) for row in second]
    for row in first:
        assert {name for name in row if name.startswith("sampler/")} <= set(METRICS)
        assert row["sampler/rounds"] >= 1
        played = row["rollout/new_episodes"]
        assert played == (3 + row["sampler/replayed_groups"]) * 6
        assert row["selection/episodes"] <= played - 6 * row["sampler/dropped_groups"]


def test_samplers_that_ask_for_nothing_log_what_they_logged(make_stage):
    row = rows_of(make_stage("frozen_lake_fixed_tiny"))[0]
    assert not [name for name in row if name.startswith("sampler/")]


# Fails when annotators that solve the game are not told where replays began.
def test_annotators_know_the_starts_of_replays(make_match):
    from lapwing.samplers._remembered import Remembered

    sampler = Again(make_match, most=5)
    sampler.draw = lambda iteration: sampler.group(1, (iteration, 1))
    remembered = Remembered(sampler)
    drawn = remembered.draw(0)
    play_and_review(remembered, Script(wins), drawn)
    assert [match.group for match in remembered.matches] == [1, 1, 10, 10, 11, 11]
    assert len(drawn) == 2
    assert dataclasses.replace(remembered.matches[2], group=1) == drawn[0]


class Slow(Script):
    """Plays one round, and no match of any later one meets its deadline."""

    def collect(self, matches):
        if self.asked:
            raise NothingPlayedError("No match met its deadline.")
        return super().collect(matches)


# Fails when a run ends because a replay came too late, although there is a first round to learn from.
def test_a_replay_that_comes_too_late_is_done_without(make_match):
    sampler = Again(make_match, most=5)
    matches = [*sampler.group(0, (0, 0)), *sampler.group(1, (0, 1))]
    rollout, kept, _ = play_and_review(sampler, Slow(wins), matches)
    assert len(rollout.episodes) == 4
    assert kept.tolist() == [True, True, False, False]


def test_a_first_round_that_comes_too_late_ends_the_run(make_match):
    collector = Slow(wins)
    collector.asked.append([])
    with pytest.raises(NothingPlayedError):
        play_and_review(Again(make_match, most=1), collector, [make_match(group=0, member=0)])
