"""A mean with the interval that it is reported with."""

from typing import NamedTuple

from lapwing.core.errors import UserError


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval, all in the unit of the values."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The three numbers by name, as every report writes them."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


class Estimate(NamedTuple):
    """A statistic and the bounds of its confidence interval, all in its own unit."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The three numbers by name, as every report writes them."""
        return {"value": self.value, "low": self.low, "high": self.high}


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside (0, 1).

    Raises:
      UserError: `confidence` lies outside (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise UserError(f"confidence must be in (0, 1), but it is {confidence}.")
