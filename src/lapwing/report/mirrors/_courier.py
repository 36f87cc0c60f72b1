"""Brings rows to one mirror, in a thread of its own that nobody waits for."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lapwing.core.errors import shortened
from lapwing.report.mirrors._texts import About

_MOST_WAITING = 4096
_MOST_AT_ONCE = 64
_SECONDS_BETWEEN_LOOKS = 0.5


class Mirror(Protocol):
    """Somewhere to copy metrics to; only ever used by one thread."""

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Copy rows of `metrics.jsonl`, in order."""
        ...

    def final(self, numbers: Mapping[str, float], steps: int) -> None:
        """Copy the numbers of the last evaluation, made after so many iterations."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class Courier:
    """A queue and a daemon thread for one mirror; what does not fit into the queue is dropped and counted."""

    def __init__(
        self,
        name: str,
        open_mirror: Callable[[About], Mirror],
        about: About,
        say: Callable[[str], None],
        *,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
          name: of the mirror, for sentences.
          open_mirror: makes it, in the thread.
          about: the run.
          say: is given a sentence where something is lost.
          most_waiting: rows that wait at most.
        """
        self._name, self._open, self._about, self._say = name, open_mirror, about, say
        self._waiting: queue.Queue[Mapping[str, Any]] = queue.Queue(maxsize=most_waiting)
        self._ended = threading.Event()
        self._final: tuple[Mapping[str, float], int] | None = None
        self._dropped = 0
        self._is_lost = False
        self._thread = threading.Thread(target=self._run, name=f"lapwing-mirror-{name}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def hand(self, row: Mapping[str, Any]) -> None:
        """Have a row copied, if the mirror keeps up; returns at once."""
        if self._is_lost:
            return
        try:
            self._waiting.put_nowait(dict(row))
        except queue.Full:
            self._dropped += 1

    def end(self, final: Mapping[str, float] | None, steps: int) -> None:
        """No row follows; returns at once.

        Args:
          final: the numbers of the last evaluation, if there was one.
          steps: iterations that were made.
        """
        self._final = None if final is None else (final, steps)
        self._ended.set()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the thread, but no longer than this, and say what was lost."""
        self._thread.join(timeout=seconds)
        missing = self._dropped + (self._waiting.qsize() if self._thread.is_alive() else 0)
        if self._thread.is_alive() and not self._is_lost:
            self._say(f"the mirror {self._name} did not end in time and is left behind")
        if missing and not self._is_lost:
            self._say(f"the mirror {self._name} was too slow for {missing:,} rows; metrics.jsonl has them all")

    def _run(self) -> None:
        try:
            rows = self._next()
            if not rows:
                return  # a run that never learnt leaves no trace
            mirror = self._open(self._about)
            for note in getattr(mirror, "notes", ()):
                self._say(f"mirror {self._name}: {note}")
            while rows:
                mirror.rows(rows)
                rows = self._next()
            if self._final is not None:
                mirror.final(*self._final)
            mirror.close()
        except (Exception, SystemExit) as error:  # whatever a package of somebody else does
            self._is_lost = True
            reason = shortened(" ".join(f"{type(error).__name__}: {error}".split()), 300)
            self._say(f"the mirror {self._name} failed and is left out from now on ({reason})")

    def _next(self) -> list[Mapping[str, Any]]:
        """The rows that wait, at least one; none once there will be no more."""
        while True:
            try:
                rows = [self._waiting.get(timeout=_SECONDS_BETWEEN_LOOKS)]
            except queue.Empty:
                if self._ended.is_set():
                    return []
                continue
            while len(rows) < _MOST_AT_ONCE and not self._waiting.empty():
                rows.append(self._waiting.get_nowait())
            return rows
