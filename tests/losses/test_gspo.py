import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.gspo import gspo
from lapwing.losses.policy_gradient import policy_gradient

WIDE = {"clip_low": 1.0, "clip_high": 1e9}
# One step of three tokens whose log-ratios are 0.1, −0.05 and 0.25: their mean is 0.1.
LOG_RATIOS = torch.tensor([0.1, -0.05, 0.25], dtype=torch.float64)


def loss_of(log_ratio, advantage, places, **settings):
    return gspo(
        logprob=log_ratio,
        behavior_logprob=torch.zeros_like(log_ratio),
        advantage=torch.as_tensor(advantage, dtype=torch.float64),
        **places,
        **settings,
    )


def test_the_ratio_of_a_step_is_the_geometric_mean_of_its_tokens_ratios(layout):
    #   e^0.1, and neither the product e^0.3 = 1.34986 nor the mean of 1.1052, 0.9512 and 1.2840
    found = loss_of(LOG_RATIOS, [1.0, 1.0, 1.0], layout([[3]]), **WIDE)
    assert found.tolist() == pytest.approx([-1.10517] * 3, abs=1e-5)


@pytest.mark.parametrize(
    ("advantage", "value"), [(1.0, -1.0004), (-1.0, math.exp(0.1))], ids=["good: clipped above", "bad: not clipped"]
)
def test_the_default_bounds_are_narrow(layout, advantage, value):
    assert loss_of(LOG_RATIOS, [advantage] * 3, layout([[3]])).tolist() == pytest.approx([value] * 3)
    lower = loss_of(-LOG_RATIOS, [-1.0] * 3, layout([[3]]))
    assert lower.tolist() == pytest.approx([1 - 3e-4] * 3)


def test_steps_have_ratios_of_their_own_and_an_episode_one_for_all(layout):
    #   steps of 2 and 1 tokens: means (0.1 − 0.05)/2 = 0.025 and 0.25; the episode: 0.1
    places = layout([[2, 1]])
    by_step = loss_of(LOG_RATIOS, [1.0] * 3, places, **WIDE)
    assert by_step.tolist() == pytest.approx([-math.exp(0.025)] * 2 + [-math.exp(0.25)])
    by_episode = loss_of(LOG_RATIOS, [1.0] * 3, places, span="episode", **WIDE)
    assert by_episode.tolist() == pytest.approx([-math.exp(0.1)] * 3)


def test_advantages_that_differ_inside_a_span_are_averaged(layout):
    #   (1 + 4 − 2)/3 = 1
    places = layout([[1, 1, 1]])
    found = loss_of(torch.zeros(3, dtype=torch.float64), [1.0, 4.0, -2.0], places, span="episode")
    assert found.tolist() == pytest.approx([-1.0] * 3)


def test_every_token_of_a_span_carries_its_share_of_the_gradient(layout, three_tokens):
    # Fails when the ratio is detached, or the mean is a sum. dℓ/dlogprob_t = −s A / L, and L tokens have this loss.
    tokens = three_tokens([1.3, 0.8, 1.1, 0.9, 1.2])
    places, advantage = layout([[3, 2]]), torch.tensor([2.0, 2.0, 2.0, -1.0, -1.0], dtype=torch.float64)
    first, second = (1.3 * 0.8 * 1.1) ** (1 / 3), (0.9 * 1.2) ** (1 / 2)

    def loss(logprob):
        return gspo(logprob=logprob, behavior_logprob=tokens.behavior_logprob, advantage=advantage, **places, **WIDE)

    tokens.assert_coefficients(loss, [-2.0 * first] * 3 + [second] * 2)
    tokens.assert_slope_of_the_value(loss)


def test_a_span_beyond_the_bound_has_no_gradient(layout, three_tokens):
    tokens = three_tokens([1.1, 1.1, 0.9])
    advantage = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    places = layout([[2, 1]])

    def loss(logprob):
        return gspo(logprob=logprob, behavior_logprob=tokens.behavior_logprob, advantage=advantage, **places)

    #   the second step is below its bound, but its advantage asks it up: slope −0.9
    tokens.assert_coefficients(loss, [0.0, 0.0, -0.9])


def test_at_the_weights_that_played_it_is_the_policy_gradient_under_the_step_mean(layout):
    logprob = -torch.rand(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logprob.requires_grad_()
    places = layout([[1, 2], [3]])
    per_step = torch.tensor([0.5, -2.0, 1.5], dtype=torch.float64)
    given = {
        "logprob": logprob,
        "behavior_logprob": logprob.detach(),
        "advantage": per_step[places["step_of_token"]],
    }
    weight = torch.tensor([1.0, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3], dtype=torch.float64) / 3
    (found,) = torch.autograd.grad((weight * gspo(**given, **places)).sum(), logprob)
    (expected,) = torch.autograd.grad((weight * policy_gradient(**given)).sum(), logprob)
    torch.testing.assert_close(found, expected)


def test_tokens_may_come_in_any_order(layout):
    generator = torch.Generator().manual_seed(1)
    log_ratio, advantage = 0.1 * torch.randn(2, 9, generator=generator, dtype=torch.float64)
    places = layout([[2, 3], [1], [3]])
    order = torch.randperm(9, generator=generator)
    shuffled = loss_of(log_ratio[order], advantage[order], {k: v[order] for k, v in places.items()})
    torch.testing.assert_close(shuffled, loss_of(log_ratio, advantage, places)[order])


def test_numbers_of_the_whole_batch_need_not_be_dense(layout):
    places = layout([[2, 1]])
    sparse = {name: 10 + 7 * number for name, number in places.items()}
    dense = loss_of(LOG_RATIOS, [1.0] * 3, places, **WIDE)
    torch.testing.assert_close(loss_of(LOG_RATIOS, [1.0] * 3, sparse, **WIDE), dense)


def test_no_tokens_have_no_loss(layout):
    none = torch.zeros(0, dtype=torch.float64)
    nowhere = torch.zeros(0, dtype=torch.int64)
    assert loss_of(none, [], {"step_of_token": nowhere, "episode_of_token": nowhere}).shape == (0,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"span": "turn"}, "There is no span 'turn'; valid names: step, episode"),
        ({"clip_low": 2.0}, "clip_low must be in"),
        ({"clip_high": -1.0}, "clip_high must be at least 0"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(layout, settings, message):
    with pytest.raises(UserError, match=message):
        loss_of(LOG_RATIOS, [1.0] * 3, layout([[3]]), **settings)
