"""Ctrl-C and SIGTERM end a run at the next safe point; a second signal ends it at once."""

import os
import shlex
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Self

# A run that cannot be saved within this time ends with its last checkpoint; who sends SIGTERM waits for 10 s or more.
GRACE_SECONDS = 8.0
# A second signal leaves this much time to end what was started.
_FAREWELL_SECONDS = 3.0


class Interruption:
    """While it is entered, the first signal only sets `signal_number`."""

    def __init__(self) -> None:
        """Nothing was received yet."""
        self.signal_number = 0
        self._since = 0.0
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

    @property
    def is_overdue(self) -> bool:
        """Whether a signal came so long ago that the run must end, saved or not."""
        return bool(self.signal_number) and time.monotonic() - self._since > GRACE_SECONDS

    def check(self) -> None:
        """A safe point: end here if a signal came.

        Raises:
          Interrupted: one did.
        """
        if self.signal_number:
            raise Interrupted(self.signal_number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number:
            # Whatever the cleaning up waits for: at once means at once.
            farewell = threading.Timer(_FAREWELL_SECONDS, os._exit, [128 + number])
            farewell.daemon = True
            farewell.start()
            raise StoppedAtOnce(number)
        self.signal_number = number
        self._since = time.monotonic()


class Interrupted(Exception):
    """The run was stopped by a signal, and `resume` goes on."""

    def __init__(self, signal_number: int, *, run: Path | None = None, saved: str = "") -> None:
        """Remember the signal; the exit code is 128 + its number.

        Args:
          signal_number: of the signal.
          run: the folder of the run, where there is one by now.
          saved: what is kept of it, as a sentence.
        """
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
        self.run = run
        self.saved = saved

    @property
    def sentence(self) -> str:
        """What a person needs to know."""
        if self.run is None:
            return f"{self}; no run had begun."
        saved = self.saved or "Everything up to here is saved."
        return f"{self}. {saved} Continue with: lapwing resume {shlex.quote(str(self.run))}"


class StoppedAtOnce(BaseException):
    """A second signal came; no KeyboardInterrupt, of which the command line's library makes an exit code of its own."""

    def __init__(self, signal_number: int) -> None:
        """Remember the signal; the exit code is 128 + its number."""
        super().__init__()
        self.exit_code = 128 + signal_number
