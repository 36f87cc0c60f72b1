import numpy as np
import pytest

from lapwing.core.memory import Remembering, bound
from lapwing.credit.grpo import grpo
from lapwing.testing import episodes


def initial_state(*, first=0.0):
    return {"total": np.full(1, first)}


def running_total(values, *, state, first=0.0):
    del first
    total = state["total"] + values.sum()
    return values + total, {"total": total}


def test_a_method_with_memory_goes_on_where_it_was():
    method = bound(running_total, {"first": 1.0})
    assert method(np.array([1.0, 2.0])).tolist() == [5.0, 6.0]
    assert method(np.array([1.0])).tolist() == [6.0]
    assert method.state["total"].tolist() == [5.0]


def test_its_state_can_be_put_back():
    method = bound(running_total, {})
    assert isinstance(method, Remembering)
    before = method.state
    first = method(np.array([2.0]))
    method.state = before
    assert method(np.array([2.0])).tolist() == first.tolist()


def test_a_method_without_memory_is_bound_and_no_more():
    method = bound(grpo, {"scale_by_std": False})
    assert not isinstance(method, Remembering)
    assert method(episodes([[1.0], [0.0]])).tolist() == pytest.approx([0.5, -0.5])
