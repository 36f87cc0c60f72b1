"""Gradient checkpointing while gradients are wanted, and only then."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def recomputing(model: torch.nn.Module) -> Iterator[None]:
    """Let the layers for which it is switched on keep their inputs only, and compute the rest again going backward.

    transformers' layers do so in training mode alone. The mode is set for these layers and not for what lies in them,
    so that dropout stays off: it would make the trained policy another than the one that played.

    Args:
      model: of transformers, in evaluation mode; `activation_checkpointing_enable` (before transformers 5.20
        `gradient_checkpointing_enable`) switches gradient checkpointing on.
    """
    layers = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
