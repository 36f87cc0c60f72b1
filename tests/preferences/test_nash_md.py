import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.kl_k2 import kl_k2
from lapwing.losses.policy_gradient import policy_gradient
from lapwing.preferences._adapter import over_tokens, tensors_of_tokens
from lapwing.preferences.nash_md import nash_md

NAMES = ("chosen_logprob", "chosen_divergence", "margin")
REFERENCE = torch.tensor([-1.5, -1.5, -3.0], dtype=torch.float64)


def tokens(**others):
    """Episode 0 of two tokens learns against episode 1 of one token, and wins with probability .8."""
    return {
        "logprob": torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True),
        "reference_logprob": REFERENCE,
        "episode_of_token": torch.tensor([0, 0, 1]),
        "chosen": torch.tensor([0]),
        "rejected": torch.tensor([1]),
        "pair_weight": torch.ones(1, dtype=torch.float64),
        "pair_margin": torch.tensor([0.3], dtype=torch.float64),
        **others,
    }


def test_value_and_gradient_by_hand():
    # Fails when a stop-gradient is forgotten, the sum over tokens is squared, or the opponent's text is learnt.
    given = tokens()
    loss = over_tokens(nash_md, beta=0.1)(**given).sum()
    #   −.3 · (−3) + .1 · (.5 · (−1) + (−.5) · (−2)) = .9 + .05
    assert loss.item() == pytest.approx(0.95)
    loss.backward()
    #   −.3 + .1 · (±.5), and nothing for what the opponent wrote
    assert given["logprob"].grad.tolist() == pytest.approx([-0.25, -0.35, 0.0])


def test_its_gradient_is_that_of_policy_gradient_with_kl_k2():
    given = tokens()
    (found,) = torch.autograd.grad(over_tokens(nash_md, beta=0.1)(**given).sum(), given["logprob"])
    mine = given["logprob"][:2]
    advantage = torch.full((2,), 0.3, dtype=torch.float64)
    plain = policy_gradient(logprob=mine, behavior_logprob=mine.detach(), advantage=advantage)
    plain = plain + 0.1 * kl_k2(logprob=mine, reference_logprob=REFERENCE[:2])
    (expected,) = torch.autograd.grad(plain.sum(), given["logprob"])
    torch.testing.assert_close(found, expected)


def test_on_a_softmax_the_gradient_is_the_score_times_the_coefficient(gradient, scores):
    chosen, _ = scores
    torch.testing.assert_close(gradient(nash_md, NAMES, beta=0.0), -0.3 * chosen)
    # The divergence is differentiated through the log-probability alone.
    twice = gradient(nash_md, NAMES, beta=0.2) - gradient(nash_md, NAMES, beta=0.0)
    once = gradient(nash_md, NAMES, beta=0.1) - gradient(nash_md, NAMES, beta=0.0)
    torch.testing.assert_close(twice, 2 * once)


def test_at_even_odds_and_at_the_reference_nothing_is_learnt():
    given = tokens(pair_margin=torch.zeros(1, dtype=torch.float64))
    given["reference_logprob"] = given["logprob"].detach()
    (found,) = torch.autograd.grad(over_tokens(nash_md)(**given).sum(), given["logprob"])
    assert not found.any()


def test_a_margin_carries_no_gradient():
    margin = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    logprob = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    nash_md(chosen_logprob=logprob, chosen_divergence=logprob, margin=margin).sum().backward()
    assert margin.grad is None


def test_it_asks_for_the_margin_and_the_reference():
    assert {"pair_margin", "reference_logprob"} <= set(tensors_of_tokens(nash_md, {}))


@pytest.mark.parametrize("beta", [-0.1, float("nan")])
def test_a_negative_strength_is_refused(beta):
    with pytest.raises(UserError, match="beta must be at least 0"):
        over_tokens(nash_md, beta=beta)(**tokens())
