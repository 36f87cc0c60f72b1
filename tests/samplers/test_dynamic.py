import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.core.types import Episode, Group
from lapwing.games.frozen_lake import FrozenLake
from lapwing.samplers.dynamic import Dynamic, differs

GAME = FrozenLake(map_name="4x4")


def sampler(**settings):
    return Dynamic(GAME, **{"seed": 1, "groups": 4, "group_size": 3, "max_steps": 7, **settings})


def finished(matches, success):
    """A group for review: its members succeed as told, in turn."""
    episodes = [
        Episode(match, 0, [], True, False, outcome=float(won), success=bool(won))
        for match, won in zip(matches, success, strict=True)
    ]
    return Group.of(0, episodes)


def run(one, mixed):
    """Plays rounds as the loop does; `mixed(number)` says whether a group differs. Numbers accepted, numbers played."""
    matches, accepted, rounds = one.draw(0), [], []
    while matches:
        numbers = list(dict.fromkeys(match.group for match in matches))
        rounds.append(numbers)
        verdicts = []
        for number in numbers:
            members = [match for match in matches if match.group == number]
            verdict = one.review(finished(members, (1, 0, 0) if mixed(number) else (0, 0, 0)))
            accepted += [number] if verdict.accept else []
            verdicts.append(verdict)
        matches = [match for verdict in verdicts for match in verdict.replay]
    return accepted, rounds


def test_groups_without_spread_are_replaced_by_fresh_ones_until_there_are_enough():
    one = sampler()
    accepted, rounds = run(one, mixed=lambda number: number in (0, 3, 5, 6))
    # 1 and 2 are replaced by 4 and 5, and 4 by 6.
    assert rounds == [[0, 1, 2, 3], [4, 5], [6]]
    assert accepted == [0, 3, 5, 6]


def test_fresh_groups_begin_at_their_own_starts_and_are_whole():
    one = sampler()
    group = [match for match in one.draw(7) if match.group == 2]
    fresh = one.review(finished(group, (1, 1, 1))).replay
    assert [(m.iteration, m.group, m.member, m.start_address) for m in fresh] == [(7, 4, i, (7, 4)) for i in range(3)]


def test_rounds_are_capped():
    accepted, rounds = run(sampler(max_rounds=3), mixed=lambda number: False)
    assert accepted == []
    assert [len(numbers) for numbers in rounds] == [4, 4, 4]


def test_of_a_surplus_the_first_are_kept():
    accepted, rounds = run(sampler(oversample=1.5), mixed=lambda number: number != 1)
    assert rounds == [[0, 1, 2, 3, 4, 5]]
    assert accepted == [0, 2, 3, 4]


@given(st.sets(st.integers(0, 60)), st.integers(1, 4), st.floats(1.0, 2.0))
def test_never_more_than_enough_and_never_a_group_without_spread(mixed, max_rounds, oversample):
    one = sampler(max_rounds=max_rounds, oversample=oversample)
    accepted, rounds = run(one, mixed=mixed.__contains__)
    assert len(accepted) <= 4
    assert set(accepted) <= mixed
    assert len(rounds) <= max_rounds
    numbers = [number for played in rounds for number in played]
    assert len(set(numbers)) == len(numbers)
    # What is asked for is what is missing.
    for before, played in enumerate(rounds[1:], 1):
        assert len(played) <= 4 - sum(number in mixed for earlier in rounds[:before] for number in earlier)
    # Whoever stops early has enough, or no rounds are left.
    assert len(accepted) == 4 or len(rounds) == max_rounds


def test_another_iteration_begins_anew():
    one = sampler()
    run(one, mixed=lambda number: False)
    assert run(one, mixed=lambda number: True) == ([0, 1, 2, 3], [[0, 1, 2, 3]])


def test_what_differs_is_success_or_else_return():
    matches = sampler().draw(0)[:3]
    same_success = Group.of(0, [Episode(m, 0, [], True, False, outcome=0.1 * m.member, success=True) for m in matches])
    assert not differs(same_success)
    assert differs(same_success, by="return")
    no_notion = same_success._replace(success=np.full(3, np.nan))
    assert differs(no_notion)
    assert not differs(no_notion._replace(episode_return=np.array([0.3, 0.1 + 0.2, 0.3])))
    # One that came back alone has nothing to differ from.
    assert not differs(Group.of(0, same_success.episodes[:1]))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"max_rounds": 0}, "sampler.max_rounds is 0"),
        ({"oversample": 0.5}, "sampler.oversample is a finite number of at least 1, not 0.5"),
        ({"oversample": float("inf")}, "sampler.oversample"),
        ({"by": "sucess"}, "There is no sampler.by 'sucess'; did you mean"),
        ({"groups": 0}, "sampler.groups is at least 1"),
    ],
)
def test_impossible_settings_are_refused(setting, sentence):
    with pytest.raises(UserError, match=sentence):
        sampler(**setting)
