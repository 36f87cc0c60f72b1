import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.games.matrix_game import KNOWN
from lapwing.stats.regret import external_regret, internal_regret, regret_curve
from lapwing.tabular.learning_dynamics import fictitious_play, hedge_play
from lapwing.tabular.matrix_equilibrium import matrix_gains, pure_equilibria, zero_sum_equilibrium

RPS = np.array(KNOWN["rock_paper_scissors"].row)


def both(name):
    return np.array(KNOWN[name].row), np.array(KNOWN[name].column)


def test_equilibria_by_hand():
    row, column, value = zero_sum_equilibrium(RPS)
    np.testing.assert_allclose([row, column], 1 / 3, atol=1e-9)
    assert value == pytest.approx(0.0, abs=1e-9)
    # (a, b; c, d) = (2, −1; −1, 1): x = (d − c) / (a − b − c + d) = 2/5, value (ad − bc) / (a − b − c + d) = 1/5.
    row, column, value = zero_sum_equilibrium(np.array([[2.0, -1.0], [-1.0, 1.0]]))
    np.testing.assert_allclose([*row, *column, value], [0.4, 0.6, 0.4, 0.6, 0.2], atol=1e-9)
    # Rock that wins twice as much is played less: the value stays 0, and nobody gains by a single action.
    heavy = np.array([[0.0, -1.0, 2.0], [1.0, 0.0, -1.0], [-2.0, 1.0, 0.0]])
    row, column, value = zero_sum_equilibrium(heavy)
    np.testing.assert_allclose([row, column], [[0.25, 0.5, 0.25]] * 2, atol=1e-9)
    assert value == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_nobody_gains_by_leaving_an_equilibrium(seed, rows, columns):
    payoff = np.random.default_rng(seed).normal(size=(rows, columns))
    row, column, value = zero_sum_equilibrium(payoff)
    assert row @ payoff @ column == pytest.approx(value, abs=1e-7)
    assert max(matrix_gains(payoff, -payoff, row, column)) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("rock_paper_scissors", []),
        ("prisoners_dilemma", [(1, 1)]),
        ("stag_hunt", [(0, 0), (1, 1)]),
        ("chicken", [(0, 1), (1, 0)]),
        ("battle_of_the_sexes", [(0, 0), (1, 1)]),
    ],
)
def test_pure_equilibria(name, cells):
    assert pure_equilibria(*both(name)) == cells


def test_a_lean_is_exploited_by_hand():
    # Rock ½: paper earns ½ − ¼.
    assert matrix_gains(RPS, -RPS, np.array([0.5, 0.25, 0.25]), np.full(3, 1 / 3)) == pytest.approx((0.0, 0.25))


def test_the_frequencies_of_fictitious_play_come_near_an_equilibrium():
    row, column = fictitious_play(RPS, -RPS, 3000)
    assert sum(matrix_gains(RPS, -RPS, row.mean(axis=0), column.mean(axis=0))) < 0.06
    # Play itself goes on in circles: every action again and again, in ever longer runs.
    assert (row[-1000:].sum(axis=0) > 0).all()
    # The first rounds by hand: both play rock (first of three), then paper until scissors pay as much.
    np.testing.assert_array_equal(row[:3].argmax(axis=1), [0, 1, 1])


def test_fictitious_play_finds_the_stag_hunts_safe_side():
    # Uniform play makes hare worth 3 and stag 2.5.
    row, column = fictitious_play(*both("stag_hunt"), 20)
    np.testing.assert_array_equal([row[:, 1], column[:, 1]], 1.0)


def test_hedge_against_itself_averages_to_an_equilibrium_and_leaves_it():
    rounds = 4000
    rate = float(np.sqrt(8 * np.log(3) / rounds)) / 2  # payoffs span 2
    row, column = hedge_play(RPS, -RPS, rounds, rate=rate)
    gap = sum(matrix_gains(RPS, -RPS, row.mean(axis=0), column.mean(axis=0)))
    loss = -column @ RPS.T
    regret = regret_curve(loss, row)
    # The bound of Hedge, for losses that span 2, plus what its lean at the start costs.
    assert regret[-1] <= 2 * np.sqrt(rounds * np.log(3) / 2) + 1
    assert gap <= 2 * (2 * np.sqrt(np.log(3) / (2 * rounds)) + 1 / rounds)
    assert internal_regret(loss, row) <= external_regret(loss, row) + rounds * 0.05
    # The last policies are further from the centre than the first.
    assert np.abs(row[-1] - 1 / 3).max() > np.abs(row[0] - 1 / 3).max()


def test_what_is_no_game_is_refused():
    with pytest.raises(LapwingError, match="finite payoffs"):
        zero_sum_equilibrium(np.array([[np.inf]]))
    with pytest.raises(LapwingError, match="one shape"):
        fictitious_play(RPS, RPS[:2], 3)
    with pytest.raises(LapwingError, match="at least one round"):
        hedge_play(RPS, -RPS, 0, rate=1.0)
    with pytest.raises(LapwingError, match="rate of Hedge"):
        hedge_play(RPS, -RPS, 3, rate=0.0)
