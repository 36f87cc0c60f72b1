"""Our losses against the code of TRL, where it is installed: values and gradients of `GRPOTrainer._compute_loss`.

The method is TRL's own, called with log-probabilities made up here, so that no model is needed. Not compared, because
TRL computes it in the middle of methods that generate: advantages, and the cut-off of the weights between sampler and
trainer. verl is not compared: it cannot be installed where these tests were written.
"""

import warnings
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lapwing.aggregation.constant import constant
from lapwing.aggregation.episode_mean import episode_mean
from lapwing.aggregation.token_mean import token_mean
from lapwing.core.types import Selection
from lapwing.corrections.off_policy_mask import off_policy_mask
from lapwing.losses.cispo import cispo
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.losses.entropy import entropy
from lapwing.losses.gspo import gspo
from lapwing.losses.gspo_token import gspo_token
from lapwing.losses.kl_k3 import kl_k3
from lapwing.testing import episodes

with warnings.catch_warnings():
    # Of the packages that TRL imports.
    warnings.simplefilter("ignore")
    pytest.importorskip("trl")
    from trl.trainer.grpo_trainer import GRPOTrainer

LENGTHS = [3, 1, 5, 2]
BUDGET = 8
MASK = (torch.arange(5)[None, :] < torch.tensor(LENGTHS)[:, None]).double()
BATCH = episodes([[0.0]] * 4, tokens_per_step=[[length] for length in LENGTHS])
PLACES = {
    "step_of_token": torch.from_numpy(BATCH.step_of_token),
    "episode_of_token": torch.from_numpy(BATCH.episode_of_step[BATCH.step_of_token]),
}
ADVANTAGE = torch.tensor([1.5, -0.5, -1.0, 0.7], dtype=torch.float64)


def draw(seed, scale):
    """One number per place of the padded table; those beyond an episode's end must not matter."""
    return scale * torch.randn(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOGPROB = -1.0 - draw(0, 0.5).abs()
COLUMNS = {
    "behavior_logprob": LOGPROB + draw(1, 0.4),
    "sampler_logprob": LOGPROB + draw(2, 0.8),
    "reference_logprob": LOGPROB + draw(3, 0.6),
}
ENTROPY = draw(4, 1.0).abs()
FACTOR = draw(5, 1.0).abs()


def of_tokens(table):
    return table[MASK.bool()]


def theirs(loss_type, **settings):
    """Value of TRL's loss, and its gradient by log-probability."""
    logprob = LOGPROB.clone().requires_grad_()
    chosen = {
        "beta": 0.0,
        "importance_sampling_level": "token",
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "entropy_coef": 0.0,
        "delta": None,
        "use_bias_correction_kl": False,
        **settings,
    }
    accelerator = SimpleNamespace(
        num_processes=1,
        sync_gradients=True,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
    )
    trainer = SimpleNamespace(
        **{name: value for name, value in chosen.items() if name not in ("delta", "use_bias_correction_kl")},
        loss_type=loss_type,
        args=SimpleNamespace(
            delta=chosen["delta"],
            use_bias_correction_kl=chosen["use_bias_correction_kl"],
            steps_per_generation=1,
        ),
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprob, ENTROPY, None),
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
        top_entropy_quantile=1.0,
        vllm_importance_sampling_correction=True,
        use_adaptive_entropy=False,
        _entropy_bonus_enabled=chosen["entropy_coef"] != 0.0,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=BUDGET,
        model=SimpleNamespace(training=True),
        accelerator=accelerator,
        _metrics={"train": defaultdict(list)},
    )
    nothing = torch.zeros(4, 1, dtype=torch.int64)
    inputs = {
        "prompt_ids": nothing,
        "prompt_mask": nothing,
        "completion_ids": torch.zeros(4, 5, dtype=torch.int64),
        "completion_mask": MASK,
        "advantages": ADVANTAGE,
        "old_per_token_logps": COLUMNS["behavior_logprob"],
        "sampling_per_token_logps": COLUMNS["sampler_logprob"],
        "ref_per_token_logps": COLUMNS["reference_logprob"],
        "importance_sampling_ratio": FACTOR,
        "num_items_in_batch": MASK.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    assert logprob.grad is not None
    return loss.item(), of_tokens(logprob.grad)


def ours(aggregation, loss):
    """Value of Σ weight · loss, and its gradient by log-probability.

    `loss` takes the tensors of all tokens by name.
    """
    weight = torch.from_numpy(aggregation(BATCH, Selection(np.ones(4, dtype=np.int64), np.ones(4))))
    logprob = of_tokens(LOGPROB).requires_grad_()
    given = {name: of_tokens(table) for name, table in COLUMNS.items()}
    advantage = ADVANTAGE[PLACES["episode_of_token"]]
    value = (weight * loss({"logprob": logprob, "advantage": advantage, **given, **PLACES})).sum()
    value.backward()
    assert logprob.grad is not None
    return value.item(), logprob.grad


def take(given, *names):
    return {name: given[name] for name in ("logprob", *names)}


def surrogate(given, **settings):
    settings = {"clip_high": 0.28, **settings}
    return clipped_surrogate(**take(given, "behavior_logprob", "advantage"), **settings)


def k3(given, **settings):
    columns = take(given, "reference_logprob", "behavior_logprob")
    return kl_k3(**columns, max_value=None, **settings)


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], abs=1e-9)
    torch.testing.assert_close(found[1], expected[1], atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("loss_type", "aggregation"),
    [
        ("grpo", episode_mean),
        ("dapo", token_mean),
        ("bnpo", token_mean),
        ("dr_grpo", lambda batch, selection: constant(batch, selection, budget=BUDGET)),
    ],
)
def test_the_clipped_surrogate_under_each_aggregation(loss_type, aggregation):
    assert_same(ours(aggregation, surrogate), theirs(loss_type))


def test_the_two_sided_cap():
    expected = theirs("dapo", delta=1.35)
    assert_same(ours(token_mean, lambda given: surrogate(given, max_ratio=1.35)), expected)
    assert expected[0] != theirs("dapo")[0]


def test_cispo():
    def loss(given):
        return cispo(**take(given, "behavior_logprob", "advantage"), cap=1.2)

    # TRL's epsilon_high is the cap itself.
    assert_same(ours(token_mean, loss), theirs("cispo", epsilon_high=1.2))


@pytest.mark.parametrize("method", [gspo, gspo_token])
def test_one_ratio_for_a_sequence(method):
    def loss(given):
        columns = take(given, "behavior_logprob", "advantage", "step_of_token", "episode_of_token")
        return method(**columns, span="episode", clip_low=0.05, clip_high=0.1)

    expected = theirs("grpo", importance_sampling_level="sequence", epsilon_low=0.05, epsilon_high=0.1)
    assert_same(ours(episode_mean, loss), expected)


@pytest.mark.parametrize("importance", [False, True])
def test_the_kl_term(importance):
    expected = theirs("grpo", beta=0.3, use_bias_correction_kl=importance)
    found = ours(episode_mean, lambda given: surrogate(given) + 0.3 * k3(given, importance=importance))
    assert_same(found, expected)


def test_the_off_policy_mask():
    def loss(given):
        columns = take(given, "sampler_logprob", "advantage", "step_of_token", "episode_of_token")
        factor = off_policy_mask(**columns, max_drift=0.1)
        assert 0.0 in factor.tolist()
        assert 1.0 in factor.tolist()
        return surrogate(given) * factor

    assert_same(ours(episode_mean, loss), theirs("grpo", off_policy_mask_threshold=0.1))


def test_weights_between_sampler_and_trainer_multiply_the_loss_and_not_the_kl_term():
    expected = theirs("dapo", use_vllm=True, beta=0.2)
    assert_same(ours(token_mean, lambda given: surrogate(given) * of_tokens(FACTOR) + 0.2 * k3(given)), expected)


def test_the_entropy_bonus():
    expected = theirs("dapo", entropy_coef=0.05)
    found = ours(token_mean, lambda given: surrogate(given) + 0.05 * entropy(token_entropy=of_tokens(ENTROPY)))
    assert_same(found, expected)
