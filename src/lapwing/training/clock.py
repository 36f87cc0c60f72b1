"""Wall time by phase, from a monotonic clock."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Clock:
    """Adds up the seconds spent in named phases; `seconds` has them as `time/<phase>`."""

    def __init__(self, entered: Callable[[str], None] | None = None) -> None:
        """Start with nothing measured.

        Args:
          entered: is told the name of each phase that begins.
        """
        self.seconds: dict[str, float] = {}
        self._entered = entered

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Measure a block."""
        if self._entered is not None:
            self._entered(phase)
        started = time.monotonic()
        try:
            yield
        finally:
            name = f"time/{phase}"
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
