"""Master weights: float32 copies of parameters of lower precision, for the optimiser to step."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch

from lapwing.core.protocols import Ranks


class Masters(Protocol):
    """What a learner needs of the weights that its optimiser steps; see `MasterWeights`.

    Attributes:
      weights: one master per parameter that is trained, in their order.
    """

    weights: list[torch.Tensor]

    def accumulating(self) -> contextlib.AbstractContextManager[None]:
        """While it is entered, gradients of the model are added up for the masters."""
        ...

    def sum_over(self, ranks: Ranks) -> None:
        """Replace the gradient by its sum over several processes."""
        ...

    def clip_gradient(self, limit: float) -> float:
        """Shorten the gradient to a length, if it is longer; returns the length before.

        A gradient whose length is not finite stays as it is.
        """
        ...

    def copy_back(self) -> None:
        """Bring the masters to the parameters."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """What the model itself does not hold, by name."""
        ...

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state` returned."""
        ...


class MasterWeights:
    """The weights that an optimiser steps.

    An update of 10⁻⁴ of a weight is lost in bfloat16, whose numbers lie 2⁻⁸ of their size apart, and so are the small
    terms of a sum over micro-batches. Parameters in bfloat16 or float16 therefore have a copy in float32 that
    accumulates their gradient, is stepped, and is rounded back to them. A parameter in float32 is its own master.

    Attributes:
      weights: one master per parameter, in their order.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Copy what is not float32 (or wider).

        Args:
          parameters: those that are trained.
        """
        self.weights: list[torch.Tensor] = [
            p.detach().float().requires_grad_(True) if p.dtype in (torch.bfloat16, torch.float16) else p
            for p in parameters
        ]
        self._copied = [(p, w) for p, w in zip(parameters, self.weights, strict=True) if w is not p]

    @contextlib.contextmanager
    def accumulating(self) -> Iterator[None]:
        """Gradients of the copied parameters flow into their masters, in float32, as soon as each is complete.

        The parameters' own gradients are freed, so that no more than one layer's is alive in low precision.
        """
        hooks = [p.register_post_accumulate_grad_hook(partial(_move, w)) for p, w in self._copied]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        # Sharded parameters get their gradient past the hooks.
        for parameter, weight in self._copied:
            _move(weight, parameter)

    def sum_over(self, ranks: Ranks) -> None:
        """Replace the gradient by its sum over several processes."""
        ranks.sum_gradients(self.weights)

    def clip_gradient(self, limit: float) -> float:
        """Shorten the gradient to a length, if it is longer; returns the length before.

        A gradient whose length is not finite stays as it is.
        """
        length = torch.nn.utils.get_total_norm([w.grad for w in self.weights if w.grad is not None])
        norm = float(length)
        if math.isfinite(norm):
            torch.nn.utils.clip_grads_with_norm_(self.weights, limit, length)
        return norm

    def copy_back(self) -> None:
        """Round the masters to the nearest numbers of the parameters' precision."""
        with torch.no_grad():
            for parameter, weight in self._copied:
                parameter.copy_(weight)

    def state(self) -> dict[str, torch.Tensor]:
        """The copies by name; parameters that are their own masters are in the model."""
        return {name: on_host(weight) for name, weight in self._named().items()}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state` returned, and round it to the parameters."""
        with torch.no_grad():
            for name, weight in self._named().items():
                weight.copy_(tensors[name])
        self.copy_back()

    def _named(self) -> dict[str, torch.Tensor]:
        copied = {id(w) for _, w in self._copied}
        return {f"master.{i}": w for i, w in enumerate(self.weights) if id(w) in copied}


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the host's memory: on the device a checkpoint would take as much again as what it saves."""
    return tensor.detach().to("cpu", copy=True)


def _move(weight: torch.Tensor, parameter: torch.Tensor) -> None:
    if parameter.grad is None:
        return
    gradient = parameter.grad.float()
    weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
    parameter.grad = None
