"""Moments in 8 bits."""

import sys

import numpy as np
import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.training.adamw import AdamW, make_optimizer
from lapwing.training.learner import Learner


def numbers(batch):
    random = np.random.default_rng(1)
    return random.normal(size=batch.num_tokens), random.uniform(0.01, 0.2, size=batch.num_tokens)


def make_learner(model, **settings):
    optimizer = AdamW(learning_rate=1e-3, final_share=1.0, eps=1e-3, clip_norm=1e9, **settings)
    needs = ("behavior_logprob", "advantage")
    return Learner(model, loss=clipped_surrogate, loss_needs=needs, optimizer=optimizer, seed=0)


def weights(model):
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=r'optimizer\.state = "8bit" .* pip install "lapwing\[quantised\]"'):
        make_optimizer(AdamW(state="8bit"), [torch.zeros(3, requires_grad=True)])


def test_another_state_is_refused():
    with pytest.raises(UserError, match=r"optimizer\.state is .* not '4bit'"):
        AdamW(state="4bit")  # type: ignore[arg-type]


@pytest.fixture
def large(make_model):
    """A model with matrices of 4,096 weights and more, whose moments are quantised."""
    pytest.importorskip("bitsandbytes")
    return lambda seed=1: make_model(seed=seed, hidden=64, intermediate=128)


def test_moments_in_8_bits_train_much_as_those_in_float32(large, batch):
    # Fails when a setting is passed on under another name: another learning rate, eps or weight decay.
    advantage, weight = numbers(batch)
    models = {state: large() for state in ("float32", "8bit")}
    start = weights(models["8bit"])
    learners = {s: make_learner(m, state=s, betas=(0.8, 0.95), weight_decay=0.1) for s, m in models.items()}
    for _ in range(10):
        for learner in learners.values():
            learner.update(batch, advantage, weight)
    moved = {state: weights(model) - start for state, model in models.items()}
    difference = torch.linalg.vector_norm(moved["8bit"] - moved["float32"])
    assert 0.0 < difference < 0.1 * torch.linalg.vector_norm(moved["float32"])


def test_moments_in_8_bits_take_a_quarter_of_the_memory(large, batch):
    advantage, weight = numbers(batch)
    sizes = {}
    for state in ("float32", "8bit"):
        learner = make_learner(large(), state=state)
        learner.update(batch, advantage, weight)
        matrix = max(range(len(learner.parameters)), key=lambda i: learner.parameters[i].numel())
        kept = [t for n, t in learner.state().items() if n.startswith(f"optimizer.{matrix}.") and "qmap" not in n]
        sizes[state] = sum(t.numel() * t.element_size() for t in kept)
    assert sizes["8bit"] < 0.3 * sizes["float32"]


def test_a_restored_learner_goes_on_to_the_last_bit(large, batch):
    # Fails when the count of steps comes back as a tensor, or the quantised moments without their scales.
    advantage, weight = numbers(batch)
    model, other = large(), large(seed=2)
    learner, resumed = make_learner(model, state="8bit"), make_learner(other, state="8bit")
    for _ in range(3):
        learner.update(batch, advantage, weight)
    other.load_state_dict(model.state_dict())
    resumed.restore(learner.state(), learner.version)
    assert {type(state["step"]) for state in resumed.optimizer.state.values()} == {int}
    for one in (learner, resumed):
        one.update(batch, advantage, weight)
    assert torch.equal(weights(model), weights(other))
