"""Weights arrive whole and to the bit, or not at all."""

import copy

import numpy as np
import pytest
import torch

from lapwing.core.errors import LapwingError
from lapwing.distributed.weight_sync import fingerprint, load_weights, pack_weights
from lapwing.models import lora


def some_model(seed, dtype=torch.float32, width=40):
    """A frozen layer, and one that learns."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, 30)).to(dtype)
    model[0].requires_grad_(False)
    return model


def stored(weights):
    """As an object store gives them back: copies that cannot be written to."""
    found = {name: packed._replace(data=packed.data.copy()) for name, packed in weights.items()}
    for packed in found.values():
        packed.data.flags.writeable = False
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_training_changes_arrives_to_the_bit_and_nothing_else_is_sent(dtype):
    learner, actor = some_model(0, dtype), some_model(1, dtype)
    actor[0].load_state_dict(learner[0].state_dict())
    weights = stored(pack_weights(learner))
    assert set(weights) == {"1.weight", "1.bias"}
    assert weights["1.weight"].data.nbytes == 40 * 30 * torch.finfo(dtype).bits // 8
    assert fingerprint(learner) != fingerprint(actor)
    load_weights(actor, weights)
    assert fingerprint(learner) == fingerprint(actor)
    for one, other in zip(learner.parameters(), actor.parameters(), strict=True):
        assert torch.equal(one, other)


def test_tied_embeddings_are_sent_once(make_model):
    learner, actor = make_model(seed=0), make_model(seed=1)
    weights = stored(pack_weights(learner))
    assert sum(packed.data.nbytes for packed in weights.values()) == 4 * sum(p.numel() for p in learner.parameters())
    load_weights(actor, weights)
    tokens = torch.arange(5)[None]
    assert torch.equal(learner(tokens).logits, actor(tokens).logits)


# Fails when the fingerprint leaves out a tensor, frozen ones included, or looks at its beginning only.
@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.weight", "1.bias"])
def test_a_tensor_that_was_not_sent_is_found(name):
    learner, actor = some_model(0), some_model(0)
    assert fingerprint(learner) == fingerprint(actor)
    with torch.no_grad():
        tensor = dict(actor.named_parameters())[name]
        tensor.reshape(-1)[len(tensor.reshape(-1)) // 2 :] += 1e-3
    assert fingerprint(learner) != fingerprint(actor)


def test_a_fingerprint_is_of_bits_shapes_and_types():
    assert fingerprint(some_model(0)) != fingerprint(some_model(0, torch.bfloat16))
    model, other = (torch.nn.Linear(*shape, bias=False) for shape in ((2, 3), (3, 2)))
    with torch.no_grad():
        model.weight.zero_(), other.weight.zero_()
    assert fingerprint(model) != fingerprint(other)


# Fails when tensors are copied before all of them were looked at.
@pytest.mark.parametrize("width", [40, 41])
def test_weights_that_do_not_fit_change_nothing(width):
    actor = some_model(0, width=width)
    before = fingerprint(actor)
    weights = stored(pack_weights(some_model(1)))
    if width == 40:
        del weights["1.bias"]
    with pytest.raises(LapwingError, match=r"weights are those of another model: .*1\.(bias|weight)"):
        load_weights(actor, weights)
    assert fingerprint(actor) == before
    bad = stored(pack_weights(some_model(1, torch.bfloat16)))
    with pytest.raises(LapwingError, match=r"1.weight is \('torch.float32'"):
        load_weights(actor, bad)
    assert fingerprint(actor) == before


def test_packing_copies_nothing_that_the_store_will_copy_anyway():
    learner = some_model(0)
    weights = pack_weights(learner)
    assert np.shares_memory(weights["1.weight"].data, learner[1].weight.detach().numpy())


# Fails when the learner's fingerprint holds what no actor has, so that every answer looks like one of other weights.
def test_the_learners_reference_is_no_part_of_what_actors_play_with(make_model, tmp_path):
    learner = copy.deepcopy(make_model())
    lora.add_adapter(learner, lora.LoraSettings(rank=2), seed=0, base="tiny", revision=None)
    actor = copy.deepcopy(learner)
    with torch.no_grad():
        for _, parameter in lora.adapter_parameters(learner):
            parameter.add_(0.1)
    lora.save_adapter(tmp_path, learner)
    lora.add_reference(learner, tmp_path)
    load_weights(actor, stored(pack_weights(learner)))
    assert fingerprint(actor) == fingerprint(learner)
