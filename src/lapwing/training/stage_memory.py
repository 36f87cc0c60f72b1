"""What a stage remembers between two iterations."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from lapwing.core.memory import Remembering
from lapwing.training.stages import Stage

_PREFIX = "remembered"


class StageMemory(NamedTuple):
    """The state of the sampler, as JSON, and of each method with memory, as arrays by name."""

    sampler: dict[str, Any]
    methods: list[dict[str, np.ndarray]]


def remembered(stage: Stage) -> StageMemory:
    """What the sampler and the methods with memory remember now."""
    return StageMemory(copy.deepcopy(stage.sampler.state()), [method.state for method in _remembering(stage)])


def put_back(stage: Stage, memory: StageMemory) -> None:
    """Take back what `remembered` returned."""
    stage.sampler.restore(memory.sampler)
    for method, state in zip(_remembering(stage), memory.methods, strict=True):
        method.state = state


def as_tensors(methods: Sequence[Mapping[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """What methods with memory remember, as a checkpoint holds it."""
    return {
        f"{_PREFIX}.{number}.{name}": torch.from_numpy(np.array(array))
        for number, arrays in enumerate(methods)
        for name, array in arrays.items()
    }


def from_tensors(stage: Stage, tensors: Mapping[str, torch.Tensor]) -> list[dict[str, np.ndarray]]:
    """The same, from what a checkpoint of the stage holds."""
    found: list[dict[str, np.ndarray]] = [{} for _ in _remembering(stage)]
    for key, tensor in tensors.items():
        first, _, rest = key.partition(".")
        if first == _PREFIX:
            number, _, name = rest.partition(".")
            found[int(number)][name] = tensor.numpy()
    return found


def _remembering(stage: Stage) -> list[Remembering]:
    methods = (*stage.shaping, *stage.filters, stage.credit, *stage.modulation, stage.selection)
    return [method for method in methods if isinstance(method, Remembering)]
