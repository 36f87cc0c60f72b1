import math

import numpy as np
import pytest
from scipy.optimize import minimize

from lapwing.core.errors import LapwingError, UserError
from lapwing.stats.elo import elo, expected_score, sequential_elo


def test_three_wins_of_four_by_hand():
    #   P = 3/4: the difference is 400 · log₁₀ 3 = 190.848
    #   I = 4 · ¾ · ¼ = 0.75, deviation 1/√0.75 = 1.154701 in nats, · 400/ln 10 = 200.591, · 1.959964 = 393.152
    found = elo(np.array([[0.0, 1.0], [3.0, 0.0]]), virtual_draws=0.0)
    assert found.rating == pytest.approx([1000.0, 1190.8485], abs=1e-3)
    assert found.low == pytest.approx([1000.0, 1190.8485 - 393.152], abs=1e-2)
    assert found.high == pytest.approx([1000.0, 1190.8485 + 393.152], abs=1e-2)


def test_a_draw_is_half_a_win():
    wins = np.array([[0.0, 2.0], [6.0, 0.0]])
    #   4 wins and 4 draws against no win: 6 of 8
    assert elo(wins, virtual_draws=0.0).rating == pytest.approx([1000.0, 1190.8485], abs=1e-3)


def test_a_virtual_draw_by_hand():
    #   4 : 0 and one draw: 4.5 : 0.5, 400 · log₁₀ 9 = 381.697
    assert elo(np.array([[0.0, 0.0], [4.0, 0.0]])).rating[1] == pytest.approx(1381.697, abs=1e-3)


def test_the_maximum_is_that_of_a_general_optimiser():
    rng = np.random.default_rng(3)
    score = rng.integers(1, 30, size=(5, 5)).astype(float)
    np.fill_diagonal(score, 0.0)

    def loss(free):
        rating = np.concatenate([[0.0], free])
        return float(np.sum(score * np.log1p(np.exp(rating[None, :] - rating[:, None]))))

    expected = minimize(loss, np.zeros(4), tol=1e-12).x * 400 / math.log(10)
    found = elo(score, virtual_draws=0.0, anchor_rating=0.0)
    assert found.rating[1:] == pytest.approx(expected, abs=0.05)


def test_the_anchor_moves_everybody_alike():
    score = np.array([[0, 5, 2], [7, 0, 4], [9, 3, 0]], dtype=float)
    first, second = elo(score, anchor=0), elo(score, anchor=2, anchor_rating=50.0)
    assert np.diff(first.rating) == pytest.approx(np.diff(second.rating))
    assert (first.rating[0], second.rating[2]) == (1000.0, 50.0)
    assert first.low[0] == first.high[0] == 1000.0


def test_players_can_be_rated_through_others():
    #   the second scores 3 : 1 against the first, the third 3 : 1 against the second
    score = np.array([[0, 1, 0], [3, 0, 1], [0, 3, 0]], dtype=float)
    assert elo(score, virtual_draws=0.0).rating == pytest.approx([1000.0, 1190.8485, 1381.697], abs=1e-3)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # Fails when the width is off by a fifth: 95 % of 400 lie within 93 to 97 %.
    rng = np.random.default_rng(0)
    truth, covered = np.array([0.0, 100.0, -50.0]), 0
    for _ in range(400):
        score = np.zeros((3, 3))
        for i, j in ((0, 1), (0, 2), (1, 2)):
            score[i, j] = rng.binomial(100, expected_score(truth[i], truth[j]))
            score[j, i] = 100 - score[i, j]
        found = elo(score, virtual_draws=0.0, anchor_rating=0.0)
        covered += found.low[1] <= truth[1] <= found.high[1]
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ([[0.0, 4.0], [0.0, 0.0]], "no finite rating"),
        ([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], "never met"),
        ([[0.0, 0.0], [0.0, 0.0]], "never met"),
        ([[0.0]], "at least two"),
        ([[0.0, -1.0], [1.0, 0.0]], "at least 0"),
    ],
)
def test_what_cannot_be_rated_is_refused(score, message):
    with pytest.raises(LapwingError, match=message):
        elo(np.array(score), virtual_draws=0.0)


def test_impossible_settings_are_refused():
    score = np.array([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(UserError, match="confidence"):
        elo(score, confidence=1.0)
    for settings in ({"anchor": 2}, {"virtual_draws": -1.0}):
        with pytest.raises(LapwingError, match="anchor"):
            elo(score, **settings)


def test_the_sequential_update_by_hand():
    #   E = ½: 1000 + 32 · ½ = 1016 and 984; then E of 984 against 1016 = 1/(1 + 10^0.08) = 0.454075: + 32 · 0.545925
    assert sequential_elo(2, [(0, 1, 1.0)]) == pytest.approx([1016.0, 984.0])
    again = sequential_elo(2, [(0, 1, 1.0), (1, 0, 1.0)])
    assert again == pytest.approx([1016.0 - 17.4696, 984.0 + 17.4696], abs=1e-3)
    assert again.sum() == pytest.approx(2000.0)


def test_a_fixed_player_stays():
    found = sequential_elo(2, [(0, 1, 0.0)] * 3, fixed=[1])
    assert found[1] == 1000.0
    assert found[0] < 960.0


def test_sequential_updates_come_near_the_likelihood():
    rng = np.random.default_rng(1)
    chance = expected_score(1200.0, 1000.0)
    results = [(0, 1, float(rng.random() < chance)) for _ in range(3000)]
    found = sequential_elo(2, results, factor=4.0, fixed=[1])
    assert found[0] == pytest.approx(1200.0, abs=60.0)


@pytest.mark.parametrize("result", [(0, 0, 1.0), (0, 2, 1.0), (0, 1, 1.5)])
def test_what_is_no_result_is_refused(result):
    with pytest.raises(LapwingError, match="no result"):
        sequential_elo(2, [result])
    with pytest.raises(LapwingError, match="factor"):
        sequential_elo(2, [], factor=0.0)
