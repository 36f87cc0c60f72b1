"""The weights that a stage began with, beside those that learn."""

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lapwing.models import lora
from lapwing.models.pretrained import load_in_place


def with_earlier_weights(
    model: Any, weights: Path
) -> tuple[Any, Callable[[], contextlib.AbstractContextManager[None]]]:
    """A model with earlier weights: a frozen copy, or with LoRA the model itself with its adapter switched.

    Args:
      model: that learns.
      weights: a Hugging Face folder of the same architecture, or a PEFT folder if the model has an adapter.

    Returns:
      The model, and what makes the context inside of which it has these weights.
    """
    if lora.has_adapter(model):
        return model, lora.add_reference(model, weights)
    other = copy.deepcopy(model).requires_grad_(False).eval()
    load_in_place(other, weights)
    return other, contextlib.nullcontext
