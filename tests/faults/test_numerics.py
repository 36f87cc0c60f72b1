"""What is not finite, too little or too old never gets into the weights: cases 41 to 46 of the fault table."""

import copy
import itertools
import os
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lapwing import build
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError, NonFiniteError, UserError
from lapwing.core.memory import bound
from lapwing.core.registry import names, resolve
from lapwing.core.types import Prompt, Request
from lapwing.generation._memo import distributions
from lapwing.generation._sampling import draw
from lapwing.generation.transformers import Transformers
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.losses.policy_gradient import policy_gradient
from lapwing.models.finite import why_not_step
from lapwing.policies.parsers import Bare
from lapwing.training.alarms import Alarms
from lapwing.training.learner import AdamW, Learner
from lapwing.training.loop import iterate
from lapwing.training.metrics import rollout_metrics

NEEDS = ("behavior_logprob", "advantage")
# `make soak` injects more often.
TRIALS = 12 * int(os.environ.get("LAPWING_SOAK", "1"))
_CONTRACTS = runpy.run_path(str(Path(__file__).parents[1] / "contracts" / "conftest.py"))
make_batch: Callable[..., EpisodeBatch] = _CONTRACTS["_make_batch"]


@pytest.fixture
def stage(small):
    """The main stage of the default recipe, small, with random weights; nothing is reviewed or evaluated."""
    overrides = [change for change in small if not change.startswith("iterations")]
    recipe = build.read_recipe("frozen_lake_tiny", overrides=[*overrides, "iterations=4", "optimizer.epochs=1"])
    plan = build.plan(recipe)[-1]
    stage = build.make_stage(plan, build.make_workshop(plan, recipe.seed))
    stage.load(0)
    return stage


@pytest.fixture
def played(stage):
    """A learner that has made one update, and a batch of what its weights play, with its advantage and weight."""
    learner = stage.make_learner()
    rows = iterate(stage, learner, 0, lambda rollout: None)
    next(rows)
    batch = stage.collector.collect(stage.draw(1)).batch
    random = np.random.default_rng(0)
    return learner, batch, random.normal(size=batch.num_tokens), np.full(batch.num_tokens, 1.0 / batch.num_tokens)


def with_ids(batch):
    """A batch of made-up columns with contexts and replies that a model can read."""
    return batch.with_columns(
        token=4 + np.arange(batch.num_tokens, dtype=np.int32) % 9,
        context_token=4 + np.arange(len(batch.context_token), dtype=np.int32) % 7,
        context_key=np.arange(batch.num_steps, dtype=np.uint64),
        policy_version=np.zeros(batch.num_steps, dtype=np.int64),
    )


def weights(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def moments(learner):
    return {name: tensor for name, tensor in learner.state().items() if name.startswith("optimizer.")}


# ---------------------------------------------------------------------------------------------------------------------
# F41: not finite.


def in_logits(bad):
    def inject(learner, advantage, weight):
        head = learner.model.get_output_embeddings()

        def spoil(module, inputs, output):
            output = output.clone()
            output[0, 3] = bad
            return output

        return head.register_forward_hook(spoil).remove

    return inject


def in_loss(bad):
    def inject(learner, advantage, weight):
        plain = learner.objective.loss

        def spoilt(**given):
            loss = plain(**given)
            return torch.where(torch.arange(len(loss)) == 2, bad, loss)

        learner.objective.loss = spoilt
        return lambda: setattr(learner.objective, "loss", plain)

    return inject


def in_gradient(bad, layer=1):
    def inject(learner, advantage, weight):
        def spoil(gradient):
            gradient = gradient.clone()
            gradient.view(-1)[0] = bad
            return gradient

        return learner.parameters[layer].register_hook(spoil).remove

    return inject


def in_moment(name, bad):
    def inject(learner, advantage, weight):
        moment = learner.optimizer.state[learner.masters.weights[2]][name]
        before = moment.clone()
        moment.view(-1)[-1] = bad
        return lambda: moment.copy_(before)

    return inject


def in_tokens(which, bad):
    def inject(learner, advantage, weight):
        array = {"advantage": advantage, "weight": weight}[which]
        before = array[5]
        array[5] = bad
        return lambda: array.__setitem__(5, before)

    return inject


NAN, INF = float("nan"), float("inf")
# What is injected, and what the fault must name.
INJECTIONS = {
    "NaN in the logits": (in_logits(NAN), r"the log-probability is not finite at token 0 of step \d+ of match \d+ \("),
    "+inf in the logits": (in_logits(INF), "the log-probability is not finite at"),
    "NaN in the loss": (in_loss(NAN), r"the loss is not finite at token 0 of step \d+ of match \d+ \(group \d"),
    "inf in the loss": (in_loss(INF), "the loss is not finite at"),
    "NaN in a gradient": (in_gradient(NAN), r"the gradient of model\.layers\.0\.self_attn\.q_proj\.weight is not"),
    "-inf in a gradient": (in_gradient(-INF, 3), r"the gradient of model\.layers\.0\.self_attn\.v_proj\.weight is not"),
    "a gradient too long for float32": (in_gradient(3e38), "the length of the gradient is not finite"),
    "NaN in a first moment": (in_moment("exp_avg", NAN), r"exp_avg of model\.layers\.0\.\S+ is not finite"),
    "inf in a first moment": (in_moment("exp_avg", -INF), r"exp_avg of model\.layers\.0\.\S+ is not finite"),
    "a first moment too large": (in_moment("exp_avg", 1e37), "the step could be as long as"),
    "NaN in a second moment": (in_moment("exp_avg_sq", NAN), r"exp_avg_sq of model\.layers\.0\.\S+ is not finite"),
    "inf in a second moment": (in_moment("exp_avg_sq", INF), r"exp_avg_sq of model\.layers\.0\.\S+ is not finite"),
    "a negative second moment": (in_moment("exp_avg_sq", -1.0), r"exp_avg_sq of model\.layers\.0\.\S+ is negative"),
    "NaN in the count of steps": (in_moment("step", NAN), r"step of model\.layers\.0\.\S+ is not finite"),
    "step -1": (in_moment("step", -1.0), r"step of model\.layers\.0\.\S+ is negative"),
    "NaN in an advantage": (in_tokens("advantage", NAN), r"the advantage is not finite at .* number 5 of the batch"),
    "inf in a weight": (in_tokens("weight", INF), "the weight is not finite at .* number 5 of the batch"),
}


# F41. Fails when the optimiser steps all the same, or what is dropped leaves a trace in the weights or the moments.
@pytest.mark.parametrize("name", INJECTIONS)
def test_f41_what_is_not_finite_leaves_weights_and_moments_alone_and_is_named(played, name):
    learner, batch, advantage, weight = played
    inject, said = INJECTIONS[name]
    heal = inject(learner, advantage, weight)
    before, state, version = weights(learner.model), moments(learner), learner.version
    metrics = learner.update(batch, advantage, weight)
    assert (metrics["update/nonfinite"], metrics["update/count"]) == (1.0, 0.0)
    assert all(np.isfinite(value) for value in metrics.values())
    assert torch.equal(weights(learner.model), before)
    assert all(torch.equal(moments(learner)[n].nan_to_num(7.0), tensor.nan_to_num(7.0)) for n, tensor in state.items())
    assert learner.version == version
    assert all(parameter.grad is None for parameter in learner.parameters)
    assert re.search(said, learner.fault), learner.fault
    heal()
    assert learner.update(batch, advantage, weight)["update/count"] == 1.0
    assert learner.fault == ""
    assert torch.isfinite(weights(learner.model)).all()


# F41. Fails when a column that is read only for episodes of older weights is not looked at.
def test_f41_what_the_sampler_said_is_looked_at_too(played):
    learner, batch, advantage, weight = played
    spoilt = batch.sampler_logprob.astype(np.float64)
    spoilt[4] = NAN
    before = weights(learner.model)
    stale = batch.with_columns(sampler_logprob=spoilt, policy_version=batch.policy_version - 1)
    learner.max_lag = None
    for some in (batch.with_columns(sampler_logprob=spoilt), stale):
        assert learner.update(some, advantage, weight)["update/nonfinite"] == 1.0
        assert "the sampler_logprob is not finite at token 0 of step" in learner.fault
    assert torch.equal(weights(learner.model), before)


# F41. Fails when one way in which a number comes in is not watched in every update.
def test_f41_weights_stay_finite_under_any_series_of_injections(played):
    learner, batch, advantage, weight = played
    learner.max_lag = None
    random = np.random.default_rng(1)
    made = 0
    for trial in range(TRIALS):
        inject, _ = INJECTIONS[random.choice(list(INJECTIONS))]
        heal = inject(learner, advantage, weight)
        made += learner.update(batch, advantage, weight)["update/count"]
        heal()
        if trial % 3 == 0:
            made += learner.update(batch, advantage, weight)["update/count"]
        assert torch.isfinite(weights(learner.model)).all()
        assert all(torch.isfinite(tensor).all() for tensor in learner.state().values())
    assert made == -(-TRIALS // 3)


# F41. Fails when a minibatch after the one that failed is learnt from, or the one before it is taken back.
def test_f41_the_rest_of_a_batch_is_left_out_after_a_fault(make_model):
    batch = with_ids(make_batch())
    settings = AdamW(minibatches=4, epochs=3)
    learner = Learner(make_model(), loss=policy_gradient, loss_needs=NEEDS, optimizer=settings, seed=0)
    advantage, weight = np.ones(batch.num_tokens), np.full(batch.num_tokens, 0.1)
    advantage[0] = NAN
    metrics = learner.update(batch, advantage, weight)
    assert metrics["update/nonfinite"] == 1.0
    assert metrics["update/count"] == learner.version < 4


# F41. The bound under which a step is made is true: random numbers below it give finite weights. Fails when a term of
# the bound is left out.
def test_f41_a_step_that_is_allowed_gives_finite_weights():
    random = torch.Generator().manual_seed(0)
    allowed = 0
    for trial in range(300):
        weight = torch.nn.Parameter(torch.randn(8, generator=random))
        optimizer = torch.optim.AdamW([weight], lr=1e-3, eps=1e-8 if trial % 2 else 1e-20, fused=True)
        size = 10.0 ** (torch.rand(4, generator=random) * 76 - 38)
        weight.data.mul_(size[0])
        weight.grad = torch.randn(8, generator=random) * size[1]
        optimizer.state[weight] = {
            "step": torch.tensor(float(trial % 3)),
            "exp_avg": torch.randn(8, generator=random) * size[2],
            "exp_avg_sq": torch.rand(8, generator=random) * size[3] * (torch.rand(8, generator=random) < 0.7),
        }
        norm = float(weight.grad.double().norm())
        if why_not_step(optimizer, [weight], ["w"], norm):
            continue
        allowed += 1
        optimizer.step()
        assert torch.isfinite(weight).all()
        assert all(torch.isfinite(tensor).all() for tensor in optimizer.state[weight].values())
    assert 50 < allowed < 290


def test_f41_an_eps_that_allows_zero_by_zero_is_refused():
    # A weight without any gradient, as of a word that nobody says, is stepped by 0 / (√0 + ε).
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.zeros(2)
    torch.optim.AdamW([weight], eps=0.0, fused=True).step()
    assert torch.isnan(weight).all()
    for eps in (0.0, 1e-30, NAN):
        with pytest.raises(UserError, match=r"optimizer\.eps is at least 1e-20"):
            AdamW(eps=eps)


def test_f41_moments_that_are_broken_are_healed_by_restoring(played):
    """What a roll-back does: after K iterations without an update, moments come from a checkpoint."""
    learner, batch, advantage, weight = played
    saved, alarms = learner.state(), Alarms(rollback_after=3)
    in_moment("exp_avg", NAN)(learner, advantage, weight)
    for _ in range(3):
        assert not alarms.must_roll_back
        alarms.check(learner.update(batch, advantage, weight))
    assert alarms.must_roll_back
    learner.restore(saved, learner.version)
    alarms.rolled_back()
    assert learner.update(batch, advantage, weight)["update/count"] == 1.0
    assert not alarms.must_roll_back


def spoil(model, row=None):
    """Logits that are not finite: of one word, or all."""
    with torch.no_grad():
        model.get_output_embeddings().weight[row if row is not None else slice(None)] = NAN
    return model


GENERATORS: dict[str, Any] = {
    "distributions remembered": {"cache": False, "on_device": False},
    "key-value cache": {"cache": True, "on_device": False},
    "on the device": {"cache": True, "on_device": True},
    "on the device, remembered": {"cache": False, "on_device": True},
}


# F41. Fails when argmax, or a search in the running sum, is asked of a row with NaN: both find some token.
@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("how", GENERATORS)
def test_f41_no_token_is_drawn_from_logits_that_are_not_finite(make_model, tokenizer, how, greedy):
    model = spoil(make_model(), 3)
    prompt = Prompt(np.array([5, 6], dtype=np.int32), b"56")
    for max_tokens in (1, 4):
        generator = Transformers(model, tokenizer, max_tokens=max_tokens, greedy=greedy, **GENERATORS[how])
        with pytest.raises(NonFiniteError, match=r"logits are not finite for 1 of 1 .* weights are damaged.*resume"):
            generator.generate([Request(prompt, 7)])
        with pytest.raises(NonFiniteError):
            generator.draw_replies([prompt], np.array([0]), np.array([7], dtype=np.uint64))


# F42: a softmax over nothing but −∞. Fails when only NaN is looked for.
@pytest.mark.parametrize("row", [[-INF, -INF, -INF], [0.0, INF, 0.0], [0.0, NAN, 0.0]])
def test_f42_a_row_from_which_nothing_can_be_drawn_is_an_error_and_masked_tokens_are_not(row):
    good = torch.tensor([[0.0, -INF, 0.0]])
    assert [d.best for d in distributions(good, 1.0)] == [0]
    assert {distributions(good, 1.0)[0].draw(u) for u in (0.0, 0.3, 0.6, 0.99)} == {0, 2}
    token, logprob = draw(good, torch.tensor([[0.2, 0.8]], dtype=torch.float64), temperature=1.0, greedy=False)
    assert token.tolist() == [[0, 2]]
    assert torch.isfinite(logprob).all()
    with pytest.raises(NonFiniteError, match="1 of 2 contexts"):
        distributions(torch.cat([good, torch.tensor([row])]), 1.0)
    _, logprob = draw(torch.tensor([row]), torch.full((1, 1), 0.5, dtype=torch.float64), temperature=1.0, greedy=True)
    assert not torch.isfinite(logprob).all()


def test_f41_a_critic_with_a_broken_moment_keeps_its_weights(make_model):
    # Fails when the critic steps with whatever moments it has.
    from lapwing.models.value_heads import CriticSettings, Lesson, Reads, ValueHeads

    critic = ValueHeads(make_model(), ("value",), seed=0, settings=CriticSettings())
    places = np.arange(3)
    lesson = Lesson(Reads(places, places * 0), places, np.zeros(3), np.array([1.0, 0.0, 2.0]))
    rows = [np.array([4 + i], dtype=np.int32) for i in range(3)]
    assert critic.fit(rows, {"value": lesson})["nonfinite"] == 0.0
    before = [parameter.detach().clone() for parameter in critic.parameters]
    critic.optimizer.state[critic.parameters[0]]["exp_avg"].view(-1)[0] = NAN
    assert critic.fit(rows, {"value": lesson})["nonfinite"] > 0
    assert all(torch.equal(a, b) for a, b in zip(before, critic.parameters, strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# F44, F45: other weights play than should.


# F44. Fails when the gap is not measured, or its limit lies above what half of the weights' size changes.
def test_f44_a_sampler_with_other_weights_is_found_within_one_update(stage):
    generator = stage.policy.generator
    other = copy.deepcopy(generator.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.0 + 0.5 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0)))
    stage.policy.generator = Transformers(other, generator.tokenizer, max_tokens=1, cache=False)
    alarms, learner = Alarms(), stage.make_learner()
    found = [(row["iteration"], a) for row in iterate(stage, learner, 0, lambda _: None) for a in alarms.check(row)]
    assert [(i, a["stop"]) for i, a in found if a["alarm"] == "gap"] == [(0, False), (2, True)]


def test_f44_an_honest_sampler_is_four_orders_below_the_limit(stage):
    gaps = [row["policy/gap"] for row in iterate(stage, stage.make_learner(), 0, lambda _: None)]
    assert max(gaps) < Alarms().settings.gap * 1e-4


# F45. Fails when versions are not compared before a batch is learnt from.
def test_f45_a_sync_that_is_skipped_is_found_before_anything_is_learnt(stage):
    learner = stage.make_learner()
    rows = iterate(stage, learner, 0, lambda rollout: None)
    stage.load = lambda version: None
    assert next(rows)["update/count"] == 1.0
    stage.forget()  # the generator itself is up to date; only the version was not passed on
    before = weights(learner.model)
    with pytest.raises(LapwingError, match=r"played with version 0 of the weights instead of \[1\]"):
        next(rows)
    assert torch.equal(weights(learner.model), before)


# F45. Fails when a generator does not notice that the weights under it were stepped, by a fused kernel or by hand.
def test_f45_a_sync_that_is_half_done_is_found_before_a_token_is_sampled(stage):
    learner = stage.make_learner()
    rows = iterate(stage, learner, 0, lambda rollout: None)
    stage.forget = lambda: None  # the version is passed on, what was remembered stays
    assert next(rows)["update/count"] == 1.0
    with pytest.raises(LapwingError, match="the generator still holds what it computed with the old ones"):
        next(rows)


def test_f45_episodes_that_were_played_ahead_may_be_one_batch_older(played):
    # Fails when the check allows any older version, or none where play runs ahead.
    learner, batch, advantage, weight = played
    assert learner.version == 1
    learner.max_lag = 1
    learner.update(batch, advantage, weight)
    learner.update(batch, advantage, weight)  # begun with version 1, before the last update
    with pytest.raises(LapwingError, match=r"version 1 of the weights instead of \[2, 3\]"):
        learner.update(batch, advantage, weight)
    with pytest.raises(LapwingError, match="version 9"):
        learner.update(batch.with_columns(policy_version=batch.policy_version + 8), advantage, weight)


# ---------------------------------------------------------------------------------------------------------------------
# A learner that is interrupted.


# Fails when a gradient outlives the update that was given up, or the weights were stepped with half of it.
@pytest.mark.parametrize("mergeable", [True, False])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_update_that_is_given_up_leaves_no_trace(played, after, mergeable):
    learner, batch, advantage, weight = played
    learner.scorer.batch_tokens = learner.scorer.row_tokens = 32
    learner.objective.mergeable = mergeable
    before, state, calls = weights(learner.model), moments(learner), itertools.count()

    def stop():
        if next(calls) == after:
            raise KeyboardInterrupt

    learner.safe_point = stop
    with pytest.raises(KeyboardInterrupt):
        learner.update(batch, advantage, weight)
    assert torch.equal(weights(learner.model), before)
    assert all(torch.equal(moments(learner)[name], tensor) for name, tensor in state.items())
    assert all(parameter.grad is None for parameter in learner.parameters)
    assert next(calls) == after + 1
    learner.safe_point = lambda: None
    whole = learner.update(batch, advantage, weight)
    assert whole["update/count"] == 1.0
    assert learner.version == 2


# ---------------------------------------------------------------------------------------------------------------------
# F42, F43: too little to learn from.


def of_kind(kind):
    batch = make_batch()
    episodes, steps = batch.num_episodes, batch.num_steps
    changed: dict[str, Any] = {
        "equal": {"reward": np.zeros(steps), "outcome": np.ones(episodes)},
        "alone": {"group": np.arange(episodes)},
        "invalid": {"valid": np.zeros(steps, dtype=bool), "action_key": np.zeros(steps, dtype=np.uint64)},
    }
    kept = {"one": np.arange(episodes) == 0, "empty": np.zeros(episodes, dtype=bool)}
    return batch.select(kept[kind]) if kind in kept else batch.with_columns(**changed[kind])


def assert_all_finite(batch, advantage):
    assert np.isfinite(advantage).all()
    for select in names("selection"):
        selection = resolve("selection", select)(batch, advantage, np.random.default_rng(0))
        assert np.isfinite(selection.factor).all()
        for aggregate in names("aggregation"):
            settings = {"budget": 16} if aggregate == "constant" else {}
            assert np.isfinite(resolve("aggregation", aggregate)(batch, selection, **settings)).all()


# F42: equal rewards in a group, groups of one, no legal action, one episode, none. Fails when any spread, sum of
# weights or count is divided by without being looked at; NumPy's warnings are errors here.
@pytest.mark.parametrize("kind", ["equal", "alone", "invalid", "one", "empty"])
@pytest.mark.parametrize("credit", names("credit"))
def test_f42_no_method_makes_a_number_that_is_not_finite(credit, kind):
    batch = of_kind(kind)
    advantage = bound(resolve("credit", credit), {})(batch)
    assert_all_finite(batch, advantage)
    for modulation in names("modulation"):
        if len(advantage) == batch.num_steps or modulation in ("whiten", "adora"):
            assert np.isfinite(resolve("modulation", modulation)(batch, advantage)).all()


# F42. Fails when a group of one, or of equals, is given a direction.
@pytest.mark.parametrize("credit", ["grpo", "dr_grpo", "rloo", "gigpo", "mt_grpo", "hgpo"])
@pytest.mark.parametrize("kind", ["equal", "alone"])
def test_f42_groups_without_spread_give_no_advantage(credit, kind):
    batch = of_kind(kind)
    # No state is met twice within an episode either.
    batch = batch.with_columns(view_key=np.zeros(batch.num_steps, dtype=np.uint64))
    assert not resolve("credit", credit)(batch).any()


def test_f42_an_iteration_without_any_spread_is_skipped_and_counted(stage):
    # Fails when momentum moves the weights although there is nothing to learn.
    stage.shaping = [lambda batch: batch.with_columns(reward=np.zeros(batch.num_steps), outcome=batch.outcome * 0)]
    learner = stage.make_learner()
    before = weights(learner.model)
    learner.objective.regularisers = ()
    row = next(iterate(stage, learner, 0, lambda rollout: None))
    assert (row["update/skipped"], row["update/nonfinite"]) == (1.0, 0.0) or row["update/gradient_norm"] == 0.0
    assert torch.equal(weights(learner.model), before)


def test_f42_the_top_action_is_counted_among_legal_ones_only():
    # Key 0 is no action. Fails when invalid replies count as one action that is played all the time.
    batch = make_batch()
    keys = np.zeros(batch.num_steps, dtype=np.uint64)
    keys[:5] = [3, 3, 3, 9, 8]
    columns = {"action_key": keys, "success": np.full(batch.num_episodes, NAN)}
    assert rollout_metrics(batch.with_columns(**columns))["rollout/top_action"] == pytest.approx(0.6)
    none = batch.with_columns(**columns | {"action_key": keys * 0})
    assert "rollout/top_action" not in rollout_metrics(none)


# F43: replies without tokens. Fails when a step without tokens is divided by, or an update is made of nothing.
def test_f43_steps_without_tokens_teach_nothing_and_harm_nothing(make_model):
    batch = with_ids(make_batch())
    assert (np.diff(batch.token_splits) == 0).any()
    learner = Learner(make_model(), loss=clipped_surrogate, loss_needs=NEEDS, seed=0)
    metrics = learner.update(batch, np.ones(batch.num_tokens), np.full(batch.num_tokens, 0.1))
    assert metrics["update/count"] == 1.0
    assert all(np.isfinite(value) for value in metrics.values())


# F43. Fails when a token is sampled beyond the last position, where rotary models say something all the same.
@pytest.mark.parametrize("how", GENERATORS)
def test_f43_a_reply_ends_with_the_last_position_and_a_longer_context_gets_none(tokenizer, how):
    from lapwing.models.tiny import tiny_model

    model = tiny_model(len(tokenizer), seed=5, hidden=16, layers=2, heads=2, intermediate=32, max_positions=12).eval()
    generator = Transformers(model, tokenizer, max_tokens=5, ends=frozenset(), **GENERATORS[how])
    long = [Prompt(token := np.arange(4, 4 + n, dtype=np.int32), token.tobytes()) for n in (6, 10, 11, 12, 15)]
    replies = generator.generate([Request(prompt, n) for n, prompt in enumerate(long)])
    assert [len(reply.token) for reply in replies] == [5, 2, 1, 0, 0]
    assert {reply.stop_reason for reply in replies} == {"length"}
    assert [len(r.token) for r in generator.generate([Request(long[-1], 1)])] == [0]
    with pytest.raises(UserError, match="A context has 15 tokens, and the model 12 positions"):
        generator.draw_replies(long, np.arange(5), np.arange(5, dtype=np.uint64))


# F43: nothing but the end token, or no token at all. Fails when an empty text is looked up among the legal actions.
def test_f43_a_reply_that_says_nothing_is_invalid_and_the_match_goes_on(make_agent, make_match):
    from lapwing.policies.agent import InvalidRule
    from lapwing.rollout.collector import LocalCollector

    agent = make_agent(lambda context, key: "", parser=Bare())
    collector = LocalCollector(agent, invalid=InvalidRule(penalty=0.5))
    batch = collector.collect([make_match(member=member) for member in range(2)]).batch
    assert not batch.valid.any()
    assert (np.diff(batch.token_splits) <= 1).all()
    assert (batch.reward < 0).all()
    assert np.isfinite(resolve("credit", "grpo")(batch)).all()


# F46: a text has other tokens when it is read again. Fails when contexts are built from text, or learnt from it.
def test_f46_what_was_sampled_is_kept_though_its_text_has_other_tokens(toy_folder, make_match):
    from transformers import AutoTokenizer

    from lapwing.core.types import Completion
    from lapwing.policies.agent import Agent, InvalidRule
    from lapwing.policies.contexts import Transcript
    from lapwing.policies.renderers import Grid
    from lapwing.rollout.collector import LocalCollector

    tokenizer = AutoTokenizer.from_pretrained(toy_folder("qwen2"))
    merged = tokenizer.encode("right", add_special_tokens=False)
    spelt = [token for letter in "right" for token in tokenizer.encode(letter, add_special_tokens=False)]
    assert spelt != merged
    assert tokenizer.decode(spelt) == tokenizer.decode(merged) == "right"
    said = np.array([*spelt, tokenizer.eos_token_id], dtype=np.int32)

    class Speller:
        max_tokens = 6

        def generate(self, requests):
            return [Completion(said, np.full(len(said), -0.5), "end") for _ in requests]

        def prefetch(self, prompts):
            pass

        def forget(self):
            pass

    agent = Agent(renderer=Grid(), context=Transcript(), parser=Bare(), tokenizer=tokenizer, generator=Speller())
    batch = LocalCollector(agent, invalid=InvalidRule()).collect([make_match(max_steps=3)]).batch
    assert batch.valid.all()
    for step in range(batch.num_steps):
        np.testing.assert_array_equal(batch.token[batch.token_splits[step] : batch.token_splits[step + 1]], said)
    assert batch.extends_previous[1:].all()
    # The next context holds the reply as it was sampled.
    text = batch.context(batch.num_steps - 1).tolist()
    found = [i for i in range(len(text)) if text[i : i + len(said)] == said.tolist()]
    assert len(found) == batch.num_steps - 1
