import numpy as np
import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.entropy_adaptive import after_update, entropy_adaptive, initial_state

SETTINGS = {"target": 0.5, "initial": 0.01, "change": 0.005, "low": 0.0, "high": 0.02}


def test_the_weight_rises_below_the_target_and_falls_above_it():
    state, weights = initial_state(**SETTINGS), []
    for entropy in (0.4, 0.5, 0.6, 0.6, 0.1):
        state = after_update(state, entropy=entropy, **SETTINGS)
        weights.append(float(state["weight"][0]))
    # Fails when the target itself counts as above, or the bounds are forgotten.
    assert weights == pytest.approx([0.015, 0.02, 0.015, 0.01, 0.015])


def test_the_weight_stays_within_its_bounds():
    state = initial_state(**SETTINGS)
    for _ in range(10):
        state = after_update(state, entropy=9.0, **SETTINGS)
    assert state["weight"][0] == 0.0
    for _ in range(10):
        state = after_update(state, entropy=0.0, **SETTINGS)
    assert state["weight"][0] == 0.02


def test_the_bonus_is_off_above_the_target_and_on_before_the_first_update():
    given = torch.tensor([1.0, 0.25], requires_grad=True)
    state = initial_state(**SETTINGS)
    loss = entropy_adaptive(token_entropy=given, state=state, **SETTINGS)
    assert loss.tolist() == pytest.approx([-0.01, -0.0025])
    (gradient,) = torch.autograd.grad(loss.sum(), given)
    assert gradient.tolist() == pytest.approx([-0.01, -0.01])
    above = after_update(state, entropy=0.6, **SETTINGS)
    assert entropy_adaptive(token_entropy=given, state=above, **SETTINGS).tolist() == [0.0, 0.0]


def test_the_state_that_was_given_is_left_as_it_is():
    state = initial_state(**SETTINGS)
    kept = {name: array.copy() for name, array in state.items()}
    after_update(state, entropy=0.0, **SETTINGS)
    assert all(np.array_equal(state[name], array) for name, array in kept.items())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"low": 0.1}, "low and high"),
        ({"initial": 0.5}, "initial lies between"),
        ({"target": -1.0}, "target is an entropy"),
        ({"change": 0.0}, "change is above 0"),
    ],
)
def test_impossible_settings_are_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        entropy_adaptive(token_entropy=torch.ones(1), state=initial_state(**SETTINGS), **{**SETTINGS, **wrong})
