"""Gradient checkpointing: the same gradients from less that is kept."""

import numpy as np
import pytest
import torch

from lapwing.models.recompute import recomputing
from lapwing.models.scorer import Scorer

RANDOM = np.random.default_rng(0)
CONTEXTS = [RANDOM.integers(3, 60, size=size).astype(np.int32) for size in (40, 30)]
REPLIES = [RANDOM.integers(3, 60, size=4).astype(np.int32) for _ in CONTEXTS]


@pytest.fixture
def toy(toy_folder):
    from transformers import AutoModelForCausalLM

    def load(architecture="qwen2", checkpointing=False):
        model = AutoModelForCausalLM.from_pretrained(toy_folder(architecture)).eval()
        if checkpointing:
            model.activation_checkpointing_enable()
        return model

    return load


def gradients_and_kept_bytes(model):
    kept: dict[int, int] = {}
    own = {p.data_ptr() for p in model.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with recomputing(model), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        (scored,) = Scorer(model).micro_batches(CONTEXTS, REPLIES)
        at_most = sum(kept.values())
        scored.logprob.sum().backward()
    return [p.grad for p in model.parameters()], at_most


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama", "gemma"])
def test_gradients_are_equal_and_less_is_kept(toy, architecture):
    # Fails when the layers stay in evaluation mode, in which transformers keeps everything.
    plain, kept = gradients_and_kept_bytes(toy(architecture))
    again, kept_again = gradients_and_kept_bytes(toy(architecture, checkpointing=True))
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)
    assert kept_again < 0.5 * kept


def test_dropout_stays_off(toy_folder):
    # Fails when the whole model is put into training mode.
    from transformers import AutoModelForCausalLM

    scores = []
    for dropout in (0.0, 0.9):
        model = AutoModelForCausalLM.from_pretrained(toy_folder("qwen2"), attention_dropout=dropout).eval()
        model.activation_checkpointing_enable()
        with recomputing(model):
            (scored,) = Scorer(model).micro_batches(CONTEXTS, REPLIES)
        scores.append(scored.logprob.detach())
    assert torch.equal(*scores)


def test_afterwards_the_model_is_in_evaluation_mode_again(toy):
    # Fails when an error in between leaves the layers in training mode.
    model = toy(checkpointing=True)

    def fail():
        assert any(module.training for module in model.modules())
        raise KeyError

    with pytest.raises(KeyError), recomputing(model):
        fail()
    assert not any(module.training for module in model.modules())
