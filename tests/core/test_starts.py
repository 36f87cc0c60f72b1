"""Starts and groups: credit compares a seat with itself, and what began together is known to have."""

import numpy as np

from lapwing.core.rollout import Rollout
from lapwing.core.starts import start_index
from lapwing.core.types import Decision, Episode, Step
from lapwing.credit.grpo import grpo
from lapwing.testing import episodes


def episode(match, player, reward):
    decision = Decision("up", True, "up", np.arange(3, dtype=np.int32), np.arange(2, dtype=np.int32), np.zeros(2))
    step = Step(decision, "up", None, 1, 2, 3, reward, reward, {})
    return Episode(match, player, [step], True, False, success=reward > 0.0)


def two_seats(make_match, rewards):
    """The episodes of seat 0 and seat 1 in the members of each group, in the order of play."""
    return [
        episode(make_match(group=group, member=member), player, reward)
        for group, members in enumerate(rewards)
        for member, pair in enumerate(members)
        for player, reward in enumerate(pair)
    ]


def test_each_seat_of_a_start_is_a_group_of_its_own(make_match):
    # Fails when the seat is left out of a group's key: then what one wins and the other loses cancels out.
    batch = Rollout.of(two_seats(make_match, [[(1.0, -1.0), (-1.0, 1.0), (1.0, -1.0)], [(0.0, 0.0)]])).batch
    assert batch.group.tolist() == [0, 1, 0, 1, 0, 1, 2, 3]
    assert batch.match.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batch.player.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    # Seat 0 has mean 1/3, seat 1 has −1/3; a group of one gets 0.
    third = 1 / 3
    expected = [1 - third, third - 1, -1 - third, 1 + third, 1 - third, third - 1, 0.0, 0.0]
    np.testing.assert_allclose(grpo(batch, scale_by_std=False), expected)
    assert start_index(batch).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


def test_starts_are_linked_through_any_seat():
    # Seats 0 and 1 meet in match 0, seats 1 and 2 in match 1, and nobody of group 3 was there.
    batch = episodes([[0]] * 5, group=[0, 1, 1, 2, 3], match=[0, 0, 1, 1, 2], player=[0, 1, 1, 2, 0])
    assert start_index(batch).tolist() == [0, 0, 0, 0, 1]


def test_one_seat_alone_has_a_start_a_group():
    batch = episodes([[0]] * 4, group=[5, 2, 5, 9], match=[0, 1, 2, 3], player=[1, 1, 1, 1])
    assert start_index(batch).tolist() == [1, 0, 1, 2]


def test_a_review_sees_the_first_seat_and_knows_the_groups_of_the_others(make_match):
    rollout = Rollout.of(two_seats(make_match, [[(1.0, -1.0), (-1.0, 1.0)], [(1.0, -1.0), (1.0, -1.0)]]))
    groups = rollout.groups()
    assert [(group.index, group.others) for group in groups] == [(0, (1,)), (2, (3,))]
    assert [group.success.tolist() for group in groups] == [[1.0, 0.0], [1.0, 1.0]]
    assert [group.episode_return.tolist() for group in groups] == [[1.0, -1.0], [1.0, 1.0]]
    assert all(one.player == 0 for group in groups for one in group.episodes)


def test_where_the_first_seat_never_decided_the_next_one_is_reviewed(make_match):
    rollout = Rollout.of([episode(make_match(group=0, member=member), 1, float(member)) for member in range(2)])
    (group,) = rollout.groups()
    assert (group.index, group.others, group.success.tolist()) == (0, (), [0.0, 1.0])
