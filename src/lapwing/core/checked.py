"""What every method of credit, modulation and filtering checks about its batch before it computes."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import column_axis, producer
from lapwing.core.errors import MissingColumnError, UserError

F = TypeVar("F", bound=Callable[..., Any])


def checked(*needs: str) -> Callable[[F], F]:
    """Decorate a method so that what it cannot use is refused in one sentence that names it.

    The columns in `needs` must be there, and they, the rewards and the outcomes must be finite.

    Args:
      needs: registered columns that the method always reads.
    """

    def decorate(method: F) -> F:
        name = getattr(method, "__name__", "method")

        @functools.wraps(method)
        def with_checks(batch: EpisodeBatch, *rest: Any, **settings: Any) -> Any:
            check_columns(batch, name, ("reward", "outcome", *needs))
            try:
                return method(batch, *rest, **settings)
            except MissingColumnError:
                raise
            except UserError as error:
                if str(error).startswith(name):
                    raise
                raise UserError(f"{name}: {error}") from None

        return cast(F, with_checks)

    return decorate


def check_columns(batch: EpisodeBatch, method: str, columns: tuple[str, ...]) -> None:
    """Refuse a batch that lacks one of the columns, or whose numbers in them are not finite.

    Raises:
      UserError: the sentence names the method, the column and who supplies it.
    """
    for name in columns:
        values = batch.column(name, needed_by=method)
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        at = int(np.argmax(~np.isfinite(values)))
        supplier = "the game" if name in ("reward", "outcome") else producer(name)
        axis = {"E": "episode", "N": "step", "K": "token"}[_AXES.get(name) or column_axis(name)]
        raise UserError(
            f"{method} needs finite numbers in the column '{name}', but {axis} {at} has {values[at]}; "
            f"{supplier} supplies it."
        )


_AXES = {"reward": "N", "outcome": "E"}
