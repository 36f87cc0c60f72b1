import copy
import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from lapwing.aggregation.token_mean import token_mean
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError
from lapwing.credit.grpo import grpo
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.losses.entropy import entropy
from lapwing.losses.kl_k3 import kl_k3
from lapwing.losses.policy_gradient import policy_gradient
from lapwing.models.scorer import Scorer
from lapwing.selection.all_episodes import all_episodes
from lapwing.training.learner import AdamW, Learner, Regulariser, Schedule

NEEDS = ("behavior_logprob", "advantage")
VOCABULARY = 40


def numbers(batch, seed=1):
    """Random advantages and weights of the tokens."""
    random = np.random.default_rng(seed)
    return random.normal(size=batch.num_tokens), random.uniform(0.01, 0.2, size=batch.num_tokens)


def make_learner(model, loss=policy_gradient, loss_needs=NEEDS, **settings):
    optimizer = settings.pop("optimizer", {})
    given = {"learning_rate": 1e-3, "clip_norm": 1e9, "final_share": 1.0, **optimizer}
    return Learner(model, loss=loss, loss_needs=loss_needs, optimizer=AdamW(**given), seed=0, **settings)


def plain_logprob(model, batch, temperature=1.0):
    """Log-probability of all K tokens, one sequence at a time through the plain model, with gradient."""
    parts = []
    for n in range(batch.num_steps):
        context = batch.context(n)
        reply = batch.token[batch.token_splits[n] : batch.token_splits[n + 1]]
        ids = torch.from_numpy(np.concatenate([context, reply]).astype(np.int64))
        rows = torch.log_softmax(model(ids[None]).logits[0, len(context) - 1 : -1] / temperature, -1)
        parts.append(rows.gather(1, ids[len(context) :, None])[:, 0])
    return torch.cat(parts)


def tensors(*arrays):
    return [torch.from_numpy(array).float() for array in arrays]


def gradients(model):
    return [parameter.grad.clone() for parameter in model.parameters()]


def gradient_of_update(model, batch, advantage, weight, **settings):
    """The gradient that the learner's update left behind."""
    learner = make_learner(model, **settings)
    metrics = learner.update(batch, advantage, weight)
    assert metrics["update/count"] == 1.0
    return gradients(model)


def gradient_of(loss, model):
    model.zero_grad()
    loss.backward()
    return gradients(model)


def weights(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def assert_close(some, others, atol=1e-5):
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("loss", [policy_gradient, clipped_surrogate])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_with_the_weights_that_played_the_gradient_is_the_policy_gradient(make_model, batch, loss, temperature):
    # Fails when the stale behavior_logprob (here 0) gets into the ratio, or a token is counted twice.
    advantage, weight = numbers(batch)
    model = make_model(seed=1)
    a, w = tensors(advantage, weight)
    expected = gradient_of(-(w * a * plain_logprob(model, batch, temperature)).sum(), model)
    model = make_model(seed=1)
    assert_close(gradient_of_update(model, batch, advantage, weight, loss=loss, temperature=temperature), expected)


def test_the_mean_of_all_tokens_is_minus_the_mean_of_advantage_times_gradient(make_model, batch):
    # θ = θ_old, β = 0: the gradient equals −mean(A · ∇log π), with GRPO's advantages and equal tokens.
    step_advantage = grpo(batch)
    selection = all_episodes(batch, step_advantage, np.random.default_rng(0))
    advantage, weight = batch.spread(step_advantage), token_mean(batch, selection)
    model = make_model(seed=1)
    (a,) = tensors(advantage)
    expected = gradient_of(-(a * plain_logprob(model, batch)).mean(), model)
    model = make_model(seed=1)
    assert_close(gradient_of_update(model, batch, advantage, weight, loss=clipped_surrogate), expected)


def test_without_advantage_there_is_no_gradient(make_model, batch):
    _, weight = numbers(batch)
    model = make_model(seed=1)
    before = weights(model)
    learner = make_learner(model, loss=clipped_surrogate)
    metrics = learner.update(batch, np.zeros(batch.num_tokens), weight)
    assert metrics["update/gradient_norm"] == 0.0
    assert torch.equal(weights(model), before)


def test_without_weight_nothing_is_updated(make_model, batch):
    # Fails when an optimiser step is done with the momentum of earlier ones.
    advantage, weight = numbers(batch)
    model = make_model(seed=1)
    learner = make_learner(model)
    learner.update(batch, advantage, weight)
    before = weights(model)
    metrics = learner.update(batch, advantage, np.zeros(batch.num_tokens))
    assert (metrics["update/skipped"], metrics["update/count"]) == (1.0, 0.0)
    assert torch.equal(weights(model), before)
    empty = batch.select(np.zeros(4, dtype=bool))
    assert learner.update(empty, np.zeros(0), np.zeros(0))["update/skipped"] == 1.0
    assert learner.version == 1


def test_tokens_without_weight_count_for_nothing(make_model, batch):
    advantage, weight = numbers(batch)
    weight[::2] = 0.0
    wild = advantage.copy()
    wild[::2] = 1e6
    model, other = make_model(seed=1), make_model(seed=1)
    assert_close(
        gradient_of_update(model, batch, advantage, weight), gradient_of_update(other, batch, wild, weight), atol=1e-7
    )


def test_the_order_of_the_episodes_does_not_matter(make_model, batch):
    # Fails when advantages or weights are looked up by position in the micro-batch.
    advantage, weight = numbers(batch)
    order = np.array([2, 0, 3, 1])
    tokens = np.concatenate([np.flatnonzero(batch.episode_of_step[batch.step_of_token] == e) for e in order])
    one, other = make_model(seed=1), make_model(seed=1)
    first, second = make_learner(one), make_learner(other)
    metrics = first.update(batch, advantage, weight)
    permuted = second.update(batch.select(order), advantage[tokens], weight[tokens])
    assert permuted["update/loss"] == pytest.approx(metrics["update/loss"], abs=1e-6)
    torch.testing.assert_close(weights(one), weights(other), atol=1e-6, rtol=0)


def test_the_sizes_of_micro_batches_do_not_matter(make_model, batch):
    # Fails when the gradient is set back between micro-batches, or averaged over them.
    advantage, weight = numbers(batch)
    models = [make_model(seed=1) for _ in range(3)]
    for model, (row_tokens, batch_tokens) in zip(models, [(160, 16384), (1, 1), (12, 24)], strict=True):
        learner = make_learner(model, row_tokens=row_tokens, batch_tokens=batch_tokens)
        for _ in range(2):
            learner.update(batch, advantage, weight)
    # Adam divides by the gradient's size: where that is nothing but rounding, so is the step.
    assert_close([weights(models[1]), weights(models[2])], [weights(models[0])] * 2, atol=2e-6)


def test_a_transcript_stored_once_trains_as_separate_contexts_do(make_model, make_batch):
    # Fails when a context that extends the previous step is trained without it.
    once = make_batch(transcript=True)
    contexts = [once.context(n) for n in range(once.num_steps)]
    separate = dataclasses.replace(
        once,
        extends_previous=np.zeros(once.num_steps, dtype=bool),
        context_token=np.concatenate(contexts),
        context_splits=np.concatenate([[0], np.cumsum([len(context) for context in contexts])]),
    )
    assert len(separate.context_token) > 1.5 * len(once.context_token)
    advantage, weight = numbers(once)
    model, other = make_model(seed=1), make_model(seed=1)
    assert_close(
        gradient_of_update(model, once, advantage, weight), gradient_of_update(other, separate, advantage, weight)
    )
    a, w = tensors(advantage, weight)
    plain = make_model(seed=1)
    assert_close(gradients(model), gradient_of(-(w * a * plain_logprob(plain, once)).sum(), plain))


def coupled(*, logprob, behavior_logprob, advantage, episode_of_token):
    """One ratio for all tokens of an episode: no token's loss depends on that token alone."""
    _, episode = torch.unique(episode_of_token, return_inverse=True)
    total = torch.zeros(int(episode.max()) + 1, dtype=logprob.dtype).index_add(0, episode, logprob - behavior_logprob)
    return -torch.exp(total)[episode] * advantage


@pytest.mark.parametrize("bonus", [0.0, 0.3], ids=["loss alone", "with an entropy bonus"])
def test_a_loss_that_couples_tokens_is_carried_through_micro_batches(make_model, make_batch, bonus):
    # Fails when a coupled loss is evaluated on one micro-batch at a time: an episode's steps are in several.
    played = make_model(seed=2)
    batch = make_batch(model=played)
    advantage, weight = numbers(batch)
    model = make_model(seed=2)
    a, w = tensors(advantage, weight)
    logprob = plain_logprob(model, batch)
    loss = coupled(
        logprob=logprob,
        behavior_logprob=logprob.detach(),
        advantage=a,
        episode_of_token=torch.from_numpy(batch.episode_of_step[batch.step_of_token]),
    )
    total = (w * loss).sum()
    if bonus:
        rows = Scorer(model).micro_batches(
            [batch.context(n) for n in range(batch.num_steps)],
            np.split(batch.token, batch.token_splits[1:-1]),
            entropy=True,
        )
        (scored,) = rows
        total = total - bonus * (w[torch.from_numpy(scored.index)] * scored.entropy).sum()
    expected = gradient_of(total, model)
    regularisers = [Regulariser("entropy", entropy, ("token_entropy",), Schedule(bonus, bonus))]
    for sizes in ({}, {"row_tokens": 8, "batch_tokens": 8}):
        model = make_model(seed=2)
        gradient = gradient_of_update(
            model,
            batch,
            advantage,
            weight,
            loss=coupled,
            loss_needs=(*NEEDS, "episode_of_token"),
            mergeable=False,
            regularisers=regularisers,
            **sizes,
        )
        assert_close(gradient, expected)


def test_both_ways_through_the_model_agree_for_a_loss_that_allows_either(make_model, batch):
    advantage, weight = numbers(batch)
    model, other = make_model(seed=2), make_model(seed=2)
    sizes = {"row_tokens": 8, "batch_tokens": 8}
    assert_close(
        gradient_of_update(model, batch, advantage, weight, mergeable=True, **sizes),
        gradient_of_update(other, batch, advantage, weight, mergeable=False, **sizes),
    )


def test_losses_may_ask_for_groups_and_success(make_model, batch):
    seen = {}

    def curious(*, logprob, episode_of_token, group_of_episode, success, sampler_logprob):
        seen.update(e=episode_of_token, g=group_of_episode, s=success, p=sampler_logprob)
        return -logprob * success[episode_of_token]

    needs = ("episode_of_token", "group_of_episode", "success", "sampler_logprob")
    advantage, weight = numbers(batch)
    make_learner(make_model(), loss=curious, loss_needs=needs).update(batch, advantage, weight)
    assert seen["g"].tolist() == [0, 0, 1, 1]
    assert seen["s"].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert sorted(seen["e"].tolist()) == batch.episode_of_step[batch.step_of_token].tolist()


def test_a_number_goes_along_its_schedule():
    schedule = Schedule(1.0, 0.2, hold=0.25, until=0.75)
    #   At 0.5 half of the way from 1 to 0.2 is done.
    assert [schedule(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
    assert Schedule(0.1, 0.1)(0.5) == pytest.approx(0.1)


def test_the_learning_rate_falls_along_its_schedule(make_model, batch):
    advantage, weight = numbers(batch)
    optimizer = {"learning_rate": 1e-3, "final_share": 0.1, "hold": 0.5}
    learner = make_learner(make_model(), optimizer=optimizer)
    rates = [learner.update(batch, advantage, weight, progress=p)["update/learning_rate"] for p in (0.0, 0.75, 1.0)]
    assert rates == pytest.approx([1e-3, 0.55e-3, 1e-4])
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_a_regulariser_is_added_with_its_coefficient_of_the_moment(make_model, batch):
    # Fails when the coefficient stays at its start.
    advantage, weight = numbers(batch)
    weight[:7] = 0.0  # the first episode was not selected
    reference = -np.random.default_rng(5).uniform(1.0, 3.0, size=batch.num_tokens)
    batch = batch.with_columns(reference_logprob=reference)
    kl = Regulariser("kl_k3", kl_k3, ("logprob", "reference_logprob"), Schedule(0.8, 0.0))
    a, w, r = tensors(advantage, weight, reference)
    for progress, coefficient in ((0.0, 0.8), (0.75, 0.2), (1.0, 0.0)):
        model = make_model(seed=1)
        logprob = plain_logprob(model, batch)
        penalty = (w * kl_k3(logprob=logprob, reference_logprob=r)).sum()
        total = -(w * a * logprob).sum() + coefficient * penalty
        expected = gradient_of(total, model)
        model = make_model(seed=1)
        learner = make_learner(model, regularisers=[kl])
        metrics = learner.update(batch, advantage, weight, progress=progress)
        assert_close(gradients(model), expected, atol=2e-5)
        assert metrics["update/loss"] == pytest.approx(float(total.detach()), rel=1e-5)


def test_a_batch_without_signal_is_left_out_regularisers_and_all(make_model, batch):
    nothing = np.zeros(batch.num_tokens)
    model = make_model(seed=1)
    before = [parameter.clone() for parameter in model.parameters()]
    bonus = Regulariser("entropy", entropy, ("token_entropy",), Schedule(1.0, 1.0))
    assert make_learner(model, regularisers=[bonus]).update(batch, nothing, nothing)["update/skipped"] == 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("mergeable", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_keeps_the_weights_and_is_counted(make_model, batch, bad, mergeable):
    # Fails when the optimiser steps all the same: one NaN would be everywhere after it.
    advantage, weight = numbers(batch)
    model = make_model(seed=1)
    learner = make_learner(model, mergeable=mergeable, row_tokens=8, batch_tokens=8)
    learner.update(batch, advantage, weight)
    before, state = weights(model), learner.state()
    spoilt = advantage.copy()
    spoilt[3] = bad
    metrics = learner.update(batch, spoilt, weight)
    assert (metrics["update/nonfinite"], metrics["update/count"]) == (1.0, 0.0)
    assert all(np.isfinite(value) for value in metrics.values())
    assert torch.equal(weights(model), before)
    assert all(torch.equal(learner.state()[name], tensor) for name, tensor in state.items())
    assert learner.version == 1
    assert learner.update(batch, advantage, weight)["update/count"] == 1.0
    assert torch.isfinite(weights(model)).all()


def test_a_gradient_that_is_no_number_keeps_the_weights_too(make_model, batch):
    def flat_but_steep(*, logprob):
        return torch.sqrt(logprob - logprob.detach())  # value 0, slope infinite

    _, weight = numbers(batch)
    model = make_model(seed=1)
    before = weights(model)
    metrics = make_learner(model, loss=flat_but_steep, loss_needs=()).update(batch, weight, weight)
    assert metrics["update/nonfinite"] == 1.0
    assert torch.equal(weights(model), before)


def test_long_gradients_are_shortened(make_model, batch):
    advantage, weight = numbers(batch)
    model = make_model(seed=1)
    learner = make_learner(model, optimizer={"clip_norm": 0.01})
    metrics = learner.update(batch, advantage, weight)
    assert metrics["update/gradient_norm"] > 0.1  # as it was before
    norm = torch.cat([gradient.reshape(-1) for gradient in gradients(model)]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


SETTINGS = {"learning_rate": 3e-3, "average": 0.5, "minibatches": 2, "epochs": 2, "final_share": 0.1}


def test_a_restored_learner_goes_on_to_the_last_bit(make_model, batch):
    # Fails when a moment, the step count, the average or the version (which splits the minibatches) is left out.
    advantage, weight = numbers(batch)
    model = make_model(seed=1)
    learner = make_learner(model, loss=clipped_surrogate, optimizer=SETTINGS)
    learner.update(batch, advantage, weight, progress=0.1)
    saved, version = learner.state(), learner.version
    resumed_model = make_model(seed=9)
    resumed_model.load_state_dict(model.state_dict())
    resumed = make_learner(resumed_model, loss=clipped_surrogate, optimizer=SETTINGS)
    resumed.restore(saved, version)
    for progress in (0.3, 0.5):
        learner.update(batch, advantage, weight, progress=progress)
        resumed.update(batch, advantage, weight, progress=progress)
    assert torch.equal(weights(model), weights(resumed_model))
    assert resumed.version == learner.version == 12
    learner.finish()
    resumed.finish()
    assert torch.equal(weights(model), weights(resumed_model))


def test_a_saved_state_is_not_changed_by_later_updates(make_model, batch):
    advantage, weight = numbers(batch)
    learner = make_learner(make_model(), optimizer={"average": 0.5})
    learner.update(batch, advantage, weight)
    state = learner.state()
    copies = {name: tensor.clone() for name, tensor in state.items()}
    learner.update(batch, advantage, weight)
    assert all(torch.equal(state[name], copy) for name, copy in copies.items())
    assert any(not torch.equal(learner.state()[name], copy) for name, copy in copies.items())


def test_the_first_of_several_updates_measures_its_ratios_from_the_recomputed_log_probabilities(make_model, batch):
    # Fails when the sampler's log-probabilities (here 0, far away) are the denominator: everything would be clipped.
    advantage, weight = numbers(batch)
    models = [make_model(seed=1), make_model(seed=1)]
    stale, fresh = batch, batch.with_columns(behavior_logprob=np.full(batch.num_tokens, -50.0))
    for model, some in zip(models, (stale, fresh), strict=True):
        learner = make_learner(model, loss=clipped_surrogate, optimizer={"epochs": 2, "learning_rate": 1e-4})
        metrics = learner.update(some, advantage, weight)
        assert metrics["update/count"] == 2.0
        assert metrics["policy/kl"] < 1e-2
        assert metrics["policy/clip_share"] == 0.0
    assert torch.equal(weights(models[0]), weights(models[1]))


def test_the_clip_holds_back_what_has_gone_far_enough(make_model, batch):
    # Fails when every update takes its own weights for those that played: no ratio would ever leave 1.
    weight = np.full(batch.num_tokens, 1 / batch.num_tokens)
    advantage = np.ones(batch.num_tokens)
    moved = {}
    for loss in (clipped_surrogate, policy_gradient):
        model = make_model(seed=1)
        before = plain_logprob(model, batch).detach()
        # Without momentum a token that is clipped is pushed by the others only.
        optimizer = {"epochs": 12, "learning_rate": 3e-3, "betas": (0.0, 0.999)}
        metrics = make_learner(model, loss=loss, optimizer=optimizer).update(batch, advantage, weight)
        moved[loss] = float((plain_logprob(model, batch).detach() - before).mean())
        assert metrics["policy/clip_share"] > 0.1
    assert moved[clipped_surrogate] < 0.7 * moved[policy_gradient]


def test_minibatches_share_the_episodes_among_them(make_model, batch):
    # Fails when an episode is in two minibatches or none, or their losses are not scaled up to the whole.
    advantage, weight = numbers(batch)
    seen = []

    def watching(*, logprob, behavior_logprob, advantage, episode_of_token):
        seen.append(sorted(set(episode_of_token.tolist())))
        return policy_gradient(logprob=logprob, behavior_logprob=behavior_logprob, advantage=advantage)

    needs = (*NEEDS, "episode_of_token")
    optimizer = {"minibatches": 2, "epochs": 2, "learning_rate": 1e-9}
    learner = make_learner(make_model(seed=1), loss=watching, loss_needs=needs, optimizer=optimizer)
    metrics = learner.update(batch, advantage, weight)
    assert metrics["update/count"] == 4.0
    for epoch in (seen[:2], seen[2:]):
        assert sorted(epoch[0] + epoch[1]) == [0, 1, 2, 3]
        assert [len(part) for part in epoch] == [2, 2]
    whole = make_learner(make_model(seed=1), optimizer={"learning_rate": 1e-9}).update(batch, advantage, weight)
    assert metrics["update/loss"] == pytest.approx(whole["update/loss"], abs=1e-5)


def test_more_minibatches_than_episodes_leave_none_without(make_model, batch):
    advantage, weight = numbers(batch)
    learner = make_learner(make_model(), optimizer={"minibatches": 9})
    assert learner.update(batch, advantage, weight)["update/count"] == 4.0


def test_a_stage_ends_with_the_running_average_of_its_weights(make_model, batch):
    # Fails when the start is not forgotten, or finish() leaves the last weights.
    advantage, weight = numbers(batch)
    model = make_model(seed=1)
    learner = make_learner(model, optimizer={"average": 0.5, "learning_rate": 1e-2})
    average = weights(model)
    for update in range(1, 16):
        learner.update(batch, advantage, weight)
        decay = min(0.5, update / (update + 10))
        average = decay * average + (1 - decay) * weights(model)
    last = weights(model)
    learner.finish()
    torch.testing.assert_close(weights(model), average, atol=1e-6, rtol=0)
    assert (weights(model) - last).abs().max() > 1e-4
    plain = make_learner(make_model(seed=1))
    before = weights(plain.model)
    plain.finish()
    assert torch.equal(weights(plain.model), before)


def test_what_is_logged_is_measured_before_the_update(make_model, make_batch):
    # Fails when the gap is taken against the stored copy of the sampler instead of the trainer's own numbers.
    model = make_model(seed=1)
    batch = make_batch(model=model)
    advantage, weight = numbers(batch)
    metrics = make_learner(model).update(batch, advantage, weight)
    assert metrics["policy/gap_max"] < 1e-5
    assert metrics["policy/kl"] == 0.0
    shifted = batch.with_columns(sampler_logprob=batch.sampler_logprob - 0.5)
    again = make_learner(make_model(seed=1)).update(shifted, advantage, weight)
    assert again["policy/gap"] == pytest.approx(0.5, abs=1e-5)
    scores = Scorer(make_model(seed=1)).score(
        [batch.context(n) for n in range(batch.num_steps)],
        np.split(batch.token, batch.token_splits[1:-1]),
        want=("entropy",),
    )
    # Over all tokens that went through the model, whatever they weigh.
    assert metrics["policy/entropy"] == pytest.approx(scores["entropy"].mean(), abs=1e-5)


def test_a_model_with_dropout_trains_the_policy_that_played(make_batch):
    # Fails when the learner switches dropout on: its log-probabilities, and all later replies, would be noisy.
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": None, "eos_token_id": 3}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, resid_pdrop=0.5, **sizes)).eval()
    batch = make_batch(model=model)
    advantage, weight = numbers(batch)
    assert make_learner(model).update(batch, advantage, weight)["policy/gap_max"] < 1e-5
    assert not model.training


@pytest.mark.parametrize(
    "setting",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"final_share": 1.5},
        {"hold": -0.1},
        {"betas": (0.9, 1.0)},
        {"clip_norm": 0.0},
        {"epochs": 0},
        {"minibatches": 0},
        {"average": 1.0},
    ],
)
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(UserError, match=rf"optimizer\.{next(iter(setting))}|optimizer\.final_share"):
        AdamW(**setting)


def test_a_model_of_two_words_learns_the_better_arm(make_match):
    """MS-GRPO on the bandit: grouped × state only × GRPO × all × token mean × clipped surrogate."""
    from lapwing.games.bandit import Bandit
    from lapwing.generation.transformers import Transformers
    from lapwing.models.tiny import tiny_model, tiny_tokenizer
    from lapwing.policies.agent import Agent, InvalidRule
    from lapwing.policies.contexts import StateOnly
    from lapwing.policies.parsers import Bare
    from lapwing.policies.renderers import Grid
    from lapwing.rollout.collector import LocalCollector
    from lapwing.samplers.grouped import Grouped

    game = Bandit(arms=(0.2, 0.8))
    tokenizer = tiny_tokenizer(["arms", "a", "b"])
    model = tiny_model(len(tokenizer), seed=0, hidden=16, layers=1, heads=2, intermediate=32)
    generator = Transformers(model, tokenizer, max_tokens=1)
    agent = Agent(renderer=Grid(), context=StateOnly(), parser=Bare(), tokenizer=tokenizer, generator=generator)
    sampler = Grouped(game, seed=0, groups=4, group_size=16, max_steps=1, share_chance=False)
    collector = LocalCollector(agent, invalid=InvalidRule(penalty=1.0))
    learner = Learner(
        model, loss=clipped_surrogate, loss_needs=NEEDS, optimizer=AdamW(learning_rate=1e-2, final_share=1.0), seed=0
    )
    context = [agent.prompt(game.view(game.initial(np.random.default_rng(0)), 0), None).token]
    best = [np.array(tokenizer.encode("b", add_special_tokens=False), dtype=np.int32)]
    probability = partial(learner.scorer.score, context, best)
    assert np.exp(probability()["logprob"][0]) < 0.5
    for iteration in range(40):
        batch = EpisodeBatch.pack(collector.play(sampler.draw(iteration)))
        advantage = grpo(batch)
        weight = token_mean(batch, all_episodes(batch, advantage, np.random.default_rng(0)))
        learner.update(batch, batch.spread(advantage), weight)
        generator.forget()
    assert np.exp(probability()["logprob"][0]) > 0.95


# Fails on a GPU too: a fused step takes no moments from another device. The device "meta" stands for one here.
@pytest.mark.parametrize("average", [0.0, 0.5])
def test_moments_that_were_read_from_a_file_come_to_the_device_of_the_weights(make_model, batch, average):
    advantage, weight = numbers(batch)
    learner = make_learner(make_model(), optimizer={"average": average})
    learner.update(batch, advantage, weight)
    saved = learner.state()
    assert {tensor.device.type for tensor in saved.values()} == {"cpu"}
    model = copy.deepcopy(make_model()).to("meta")
    model.tie_weights()
    elsewhere = make_learner(model, optimizer={"average": average})
    elsewhere.restore(saved, learner.version)
    found = [tensor for state in elsewhere.optimizer.state.values() for tensor in state.values()]
    assert {tensor.device.type for tensor in found} == {"meta"}


def test_steps_without_advantage_do_not_go_through_the_model_and_change_no_update(make_model, batch):
    # Fails when the optimiser is not stepped on a zero gradient, or a regulariser loses tokens.
    advantage, weight = numbers(batch)
    quiet = batch.spread(np.where(np.arange(batch.num_steps) % 3 == 0, 0.0, 1.0))
    for advantages in (advantage * quiet, np.zeros(batch.num_tokens)):
        found = []
        for silent in (False, True):
            model = make_model(seed=1)
            learner = make_learner(model, loss=clipped_surrogate, silent=silent)
            learner.update(batch, advantage, weight)  # so that there is momentum
            tokens = learner.scorer.tokens
            learner.update(batch, advantages, weight)
            found.append((weights(model), learner.scorer.tokens - tokens, learner.version))
        (expected, whole, _), (got, part, version) = found
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
        assert version == 2
        assert 0 < part < whole
    seen = []
    bonus = Regulariser(
        "entropy",
        lambda *, token_entropy: seen.append(len(token_entropy)) or -token_entropy,
        ("token_entropy",),
        Schedule(0.1, 0.1),
    )
    make_learner(make_model(seed=1), silent=True, regularisers=[bonus]).update(batch, advantage * quiet, weight)
    assert sum(seen) == batch.num_tokens


def test_what_sequences_share_is_computed_once_and_changes_no_update(make_model, batch):
    advantage, weight = numbers(batch)
    found = []
    for share in (True, False):
        model = make_model(seed=1)
        learner = make_learner(model)
        learner.scorer.share = share
        learner.update(batch, advantage, weight)
        found.append((gradients(model), learner.scorer.tokens))
    (once, few), (apart, many) = found
    assert_close(once, apart)
    assert few < many
