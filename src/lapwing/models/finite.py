"""What must hold before an optimiser steps, so that the weights are finite after it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

# Well below the largest float32, 3.4 · 10³⁸, and so that squares are too.
_MOST = 1e38
_MOST_SQUARED = 1e19
# Counts, and the second moment, which is a mean of squares, as torch and bitsandbytes call them.
_NEVER_NEGATIVE = ("step", "exp_avg_sq", "state2", "absmax2")


def why_not_step(
    optimizer: torch.optim.Optimizer, weights: Sequence[torch.Tensor], names: Sequence[str], norm: float
) -> str:
    """What would make weights or moments non-finite in the next step of AdamW; empty where nothing would.

    With the moments m and v, the gradient g, the step t and the settings λ, η, β₁ and ε of AdamW

        |m′| ≤ max(|m|, |g|),   0 ≤ v′ ≤ max(v, g²),   |θ′| ≤ |θ| (1 + ηλ) + η max(|m|, |g|) / ((1 − β₁) ε)

    so that numbers which are below these bounds before a step are finite after it. Nothing has to be copied, and put
    back, for a step that is never made. One pass over weights and moments, and one exchange with the device.

    Args:
      optimizer: AdamW of torch, or with moments in 8 bits; ε above 0.
      weights: that it steps, float32.
      names: of the weights, for the answer.
      norm: length of the gradient that the step is made with.
    """
    tensors = list(_tensors(optimizer.state, weights, names))
    # NaN passes through both extremes. Everything comes to the host at once.
    extremes = [torch.stack(torch.aminmax(tensor)).float().to(weights[0].device) for _, _, tensor in tensors]
    most = {"weight": 0.0}
    for (kind, name, _), (low, high) in zip(tensors, torch.stack(extremes).tolist(), strict=True):
        if not max(-low, high) < _MOST or (kind in _NEVER_NEGATIVE and low < 0.0):
            wrong = "is negative" if -_MOST < low < 0.0 and high < _MOST else "is not finite"
            return f"{name} {wrong}" if kind == "weight" else f"the optimiser's {kind} of {name} {wrong}"
        most[kind] = max(most.get(kind, 0.0), -low, high)
    if not norm < _MOST_SQUARED:
        return f"the square of the gradient's length, {norm:.3g}, is not finite"
    largest = max([norm, *(number for kind, number in most.items() if kind not in ("weight", *_NEVER_NEGATIVE))])
    for group in optimizer.param_groups:
        reach = group["lr"] * largest / ((1.0 - group["betas"][0]) * group["eps"])
        if not most["weight"] * (1.0 + group["lr"] * group["weight_decay"]) + reach < _MOST:
            return f"the step could be as long as {reach:.3g}, beyond what weights can hold"
    return ""


def first_nonfinite(tensors: Sequence[torch.Tensor | None], names: Sequence[str]) -> str:
    """The name of the first tensor with a number that is not finite; empty where there is none."""
    for name, tensor in zip(names, tensors, strict=True):
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            return name
    return ""


def _tensors(
    state: Mapping[Any, Mapping[str, Any]], weights: Sequence[torch.Tensor], names: Sequence[str]
) -> Iterator[tuple[str, str, torch.Tensor]]:
    """What a step reads: "weight" or the name of a part of the optimiser's state, the weight's name, the numbers."""
    for weight, name in zip(weights, names, strict=True):
        yield "weight", name, weight.detach() if weight.numel() else weight.new_zeros(1)
        for kind, tensor in state.get(weight, {}).items():
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.numel():
                yield kind, name, tensor
