import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.corrections.truncated_importance import truncated_importance

# Two episodes: steps of 2 and 1 tokens, and a step of 1 token.
PLACES = {"step_of_token": torch.tensor([0, 0, 1, 2]), "episode_of_token": torch.tensor([0, 0, 0, 1])}


def factors(gap, **settings):
    """Of four tokens whose trainer is likelier than its sampler by `gap`, nats."""
    sampler = torch.tensor([-1.0, -2.0, -0.5, -3.0], dtype=torch.float64)
    behavior = sampler + torch.tensor(gap, dtype=torch.float64)
    found = truncated_importance(behavior_logprob=behavior, sampler_logprob=sampler, **PLACES, **settings)
    return found.tolist()


def test_published_numbers():
    #   e^0 = 1, e^0.9 = 2.4596, e^−1.2 = 0.3012
    gap = [0.0, 0.9, -1.2, 0.0]
    assert factors(gap, cap=1e9) == pytest.approx([1.0, 2.4596, 0.3012, 1.0], abs=1e-4)
    assert factors(gap) == pytest.approx([1.0, 2.0, 0.3012, 1.0], abs=1e-4)
    assert factors(gap, floor=0.5) == pytest.approx([1.0, 2.0, 0.5, 1.0])


def test_the_weight_of_a_step_or_an_episode_is_the_product_of_its_tokens():
    #   steps: 0.1 + 0.2 = 0.3, −0.4, 0.5; episodes: −0.1, 0.5
    gap = [0.1, 0.2, -0.4, 0.5]
    by_step = [math.exp(0.3), math.exp(0.3), math.exp(-0.4), math.exp(0.5)]
    assert factors(gap, level="step") == pytest.approx(by_step)
    assert factors(gap, level="episode") == pytest.approx([math.exp(-0.1)] * 3 + [math.exp(0.5)])


def test_where_sampler_and_trainer_agree_nothing_changes():
    assert factors([0.0] * 4) == [1.0] * 4


def test_a_token_that_the_sampler_thought_impossible_counts_with_the_cap():
    assert factors([5000.0, 0.0, -5000.0, 0.0]) == pytest.approx([2.0, 1.0, 0.0, 1.0], abs=1e-8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "sequence"}, "There is no level 'sequence'; valid names: token, step, episode"),
        ({"cap": 0.0}, "cap must be positive"),
        ({"floor": 3.0}, r"floor must be in \[0, cap = 2.0\]"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        factors([0.0] * 4, **settings)
