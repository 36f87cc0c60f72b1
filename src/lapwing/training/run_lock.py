"""One writer per run folder."""

import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.storage import read_json, write_json

LOCK = ".lock"
_OWNER = ".owner.json"
# What a lock puts into the folder of a run, for those who ask whether it is empty.
FILES = (LOCK, _OWNER)


class RunLock:
    """Holds a run's folder for this process; the system lets go of it when the process dies, however it dies.

    A file beside the lock says who holds it, for people; it proves nothing: one that a dead process left is replaced.
    """

    def __init__(self, run: Path) -> None:
        """Name the folder, which exists."""
        self._run = run
        self._owner = run / _OWNER
        self._lock = FileLock(run / LOCK)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
          UserError: another process holds it, or the folder cannot be written.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self._run} is being written by {self._holder()}; wait for it to end, or stop it."
            ) from None
        except OSError as error:
            raise UserError(f"{self._run} cannot be written: {error.strerror or error}.") from error
        write_json(self._owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        # While the lock is held nobody else can have opened a lock of this name and wait for it: none waits.
        for name in FILES:
            (self._run / name).unlink(missing_ok=True)
        self._lock.release()

    def _holder(self) -> str:
        try:
            owner = read_json(self._owner)
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner["since"]))
            return f"process {owner['pid']} on {owner['host']} since {since}"
        except (LapwingError, KeyError, TypeError, ValueError):
            return "another process"
