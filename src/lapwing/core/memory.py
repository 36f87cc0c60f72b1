"""Methods with memory: quantiles that are tracked, minima that run, coefficients that adapt."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

State = dict[str, np.ndarray]


class Remembering:
    """A method with its settings bound, and what it remembers from one call to the next.

        result, state ← method(…, state=state, **settings)

    The module of such a method has `initial_state(**settings)`, a dict of plain arrays by name. The method leaves
    the arrays that it was given as they are and returns others, so that a state may be kept without a copy.
    """

    def __init__(self, method: Callable[..., Any], settings: Mapping[str, Any], state: State) -> None:
        """Bind the settings.

        Args:
          method: takes `state` by keyword, and returns a pair.
          settings: of the method.
          state: that it begins with.
        """
        self.method = method
        self.settings = dict(settings)
        self.state = state

    def __call__(self, *given: Any, **named: Any) -> Any:
        """The result alone; the new state is kept."""
        result, self.state = self.method(*given, state=self.state, **named, **self.settings)
        return result


def bound(method: Callable[..., Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
    """A method with its settings bound; one with memory begins to remember.

    Args:
      method: any method of a room.
      settings: of it.
    """
    initial = getattr(inspect.getmodule(method), "initial_state", None)
    if initial is None or "state" not in inspect.signature(method).parameters:
        return functools.partial(method, **settings)
    return Remembering(method, settings, initial(**settings))
