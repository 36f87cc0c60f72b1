"""The mathematics of `examples/whole_idea.py` stands there a second time; this keeps the two from drifting apart."""

import copy
import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from lapwing import testing
from lapwing.aggregation.token_mean import token_mean
from lapwing.core.ragged import lengths_to_splits
from lapwing.credit.grpo import grpo
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.selection.aaw import aaw
from lapwing.selection.all_episodes import all_episodes
from lapwing.training.learner import AdamW, Learner

# A large ε keeps Adam from blowing rounding errors of tiny gradients up to whole steps.
OPTIMIZER = {"betas": (0.9, 0.999), "eps": 1e-3, "weight_decay": 0.0}
LEARNING_RATE = 1e-2


@pytest.fixture(scope="module")
def idea(example):
    return example("whole_idea")


@pytest.fixture(scope="module")
def played(idea):
    """A model that has seen some of the format, so that replies are valid, invalid and empty, and its episodes."""
    rng = np.random.default_rng(3)
    model = idea.make_model(seed=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(8):
        replies = [[idea.TOKEN[action], idea.END] for action in rng.choice(list(idea.MOVES), size=32)]
        prompts = [idea.prompt((row, column)) for row, column in rng.integers(4, size=(32, 2)).tolist()]
        idea.descend(model, optimizer, -idea.reply_logprobs(model, prompts, replies).mean())
    return model, idea.play(model, rng)


def as_batch(episodes):
    """The episodes of the example as the library's arrays."""
    steps = [step for episode in episodes for step in episode.steps]
    logprobs = [[step.logprobs for step in episode.steps] for episode in episodes]
    batch = testing.episodes(
        [[step.reward for step in episode.steps] for episode in episodes],
        group=[episode.group for episode in episodes],
        tokens_per_step=[[len(step.reply) for step in episode.steps] for episode in episodes],
        token=[[step.reply for step in episode.steps] for episode in episodes],
        sampler_logprob=logprobs,
        behavior_logprob=logprobs,
    )
    return dataclasses.replace(
        batch,
        context_splits=lengths_to_splits(np.array([len(step.prompt) for step in steps])),
        context_token=np.concatenate([step.prompt for step in steps]).astype(np.int32),
    )


def make_learner(model, **settings):
    return Learner(
        model,
        loss=clipped_surrogate,
        loss_needs=("behavior_logprob", "advantage"),
        optimizer=AdamW(learning_rate=LEARNING_RATE, clip_norm=0.5, final_share=1.0, **OPTIMIZER, **settings),
        seed=0,
    )


def weights(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def test_the_episodes_hold_all_kinds_of_replies(idea, played):
    # Fails when the comparisons below would no longer compare anything.
    _, episodes = played
    replies = [step.reply for episode in episodes for step in episode.steps]
    assert {len(reply) for reply in replies} == {1, 2}
    assert {idea.parse(reply) for reply in replies} == {None, *idea.MOVES}
    returns = np.array([sum(step.reward for step in episode.steps) for episode in episodes])
    assert len(np.unique(returns)) > 5


def test_a_stored_logprob_is_that_of_the_model(idea, played):
    model, episodes = played
    steps = [step for episode in episodes for step in episode.steps]
    found = idea.reply_logprobs(model, [step.prompt for step in steps], [step.reply for step in steps])
    stored = [number for step in steps for number in step.logprobs]
    np.testing.assert_allclose(found.detach().numpy(), stored, atol=1e-5)


def test_the_advantage_is_grpo(idea, played):
    _, episodes = played
    batch = as_batch(episodes)
    np.testing.assert_allclose(idea.group_advantage(episodes)[batch.episode_of_step], grpo(batch), atol=1e-12)


def test_a_group_of_equal_returns_has_no_advantage(idea):
    episodes = [idea.Episode(group, [idea.Step([0], [0], [0.0], reward)]) for group, reward in [(0, 1), (0, 1), (1, 0)]]
    np.testing.assert_array_equal(idea.group_advantage(episodes), grpo(as_batch(episodes)))
    assert not idea.group_advantage(episodes).any()


@pytest.mark.parametrize("keep", [0.01, 0.35, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_draw_selects_the_same_episodes(idea, played, keep, seed):
    _, episodes = played
    # An odd number of episodes, some of them without advantage.
    advantage = idea.group_advantage(episodes)[:-1]
    advantage[::5] = 0.0
    batch = as_batch(episodes[:-1])
    found = idea.draw(advantage, np.random.default_rng(seed), keep=keep)
    expected = aaw(batch, advantage[batch.episode_of_step], np.random.default_rng(seed), keep=keep)
    np.testing.assert_array_equal(found, expected.count)


def test_the_weights_are_the_token_mean(idea, played):
    _, episodes = played
    batch = as_batch(episodes)
    step_advantage = grpo(batch)
    drawn = aaw(batch, step_advantage, np.random.default_rng(1))
    for selection in (drawn, all_episodes(batch, step_advantage, np.random.default_rng(1))):
        np.testing.assert_allclose(
            idea.token_weights(episodes, selection.count), token_mean(batch, selection), atol=1e-12
        )


def test_the_loss_is_the_clipped_surrogate_and_so_is_its_slope(idea):
    random = np.random.default_rng(0)
    old, advantage = (torch.from_numpy(random.normal(size=200)) for _ in range(2))
    new = (old + torch.from_numpy(random.normal(scale=0.5, size=200))).requires_grad_()
    given = {"logprob": new, "behavior_logprob": old, "advantage": advantage}
    losses = idea.clipped_loss(new, old, advantage), clipped_surrogate(**given)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss.sum(), new)[0] for loss in losses))


@pytest.mark.parametrize("updates", [1, 3])
def test_from_the_same_episodes_come_the_same_loss_and_the_same_weights(idea, played, updates):
    # Several updates on one batch, so that ratios leave 1 and the clip is at work.
    model, episodes = played
    batch = as_batch(episodes)
    step_advantage = grpo(batch)
    selection = aaw(batch, step_advantage, np.random.default_rng(5))
    theirs, ours = copy.deepcopy(model), copy.deepcopy(model)

    learner = make_learner(theirs, epochs=updates)
    metrics = learner.update(batch, batch.spread(step_advantage), token_mean(batch, selection))
    optimizer = torch.optim.AdamW(ours.parameters(), lr=LEARNING_RATE, **OPTIMIZER)
    losses = [idea.update(ours, optimizer, episodes, np.random.default_rng(5)) for _ in range(updates)]

    assert metrics["update/count"] == updates
    np.testing.assert_allclose(np.mean(losses), metrics["update/loss"], atol=1e-5)
    assert (weights(ours) - weights(model)).abs().max() > 1e-3
    torch.testing.assert_close(weights(ours), weights(theirs), atol=1e-5, rtol=0)


def test_the_clip_bites_within_three_updates(idea, played):
    model, episodes = played
    ours = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(ours.parameters(), lr=LEARNING_RATE, **OPTIMIZER)
    idea.update(ours, optimizer, episodes, np.random.default_rng(5))
    idea.update(ours, optimizer, episodes, np.random.default_rng(5))
    steps = [step for episode in episodes for step in episode.steps]
    logprob = partial(idea.reply_logprobs, prompts=[s.prompt for s in steps], replies=[s.reply for s in steps])
    ratio = (logprob(ours) - logprob(model)).exp()
    assert ((ratio - 1.0).abs() > 0.2).float().mean() > 0.05
