import numpy as np
import pytest

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.shaping.igpo import igpo
from lapwing.testing import episodes


def test_the_published_case_by_hand():
    # Fails when the gain is booked one step too late, or the last step loses its own reward.
    batch = episodes([[0.0, 0.0, 0.8]], gold_probability=[[0.1, 0.3, 0.25]])
    np.testing.assert_allclose(igpo(batch).reward, [0.2, -0.05, 0.8])


def test_gains_do_not_reach_over_the_end_of_an_episode():
    batch = episodes([[0, 1], [5], [0, 2]], gold_probability=[[0.5, 0.75], [0.9], [0.0, 0.25]])
    np.testing.assert_allclose(igpo(batch).reward, [0.25, 1, 5, 0.25, 2])


def test_the_rewards_of_intermediate_steps_are_replaced_and_the_outcome_stays():
    batch = episodes([[-7.0, 1.0]], outcome=[3.0], gold_probability=[[0.5, 0.5]])
    shaped = igpo(batch)
    np.testing.assert_allclose(shaped.reward, [0, 1])
    np.testing.assert_array_equal(shaped.outcome, [3])


@pytest.mark.parametrize("seed", range(20))
def test_the_gains_of_an_episode_add_up_to_what_it_learnt(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, size=5)
    batch = episodes(
        [list(rng.normal(size=n)) for n in lengths], gold_probability=[list(rng.random(n)) for n in lengths]
    )
    shaped = igpo(batch)
    for i, (begin, end) in enumerate(zip(batch.step_splits[:-1], batch.step_splits[1:], strict=True)):
        probability = batch.column("gold_probability")[begin:end]
        expected = probability[-1] - probability[0] + batch.reward[end - 1] + batch.outcome[i]
        assert shaped.episode_return[i] == pytest.approx(expected)


def test_a_missing_or_broken_probability_is_refused():
    with pytest.raises(MissingColumnError, match=r"igpo needs the column .*gold_probability supplies"):
        igpo(episodes([[1.0]]))
    with pytest.raises(UserError, match="igpo needs finite numbers"):
        igpo(episodes([[1.0]], gold_probability=[[np.nan]]))
