"""Copies of a model that keep the weights of a moment."""

import copy
from collections.abc import Mapping
from typing import Any

import torch


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the weights that learn, by name: all of a whole model, those of the adapter of one with LoRA."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def frozen_twin(model: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """Another model with other weights, which does not learn; all three share their tensors.

    Args:
      model: stays as it is; its tensors that do not learn are the twin's too.
      weights: as `trained_weights` gave them; nobody may change them as long as the twin is used. Those on another
        device, or of another type, are copied.
    """
    own = {
        id(weight): torch.nn.Parameter(weights[name].to(weight), requires_grad=False)
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    given = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in own}
    return copy.deepcopy(model, {**given, **own}).requires_grad_(False).eval()


def share_frozen(model: torch.nn.Module, like: torch.nn.Module) -> None:
    """Let a model take the tensors that do not learn from another of the same kind, so that they are held once.

    Args:
      model: whose own are dropped.
      like: whose are taken.
    """
    given = dict(like.named_parameters(remove_duplicate=False))
    for name, weight in list(model.named_parameters(remove_duplicate=False)):
        if not weight.requires_grad:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, given[name])
