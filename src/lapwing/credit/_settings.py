"""The checks that methods with the same kind of setting share."""

import math

from lapwing.core.errors import UserError, nearest


def check_normalisation(ddof: int, eps: float) -> None:
    """Refuse what no standard deviation can be divided by; NaN is refused too."""
    if ddof < 0:
        raise UserError(f"ddof must be at least 0, but it is {ddof}.")
    if not eps >= 0.0:
        raise UserError(f"eps must be at least 0, but it is {eps}.")


def check_weight(name: str, value: float) -> None:
    """Refuse a weight that is negative or not finite."""
    if not 0.0 <= value < math.inf:
        raise UserError(f"{name} must be finite and at least 0, but it is {value}.")


def check_choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    """Refuse a word that is none of the valid ones."""
    if value not in valid:
        raise UserError(f"There is no {name} '{value}'; {nearest(str(value), valid)}")
