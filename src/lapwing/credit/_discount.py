"""The check that every method with a discount shares."""

from lapwing.core.errors import UserError


def check_discount(discount: float) -> None:
    """Refuse a discount outside [0, 1]; NaN is refused too."""
    if not 0.0 <= discount <= 1.0:
        raise UserError(f"discount must be in [0, 1], but it is {discount}.")
