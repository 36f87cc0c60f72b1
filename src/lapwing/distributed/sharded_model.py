"""FSDP2: a copy of a model whose weights are spread over the ranks, for the update."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from lapwing.core.errors import LapwingError
from lapwing.core.protocols import Ranks as GradientRanks
from lapwing.distributed.ranks import Ranks

T = TypeVar("T")


class ShardedModel:
    """A model for the update, and its master weights: each rank keeps 1/R of every tensor, split along its first axis.

    Layer by layer, a forward pass gathers the weights and forgets them, and a backward pass leaves each rank its part
    of the summed gradient. What is trained is kept in float32; where the model is of lower precision, the passes run in
    that precision and gradients are summed in float32. The model that plays stays whole on every rank: generation
    reads all weights for every token.

    This is the interface of `MasterWeights`: the optimiser steps plain tensors, the parts that lie on this rank.

    Attributes:
      model: the sharded copy; its own forward is never called, see `run`.
      weights: this rank's part of each weight that is trained, float32; some are empty where there are few rows.
    """

    def __init__(self, whole: Any, ranks: Ranks) -> None:
        """Copy and shard a model; it must have the same weights on every rank.

        Args:
          whole: a causal language model of transformers, which `refresh` keeps up to date.
          ranks: the processes.
        """
        self.ranks = ranks
        self.mesh = ranks.mesh()
        # Nothing is copied yet: weights come one layer at a time, so that there is never a second whole model.
        source = {id(p): p for p in whole.parameters()}
        empty = {key: nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for key, p in source.items()}
        self.model = copy.deepcopy(whole, dict(empty)).eval()
        self._source = {id(empty[key]): parameter for key, parameter in source.items()}
        self._played = [p for p in whole.parameters() if p.requires_grad]
        # Adapters are in float32 beside a base of lower precision, and compute in it.
        low = {p.dtype for p in self._played} & {torch.bfloat16, torch.float16}
        self._is_copied = bool(low)
        self._root = self._shard(MixedPrecisionPolicy(next(iter(low), None), reduce_dtype=torch.float32))
        self._source.clear()
        self._trained = [p for p in self.model.parameters() if p.requires_grad]
        self.weights = [_local(p).requires_grad_(True) for p in self._trained]

    def _shard(self, policy: MixedPrecisionPolicy) -> Any:
        # The head is applied beside the body and not by the model's forward, so that the root is a module around both.
        root = _Root(self.model)
        names = set(getattr(self.model, "_no_split_modules", None) or ())
        layers = [module for module in self.model.modules() if type(module).__name__ in names]
        for module in (*layers, root):
            self._fill(module)
            fully_shard(module, mesh=self.mesh, mp_policy=policy)
        for module in root.modules():
            if isinstance(module, FSDPModule):
                # The loss is a sum over the tokens of all ranks; gloo cannot divide.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        return root

    def _fill(self, module: nn.Module) -> None:
        filled: dict[int, nn.Parameter] = {}
        for owner in module.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if isinstance(parameter, DTensor):
                    continue
                if id(parameter) not in filled:
                    source = self._source[id(parameter)].detach()
                    kept = source.to(self.ranks.device, torch.float32 if parameter.requires_grad else source.dtype)
                    copied = kept.clone() if kept is source else kept
                    filled[id(parameter)] = nn.Parameter(copied, parameter.requires_grad)
                owner.register_parameter(name, filled[id(parameter)])

    def run(self, score: Callable[[], T]) -> T:
        """Call a function while the weights can be used; its tensors may be differentiated."""
        return self._root(score)

    def count(self, own: int) -> int:
        """How many forward passes every rank makes, if this one needs `own` of them."""
        return self.ranks.largest(own, "how many forward passes to make")

    @contextlib.contextmanager
    def accumulating(self) -> Iterator[None]:
        """Afterwards the gradients are those of this rank's parts."""
        yield
        for parameter, weight in zip(self._trained, self.weights, strict=True):
            weight.grad = None if parameter.grad is None else _local(parameter.grad)
            parameter.grad = None

    def sum_over(self, ranks: GradientRanks) -> None:
        """Nothing: the backward passes have summed the gradients."""

    def clip_gradient(self, limit: float) -> float:
        """Shorten the gradient to a length; the length before, over all ranks."""
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        own = sum(float(torch.linalg.vector_norm(gradient)) ** 2 for gradient in gradients)
        norm = math.sqrt(float(self.ranks.sum(np.array([own]))[0]))
        if norm > limit and math.isfinite(norm):
            for gradient in gradients:
                gradient.mul_(limit / (norm + 1e-6))
        return norm

    def copy_back(self) -> None:
        """Nothing: the parts are the sharded model's own, and `refresh` brings them to the model that plays."""

    def refresh(self) -> None:
        """Bring the trained weights to the model that plays, one at a time."""

        def gather() -> None:
            with torch.no_grad():
                for parameter, played in zip(self._trained, self._played, strict=True):
                    shard: Any = parameter.detach()
                    played.copy_(shard.full_tensor())

        self.ranks.exchange("the weights for play", gather, self.ranks.device)

    def state(self) -> dict[str, torch.Tensor]:
        """The parts by name, where the model that plays is of lower precision."""
        return {f"master.{i}": w.detach().clone() for i, w in enumerate(self.weights)} if self._is_copied else {}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state` returned; where that is nothing, the weights of the model that plays."""
        with torch.no_grad():
            if not self._is_copied:
                for weight, played in zip(self.weights, self._played, strict=True):
                    shard = distribute_tensor(played.detach(), self.mesh, [Shard(0)], src_data_rank=None)
                    weight.copy_(_local(shard))
            for name in self.state():
                self.weights[int(name.removeprefix("master."))].copy_(tensors[name])

    def as_shard(self, number: int, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor that lies beside this rank's part of a weight, as its part of a tensor of the weight's size.

        Args:
          number: of the weight.
          tensor: of the size of the part, as moments are; any other is returned as it is.
        """
        weight = self._trained[number]
        if tensor.shape != self.weights[number].shape:
            return tensor
        here = tensor.to(self.weights[number].device)
        return DTensor.from_local(
            here, self.mesh, [Shard(0)], run_check=False, shape=weight.shape, stride=weight.stride()
        )


class _Root(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, score: Callable[[], T]) -> T:
        return score()


def _local(tensor: torch.Tensor) -> torch.Tensor:
    if not isinstance(tensor, DTensor):
        raise LapwingError("A weight was not sharded; the strategy fsdp does not fit this model, choose ddp.")
    shard: Any = tensor.detach()
    return shard.to_local()
