"""Commands of Lapwing as processes that can be stopped at any moment.

A `Server` is one process that has imported everything; each `lapwing …` command is forked from it, in a session of its
own, and costs a second instead of five. Moments are counted in the processor time that the command has had, so that
they mean the same on a busy machine, and what a command was doing is read from its own stack. Tests and
`benchmarks/soak.py` use this file; it imports nothing but the standard library before the server warms up.
"""

import ctypes
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

_ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of Linux
# From the innermost reason to be there to the outermost: the first whose text is in a line of the stack.
_PLACES = {
    "save": ("training/checkpoint.py", "in _save\n"),
    "report": ("lapwing/report/",),
    "evaluation": ("lapwing/evaluation/", "in measure\n", "in _evaluate_run\n"),
    "update": ("training/learner.py", "annotate/_critic.py"),
    "play": ("lapwing/rollout/", "lapwing/generation/"),
    "credit": ("lapwing/credit/", "lapwing/modulation/", "lapwing/annotate/", "training/loop.py"),
    "log": ("run_folder.py", "core/storage.py"),
    "set-up": ("lapwing/build/", "lapwing/models/", "lapwing/api/", "training/session.py"),
    "imports": ("<frozen importlib",),
}


class Server:
    """Forks commands from a process that has imported everything, and knows what they leave behind.

    Attributes:
      folder: where the output of commands goes.
    """

    def __init__(self, folder: Path) -> None:
        """Start the process; it is ready when the first command is.

        Args:
          folder: an existing one.
        """
        self.folder = folder
        self._codes: dict[int, int] = {}
        self._unread = b""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout.fileno()

    def __enter__(self) -> Self:
        """Nothing further."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the server and whatever it started."""
        for number in self.left():
            _send(number, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()

    def start(self, *words: object, environment: dict[str, str] | None = None) -> "Command":
        """Run `lapwing` with these words.

        Args:
          words: of the command line.
          environment: variables besides those of the server.
        """
        name = Path(tempfile.mkdtemp(dir=self.folder, prefix="command-"))
        request = {"words": [str(word) for word in words], "environment": environment or {}, "log": str(name)}
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()
        number = 0
        while not number:
            number = next((answer["pid"] for answer in self._read(120.0) if "pid" in answer), 0)
        # What is sent earlier would meet a process that is not the command yet.
        while not (name / "stack").exists() and self.code_of(number, 0.001) is None:
            pass
        return Command(self, number, name)

    def code_of(self, number: int, seconds: float) -> int | None:
        """The exit code of a command that ends within so many seconds."""
        end = time.monotonic() + seconds
        while number not in self._codes:
            left = end - time.monotonic()
            self._read(max(left, 0.0))
            if left <= 0:
                break
        return self._codes.get(number)

    def left(self) -> list[int]:
        """Processes that descend from the server; those whose parents died are its own children then."""
        parents = _parents()
        found, before = {self._process.pid}, 0
        while len(found) > before:
            before = len(found)
            found |= {number for number, parent in parents.items() if parent in found}
        return sorted(found - {self._process.pid})

    def left_after(self, seconds: float) -> list[str]:
        """The command lines of processes that are still there after so many seconds."""
        end = time.monotonic() + seconds
        while (found := self.left()) and time.monotonic() < end:
            time.sleep(0.02)
        return [_title(number) for number in found]

    def _read(self, seconds: float) -> list[dict[str, Any]]:
        """Wait for answers; exit codes are kept, and all answers are returned."""
        if not select.select([self._answers], [], [], seconds)[0]:
            return []
        data = os.read(self._answers, 1 << 16)
        if not data:
            raise RuntimeError("the server of the harness has ended")
        *lines, self._unread = (self._unread + data).split(b"\n")
        answers = [json.loads(line) for line in lines]
        self._codes |= {answer["ended"]: answer["code"] for answer in answers if "ended" in answer}
        return answers


class Command:
    """One `lapwing …` command that runs, or has ended."""

    def __init__(self, server: Server, number: int, log: Path) -> None:
        """Refer to a process of a server, which writes into a folder."""
        self.number = number
        self._server = server
        self._log = log
        self._started = time.monotonic()

    @property
    def output(self) -> str:
        """What it has printed."""
        return (self._log / "output").read_text("utf-8", errors="replace")

    @property
    def errors(self) -> str:
        """What it has printed to stderr."""
        return (self._log / "errors").read_text("utf-8", errors="replace")

    def wait(self, seconds: float = 120.0) -> int | None:
        """The exit code, minus the signal that ended it; None if it has not ended after so many seconds."""
        return self._server.code_of(self.number, seconds)

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if the command has ended."""
        _send(self.number, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.send(signal.SIGKILL)
        self.wait()

    def work(self) -> float:
        """The processor seconds that it has had; wall seconds where the system does not say."""
        try:
            return int(Path(f"/proc/{self.number}/schedstat").read_text().split()[0]) / 1e9
        except (OSError, IndexError, ValueError):
            return time.monotonic() - self._started

    def wait_for_work(self, seconds: float) -> bool:
        """Wait until it has had so many processor seconds; False if it ended before."""
        while self.wait(0.0) is None:
            if self.work() >= seconds:
                return True
            time.sleep(0.001)
        return False

    def place(self) -> str:
        """What it is doing at this moment: one of `_PLACES`, or "elsewhere"."""
        path = self._log / "stack"
        before = path.stat().st_size
        self.send(signal.SIGUSR1)
        end = time.monotonic() + 0.1
        while path.stat().st_size == before and time.monotonic() < end:
            time.sleep(0.0005)
        lines = path.read_text("utf-8", errors="replace")[before:].splitlines(keepends=True)
        for place, signs in _PLACES.items():
            if any(sign in line for line in lines for sign in signs):
                return place
        return "elsewhere"


def wait_for(condition: Callable[[], bool], command: Command, seconds: float = 60.0) -> None:
    """Wait for something that a command does.

    Raises:
      AssertionError: it ended before, or the time is over.
    """
    end = time.monotonic() + seconds
    while not condition():
        code = command.wait(0.005)
        if (code is not None or time.monotonic() > end) and not condition():
            raise AssertionError(f"waited in vain; exit code {code}: {command.output[-2000:]}{command.errors}")


def _send(number: int, signal_number: int) -> None:
    try:
        os.kill(number, signal_number)
    except ProcessLookupError:
        return


def _parents() -> dict[int, int]:
    """The parent of every process that has not ended, from /proc; nothing where there is none."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        if fields[0] not in "ZX":
            found[int(path.parent.name)] = int(fields[1])
    return found


def _title(number: int) -> str:
    try:
        return f"{number} " + Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return f"{number} (ended just now)"


# ---------------------------------------------------------------------------------------------------------------------
# The server's side.


def _warm_up() -> None:
    """Import all that a run imports."""
    import lapwing

    for found in pkgutil.walk_packages(lapwing.__path__, "lapwing."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for name in (
        *("torch._dynamo", "transformers.models.llama.modeling_llama", "transformers.models.qwen2.modeling_qwen2"),
        *("transformers.convert_slow_tokenizer", "transformers.tokenization_utils_tokenizers", "tokenizers.trainers"),
        *("matplotlib.figure", "matplotlib.style", "matplotlib.backends.backend_svg", "PIL.features", "scipy.stats"),
        *("rich.progress", "typer.main", "encodings.unicode_escape", "importlib.readers", "multiprocessing.spawn"),
    ):
        importlib.import_module(name)
    # Else every child goes through all of it, and copies it, when it ends: three seconds of a busy core.
    gc.collect()
    gc.freeze()


def _serve() -> dict[str, Any]:
    """Fork until stdin is closed; a child returns its request, and the server never returns."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)
    _warm_up()
    unread = b""
    while True:
        if select.select([0], [], [], 0.005)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                os._exit(0)
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                number = os.fork()
                if number == 0:
                    return json.loads(line)
                _answer({"pid": number})
        _bury()


def _bury() -> None:
    """Say which children have ended, among them orphans of commands that have."""
    while True:
        try:
            number, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if number == 0:
            return
        _answer({"ended": number, "code": os.waitstatus_to_exitcode(status)})


def _answer(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _run(request: dict[str, Any]) -> int:
    """Become the command."""
    os.setsid()
    log = Path(request["log"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(log / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = ["lapwing", *request["words"]]
    from lapwing import cli

    unnamed = (log / "no stack yet").open("w")
    faulthandler.register(signal.SIGUSR1, file=unnamed, all_threads=True)
    (log / "no stack yet").rename(log / "stack")

    return cli.main()


if __name__ == "__main__":
    assert sys.argv[1:] == ["--serve"]
    sys.exit(_run(_serve()))
