import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.p3o_pairwise import p3o_pairwise

WIDE = {"log_ratio_clip": 1e9}


def loss_of(log_ratio, returns, group=None, **settings):
    """Of episodes with a token each."""
    count = len(returns)
    given = {"step_of_token": torch.arange(count), "episode_of_token": torch.arange(count), **settings}
    return p3o_pairwise(
        logprob=torch.as_tensor(log_ratio, dtype=torch.float64),
        behavior_logprob=torch.zeros(len(log_ratio), dtype=torch.float64),
        return_of_episode=torch.as_tensor(returns, dtype=torch.float64),
        group_of_episode=torch.tensor(group or [0] * count),
        **given,
    )


PAIR = [math.log(1.1), math.log(0.9)]


def test_published_numbers():
    #   u = log(1.1/0.9) = 0.20067, ω = 0.99: −½·0.99·0.20067; with ε₂ = 0.1 −½·0.99·0.1
    assert loss_of(PAIR, [1.0, 0.0], **WIDE).tolist() == pytest.approx([-0.09933] * 2, abs=1e-5)
    assert loss_of(PAIR, [1.0, 0.0], log_ratio_clip=0.1).tolist() == pytest.approx([-0.0495] * 2)


def test_by_default_the_log_ratio_is_clipped_at_a_fifth():
    assert loss_of(PAIR, [1.0, 0.0]).tolist() == pytest.approx([-0.5 * 0.99 * 0.2] * 2)


def test_the_wrong_way_is_not_clipped():
    #   Δ = −1: min(−0.20067, −0.1) = −0.20067
    found = loss_of(PAIR, [0.0, 1.0], log_ratio_clip=0.1)
    assert found.tolist() == pytest.approx([0.5 * 0.99 * math.log(1.1 / 0.9)] * 2)


def test_the_weight_of_a_pair_is_clipped():
    #   ω = 4 becomes 1.2, and 0.25 becomes 0.8; u = 0, so look at the gradient: ∓½ ω Δ
    for log_ratio, weight in ((math.log(2.0), 1.2), (math.log(0.5), 0.8)):
        both = torch.full((2,), log_ratio, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(loss_of(both, [1.0, 0.0])[0], both)
        assert slope.tolist() == pytest.approx([-0.5 * weight, 0.5 * weight])


def test_the_separate_version_holds_each_episode_near():
    #   ε₁ = ε₂ = 0.2: ratios 1.1 and 0.9 inside, −½·0.99·(log 1.1 − log 0.9)
    assert loss_of(PAIR, [1.0, 0.0], version="separate").tolist() == pytest.approx([-0.09933] * 2, abs=1e-5)
    #   ratios 2 and ½ become 1.2 and 0.8, log-ratios ±0.2: −½·0.96·0.4
    far = [math.log(2.0), math.log(0.5)]
    assert loss_of(far, [1.0, 0.0], version="separate").tolist() == pytest.approx([-0.5 * 0.96 * 0.4] * 2)
    #   the wrong way round: no clip, −½·0.96·(−2 log 2)
    assert loss_of(far, [0.0, 1.0], version="separate").tolist() == pytest.approx([0.96 * math.log(2.0)] * 2)


@pytest.mark.parametrize("version", ["joint", "separate"])
def test_adding_a_constant_to_all_returns_of_a_group_changes_nothing(version):
    generator = torch.Generator().manual_seed(0)
    log_ratio, returns = 0.2 * torch.randn(2, 7, generator=generator, dtype=torch.float64)
    group = [3, 1, 3, 1, 3, 1, 1]
    shift = torch.tensor([7.0 if number == 3 else -2.0 for number in group], dtype=torch.float64)
    found = loss_of(log_ratio, returns + shift, group, version=version)
    torch.testing.assert_close(found, loss_of(log_ratio, returns, group, version=version))


@pytest.mark.parametrize("version", ["joint", "separate"])
def test_an_episode_has_the_mean_over_the_pairs_that_it_is_in(version):
    generator = torch.Generator().manual_seed(1)
    log_ratio, returns = 0.2 * torch.randn(2, 6, generator=generator, dtype=torch.float64)
    group = [8, 2, 8, 8, 2, 5]
    found = loss_of(log_ratio, returns, group, version=version)
    for i in range(6):
        others = [j for j in range(6) if j != i and group[j] == group[i]]
        pairs = [loss_of(log_ratio[[i, j]], returns[[i, j]], version=version)[0].item() for j in others]
        assert found[i].item() == pytest.approx(sum(pairs) / max(len(pairs), 1))
    assert found[5].item() == 0.0


def test_tokens_of_an_episode_are_summed_or_averaged():
    # Episode 0: steps of 2 and 1 tokens, log-ratios 0.1, 0.02, 0.03; episode 1: one token, 0.05.
    log_ratio = [0.1, 0.02, 0.03, 0.05]
    places = {"step_of_token": torch.tensor([0, 0, 1, 2]), "episode_of_token": torch.tensor([0, 0, 0, 1])}

    def value(first, second):
        return [-0.5 * math.exp(first + second) * (first - second)] * 4

    for sums, first in (("episode", 0.15), ("step_mean", 0.075), ("token_mean", 0.05)):
        found = loss_of(log_ratio, [1.0, 0.0], sums=sums, **places, ratio_clip=1.0, **WIDE)
        assert found.tolist() == pytest.approx(value(first, 0.05))


def test_episodes_that_are_not_in_the_minibatch_do_not_count():
    # The per-episode tensors are those of the batch; only episodes 1 and 3 have tokens here, in groups apart from 0.
    found = loss_of(
        PAIR,
        [50.0, 1.0, -9.0, 0.0],
        [4, 4, 4, 4],
        step_of_token=torch.tensor([6, 9]),
        episode_of_token=torch.tensor([1, 3]),
        **WIDE,
    )
    assert found.tolist() == pytest.approx([-0.09933] * 2, abs=1e-5)


@pytest.mark.parametrize("version", ["joint", "separate"])
def test_the_gradient_stops_at_the_weight_of_a_pair(three_tokens, version):
    # Pair of ratios 1.1 and 0.9 (ω = 0.99): −½ ω Δ and +½ ω Δ, once for each of the two episodes that have this loss.
    tokens = three_tokens([1.1, 0.9])

    def loss(logprob):
        return p3o_pairwise(
            logprob=logprob,
            behavior_logprob=tokens.behavior_logprob,
            return_of_episode=torch.tensor([3.0, 1.0]),
            group_of_episode=torch.tensor([0, 0]),
            step_of_token=torch.arange(2),
            episode_of_token=torch.arange(2),
            version=version,
            **WIDE,
        )

    tokens.assert_coefficients(loss, [-2 * 0.99, 2 * 0.99])


def test_infinite_ratios_are_clipped():
    logprob = torch.tensor([0.0, -600.0], requires_grad=True)
    loss = p3o_pairwise(
        logprob=logprob,
        behavior_logprob=torch.tensor([-600.0, 0.0]),
        return_of_episode=torch.tensor([1.0, 0.0]),
        group_of_episode=torch.tensor([0, 0]),
        step_of_token=torch.arange(2),
        episode_of_token=torch.arange(2),
    )
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([-0.1] * 2)
    assert logprob.grad is not None
    assert logprob.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": "v2"}, "There is no version 'v2'; valid names: joint, separate"),
        ({"sums": "mean"}, "There is no sums 'mean'; valid names: episode, step_mean, token_mean"),
        ({"ratio_clip": 1.5}, r"ratio_clip must be in \[0, 1\]"),
        ({"log_ratio_clip": 0.0}, "log_ratio_clip must be positive"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        loss_of(PAIR, [1.0, 0.0], **settings)
