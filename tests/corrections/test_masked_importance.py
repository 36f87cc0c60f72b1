import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.corrections.masked_importance import masked_importance

# Two episodes: steps of 2 and 1 tokens, and a step of 1 token.
PLACES = {"step_of_token": torch.tensor([0, 0, 1, 2]), "episode_of_token": torch.tensor([0, 0, 0, 1])}


def factors(gap, **settings):
    """Of four tokens whose trainer is likelier than its sampler by `gap`, nats."""
    sampler = torch.tensor([-1.0, -2.0, -0.5, -3.0], dtype=torch.float64)
    behavior = sampler + torch.tensor(gap, dtype=torch.float64)
    return masked_importance(behavior_logprob=behavior, sampler_logprob=sampler, **PLACES, **settings).tolist()


def test_published_numbers():
    #   1 is kept; 2.4596 is above 2 and 0.3012 below 0.5; e^0.5 = 1.6487 keeps its weight
    assert factors([0.0, 0.9, -1.2, 0.5]) == pytest.approx([1.0, 0.0, 0.0, 1.6487], abs=1e-4)


def test_a_step_or_an_episode_is_kept_or_dropped_as_a_whole():
    #   steps: 0.8, 0.1, 0; episodes: 0.9, 0
    gap = [0.4, 0.4, 0.1, 0.0]
    assert factors(gap, level="step") == pytest.approx([0.0, 0.0, math.exp(0.1), 1.0])
    assert factors(gap, level="episode") == [0.0, 0.0, 0.0, 1.0]
    assert factors(gap, level="token") == pytest.approx([math.exp(0.4)] * 2 + [math.exp(0.1), 1.0])


def test_if_all_are_dropped_all_factors_are_0():
    assert factors([3.0, -3.0, 3.0, -3.0]) == [0.0] * 4


def test_the_bounds_themselves_are_kept():
    assert factors([math.log(2.0), math.log(0.5), 0.0, 0.0], cap=2.0 + 1e-12, floor=0.5 - 1e-12)[:2] == (
        pytest.approx([2.0, 0.5])
    )


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
