import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.shaping.gtalign import best_response, gtalign, length_score, nash_welfare, pareto_front
from lapwing.testing import episodes


def make(user, model, valid=None):
    parts = {"part:user": [[u] for u in user], "part:model": [[u] for u in model]}
    return episodes([[0.25]] * len(user), valid=valid or [[True]] * len(user), **parts)


def test_the_printed_welfare():
    found = gtalign(make([0.8, 1.0, 0.0], [0.5, 0.3, 1.0]), epsilon=0.0).outcome
    np.testing.assert_allclose(found, [0.63246, 0.54772, 0], atol=5e-6)
    np.testing.assert_allclose(gtalign(make([0.0], [1.0])).outcome, [0.01], atol=1e-6)


def test_the_printed_lengths():
    assert length_score(200, 20, 500) == pytest.approx(0.58125, abs=5e-6)
    assert math.exp(-250 / 500) == pytest.approx(0.60653, abs=5e-6)
    assert length_score(1e6, 20, 500) == pytest.approx(0.0)


def test_the_printed_front_and_the_decision_on_it():
    payoffs = [(1, 1), (2, 0), (0, 2), (0.5, 0.5)]
    assert pareto_front(payoffs) == [0, 1, 2]
    #   all sums are 2: the user decides
    assert best_response(payoffs) == 1
    assert best_response([(1, 1), (0, 3), (2, 0.5)]) == 1
    assert best_response([(1, 1), (1, 1)]) == 0


def test_a_party_is_the_sum_over_the_steps_and_an_invalid_reply_earns_nothing():
    batch = episodes(
        [[0, 0], [0, 0]],
        valid=[[True, True], [True, False]],
        **{"part:user": [[1.0, 3.0], [1.0, 3.0]], "part:model": [[0.0, 1.0], [0.0, 1.0]]},
    )
    shaped = gtalign(batch, epsilon=0.0)
    np.testing.assert_allclose(shaped.outcome, [2, 0])
    np.testing.assert_array_equal(shaped.reward, batch.reward)


def test_weights_and_the_floor_by_hand():
    #   16^¾ · 1^¼ = 8;   less a floor of −9: 25 and 10 → √250, below the floor nothing
    np.testing.assert_allclose(gtalign(make([16.0], [1.0]), shares=(3.0, 1.0), epsilon=0.0).outcome, [8])
    np.testing.assert_allclose(gtalign(make([16.0, -20.0], [1.0, 1.0]), floor=-9.0, epsilon=0.0).outcome, [250**0.5, 0])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=5), st.floats(0.1, 5))
def test_welfare_lies_between_the_poorest_and_the_mean(utility, factor):
    found = float(nash_welfare(np.array(utility), epsilon=0.0))
    assert min(utility) - 1e-9 <= found <= np.mean(utility) + 1e-9
    # A change of every unit changes the unit of the welfare.
    assert float(nash_welfare(factor * np.array(utility), epsilon=0.0)) == pytest.approx(factor * found, abs=1e-9)


def test_a_part_that_the_game_does_not_report_is_refused():
    with pytest.raises(MissingColumnError, match=r"gtalign needs the column 'part:user'.*rollout/play"):
        gtalign(episodes([[0]]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"parties": ()}, "parties must name at least one"),
        ({"parties": ("user", "user")}, "names one part twice"),
        ({"shares": (1.0,)}, "2 part(ie)?s, but 1 shares"),
        ({"shares": (1.0, 0.0)}, "shares must be finite and above 0"),
        ({"floor": np.inf}, "floor must be finite"),
        ({"epsilon": -1.0}, "epsilon must be"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        gtalign(make([0.0], [0.0]), **settings)
