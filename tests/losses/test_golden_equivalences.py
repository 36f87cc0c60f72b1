"""Methods that become one another where their settings or the data leave no difference (objectives, B.44)."""

import numpy as np
import pytest
import torch

from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.grpo import grpo
from lapwing.credit.rloo import rloo
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.losses.nft import nft
from lapwing.losses.p3o_pairwise import p3o_pairwise
from lapwing.losses.policy_gradient import policy_gradient
from lapwing.testing import episodes

# Three groups, interleaved: one success of four, three of four, and one where all succeed. Two tokens a step.
SUCCESS = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]
GROUP = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]
BATCH = episodes([[0.0, s] for s in SUCCESS], group=GROUP, tokens_per_step=2)
EPISODE_OF_TOKEN = torch.from_numpy(BATCH.episode_of_step[BATCH.step_of_token])
STEP_OF_TOKEN = torch.from_numpy(BATCH.step_of_token)


def on_policy():
    logprob = -torch.rand(BATCH.num_tokens, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return {"logprob": logprob.requires_grad_(), "behavior_logprob": logprob.detach()}


def gradient(loss, given, weight=1.0):
    (found,) = torch.autograd.grad((weight * loss).sum(), given["logprob"])
    return found


@pytest.mark.parametrize(("weight", "credit"), [("grpo", grpo), ("dr_grpo", dr_grpo)])
def test_at_the_weights_that_played_nft_is_grpo_with_the_populations_deviation_and_dr_grpo(weight, credit):
    given = on_policy()
    settings = {"ddof": 0, "eps": 0.0} if credit is grpo else {}
    advantage = torch.from_numpy(credit(BATCH, **settings)[BATCH.step_of_token])
    expected = gradient(policy_gradient(**given, advantage=advantage), given)
    found = nft(
        **given,
        success=torch.tensor(SUCCESS),
        group_of_episode=torch.tensor(GROUP),
        episode_of_token=EPISODE_OF_TOKEN,
        prompt_weight=weight,
    )
    torch.testing.assert_close(gradient(found, given), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("version", ["joint", "separate"])
@pytest.mark.parametrize("sums", ["episode", "token_mean"])
def test_at_the_weights_that_played_p3o_of_pairs_is_rloo(version, sums):
    # Groups of two, episodes of different lengths. With episode_mean, the mean over tokens is the length's.
    batch = episodes([[0.3, 0.5], [1.0], [0.0, -2.0, 0.5], [0.25, 0.0]], group=[0, 1, 0, 1])
    episode = torch.from_numpy(batch.episode_of_step[batch.step_of_token])
    logprob = -torch.rand(batch.num_tokens, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    given = {"logprob": logprob.requires_grad_(), "behavior_logprob": logprob.detach()}
    length = torch.bincount(episode)[episode].double()
    episode_mean = 1.0 / (4 * length)
    returns = np.add.reduceat(batch.reward, batch.step_splits[:-1])
    found = p3o_pairwise(
        **given,
        return_of_episode=torch.from_numpy(returns),
        group_of_episode=torch.tensor([0, 1, 0, 1]),
        step_of_token=torch.from_numpy(batch.step_of_token),
        episode_of_token=episode,
        version=version,
        sums=sums,
    )
    advantage = torch.from_numpy(rloo(batch)[batch.step_of_token])
    # The log-probability of an episode is the sum over its tokens, or their mean.
    weight = 0.25 if sums == "episode" else episode_mean
    expected = gradient(policy_gradient(**given, advantage=advantage), given, weight)
    torch.testing.assert_close(gradient(found, given, episode_mean), expected, atol=1e-12, rtol=0)


def test_the_higher_upper_bound_made_equal_is_the_clip_of_ppo():
    generator = torch.Generator().manual_seed(2)
    logprob, behavior, advantage = torch.randn(3, 200, generator=generator, dtype=torch.float64)
    found = clipped_surrogate(
        logprob=logprob, behavior_logprob=behavior, advantage=advantage, clip_low=0.28, clip_high=0.28
    )
    ratio = (logprob - behavior).exp()
    # PPO's other form: the surrogate, unless the ratio has gone beyond its bound on the side of the advantage.
    bound = (1 + 0.28 * advantage.sign()) * advantage
    torch.testing.assert_close(found, -torch.minimum(ratio * advantage, bound))
