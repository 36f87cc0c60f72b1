import dataclasses
import json

import pytest

from lapwing.core.errors import UserError
from lapwing.core.types import Episode, Group
from lapwing.games.frozen_lake import FrozenLake
from lapwing.samplers.grouped import Grouped

GAME = FrozenLake(map_name="4x4")


def sampler(**settings):
    return Grouped(GAME, **{"seed": 1, "groups": 4, "group_size": 3, "max_steps": 7, **settings})


def finished(matches, solved):
    """Reviews-to-be: the groups of these matches, with `solved` naming the groups that succeeded throughout."""
    numbers = sorted({match.group for match in matches})
    return [
        Group.of(
            index,
            [
                Episode(match, 0, [], True, False, success=number in solved or match.member == 0)
                for match in matches
                if match.group == number
            ],
        )
        for index, number in enumerate(numbers)
    ]


def starts(matches):
    return [match.start_address for match in matches if match.member == 0]


def test_groups_members_and_limits_are_as_set():
    matches = sampler(share_chance=False).draw(5)
    assert [(match.group, match.member) for match in matches] == [(g, m) for g in range(4) for m in range(3)]
    assert {match.iteration for match in matches} == {5}
    assert {match.max_steps for match in matches} == {7}
    assert {match.share_chance for match in matches} == {False}
    assert {(match.seed, match.split) for match in matches} == {(1, "train")}
    assert starts(matches) == [(5, group) for group in range(4)]
    assert len({match.identifier for match in matches}) == 12


def test_a_group_of_one_is_refused_with_one_clear_sentence():
    with pytest.raises(UserError) as refused:
        sampler(group_size=1)
    assert str(refused.value) == (
        "sampler.group_size is 1, but a group of one has nothing to be compared with; set 2 or more."
    )


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"groups": 0}, "groups"),
        ({"max_steps": 0}, "max_steps"),
        ({"revisit": 1.0}, "revisit"),
        ({"revisit": -0.1}, "revisit"),
        ({"pool": 0}, "pool"),
    ],
)
def test_impossible_sizes_are_refused_by_name(setting, name):
    with pytest.raises(UserError, match=rf"sampler\.{name} is"):
        sampler(**setting)


def test_without_revisits_every_start_is_fresh_and_every_group_accepted():
    plain = sampler()
    matches = plain.draw(0)
    assert all(plain.review(group).accept for group in finished(matches, solved=set()))
    assert plain.state() == {"unsolved": []}
    assert starts(plain.draw(1)) == [(1, group) for group in range(4)]


def test_unsolved_starts_come_back_until_they_are_solved():
    # Fails when solved starts stay in the pool, or an unsolved one enters it twice.
    revisiting = sampler(revisit=0.5)
    for group in finished(revisiting.draw(0), solved={0, 1, 2}):
        assert revisiting.review(group) == (True, ())
    assert revisiting.state() == {"unsolved": [[0, 3]]}
    second = revisiting.draw(1)
    # One unsolved start is all that there is; the other three groups are fresh.
    assert starts(second) == [(0, 3), (1, 1), (1, 2), (1, 3)]
    assert {match.iteration for match in second} == {1}
    for group in finished(second, solved={1}):
        revisiting.review(group)
    assert revisiting.state() == {"unsolved": [[0, 3], [1, 2], [1, 3]]}
    third = revisiting.draw(2)
    back = starts(third)[:2]
    assert len(set(back)) == 2
    assert set(back) <= {(0, 3), (1, 2), (1, 3)}
    assert starts(third)[2:] == [(2, 2), (2, 3)]
    for group in finished(third, solved={0, 1, 2, 3}):
        revisiting.review(group)
    left = {(0, 3), (1, 2), (1, 3)} - set(back)
    assert revisiting.state() == {"unsolved": [list(start) for start in left]}


def test_a_group_that_missed_the_deadline_does_not_shift_the_others():
    # Fails when the start is looked up by the number of the finished group, which skips groups that were dropped.
    revisiting = sampler(revisit=0.5)
    matches = [match for match in revisiting.draw(0) if match.group != 1]
    for group in finished(matches, solved={0, 3}):
        revisiting.review(group)
    assert revisiting.state() == {"unsolved": [[0, 2]]}


def test_the_pool_forgets_its_oldest_starts_first():
    revisiting = sampler(revisit=0.25, pool=3)
    for group in finished(revisiting.draw(0), solved=set()):
        revisiting.review(group)
    assert revisiting.state() == {"unsolved": [[0, 1], [0, 2], [0, 3]]}


def test_a_game_without_success_is_never_solved():
    revisiting = sampler(revisit=0.25)
    (first, *_) = finished(revisiting.draw(0), solved={0})
    episodes = [dataclasses.replace(episode, success=None) for episode in first.episodes]
    revisiting.review(Group.of(0, episodes))
    assert revisiting.state() == {"unsolved": [[0, 0]]}


def test_a_restored_sampler_draws_what_the_first_would_have_drawn():
    first, second = sampler(revisit=0.5), sampler(revisit=0.5)
    for group in finished(first.draw(0), solved={1}):
        first.review(group)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    assert second.draw(1) == first.draw(1)
    for group in finished(first.draw(1), solved={0}):
        first.review(group)
        second.review(group)
    assert second.state() == first.state()
