import numpy as np
import pytest
from scipy import stats

from lapwing.core.errors import UserError
from lapwing.selection.uniform import uniform
from lapwing.testing import episodes


@pytest.mark.parametrize(
    ("keep", "expected"),
    [(0.01, 1), (0.2, 1), (0.3, 2), (0.5, 3), (1.0, 5)],
    ids=["at least one", "a fifth", "1.5 rounds up", "2.5 rounds up", "all"],
)
def test_the_share_is_rounded_half_up_and_at_least_one(keep, expected):
    batch = episodes([[0]] * 5)
    count, factor = uniform(batch, np.zeros(5), np.random.default_rng(0), keep=keep)
    assert count.sum() == expected
    assert set(count) <= {0, 1}
    np.testing.assert_array_equal(factor, np.ones(5))


def test_every_episode_is_drawn_equally_often_whatever_its_advantage():
    # Fails when the draw is weighted by the advantage, or always takes the first episodes.
    batch = episodes([[0]] * 4)
    rng = np.random.default_rng(0)
    drawn = sum(uniform(batch, np.array([0, 0, 1, 100.0]), rng, keep=0.25).count for _ in range(2000))
    assert stats.chisquare(drawn, [500] * 4).pvalue > 0.001


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(keep):
    with pytest.raises(UserError, match=r"keep must be in \(0, 1\]"):
        uniform(episodes([[0]]), np.zeros(1), np.random.default_rng(0), keep=keep)
