import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.shaping.a2fm_adaptive import a2fm_adaptive
from lapwing.testing import episodes


def make(rows, group=None):
    """One-step episodes from (mode, forced, success); a success has outcome 1."""
    mode, forced, success = zip(*rows, strict=True)
    won = [float(s) for s in success]
    batch = episodes([[0.0]] * len(rows), outcome=won, success=won, group=group)
    return batch.with_columns(mode=np.array(mode), forced=np.array(forced, dtype=bool))


def easy(wins, losses):
    """A group whose forced instant episodes all succeed, with that many forced wins and losses in mode 2 besides."""
    return [(0, 1, 1), *[(2, 1, 1)] * wins, *[(2, 1, 0)] * losses]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        #   p = 1/2, 3/4 and 1 over all forced
        (easy(0, 1), 0.75),
        (easy(2, 1), 0.4375),
        (easy(3, 0), 0.0),
    ],
)
def test_the_printed_coefficients(rows, expected):
    free = [(2, 0, 1), (0, 0, 1), (1, 0, 0)]
    found = a2fm_adaptive(make(rows + free)).outcome[-3:]
    np.testing.assert_allclose(found, [expected, 1, 0])


def test_a_hard_group_pays_in_full():
    #   three of four instant episodes succeed: ¾ does not exceed τ
    rows = [(0, 1, 1), (0, 1, 1), (0, 1, 1), (0, 1, 0), (2, 0, 1)]
    np.testing.assert_array_equal(a2fm_adaptive(make(rows)).outcome[-1], 1)
    np.testing.assert_allclose(a2fm_adaptive(make(rows), tau=0.74).outcome[-1], 1 - 0.75**2)
    np.testing.assert_allclose(a2fm_adaptive(make(rows), easy_gate=False).outcome[-1], 1 - 0.75**2)
    #   without a forced instant episode nothing is known to be easy
    np.testing.assert_array_equal(a2fm_adaptive(make([(2, 1, 1), (1, 0, 1)])).outcome, [1, 1])


def test_where_the_success_rate_comes_from():
    #   forced: mode 0 won, mode 1 lost, mode 2 won and lost; the free episode is in mode 2
    batch = make([(0, 1, 1), (1, 1, 0), (2, 1, 1), (2, 1, 0), (2, 0, 1)])
    last = {name: a2fm_adaptive(batch, p_from=name).outcome[-1] for name in ("all_forced", "same_mode", "instant")}
    np.testing.assert_allclose(list(last.values()), [1 - 0.5**2, 1 - 0.5**2, 0])
    batch = make([(0, 1, 1), (1, 1, 0), (1, 1, 0), (2, 1, 1), (1, 0, 1)])
    last = {name: a2fm_adaptive(batch, p_from=name).outcome[-1] for name in ("all_forced", "same_mode", "instant")}
    np.testing.assert_allclose(list(last.values()), [1 - 0.5**2, 1, 0])


def test_a_floor_keeps_a_costly_success_above_a_failure():
    found = a2fm_adaptive(make([*easy(1, 0), (2, 0, 0)]), floor=0.1).outcome
    np.testing.assert_allclose(found, [1, 0.1, 0])


def test_penalties_stay_and_other_groups_do_not_count():
    batch = make([(0, 1, 1), (2, 1, 1), (2, 1, 1)], group=[0, 0, 1])
    np.testing.assert_array_equal(a2fm_adaptive(batch).outcome, [1, 0, 1])
    batch = batch.with_columns(outcome=np.array([-1.0, 0.5, -0.5]))
    np.testing.assert_array_equal(a2fm_adaptive(batch).outcome, [-1, 0, -0.5])


def test_games_that_pay_their_steps():
    batch = episodes([[0, 1], [-0.5, 2], [1, 1]], success=[1.0, 1.0, 0.0], outcome=[3, 3, 3])
    batch = batch.with_columns(mode=np.array([0, 1, 1]), forced=np.ones(3, dtype=bool))
    #   p = 2/3: the second keeps 5/9
    shaped = a2fm_adaptive(batch, of="reward")
    np.testing.assert_allclose(shaped.reward, [0, 1, -0.5, 10 / 9, 0, 0])
    np.testing.assert_array_equal(shaped.outcome, batch.outcome)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), min_size=1, max_size=9))
def test_no_success_earns_more_than_before_and_the_lightest_mode_keeps_all(rows):
    batch = make(rows)
    for source in ("all_forced", "same_mode", "instant"):
        found = a2fm_adaptive(batch, p_from=source, tau=0.5).outcome
        assert ((found >= 0) & (found <= batch.outcome)).all()
        np.testing.assert_array_equal(found[batch.column("mode") == 0], batch.outcome[batch.column("mode") == 0])


def test_modes_are_needed():
    with pytest.raises(MissingColumnError, match=r"needs the column 'mode'.*samplers/adaptive_modes supplies it"):
        a2fm_adaptive(episodes([[0]], success=[1.0]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"p_from": "heavy"}, "no p_from 'heavy'; valid names: all_forced"),
        ({"of": "return"}, "no of 'return'; valid names: outcome, reward"),
        ({"alpha": 0.0}, "alpha must be"),
        ({"tau": 1.5}, "tau must be in"),
        ({"floor": np.nan}, "floor must be in"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        a2fm_adaptive(make([(0, 1, 1)]), **settings)
