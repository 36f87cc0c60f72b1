import numpy as np
import pytest
from scipy.special import expit

from lapwing.core.errors import UserError
from lapwing.pairing.against_reference import against_reference
from lapwing.testing import episodes


def test_preferences_and_weights_by_hand(listed):
    #   drifts 2, 0, −2 nats over the tokens of each episode; with b = ½ a weight of e¹, e⁰, e⁻¹
    batch = episodes(
        [[1], [0, 0], [0]],
        reference_logprob=[[[1.0, 0.5]], [[0.0], [0.0]], [[-2.5]]],
        sampler_logprob=[[[0.0, -0.5]], [[-1.0], [1.0]], [[-0.5]]],
        tokens_per_step=[[2], [1, 1], [1]],
    )
    e, up = np.e, expit(1.0) - 0.5
    expected = [
        (0, 1, 1 / (1 + 1 / e), up),
        (0, 2, (1 / e) / (1 + 1 / e), up),
        (1, 0, e / (e + 1 / e), -up),
        (1, 2, (1 / e) / (e + 1 / e), 0.0),
        (2, 0, e / (e + 1), -up),
        (2, 1, 1 / (e + 1), 0.0),
    ]
    np.testing.assert_allclose(listed(against_reference(batch, share=0.5)), expected, atol=1e-8)


def test_with_share_0_the_opponents_are_the_policy_itself(listed):
    batch = episodes([[1], [0], [0]], reference_logprob=[[[5.0]], [[0.0]], [[-3.0]]])
    assert [row[2] for row in listed(against_reference(batch, share=0.0))] == [0.5] * 6


def test_the_weights_estimate_the_mixture():
    # Fails when the ratio is upside down: importance from the policy to π^{1−b} μ^b is (μ/π)^b.
    policy, reference, b = np.array([0.7, 0.3]), np.array([0.5, 0.5]), 0.25
    # A group that holds each action as often as the policy takes it, and one learner more.
    action = np.repeat([0, 1, 0], [700, 300, 1])
    batch = episodes(
        [[0.0]] * len(action),
        sampler_logprob=[[[x]] for x in np.log(policy)[action]],
        reference_logprob=[[[x]] for x in np.log(reference)[action]],
    )
    pairs = against_reference(batch, share=b)
    mine = pairs.chosen == len(action) - 1
    taken = action[pairs.rejected[mine]]
    #   p = (.7, .3), μ uniform, b = .25 → (.65373, .34627)
    np.testing.assert_allclose(np.bincount(taken, pairs.weight[mine]), [0.65373, 0.34627], atol=1e-5)


def test_the_weights_of_each_learner_sum_to_1_however_far_the_reference_is():
    batch = episodes(
        [[0], [1], [2], [5]], group=[0, 0, 0, 1], reference_logprob=[[[-800.0]], [[0.0]], [[-1e4]], [[0.0]]]
    )
    pairs = against_reference(batch)
    np.testing.assert_allclose(np.bincount(pairs.chosen, pairs.weight, minlength=4), [1, 1, 1, 0])
    assert (np.abs(pairs.margin) <= 0.5).all()


def test_the_scale_of_returns():
    batch = episodes([[2], [0]], reference_logprob=[[[0.0]], [[0.0]]])
    assert against_reference(batch, scale=2.0).margin.tolist() == pytest.approx([expit(1) - 0.5, 0.5 - expit(1)])
    extreme = against_reference(batch, scale=1e-9).margin
    assert extreme.tolist() == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"share": 1.1}, r"share must be in \[0, 1\]"),
        ({"share": float("nan")}, "share must be in"),
        ({"scale": 0.0}, "scale must be above 0"),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        against_reference(episodes([[1], [0]], reference_logprob=[[[0.0]], [[0.0]]]), **settings)
