"""A worker process as its owner sees it: started, spoken to in frames, listened to, killed with all its children."""

import contextlib
import json
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from lapwing.core.clean_text import printable

_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 20
# Of what games print only the end is kept.
_SAID_BYTES = 8000
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from lapwing.rollout.game_worker import main; main({}, {})"
)


class WorkerProcess:
    """One worker process and the pipes to it; nothing here waits for it.

    Attributes:
      started: when, by the monotonic clock.
      process: the number of the process that steps the games, once it has said so.
    """

    def __init__(self) -> None:
        """Start it: a fresh interpreter, because a fork would copy this process's threads in mid-air."""
        tasks, self._tasks = os.pipe()
        self._answers, answers = os.pipe()
        self.started = time.monotonic()
        self.process: int | None = None
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._said = bytearray()
        self._is_mute = False
        self._ended = ""
        # The modules of games are found where this process finds them.
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])  # noqa: PTH100  ("" is this folder)
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-c", _START.format(tasks, answers), path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(tasks, answers),
                start_new_session=True,
            )
        finally:
            os.close(tasks)
            os.close(answers)
        assert self._guard.stdout is not None
        self._output = self._guard.stdout.fileno()
        for pipe in (self._tasks, self._answers, self._output):
            os.set_blocking(pipe, False)

    def send(self, message: Any) -> None:
        """Line a message up, and write what the pipe takes at once."""
        content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._outbox += _LENGTH.pack(len(content)) + content
        self.write()

    def write(self) -> None:
        """Write what the pipe takes; nothing if nobody reads it any more, which `read` will find out."""
        with contextlib.suppress(BlockingIOError):
            while self._outbox:
                try:
                    written = os.write(self._tasks, memoryview(self._outbox)[:_CHUNK])
                except BrokenPipeError:
                    self._outbox.clear()
                    return
                del self._outbox[:written]

    def read(self) -> tuple[list[Any], bool]:
        """The messages that have come since, and whether the process is gone.

        Raises:
          ValueError: what came is no message.
        """
        gone = not self._fill()
        self.listen()
        found, at = [], 0
        while len(self._inbox) >= at + _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(self._inbox, at)[0]
            if len(self._inbox) < end:
                break
            try:
                found.append(pickle.loads(bytes(self._inbox[at + _LENGTH.size : end])))
            except Exception as error:
                raise ValueError(f"{type(error).__name__}: {error}") from error
            at = end
        del self._inbox[:at]
        return found, gone

    def _fill(self) -> bool:
        """Read what is there; False at the end of the pipe."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._answers, _CHUNK):
                self._inbox += chunk
            return False
        return True

    def listen(self) -> None:
        """Take in what was printed."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._output, _CHUNK):
                self._said += chunk
                del self._said[:-_SAID_BYTES]
            self._is_mute = True

    def has_ended(self) -> bool:
        """Whether the process is gone, though perhaps a child of its holds the pipe open."""
        return self._guard.poll() is not None

    def said(self) -> str:
        """The end of what was printed, without the list of modules that a crash ends with."""
        text = printable(self._said.decode("utf-8", errors="replace"))
        return text.partition("\nExtension modules: ")[0].strip()

    def ask_where(self, seconds: float = 0.3) -> None:
        """Let the process print where it is, also from the middle of C code."""
        if self.process is None:
            return
        before = len(self._said)
        with contextlib.suppress(OSError):
            os.kill(self.process, signal.SIGUSR1)
        end = time.monotonic() + seconds
        while time.monotonic() < end and b"most recent call first" not in self._said[before:]:
            time.sleep(0.01)
            self.listen()

    def kill(self, *, gone: bool = False) -> str:
        """End it and all its children.

        Args:
          gone: it seems to have ended by itself.

        Returns:
          How it ended, as "SIGSEGV" or "exit code 0".
        """
        if self._ended:
            return self._ended
        if gone:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(0.5)
        code = self._guard.poll()
        with contextlib.suppress(OSError):
            os.killpg(self._guard.pid, signal.SIGKILL)
        self._guard.wait()
        self.listen()
        for pipe in (self._tasks, self._answers):
            os.close(pipe)
        for file in (self._guard.stdin, self._guard.stdout):
            assert file is not None
            file.close()
        self._ended = "killed" if code is None else _in_words(code)
        return self._ended

    def pipes(self) -> tuple[list[int], list[int]]:
        """The pipes to wait for, for reading and for writing."""
        reading = [self._answers] if self._is_mute else [self._answers, self._output]
        return reading, [self._tasks] if self._outbox else []


def _in_words(code: int) -> str:
    """How a process ended, from the exit code of its guard."""
    if code > 128:
        with contextlib.suppress(ValueError):
            return signal.Signals(code - 128).name
    return f"exit code {code}"


def wait(workers: Sequence[WorkerProcess], seconds: float) -> None:
    """Wait until one of them has said something or can be written to, and no longer than that."""
    reading, writing = [], []
    for worker in workers:
        read, write = worker.pipes()
        reading += read
        writing += write
    poll = select.poll()
    for pipe in reading:
        poll.register(pipe, select.POLLIN)
    for pipe in writing:
        poll.register(pipe, select.POLLOUT)
    poll.poll(max(0.0, seconds) * 1000.0)
