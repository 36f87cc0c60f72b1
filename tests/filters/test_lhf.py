import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.memory import bound
from lapwing.filters.lhf import initial_state, lhf
from lapwing.testing import episodes


def batch(returns):
    """One episode for each start 1, 2, …, with these returns."""
    keys = [[number] for number in range(1, len(returns) + 1)]
    zeros = [[0] for _ in returns]
    return episodes(
        [[value] for value in returns],
        group=list(range(len(returns))),
        view_key=keys,
        action_key=zeros,
        next_view_key=zeros,
    )


def test_steady_rise_is_kept_and_what_falls_or_stands_still_is_not():
    keep = bound(lhf, {"percentile": 50.0, "least": 3})
    # Start 1 rises, start 2 goes up and down, start 3 stands still, start 4 falls.
    for returns in ([0.0, 0.0, 1.0, 3.0], [1.0, 3.0, 1.0, 2.0]):
        assert keep(batch(returns)).all()  # too short to be judged
    assert keep(batch([2.0, 0.0, 1.0, 1.0])).tolist() == [True, True, False, False]
    assert keep(batch([3.0, 3.0, 1.0, 0.0])).tolist() == [True, True, False, False]


def test_a_start_that_is_new_is_kept():
    keep = bound(lhf, {"percentile": 99.0})
    for value in (0.0, 1.0, 2.0):
        keep(batch([value, 2.0 - value]))
    assert keep(batch([3.0, 0.0, 7.0])).tolist() == [True, False, True]


def test_groups_of_one_start_have_one_history():
    state = initial_state()
    both = episodes([[0.0], [1.0]], group=[0, 1], view_key=[[5], [5]], action_key=[[0], [0]], next_view_key=[[0], [0]])
    _, after = lhf(both, state=state)
    assert after["start"].tolist() == [5]
    assert after["returns"][0, 0] == 0.5
    assert state["start"].tolist() == []


def test_the_oldest_starts_and_entries_are_forgotten():
    keep = bound(lhf, {"memory": 2, "window": 3})
    keep(batch([1.0, 2.0, 3.0]))
    assert keep.state["start"].tolist() == [2, 3]
    for value in range(4):
        keep(batch([float(value)]))
    assert keep.state["returns"][-1].tolist() == [1.0, 2.0, 3.0]


def test_views_that_match_nothing_have_no_history():
    nameless = episodes([[0.0]], view_key=[[0]], action_key=[[0]], next_view_key=[[0]])
    keep, after = lhf(nameless, state=initial_state())
    assert keep.tolist() == [True]
    assert len(after["start"]) == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weight": -1.0}, "weight must be"),
        ({"percentile": 100.0}, "percentile must be"),
        ({"least": 1}, "least is a number"),
        ({"window": 2}, "window is at least"),
        ({"memory": 0}, "memory is a number"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        lhf(batch([0.0]), state=initial_state(), **settings)


def test_the_state_is_plain_arrays():
    keep = bound(lhf, {})
    keep(batch([0.0, 1.0]))
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in keep.state.values())
