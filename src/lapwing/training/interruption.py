"""Ctrl-C and SIGTERM end a run at the next safe point; a second signal ends it at once."""

import signal
import threading
from types import FrameType
from typing import Self


class Interruption:
    """While it is entered, the first signal only sets `signal_number`."""

    def __init__(self) -> None:
        """Nothing was received yet."""
        self.signal_number = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Take over the two signals; only the main thread of a process can."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def check(self) -> None:
        """A safe point: end here if a signal came.

        Raises:
          Interrupted: one did.
        """
        if self.signal_number:
            raise Interrupted(self.signal_number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number:
            raise KeyboardInterrupt
        self.signal_number = number


class Interrupted(Exception):
    """The run was stopped by a signal and its state is saved."""

    def __init__(self, signal_number: int) -> None:
        """Remember the signal; the exit code is 128 + its number."""
        super().__init__(f"stopped by signal {signal_number}")
        self.exit_code = 128 + signal_number
