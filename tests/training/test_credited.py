"""Which number of credit goes to which recorded step."""

import numpy as np
import pytest

from lapwing import build
from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Decision, Episode, Step
from lapwing.training.credited import CreditedRollout, StepCredit
from lapwing.training.loop import iterate
from lapwing.training.run_folder import episode_as_json

NONE = np.zeros(0, dtype=np.int32)


@pytest.fixture
def make_episode(make_match):
    """An episode of some member of a group, with as many tokens in each step as are listed."""

    def make(member, tokens=(1,), player=0):
        steps = []
        for count in tokens:
            decision = Decision("up", True, "up", NONE, np.arange(count, dtype=np.int32), np.zeros(count))
            steps.append(Step(decision, "up", {}, 1, 1, 1, reward=1.0, domain_reward=1.0, parts={}))
        return Episode(make_match(member=member), player, steps, terminated=True, truncated=False)

    return make


def credited(episodes, keep, level, numbers):
    """Credit of the kept episodes; the advantage is twice as large."""
    batch = EpisodeBatch.pack(episodes).select(np.array(keep))
    return CreditedRollout(episodes, batch, level, np.array(numbers), 2.0 * np.array(numbers))


def test_every_step_gets_its_own_number(make_episode):
    rollout = credited([make_episode(0, (1, 3)), make_episode(1, (2,))], [0, 1], "step", [0.5, -1.0, 2.0])
    episodes, found = rollout.first(2)
    assert [len(episode.steps) for episode in episodes] == [2, 1]
    assert found == [[StepCredit(1.0, 0.5), StepCredit(-2.0, -1.0)], [StepCredit(4.0, 2.0)]]


def test_an_episode_that_was_left_out_gets_none_and_moves_nobody_elses(make_episode):
    # Fails when episodes are taken by their place: the batch has the third and the first, in this order.
    rollout = credited([make_episode(member) for member in range(4)], [2, 0], "step", [7.0, 9.0])
    assert rollout.first(4)[1] == [[StepCredit(18.0, 9.0)], None, [StepCredit(14.0, 7.0)], None]
    assert rollout.first(2)[1] == [[StepCredit(18.0, 9.0)], None]


def test_two_seats_of_one_match_are_told_apart(make_episode):
    played = [make_episode(member, player=player) for member in (0, 1) for player in (0, 1)]
    rollout = credited(played, [1, 2, 3], "step", [1.0, 2.0, 3.0])
    assert [None if one is None else one[0].credit for one in rollout.first(9)[1]] == [None, 1.0, 2.0, 3.0]


def test_of_credit_per_token_the_list_and_its_mean_are_kept(make_episode):
    # A step of 3 tokens, one of none, one of 1: means 2, nothing, 5.
    rollout = credited([make_episode(0, (3, 0)), make_episode(1, (1,))], [0, 1], "token", [1.0, 2.0, 3.0, 5.0])
    assert rollout.first(2)[1] == [
        [StepCredit(4.0, 2.0, [2.0, 4.0, 6.0], [1.0, 2.0, 3.0]), StepCredit(None, None, [], [])],
        [StepCredit(10.0, 5.0, [10.0], [5.0])],
    ]


def test_credit_per_token_is_not_taken_for_credit_per_step_where_both_are_as_many(make_episode):
    (found,) = credited([make_episode(0, (1,))], [0], "token", [3.0]).first(1)[1]
    assert found == [StepCredit(6.0, 3.0, [6.0], [3.0])]


def test_numbers_that_are_not_finite_are_none_because_json_has_none(make_episode):
    (found,) = credited([make_episode(0, (2,))], [0], "token", [np.nan, 1.0]).first(1)[1]
    assert found == [StepCredit(None, None, [None, 2.0], [None, 1.0])]
    (found,) = credited([make_episode(0, (1, 1))], [0], "step", [np.inf, 1.0]).first(1)[1]
    assert found == [StepCredit(None, None), StepCredit(2.0, 1.0)]


def test_where_nothing_is_left_no_episode_has_credit(make_episode):
    rollout = credited([make_episode(0)], np.zeros(0, dtype=int), "step", [])
    assert rollout.first(5)[1] == [None]


def test_the_record_has_the_credit_of_each_step_or_nulls(make_episode):
    keys = ("advantage", "credit", "token_advantage", "token_credit")
    episode = make_episode(0, (1, 2))
    given = [StepCredit(1.0, 2.0), StepCredit(3.0, 4.0, [3.0, 3.0], [4.0, 4.0])]
    steps = episode_as_json(episode, given)["steps"]
    assert [[step[key] for key in keys] for step in steps] == [
        [1.0, 2.0, None, None],
        [3.0, 4.0, [3.0, 3.0], [4.0, 4.0]],
    ]
    assert all(step[key] is None for step in episode_as_json(episode)["steps"] for key in keys)


@pytest.mark.parametrize("recipe", ["bandit_tiny", "frozen_lake_tiny"])
def test_the_loop_tells_what_the_loss_saw(small, recipe):
    """The first group is filtered out; of the others each step's credit is its place in the batch, then doubled."""
    read = build.read_recipe(recipe, overrides=[*small, "iterations=1"])
    plan = build.plan(read)[-1]
    stage = build.make_stage(plan, build.make_workshop(plan, read.seed))
    stage.filters = [lambda batch: batch.group != 0]
    stage.credit = lambda batch: np.arange(batch.num_steps, dtype=np.float64)
    stage.modulation = [lambda batch, advantage: 2.0 * advantage]
    told = []
    list(iterate(stage, stage.make_learner(), 0, told.append))
    (rollout,) = told
    episodes, found = rollout.first(1000)
    assert len(episodes) == 18
    left_out = [one is None for one in found]
    assert left_out == [episode.match.group == 0 for episode in episodes]
    flat = [credit for one in found if one is not None for credit in one]
    assert flat == [StepCredit(2.0 * n, float(n)) for n in range(len(flat))]
    assert [len(one) for one in found if one] == [len(e.steps) for e in episodes if e.match.group != 0]
