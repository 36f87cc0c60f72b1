import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.gspo import gspo
from lapwing.losses.gspo_token import gspo_token

WIDE = {"clip_low": 1.0, "clip_high": 1e9}


def test_the_value_is_that_of_the_spans_ratio(layout):
    #   log-ratios 0.1, −0.05, 0.25: e^0.1 for each, times its own advantage
    found = gspo_token(
        logprob=torch.tensor([0.1, -0.05, 0.25], dtype=torch.float64),
        behavior_logprob=torch.zeros(3),
        advantage=torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64),
        **layout([[1, 2]]),
        span="episode",
        **WIDE,
    )
    assert found.tolist() == pytest.approx([-math.exp(0.1), 2 * math.exp(0.1), -0.5 * math.exp(0.1)])


def test_each_token_has_its_own_gradient_and_none_through_the_ratio_of_the_others(layout, three_tokens):
    # Fails when a stop-gradient is forgotten, which lets every token pull at all others of its span.
    tokens = three_tokens([1.3, 0.8, 1.1, 0.9])
    advantage = torch.tensor([1.0, -2.0, 0.0, 4.0], dtype=torch.float64)
    places = layout([[1, 3]])
    given = {"behavior_logprob": tokens.behavior_logprob, "advantage": advantage, **places}
    s = (1.3 * 0.8 * 1.1 * 0.9) ** (1 / 4)
    tokens.assert_coefficients(
        lambda logprob: gspo_token(logprob=logprob, **given, span="episode", **WIDE), [-s, 2 * s, 0.0, -4 * s]
    )


def test_the_clip_goes_by_the_span_and_the_sign_of_each_tokens_advantage(layout, three_tokens):
    # s = 1.1 is beyond the bound: tokens that ask for more stop, tokens that ask for less go on.
    tokens = three_tokens([1.21, 1.0])
    given = {
        "behavior_logprob": tokens.behavior_logprob,
        "advantage": torch.tensor([1.0, -1.0], dtype=torch.float64),
        **layout([[2]]),
    }
    tokens.assert_coefficients(lambda logprob: gspo_token(logprob=logprob, **given), [0.0, 1.1])
    assert tokens.values(lambda logprob: gspo_token(logprob=logprob, **given)) == pytest.approx([-1.0004, 1.1])


@pytest.mark.parametrize("span", ["step", "episode"])
def test_with_one_advantage_for_each_span_it_is_gspo(layout, span):
    generator = torch.Generator().manual_seed(0)
    logprob, behavior = -torch.rand(2, 9, generator=generator, dtype=torch.float64)
    logprob.requires_grad_()
    places = layout([[2, 3], [1, 3]])
    index = places[f"{span}_of_token"]
    advantage = torch.randn(4, generator=generator, dtype=torch.float64)[index]
    # The published mean over spans: every span the same, every token of it the same.
    weight = 1.0 / torch.bincount(index)[index]
    settings = {"clip_low": 0.2, "clip_high": 0.2, "span": span}
    given = {"logprob": logprob, "behavior_logprob": behavior, "advantage": advantage, **places, **settings}
    whole, by_token = gspo(**given), gspo_token(**given)
    torch.testing.assert_close(by_token, whole)
    (expected,) = torch.autograd.grad((weight * whole).sum(), logprob)
    (found,) = torch.autograd.grad((weight * by_token).sum(), logprob)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"span": "turn"}, "There is no span 'turn'; valid names: step, episode"),
        ({"clip_low": 2.0}, "clip_low must be in"),
        ({"clip_high": -1.0}, "clip_high must be at least 0"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(layout, settings, message):
    zero = torch.zeros(3)
    with pytest.raises(UserError, match=message):
        gspo_token(logprob=zero, behavior_logprob=zero, advantage=zero, **layout([[3]]), **settings)
