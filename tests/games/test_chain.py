from itertools import product

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.chain import ACTIONS, Chain, ChainState, ChainView
from lapwing.games.contract import check_game
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.value_iteration import optimal_values

RIGHT, LEFT = {0: "right"}, {0: "left"}


def walk(game, actions, rng=None):
    """The transitions of one walk from the start."""
    state, found = game.initial(None), []
    for action in actions:
        transition = game.step(state, {0: action}, rng or generator("unused"))
        found.append(transition)
        state = transition.state
    return found


def rewards(game, actions):
    return [round(transition.reward[0] * game.length, 9) for transition in walk(game, actions)]


@pytest.mark.parametrize(
    ("delay", "paid"),
    [
        #   right right left right right: the cells are 1 2 0 1 2, the decisions earn 1, 1, −2, 1, 1
        (0, [1, 1, -2, 1, 1]),
        (1, [0, 1, 1, -2, 1 + 1]),
        (2, [0, 0, 1, 1, -2 + 1 + 1]),
        (3, [0, 0, 0, 1, 1 - 2 + 1 + 1]),
        (4, [0, 0, 0, 0, 2]),
        (99, [0, 0, 0, 0, 2]),
    ],
)
def test_what_is_earned_is_paid_so_many_decisions_later_and_the_rest_at_the_end(delay, paid):
    # Fails when a payment comes one decision early or late, or is lost at the end.
    actions = ["right", "right", "left", "right", "right"]
    assert rewards(Chain(length=5, delay=delay), actions) == paid


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 4, 7])
def test_every_walk_is_paid_as_a_ledger_would(delay):
    # An independent ledger: what decision i earns is due at decision min(i + delay, last).
    game = Chain(length=5, delay=delay)
    for actions in product(ACTIONS, repeat=5):
        due, cell = [0] * 5, 0
        for i, action in enumerate(actions):
            onward = cell + 1 if action == "right" else 0
            due[min(i + delay, 4)] += onward - cell
            cell = onward
        assert rewards(game, actions) == due
        assert sum(due) == cell


def test_the_game_lasts_as_long_as_the_chain_and_is_won_in_its_last_cell():
    game = Chain(length=3)
    won, lost = walk(game, ["right"] * 3), walk(game, ["left", "right", "right"])
    assert [transition.terminated for transition in won] == [False, False, True]
    assert [transition.success for transition in won] == [None, None, {0: True}]
    assert lost[-1].success == {0: False}
    assert [t.parts["earned"] for t in lost] == pytest.approx([0.0, 1 / 3, 1 / 3])


def test_the_view_hides_what_is_owed():
    # Fails when two walks that stand alike but are owed differently look different.
    game = Chain(length=6, delay=2)
    one, other = walk(game, ["right", "left", "right"])[-1].state, walk(game, ["left", "left", "right"])[-1].state
    assert one != other
    assert game.view(one, 0) == game.view(other, 0) == ChainView(length=6, cell=1, step=3)


@pytest.mark.parametrize("slip", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(("delay", "noise"), [(0, 0.0), (2, 0.0), (9, 0.4)])
def test_the_optimal_value_is_the_formula_whatever_delay_and_noise(slip, delay, noise):
    # length 2, slip ¼: (¾ + 9⁄16) / 2 = 21⁄32
    assert Chain(length=2, slip=0.25).optimal_value() == pytest.approx(21 / 32)
    game = Chain(length=6, delay=delay, noise=noise, slip=slip)
    values = optimal_values(enumerate_game(game), 6)
    assert values[6, 0] == pytest.approx(game.optimal_value(), abs=1e-12)


def test_the_closed_form_is_the_sum():
    for slip, length in product((0.1, 0.5), (1, 5, 8)):
        on = 1 - slip
        closed = on * (1 - on**length) / (length * slip)
        assert Chain(length=length, slip=slip).optimal_value() == pytest.approx(closed)
    assert Chain().optimal_value() == 1.0


def test_right_is_best_in_every_state_of_a_slippery_chain():
    game = Chain(length=5, slip=0.3)
    table = enumerate_game(game)
    values = optimal_values(table, 5)
    for left in range(1, 6):
        q = table.action_values(values[left - 1])
        for state in table.states:
            if state.step == 5 - left:
                at = table.index[state]
                assert q[at, ACTIONS.index("right")] >= q[at, ACTIONS.index("left")] - 1e-12


def test_the_outcomes_are_slips_times_noise():
    # 0.75 or 0.25 of slipping, times 0.6, 0.2 and 0.2 of noise 0, +1 and −1; cell 1 of 4 goes on to 2 or back to 0
    game = Chain(length=4, slip=0.25, noise=0.4)
    found = game.outcomes(ChainState(1, 1, 1, ()), RIGHT)
    assert {(t.state.cell, round(t.reward[0], 9)): round(p, 9) for p, t in found} == {
        (2, 0.25): 0.45,
        (2, 1.25): 0.15,
        (2, -0.75): 0.15,
        (0, -0.25): 0.15,
        (0, 0.75): 0.05,
        (0, -1.25): 0.05,
    }
    assert len(Chain().outcomes(ChainState(0, 0, 0, ()), LEFT)) == 1


def test_payment_at_once_and_at_the_end_have_few_states():
    sizes = [enumerate_game(Chain(length=8, delay=delay)).num_states for delay in range(9)]
    assert sizes[0] == sizes[7] == sizes[8] == 45  # step t has t + 1 cells: 1 + 2 + … + 9
    assert max(sizes) < 1000


@pytest.mark.parametrize(
    "settings",
    [{"length": 1}, {"delay": 1}, {"delay": 3, "slip": 0.2}, {"noise": 1.0}, {"delay": 20, "noise": 0.3, "slip": 0.5}],
    ids=str,
)
def test_other_settings_keep_the_contract(settings):
    check_game(Chain(**settings), matches=10)


def test_the_heuristic_goes_right_and_noise_has_mean_zero():
    game = Chain(length=2, noise=0.5)
    assert game.heuristic(game.initial(generator("s")), 0) == "right"
    rng = generator("noise")
    drawn = [game.step(game.initial(rng), RIGHT, rng).parts["noise"] for _ in range(4000)]
    assert set(drawn) == {-1.0, 0.0, 1.0}
    assert abs(np.mean(drawn)) < 4 * np.sqrt(0.5 / 4000)
    assert np.mean(np.abs(drawn)) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 4000))


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"length": 0}, "not 0"),
        ({"length": 65}, "not 65"),
        ({"delay": -1}, "not -1"),
        ({"noise": 1.5}, r"not 1\.5"),
        ({"noise": float("nan")}, "nan"),
        ({"slip": 0.6}, r"\[0, 0\.5\], not 0\.6"),
    ],
)
def test_impossible_settings_are_refused(settings, found):
    with pytest.raises(UserError, match=found):
        Chain(**settings)
