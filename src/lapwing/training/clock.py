"""Wall time by phase, from a monotonic clock."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Adds up the seconds spent in named phases; `seconds` has them as `time/<phase>`."""

    def __init__(self) -> None:
        """Start with nothing measured."""
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Measure a block."""
        started = time.monotonic()
        try:
            yield
        finally:
            name = f"time/{phase}"
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
