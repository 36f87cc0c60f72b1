"""What losses of pairs share."""

import torch

from lapwing.core.errors import UserError


def check_beta(beta: float) -> None:
    """Refuse a strength that is not above 0; NaN is refused too."""
    if not beta > 0.0:
        raise UserError(f"beta must be above 0, but it is {beta}.")


def log_odds(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    chosen_reference: torch.Tensor | None = None,
    rejected_reference: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-odds of the chosen against the rejected, less those under the reference if there is one, [P], nats."""
    odds = chosen - rejected
    if chosen_reference is None or rejected_reference is None:
        return odds
    return odds - (chosen_reference - rejected_reference)
