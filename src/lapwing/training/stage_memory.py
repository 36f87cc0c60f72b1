"""What a stage remembers between two iterations."""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from lapwing.core.memory import Remembering
from lapwing.policies.past_versions import PastVersions, Version
from lapwing.training.stages import Stage

_PREFIX, _PAST = "remembered", "past"


class StageMemory(NamedTuple):
    """The state of the sampler, as JSON, of each method with memory, as arrays by name, and the pool of versions."""

    sampler: dict[str, Any]
    methods: list[dict[str, np.ndarray]]
    versions: tuple[Version, ...] = ()


def remembered(stage: Stage) -> StageMemory:
    """What the sampler and the methods with memory remember now."""
    past = _past(stage)
    versions = () if past is None else past.versions
    return StageMemory(copy.deepcopy(stage.sampler.state()), [method.state for method in _remembering(stage)], versions)


def put_back(stage: Stage, memory: StageMemory) -> None:
    """Take back what `remembered` returned."""
    stage.sampler.restore(memory.sampler)
    for method, state in zip(_remembering(stage), memory.methods, strict=True):
        method.state = state
    if (past := _past(stage)) is not None:
        past.restore(memory.versions)


def as_tensors(memory: StageMemory) -> dict[str, torch.Tensor]:
    """What methods with memory remember, and the pool of past versions, as a checkpoint holds them."""
    methods = {
        f"{_PREFIX}.{number}.{name}": torch.from_numpy(np.array(array))
        for number, arrays in enumerate(memory.methods)
        for name, array in arrays.items()
    }
    versions = {
        f"{_PAST}.{version.iteration}.{name}": weight.cpu().contiguous()
        for version in memory.versions
        for name, weight in version.weights.items()
    }
    return methods | versions


def from_checkpoint(stage: Stage, sampler: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> StageMemory:
    """The same, from what a checkpoint of the stage holds.

    Args:
      stage: whose memory it is.
      sampler: the state of its sampler.
      tensors: all of the checkpoint.
    """
    methods: list[dict[str, np.ndarray]] = [{} for _ in _remembering(stage)]
    versions: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        first, _, rest = key.partition(".")
        number, _, name = rest.partition(".")
        if first == _PREFIX:
            methods[int(number)][name] = tensor.numpy()
        elif first == _PAST:
            versions.setdefault(int(number), {})[name] = tensor
    return StageMemory(sampler, methods, tuple(Version(number, versions[number]) for number in sorted(versions)))


def _past(stage: Stage) -> PastVersions | None:
    """The pool of past versions, where seats play with one."""
    return getattr(stage.collector, "past", None)


def _remembering(stage: Stage) -> list[Remembering]:
    methods = (*stage.shaping, *stage.filters, stage.credit, *stage.modulation, stage.selection)
    # Seats with weights of their own each have a method of their own.
    each = (one for method in methods for one in getattr(method, "methods", (method,)))
    return [method for method in each if isinstance(method, Remembering)]
