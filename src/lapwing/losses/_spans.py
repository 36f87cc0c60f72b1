"""Tokens that belong together: those of a step, or of an episode."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from lapwing.core.errors import UserError


class Spans(NamedTuple):
    """Which span each token belongs to.

    Attributes:
      index: of each token's span, counted from 0 without gaps, int64 [K].
      count: of the tokens in each span, at least 1, int64 [S].
    """

    index: torch.Tensor
    count: torch.Tensor


def spans(number: torch.Tensor) -> Spans:
    """The spans of tokens that bear the same number, such as `step_of_token`, [K]."""
    _, index, count = torch.unique(number, return_inverse=True, return_counts=True)
    return Spans(index, count)


def total(values: torch.Tensor, of: Spans) -> torch.Tensor:
    """Sum over the tokens of each span, [S]."""
    if len(values) == 0:
        return values
    # Where tokens lie span by span the order is theirs. A scattered sum has no fixed order on a GPU.
    return torch.segment_reduce(values[torch.argsort(of.index, stable=True)], "sum", lengths=of.count)


def mean(values: torch.Tensor, of: Spans) -> torch.Tensor:
    """Mean over the tokens of each span, [S]."""
    return total(values, of) / of.count


def check_name(setting: str, value: str, valid: Sequence[str]) -> None:
    """Refuse a value that is none of the valid ones.

    Raises:
      UserError: the sentence lists them.
    """
    if value not in valid:
        raise UserError(f"There is no {setting} '{value}'; valid names: {', '.join(valid)}.")
