import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.nft import nft

# A group of four with one success, a token each: c = 0.25.
ONE_OF_FOUR = {
    "success": torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64),
    "group_of_episode": torch.zeros(4, dtype=torch.int64),
    "episode_of_token": torch.arange(4),
}


def loss_of(ratio, places=ONE_OF_FOUR, **settings):
    """Of tokens with the given ratios."""
    log_ratio = torch.tensor(ratio, dtype=torch.float64).log()
    behavior = torch.full_like(log_ratio, -1.0)
    return nft(logprob=behavior + log_ratio, behavior_logprob=behavior, **places, **settings).tolist()


def test_published_values():
    #   success: −log 1.2. Failure: −log((1 − 0.25·1.2)/0.75) = −log 0.93333, and −log 1.06667 at ρ = 0.8.
    found = loss_of([1.2, 1.2, 0.8, 1.0], prompt_weight="none", floor=1e-9)
    assert found == pytest.approx([-0.18232, 0.06899, -0.06454, 0.0], abs=1e-5)


def test_the_floor_holds_the_value_and_not_the_gradient(three_tokens):
    # At ρ = 1.2 the quotient 0.93333 is raised to 1: loss 0. dℓ/dρ = c/(1 − c) = 1/3, and so dℓ/dlogprob = 0.4.
    # Fails when the maximum is a plain clamp, whose gradient is 0.
    tokens = three_tokens([1.2, 1.2, 0.8, 1.0])

    def loss(logprob):
        return nft(logprob=logprob, behavior_logprob=tokens.behavior_logprob, prompt_weight="none", **ONE_OF_FOUR)

    assert tokens.values(loss) == pytest.approx([-0.18232, 0.0, -0.06454, 0.0], abs=1e-5)
    #   at ρ = 0.8, above the floor: c ρ/(1 − c)/1.06667 = 0.25
    tokens.assert_coefficients(loss, [-1.0, 0.4, 0.25, 1 / 3])


def test_without_a_floor_that_binds_the_gradient_is_the_slope_of_the_value(three_tokens):
    tokens = three_tokens([1.5, 1.2, 0.5, 0.9])
    tokens.assert_slope_of_the_value(
        lambda logprob: nft(logprob=logprob, behavior_logprob=tokens.behavior_logprob, floor=0.1, **ONE_OF_FOUR)
    )


@pytest.mark.parametrize(
    ("weight", "good", "bad"),
    [("none", 1.0, 1 / 3), ("dr_grpo", 0.75, 0.25), ("grpo", math.sqrt(3), math.sqrt(1 / 3))],
)
def test_the_weights_of_a_group_at_the_weights_that_played(three_tokens, weight, good, bad):
    #   c = 1/4: success ω, failure ω c/(1 − c); ω = 1, 1 − c, sqrt((1 − c)/c)
    tokens = three_tokens([1.0] * 4)
    tokens.assert_coefficients(
        lambda logprob: nft(
            logprob=logprob, behavior_logprob=tokens.behavior_logprob, prompt_weight=weight, **ONE_OF_FOUR
        ),
        [-good, bad, bad, bad],
    )


def test_the_weight_of_failures(three_tokens):
    tokens = three_tokens([1.0] * 4)
    given = {"behavior_logprob": tokens.behavior_logprob, "prompt_weight": "none", **ONE_OF_FOUR}
    tokens.assert_coefficients(lambda logprob: nft(logprob=logprob, neg_weight=0.0, **given), [-1.0, 0.0, 0.0, 0.0])
    half = [-1.0, 1 / 6, 1 / 6, 1 / 6]
    tokens.assert_coefficients(lambda logprob: nft(logprob=logprob, neg_weight=0.5, **given), half)


def test_a_ratio_above_one_over_c_neither_fails_nor_falls_silent():
    # c = 0.9, ρ = 1.2: the quotient −0.8 has no logarithm. The gradient is c ρ/(1 − c) = 10.8.
    log_ratio = torch.tensor([0.0, math.log(1.2)], dtype=torch.float64, requires_grad=True)
    loss = nft(
        logprob=log_ratio,
        behavior_logprob=torch.zeros(2),
        success=torch.tensor([1.0] * 9 + [0.0]),
        group_of_episode=torch.zeros(10, dtype=torch.int64),
        episode_of_token=torch.tensor([0, 9]),
        prompt_weight="none",
    )
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.0, 0.0])
    assert log_ratio.grad is not None
    assert log_ratio.grad.tolist() == pytest.approx([-1.0, 10.8])


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_an_enormous_ratio_keeps_the_value(precision):
    # Fails when the cut-off part is added back: in single precision 1 − (−1.6e8) + (−1.6e8) is not 1.
    loss = nft(
        logprob=torch.zeros(4, dtype=precision, requires_grad=True),
        behavior_logprob=torch.full((4,), -900.0, dtype=precision),
        **ONE_OF_FOUR,
    )
    assert loss.tolist() == pytest.approx([-900 * 0.75, 0.0, 0.0, 0.0])


def test_the_success_rate_keeps_away_from_0_and_1():
    # 1 of 100: c = 0.02 and not 0.01; ω = 0.98. −0.98 log((1 − 0.02·0.5)/0.98), and so for 99 of 100.
    places = {"group_of_episode": torch.zeros(100, dtype=torch.int64), "episode_of_token": torch.tensor([99])}
    rare = {"success": torch.tensor([1.0] + [0.0] * 99), **places}
    assert loss_of([0.5], rare) == pytest.approx([-0.98 * math.log(0.99 / 0.98)])
    frequent = {"success": torch.tensor([1.0] * 99 + [0.0]), **places}
    assert loss_of([0.5], frequent) == pytest.approx([-0.02 * math.log((1 - 0.98 * 0.5) / 0.02)])


def test_groups_without_both_results_have_no_loss():
    places = {
        "success": torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.0]),
        "group_of_episode": torch.tensor([7, 7, 3, 3, 5, 5]),
        "episode_of_token": torch.arange(6),
    }
    found = loss_of([1.1] * 6, places, floor=1e-9)
    assert found[:4] == [0.0] * 4
    assert all(found[4:])


def test_unknown_results_count_neither_way():
    nan = math.nan
    places = {
        "success": torch.tensor([1.0, 0.0, nan, nan, nan, 1.0]),
        "group_of_episode": torch.tensor([0, 0, 0, 0, 1, 1]),
        "episode_of_token": torch.arange(6),
    }
    # c = ½ of two known results, not ¼ of four: −½ log 1.1 and −½ log((1 − 0.55)/0.5)
    found = loss_of([1.1] * 6, places, floor=1e-9)
    assert found == pytest.approx([-0.5 * math.log(1.1), -0.5 * math.log(0.9), 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_weight": "rloo"}, "There is no prompt_weight 'rloo'; valid names: dr_grpo, grpo, none"),
        ({"neg_weight": -1.0}, "neg_weight must be at least 0"),
        ({"floor": 0.0}, "floor must be positive"),
        ({"rate_margin": 0.5}, "rate_margin must be between 0 and 0.5"),
        ({"rate_margin": 0.0}, "rate_margin must be between 0 and 0.5"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        loss_of([1.0] * 4, **settings)
