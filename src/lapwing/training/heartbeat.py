"""A line now and then when a run has been silent, which says what is being waited for."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Self


class Doing(NamedTuple):
    """What a run does at this moment.

    Attributes:
      stage: its name; empty before the first one.
      phase: "set-up", "play", "credit", "update", "evaluation" or "checkpoint".
      seconds: since the phase began.
      waiting_for: what it waits for, in words; empty where nothing is known of that.
    """

    stage: str
    phase: str
    seconds: float
    waiting_for: str = ""

    def __str__(self) -> str:
        """As "main: play for 12 s (3 of 16 matches)"."""
        waits = f" ({self.waiting_for})" if self.waiting_for else ""
        return f"{self.stage}: {self.phase} for {self.seconds:.0f} s{waits}" if self.stage else self.phase


class Activity:
    """What is being done, and since when; may be asked from another thread."""

    def __init__(self) -> None:
        """Nothing has begun yet."""
        self.enter("set-up")

    def enter(self, phase: str) -> None:
        """A phase begins."""
        self.phase, self._since = phase, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the phase began."""
        return time.monotonic() - self._since

    def __str__(self) -> str:
        return f"{self.phase} for {self.seconds:.0f} s"


class Heartbeat:
    """Says what is going on whenever nothing else was said for a while; a thread of its own.

    A long silence is what people report as "it hangs", with no idea why.
    """

    def __init__(self, say: Callable[[str], None], what: Callable[[], str], *, every_seconds: float = 30.0) -> None:
        """Prepare; nothing runs yet.

        Args:
          say: is given the line, from another thread.
          what: describes what is being done and waited for; called from another thread.
          every_seconds: silence before a line, and between two.
        """
        self._say, self._what, self._every = say, what, every_seconds
        self._last = self._quiet_since = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lapwing-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join(timeout=5.0)

    def beat(self) -> None:
        """Something was said."""
        self._last = self._quiet_since = time.monotonic()

    def _run(self) -> None:
        while not self._ended.wait(min(1.0, self._every / 4)):
            now = time.monotonic()
            if now - self._last < self._every:
                continue
            self._last = now
            self._say(f"{self._what()}; no other word since {now - self._quiet_since:.0f} s")
