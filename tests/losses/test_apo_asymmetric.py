import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.apo_asymmetric import apo_asymmetric
from lapwing.losses.kl_k3 import kl_k3


def weights(successes, advantage=1.0, **settings):
    """Of a group of eight episodes with a token each: the loss over k3."""
    logprob, reference = torch.full((8,), -1.0, dtype=torch.float64), torch.full((8,), -1.5, dtype=torch.float64)
    found = apo_asymmetric(
        logprob=logprob,
        reference_logprob=reference,
        advantage=torch.full((8,), advantage),
        success=torch.as_tensor(successes),
        group_of_episode=torch.zeros(8, dtype=torch.int64),
        episode_of_token=torch.arange(8),
        **settings,
    )
    return (found / kl_k3(logprob=logprob, reference_logprob=reference)).tolist()


@pytest.mark.parametrize(("wins", "weight"), [(1, 0.28808), (4, 0.74312), (7, 0.90731), (0, 1.0), (8, 1.0)])
def test_published_numbers(wins, weight):
    # Fails when the weight falls with the success rate, or applies to groups without both results.
    assert weights([1.0] * wins + [0.0] * (8 - wins)) == pytest.approx([weight] * 8, abs=1e-5)


@pytest.mark.parametrize("advantage", [-1.0, 0.0])
def test_what_is_not_to_be_made_likelier_is_held_as_usual(advantage):
    assert weights([1.0] + [0.0] * 7, advantage) == [1.0] * 8


def test_the_rate_is_that_of_known_results():
    #   1 of 2 known
    assert weights([1.0, 0.0] + [math.nan] * 6) == pytest.approx([0.74312] * 8, abs=1e-5)
    assert weights([math.nan] * 8) == [1.0] * 8


def test_the_steepness_is_a_setting():
    assert weights([1.0] * 4 + [0.0] * 4, steepness=1.0) == pytest.approx([1 - math.exp(-0.5)] * 8)


def test_groups_have_rates_of_their_own(three_tokens):
    # Groups 5 (half) and 2 (none) interleaved; the gradient is w (1 − e^−d) for each token.
    tokens = three_tokens([1.2, 0.7, 1.1, 0.9])
    reference = tokens.behavior_logprob
    given = {
        "reference_logprob": reference,
        "advantage": torch.tensor([1.0, 1.0, -1.0, 1.0]),
        "success": torch.tensor([1.0, 0.0, 0.0, 0.0]),
        "group_of_episode": torch.tensor([5, 2, 5, 2]),
        "episode_of_token": torch.tensor([0, 1, 2, 3]),
    }
    weight = [1 - math.exp(-math.e / 2), 1.0, 1.0, 1.0]
    slope = [w * (1 - 1 / ratio) for w, ratio in zip(weight, [1.2, 0.7, 1.1, 0.9], strict=True)]
    tokens.assert_coefficients(lambda logprob: apo_asymmetric(logprob=logprob, **given), slope)


@pytest.mark.parametrize("steepness", [0.0, -1.0])
def test_wrong_settings_are_refused_with_one_sentence(steepness):
    with pytest.raises(UserError, match="steepness must be positive"):
        weights([0.0] * 8, steepness=steepness)
