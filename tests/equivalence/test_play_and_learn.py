"""What is played, stored, scored and learnt is the same tokens with the same probabilities, however it is cut up."""

import numpy as np
import pytest
import torch

from lapwing.core.batch import EpisodeBatch
from lapwing.games.frozen_lake import FrozenLake
from lapwing.generation.transformers import Transformers
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.models.scorer import Scorer
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.contexts import LastK, StateOnly, Transcript
from lapwing.policies.parsers import Bare
from lapwing.policies.renderers import Grid
from lapwing.rollout.play import play
from lapwing.samplers.grouped import Grouped
from lapwing.training.learner import AdamW, Learner

CONTEXTS = {"state only": StateOnly(), "last two": LastK(k=2), "transcript": Transcript()}
MATCHES = Grouped(FrozenLake(size=3), seed=2, groups=4, group_size=2, max_steps=4, share_chance=False).draw(0)


def make_agent(model, tokenizer, context, **settings):
    # The stop string is a word of the map, so that replies end in all three ways.
    given = {"max_tokens": 4, "stop": ("F",), "temperature": 1.5, **settings}
    return Agent(
        renderer=Grid(),
        context=context,
        parser=Bare(),
        tokenizer=tokenizer,
        generator=Transformers(model, tokenizer, **given),
    )


def play_batch(model, tokenizer, context, matches=MATCHES, **settings):
    agent = make_agent(model, tokenizer, context, **settings)
    return EpisodeBatch.pack(play(matches, {0: agent}, invalid=InvalidRule(rule="random_legal")))


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())
def test_a_stored_batch_scores_as_it_was_sampled(model, tokenizer, context, cache):
    # Fails when what is stored is not what the model read: a lost end token, a context without its beginning.
    batch = play_batch(model, tokenizer, context, cache=cache)
    assert batch.extends_previous.any() == isinstance(context, Transcript)
    contexts = [batch.context(n) for n in range(batch.num_steps)]
    replies = np.split(batch.token, batch.token_splits[1:-1])
    assert len({len(reply) for reply in replies}) > 2
    scores = Scorer(model, temperature=1.5, row_tokens=100).score(contexts, replies)
    np.testing.assert_allclose(scores["logprob"], batch.sampler_logprob, atol=1e-5)


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())
def test_matches_played_one_at_a_time_are_those_played_together(model, tokenizer, context):
    together = play_batch(model, tokenizer, context)
    alone = EpisodeBatch.concatenate([play_batch(model, tokenizer, context, [match]) for match in MATCHES])
    for name in ("token", "context_token", "reward", "view_key", "action_key", "step_splits", "final_context_token"):
        np.testing.assert_array_equal(together.column(name), alone.column(name), err_msg=name)
    np.testing.assert_allclose(together.sampler_logprob, alone.sampler_logprob, atol=1e-5)


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())
def test_one_micro_batch_of_eight_episodes_is_eight_of_one(make_model, model, tokenizer, context):
    batch = play_batch(model, tokenizer, context)
    random = np.random.default_rng(0)
    advantage, weight = random.normal(size=batch.num_tokens), np.full(batch.num_tokens, 1 / batch.num_tokens)
    learnt = []
    for sizes in ({"batch_tokens": 100_000, "row_tokens": 100_000}, {"batch_tokens": 1, "row_tokens": 1}):
        trained = make_model(seed=5)
        learner = Learner(
            trained,
            loss=clipped_surrogate,
            loss_needs=("behavior_logprob", "advantage"),
            # A large ε keeps Adam from blowing rounding errors of tiny gradients up to whole steps.
            optimizer=AdamW(learning_rate=1e-3, eps=1e-3),
            seed=0,
            temperature=1.5,
            **sizes,
        )
        learner.update(batch, advantage, weight)
        learnt.append(torch.cat([parameter.detach().reshape(-1) for parameter in trained.parameters()]))
    start = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    assert (learnt[0] - start).abs().max() > 1e-5
    torch.testing.assert_close(learnt[0], learnt[1], atol=1e-6, rtol=0)
