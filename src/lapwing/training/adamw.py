"""The optimiser's settings, and numbers that change over the course of a stage."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lapwing.core.errors import UserError

# A weight without gradient has moments 0, and is stepped by 0 / (√0 + ε). Smaller numbers may be flushed to 0.
_LEAST_EPS = 1e-20


@dataclass(frozen=True)
class Schedule:
    """A number over the course of a stage: `start` until `hold`, then a straight line to `end` at `until`.

    Attributes:
      start, end: first and last value.
      hold, until: shares of the stage in [0, 1], hold ≤ until.
    """

    start: float
    end: float
    hold: float = 0.0
    until: float = 1.0

    def __call__(self, progress: float) -> float:
        """The value at a share of the stage."""
        if progress <= self.hold:
            return self.start
        if progress >= self.until:
            return self.end
        return self.start + (self.end - self.start) * (progress - self.hold) / (self.until - self.hold)


@dataclass(frozen=True)
class AdamW:
    """AdamW with gradient clipping, a learning-rate schedule and an average of the weights.

    Attributes:
      learning_rate: at the start, in (0, 1].
      final_share: the learning rate ends at this share of its start.
      hold: share of the stage before it begins to fall, along a straight line.
      betas: decay of the two moments.
      eps: added to the root of the second moment, at least 1e-20.
      weight_decay: decoupled, per update.
      clip_norm: longest gradient; longer ones are shortened to it.
      epochs: how often a batch is gone through.
      minibatches: updates an epoch; the episodes are split among them at random.
      average: decay of a running average of the weights, per update; the average is what the stage ends with.
        0 keeps none.
      state: how the two moments are kept: "float32", or "8bit", which takes a quarter of the memory (two bytes a weight
        instead of eight) and adds rounding noise to each update. Tensors of less than 4,096 weights stay in float32.
    """

    learning_rate: float = 5e-4
    final_share: float = 0.03
    hold: float = 0.2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 0.5
    epochs: int = 1
    minibatches: int = 1
    average: float = 0.0
    state: Literal["float32", "8bit"] = "float32"

    def __post_init__(self) -> None:
        if not 0.0 < self.learning_rate <= 1.0:
            raise UserError(f"optimizer.learning_rate is above 0 and at most 1, not {self.learning_rate}.")
        if not 0.0 <= self.final_share <= 1.0 or not 0.0 <= self.hold <= 1.0:
            raise UserError("optimizer.final_share and optimizer.hold are shares in [0, 1].")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise UserError(f"optimizer.betas are decays in [0, 1), not {self.betas}.")
        if not self.clip_norm > 0.0:
            raise UserError(f"optimizer.clip_norm is above 0, not {self.clip_norm}.")
        if not self.eps >= _LEAST_EPS:
            raise UserError(
                f"optimizer.eps is at least {_LEAST_EPS:g}, not {self.eps}: it keeps 0 / 0 out of the weights."
            )
        if not 0.0 <= self.weight_decay < math.inf:
            raise UserError(f"optimizer.weight_decay is a finite number of at least 0, not {self.weight_decay}.")
        if self.epochs < 1 or self.minibatches < 1:
            raise UserError("optimizer.epochs and optimizer.minibatches are at least 1.")
        if not 0.0 <= self.average < 1.0:
            raise UserError(f"optimizer.average is a decay in [0, 1), not {self.average}.")
        if self.state not in ("float32", "8bit"):
            raise UserError(f'optimizer.state is "float32" or "8bit", not {self.state!r}.')


def make_optimizer(settings: AdamW, weights: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    """Build the optimiser of some weights.

    Reference: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization". https://arxiv.org/abs/1711.05101;
      moments in 8 bits: Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization".
      https://arxiv.org/abs/2110.02861

    Raises:
      UserError: moments in 8 bits are wanted, and the package for them is not installed.
    """
    given = {
        "lr": settings.learning_rate,
        "betas": settings.betas,
        "eps": settings.eps,
        "weight_decay": settings.weight_decay,
    }
    if settings.state == "8bit":
        return _bitsandbytes().optim.AdamW8bit(weights, **given)
    return torch.optim.AdamW(weights, **given, fused=True)


def _bitsandbytes() -> Any:
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    # On import it warns of kernels for matrices in 4 bits, which nobody here uses.
    logger.setLevel(logging.ERROR)
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            'optimizer.state = "8bit" needs a package that is not installed: pip install "lapwing[quantised]".'
        ) from error
    finally:
        logger.setLevel(level)
    return bitsandbytes
