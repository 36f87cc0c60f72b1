"""An append-only episode is the same training data as one sequence and as a sequence for each step."""

import copy

import numpy as np
import pytest
import torch

from lapwing.core.ragged import lengths_to_splits
from lapwing.games.chain import Chain
from lapwing.games.frozen_lake import FrozenLake
from lapwing.generation.transformers import Transformers
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.models.tiny import tiny_model, tiny_tokenizer
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.contexts import Transcript
from lapwing.policies.parsers import Bare
from lapwing.policies.renderers import Grid
from lapwing.rollout.collector import LocalCollector
from lapwing.samplers.grouped import Grouped
from lapwing.training.learner import AdamW, Learner

TEMPERATURE = 1.5
# Episodes on the lake end early in holes; all of the chain are cut, so that they have a final context.
GAMES = {"lake": FrozenLake(size=3, slippery=True), "chain": Chain(length=8, delay=2, slip=0.3)}
# Shared prefixes computed once in few rows, or every step in a row and a forward pass of its own.
PACKINGS = {"together": {"row_tokens": 400, "batch_tokens": 10_000}, "alone": {"row_tokens": 1, "batch_tokens": 1}}


@pytest.fixture(scope="module", params=GAMES.values(), ids=list(GAMES))
def played(request):
    """A batch of transcripts that a tiny model played, and the model."""
    game, renderer = request.param, Grid()
    words = renderer.words(game.view(game.initial(np.random.default_rng(0)), 0))
    tokenizer = tiny_tokenizer(words | Bare().words(game.legal(game.initial(np.random.default_rng(0)), 0)))
    model = tiny_model(len(tokenizer), seed=3, hidden=16, layers=2, heads=2, intermediate=32).eval()
    # The stop strings are words of the views, so that replies end in all three ways.
    generator = Transformers(model, tokenizer, max_tokens=3, temperature=TEMPERATURE, stop=("F", "of"))
    agent = Agent(renderer=renderer, context=Transcript(), parser=Bare(), tokenizer=tokenizer, generator=generator)
    matches = Grouped(game, seed=1, groups=3, group_size=3, max_steps=5).draw(0)
    batch = LocalCollector(agent, invalid=InvalidRule(rule="random_legal")).collect(matches).batch
    return batch, model


@pytest.fixture
def batch(played):
    return played[0]


@pytest.fixture
def model(played):
    return played[1]


def per_step(batch):
    """The same batch with the whole context of every step stored by itself."""
    contexts = [batch.context(step) for step in range(batch.num_steps)]
    return batch.with_columns(
        extends_previous=np.zeros(batch.num_steps, dtype=bool),
        context_splits=lengths_to_splits(np.array([len(context) for context in contexts])),
        context_token=np.concatenate(contexts),
    )


def credit(batch):
    """An advantage and a weight for every token, of both signs and of no pattern."""
    random = np.random.default_rng(0)
    return random.normal(size=batch.num_tokens), random.uniform(0.5, 1.5, batch.num_tokens) / batch.num_tokens


def learn(model, batch, packing):
    """Weights before each of two updates by the same batch, and the gradients; the second is off-policy."""
    trained = copy.deepcopy(model)
    learner = Learner(
        trained,
        loss=clipped_surrogate,
        loss_needs=("behavior_logprob", "advantage"),
        # A large ε keeps Adam from blowing rounding errors of tiny gradients up to whole steps.
        optimizer=AdamW(learning_rate=0.05, eps=1e-3, clip_norm=1e9, epochs=2),
        seed=0,
        temperature=TEMPERATURE,
        **packing,
    )
    weights, gradients = [], []

    def note(*_):
        weights.append({name: tensor.clone() for name, tensor in trained.state_dict().items()})
        gradients.append(flat(trained))

    learner.optimizer.register_step_pre_hook(note)
    learner.update(batch, *credit(batch))
    return weights, gradients


def flat(model):
    return torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()])


def one_sequence(batch, episode):
    """An episode from its first token to its last reply, and each token's place on the axis K, −1 where it has none."""
    token, number = [], []
    for step in range(batch.step_splits[episode], batch.step_splits[episode + 1]):
        added = batch.context_token[batch.context_splits[step] : batch.context_splits[step + 1]]
        reply = np.arange(batch.token_splits[step], batch.token_splits[step + 1])
        token += [added, batch.token[reply]]
        number += [np.full(len(added), -1), reply]
    return np.concatenate(token), np.concatenate(number)


def plain_logprob(model, batch):
    """Log-probability of each reply token by one ordinary forward pass for each episode, [K]."""
    logprob = [torch.zeros(0)] * batch.num_episodes
    for episode in range(batch.num_episodes):
        token, number = map(torch.from_numpy, one_sequence(batch, episode))
        logits = model(input_ids=token[None].long()).logits[0, :-1] / TEMPERATURE
        everything = torch.log_softmax(logits, dim=-1).gather(1, token[1:, None].long())[:, 0]
        logprob[episode] = everything[number[1:] >= 0]
    return torch.cat(logprob)


def plain_gradient(model, batch, weights, at):
    """The gradient of the surrogate at some weights, written out, with the first weights as those that played."""
    one = copy.deepcopy(model)
    one.load_state_dict(weights[0])
    with torch.no_grad():
        behavior = plain_logprob(one, batch)
    one.load_state_dict(weights[at])
    one.zero_grad()
    advantage, weight = (torch.from_numpy(column).float() for column in credit(batch))
    ratio = (plain_logprob(one, batch) - behavior).exp()
    clipped = ((ratio > 1.2) & (advantage > 0)) | ((ratio < 0.8) & (advantage < 0))
    (weight * -advantage * torch.where(clipped, ratio.detach(), ratio)).sum().backward()
    return flat(one), int(clipped.sum())


def difference(one, other):
    return float((one - other).norm() / other.norm())


def test_the_batch_is_append_only_and_ragged(batch):
    # Or else the tests below would not test what they say.
    first = np.zeros(batch.num_steps, dtype=bool)
    first[batch.step_splits[:-1]] = True
    np.testing.assert_array_equal(batch.extends_previous, ~first)
    stored = np.diff(batch.context_splits)
    assert len(set(np.diff(batch.token_splits))) > 1
    assert len({len(batch.context(step)) for step in range(batch.num_steps)}) > 4
    assert stored[~first].min() > 0
    other = per_step(batch)
    assert not other.extends_previous.any()
    assert other.context_splits[-1] > 2 * batch.context_splits[-1]
    for step in range(batch.num_steps):
        np.testing.assert_array_equal(other.context(step), batch.context(step))


@pytest.mark.parametrize("layout", [lambda batch: batch, per_step], ids=["concatenated", "per step"])
@pytest.mark.parametrize("packing", PACKINGS.values(), ids=list(PACKINGS))
def test_the_gradient_is_that_of_one_plain_pass_over_each_episode(batch, model, layout, packing):
    # Fails when a context lacks a token, a reply is predicted from the wrong place, or an observation is trained on.
    weights, gradients = learn(model, layout(batch), packing)
    for update in range(2):
        expected, clipped = plain_gradient(model, batch, weights, update)
        assert difference(gradients[update], expected) <= 1e-5
        assert (clipped > 0) == (update > 0)  # Only the second update is off-policy.


def test_both_layouts_give_the_same_gradients_and_the_same_weights(batch, model):
    weights, gradients = learn(model, batch, PACKINGS["together"])
    other_weights, other_gradients = learn(model, per_step(batch), PACKINGS["alone"])
    for one, other in zip(gradients, other_gradients, strict=True):
        assert difference(one, other) <= 1e-5
    for name, tensor in weights[1].items():
        torch.testing.assert_close(tensor, other_weights[1][name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("lost", ["first", "last"])
def test_a_token_that_is_lost_from_a_context_is_another_gradient(batch, model, lost):
    # What 1e-5 can tell apart: the smallest fault of a layout that there is.
    other = per_step(batch)
    step = batch.num_steps - 1
    at = other.context_splits[step] if lost == "first" else other.context_splits[step + 1] - 1
    splits = other.context_splits.copy()
    splits[-1] -= 1
    short = other.with_columns(context_token=np.delete(other.context_token, at), context_splits=splits)
    _, gradients = learn(model, batch, PACKINGS["together"])
    _, wrong = learn(model, short, PACKINGS["alone"])
    assert difference(wrong[0], gradients[0]) > 1e-3
