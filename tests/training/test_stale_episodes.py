"""Episodes that older weights played: the ratio's denominator is the sampler's, truncated."""

import math

import numpy as np
import pytest
import torch

from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.losses.policy_gradient import policy_gradient
from lapwing.models.distinct import DistinctReplies
from lapwing.models.scorer import Scorer
from lapwing.training.adamw import AdamW
from lapwing.training.learner import Learner
from lapwing.training.tokens import truncated_behavior

NEEDS = ("behavior_logprob", "advantage")


def numbers(batch):
    random = np.random.default_rng(1)
    return random.normal(size=batch.num_tokens), random.uniform(0.01, 0.2, size=batch.num_tokens)


def make_learner(model, loss=clipped_surrogate, version=3, optimizer=None, **settings):
    given = {"learning_rate": 1e-3, "final_share": 1.0, "clip_norm": 1e9, **(optimizer or {})}
    learner = Learner(model, loss=loss, loss_needs=NEEDS, optimizer=AdamW(**given), seed=0, **settings)
    learner.version = version
    return learner


def now(model, batch):
    """Log-probability of every token under the model."""
    replies = DistinctReplies(batch, np.arange(batch.num_steps))
    logprob = np.empty(batch.num_tokens)
    logprob[replies.index] = replies.score(Scorer(model))["logprob"]
    return logprob


@pytest.fixture
def mixed(make_batch, make_model):
    """Two current episodes and two old ones; the weights, and a sampler whose ratios are spread over [½, 8]."""
    model = make_model(seed=1)
    batch = make_batch(versions=(3, 2, 3, 0))
    log_ratio = np.linspace(-math.log(2.0), math.log(8.0), batch.num_tokens)
    return model, batch.with_columns(sampler_logprob=now(model, batch) - log_ratio), np.exp(log_ratio)


def test_by_hand():
    # Ratios 1.5 and 4 of old tokens under max_ratio 2: the first is the sampler's, the second begins at 2.
    logprob = torch.log(torch.tensor([0.3, 0.4, 0.5]))
    sampler = torch.log(torch.tensor([0.2, 0.1, 0.1]))
    stale = torch.tensor([True, True, False])
    expected = torch.log(torch.tensor([0.2, 0.2, 0.5]))
    torch.testing.assert_close(truncated_behavior(logprob, sampler, stale, 2.0), expected)
    expected = torch.log(torch.tensor([0.2, 0.1, 0.5]))
    torch.testing.assert_close(truncated_behavior(logprob, sampler, stale, None), expected)


def test_where_nothing_is_stale_nothing_changes():
    logprob = torch.randn(3)
    assert truncated_behavior(logprob, torch.zeros(3), torch.zeros(3, dtype=torch.bool), 2.0) is logprob


def ratios_of(model, batch, **settings):
    """The ratios with which the first update begins, by token of the batch; 1 by definition where it is current."""
    found = np.ones(batch.num_tokens)
    seen = []

    def watch(*, logprob, behavior_logprob, advantage):
        seen.append(((logprob - behavior_logprob).detach().exp().numpy(), advantage.numpy()))
        return -logprob * advantage

    # The advantage says which token it is.
    learner = make_learner(model, loss=watch, **settings)
    metrics = learner.update(batch, np.arange(batch.num_tokens, dtype=float), np.ones(batch.num_tokens))
    ratio, token = (np.concatenate(column) for column in zip(*seen, strict=True))
    found[token[: batch.num_tokens].astype(int)] = ratio[: batch.num_tokens]
    return found, metrics


@pytest.mark.parametrize("optimizer", [{}, {"epochs": 2, "learning_rate": 1e-9}], ids=["one update", "two"])
@pytest.mark.parametrize("max_ratio", [1.0, 2.0, None])
def test_ratios_begin_at_one_and_at_most_at_the_bound(mixed, optimizer, max_ratio):
    # Fails when current episodes get the sampler's denominator, or old ones the recomputed one.
    model, batch, ratio = mixed
    stale = (batch.policy_version < 3)[batch.step_of_token]
    found, metrics = ratios_of(model, batch, max_ratio=max_ratio, optimizer=optimizer)
    bound = np.inf if max_ratio is None else max_ratio
    np.testing.assert_allclose(found, np.where(stale, np.minimum(ratio, bound), 1.0), rtol=1e-5)
    assert metrics["policy/stale_share"] == pytest.approx(stale.mean())
    assert metrics["policy/truncated_share"] == pytest.approx((stale & (ratio > bound)).mean())


def test_the_gap_is_that_of_current_episodes(mixed):
    # Fails when the distance between old and new weights is taken for a fault of the sampler.
    model, batch, ratio = mixed
    current = (batch.policy_version >= 3)[batch.step_of_token]
    advantage, weight = numbers(batch)
    metrics = make_learner(model).update(batch, advantage, weight)
    assert metrics["policy/gap"] == pytest.approx(np.abs(np.log(ratio[current])).mean(), rel=1e-4)
    assert metrics["policy/gap_max"] == pytest.approx(np.abs(np.log(ratio[current])).max(), rel=1e-4)


def test_a_batch_of_old_episodes_alone_has_no_gap(make_model, make_batch):
    batch = make_batch(versions=(0, 1, 2, 0))
    advantage, weight = numbers(batch)
    metrics = make_learner(make_model(seed=1)).update(batch, advantage, weight)
    assert metrics["policy/stale_share"] == 1.0
    assert "policy/gap" not in metrics


def test_the_version_is_that_with_which_the_updates_of_a_batch_begin(mixed):
    # Fails when the second of several updates takes the whole batch for old.
    model, batch, _ = mixed
    advantage, weight = numbers(batch)
    metrics = make_learner(model, optimizer={"epochs": 3}).update(batch, advantage, weight)
    assert metrics["update/count"] == 3.0
    assert metrics["policy/stale_share"] == pytest.approx((batch.policy_version < 3)[batch.step_of_token].mean())


def test_the_gradient_of_an_old_token_is_its_ratio_times_that_of_a_current_one(make_model, make_batch):
    # policy gradient −ρ A ∇log π with ρ = 2 for all tokens: twice the gradient of fresh episodes.
    batch = make_batch(versions=(0, 0, 0, 0))
    advantage, weight = numbers(batch)
    gradients = []
    for version, settings in ((0, {}), (3, {"max_ratio": 2.0})):
        model = make_model(seed=1)
        some = batch.with_columns(sampler_logprob=now(model, batch) - math.log(5.0))
        make_learner(model, loss=ratio_loss, version=version, **settings).update(some, advantage, weight)
        gradients.append(torch.cat([p.grad.reshape(-1) for p in model.parameters()]))
    torch.testing.assert_close(gradients[1], 2.0 * gradients[0], rtol=1e-4, atol=1e-6)


def ratio_loss(*, logprob, behavior_logprob, advantage):
    return -(logprob - behavior_logprob).exp() * advantage


def test_without_old_episodes_the_update_is_what_it_was(make_model, make_batch):
    # The bound and the version have no say: bit for bit.
    batch = make_batch()
    advantage, weight = numbers(batch)
    found = []
    for version, bound in ((0, 2.0), (0, 1.0), (0, None)):
        model = make_model(seed=1)
        make_learner(model, loss=policy_gradient, version=version, max_ratio=bound).update(batch, advantage, weight)
        found.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
