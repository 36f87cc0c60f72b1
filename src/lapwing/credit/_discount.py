"""The checks that every method with a discount shares."""

from lapwing.core.errors import UserError


def check_discount(discount: float) -> None:
    """Refuse a discount outside [0, 1]; NaN is refused too."""
    check_unit_interval(discount=discount)


def check_unit_interval(**settings: float) -> None:
    """Refuse a setting outside [0, 1], by its name; NaN is refused too."""
    for name, value in settings.items():
        if not 0.0 <= value <= 1.0:
            raise UserError(f"{name} must be in [0, 1], but it is {value}.")
