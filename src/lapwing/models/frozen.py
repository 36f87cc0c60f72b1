"""Copies of a model that keep the weights of a moment."""

import copy
from collections.abc import Mapping
from typing import Any

import torch


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the weights that learn, by name: all of a whole model, those of the adapter of one with LoRA."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def frozen_twin(model: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """Another model with other weights, which does not learn; both share the tensors that do not change.

    Args:
      model: stays as it is.
      weights: as `trained_weights` gave them.
    """
    own = {id(weight) for weight in model.parameters() if weight.requires_grad}
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in own}
    other = copy.deepcopy(model, shared)
    named = dict(other.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            named[name].copy_(weight)
    return other.requires_grad_(False).eval()
