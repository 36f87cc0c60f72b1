import numpy as np
import pytest

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.shaping.kl_penalty import kl_penalty
from lapwing.testing import episodes


def test_two_episodes_by_hand():
    # Fails when a step pays for another's tokens, or the sign is the other way round.
    #   log-ratios ½, −½ | none | ¼ | 1
    batch = episodes(
        [[1, 0], [0, 2]],
        tokens_per_step=[[2, 0], [1, 1]],
        sampler_logprob=[[[-0.5, -1.0], []], [[-0.25], [0.0]]],
        reference_logprob=[[[-1.0, -0.5], []], [[-0.5], [-1.0]]],
    )
    np.testing.assert_allclose(kl_penalty(batch, coefficient=2.0).reward, [1, 0, -0.5, 0])
    np.testing.assert_array_equal(kl_penalty(batch, coefficient=0.0).reward, batch.reward)


def test_the_reward_that_is_reported_stays():
    batch = episodes([[1]], sampler_logprob=[[[-1.0]]], reference_logprob=[[[-3.0]]], domain_reward=[[1.0]])
    shaped = kl_penalty(batch)
    np.testing.assert_allclose(shaped.reward, [0.98])
    np.testing.assert_array_equal(shaped.column("domain_reward"), [1])


def test_its_mean_is_the_divergence_of_what_played_from_the_reference():
    #   p = (.5, .3, .2), q = (.4, .4, .2): KL = .0252672, with every token as often as p says
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    token = np.repeat([0, 1, 2], [5, 3, 2])
    batch = episodes(
        [[0.0]] * 10,
        sampler_logprob=[[[x]] for x in np.log(p[token])],
        reference_logprob=[[[x]] for x in np.log(q[token])],
    )
    assert -kl_penalty(batch, coefficient=1.0).reward.mean() == pytest.approx(0.0252672, abs=1e-7)


def test_a_reference_is_needed():
    with pytest.raises(MissingColumnError, match=r"kl_penalty needs the column 'reference_logprob'.*annotate"):
        kl_penalty(episodes([[0]]))


def test_wrong_numbers_are_refused():
    batch = episodes([[0]], reference_logprob=[[[0.0]]])
    with pytest.raises(UserError, match="coefficient must be finite"):
        kl_penalty(batch, coefficient=-1.0)
    with pytest.raises(UserError, match="log-probability of token 0 is -inf"):
        kl_penalty(batch.with_columns(sampler_logprob=np.array([-np.inf])))
