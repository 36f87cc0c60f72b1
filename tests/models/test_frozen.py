"""A twin with the weights of a moment: it answers as the model did then, and takes no memory of its own."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from lapwing.models.frozen import frozen_twin, trained_weights
from lapwing.models.lora import LoraSettings, add_adapter


@pytest.fixture(params=["whole", "adapter"])
def model(request, toy_folder):
    made = AutoModelForCausalLM.from_pretrained(toy_folder("qwen2"), dtype="float32").eval()
    if request.param == "adapter":
        add_adapter(made, LoraSettings(rank=2), seed=0, base="", revision=None)
    return made


def logits(model):
    with torch.no_grad():
        return model(torch.arange(6)[None]).logits


def learn(model):
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)


def test_a_twin_answers_as_the_model_did_then(model):
    learn(model)  # an adapter begins as nothing
    before, weights = logits(model), trained_weights(model)
    learn(model)
    after = logits(model)
    assert not torch.equal(before, after)
    twin = frozen_twin(model, weights)
    assert torch.equal(logits(twin), before)
    assert torch.equal(logits(model), after)
    learn(model)
    assert torch.equal(logits(twin), before)
    assert not any(weight.requires_grad for weight in twin.parameters())
    assert any(weight.requires_grad for weight in model.parameters())


def test_a_twin_takes_no_memory_of_its_own(model):
    weights = trained_weights(model)
    twin = frozen_twin(model, weights)
    given = {tensor.data_ptr() for tensor in (*weights.values(), *model.parameters(), *model.buffers())}
    assert {tensor.data_ptr() for tensor in (*twin.parameters(), *twin.buffers())} <= given
    # What learns is that of the moment, and not that of now.
    learns = {weight.data_ptr() for weight in model.parameters() if weight.requires_grad}
    assert not learns & {tensor.data_ptr() for tensor in twin.parameters()}
