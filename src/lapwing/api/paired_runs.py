"""Train many runs, each in a process of its own, a few at once; whatever stops it, it can be started again."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.storage import read_json
from lapwing.training.run_folder import RunFolder

_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_BETWEEN_REPORTS = 1.0
# A run saves after the iteration that it is in; one that takes longer is killed and loses what it had not saved.
_SECONDS_TO_SAVE = 120.0
_TAIL_BYTES = 20_000


class Job(NamedTuple):
    """A run to be trained.

    Attributes:
      recipe: its name.
      seed: of the run.
      folder: of the run.
      train: the words after `lapwing train`.
      iterations: of the main stage.
      allow_code: the words for `lapwing resume`.
    """

    recipe: str
    seed: int
    folder: Path
    train: tuple[str, ...]
    iterations: int
    allow_code: tuple[str, ...] = ()


def is_finished(run: Path) -> bool:
    """Whether a folder holds a run that has come to its end."""
    manifest = run / "manifest.json"
    return manifest.is_file() and read_json(manifest).get("status") == "finished"


def refuse_foreign(run: Path) -> None:
    """Raise if a folder holds anything but a run, finished or not, or what one that was killed at its birth left."""
    if (run / "manifest.json").is_file():
        return
    try:
        RunFolder.refuse(run)
    except UserError as error:
        raise UserError(f"{run} is no run and is not empty; name another folder with --run.") from error


def train_all(jobs: Sequence[Job], *, workers: int, watch: Callable[[dict[str, Any]], None]) -> None:
    """Bring every run to its end.

    A finished run is left alone and an interrupted one is resumed. A run that another process is training (one of a
    comparison that was killed, or a second comparison on the same folder) is waited for. A first signal, or a run that
    fails, stops the others where they can save.

    Args:
      jobs: in the order in which they are begun.
      workers: how many run at once.
      watch: is called with `{"event": "begun" | "waiting" | "ended" | "progress", …}` rows.

    Raises:
      UserError: a run refused its recipe.
      LapwingError: a run failed.
      Interrupted: a signal came; starting again goes on.
    """
    from lapwing.training.interruption import Interruption

    waiting = [job for job in jobs if not is_finished(job.folder)]
    active: list[_Active] = []
    reported = 0.0
    with Interruption() as interruption:
        try:
            while waiting or active:
                while waiting and len(active) < workers:
                    active.append(_Active(waiting.pop(0), watch))
                active = [one for one in active if not one.has_ended()]
                interruption.check()
                if time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS:
                    reported = time.monotonic()
                    done = len(jobs) - len(waiting) - len(active)
                    watch({"event": "progress", "done": done, "active": [one.progress() for one in active]})
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            watch({"event": "progress", "done": len(jobs), "active": []})
        finally:
            _stop(active)


def _stop(active: Sequence["_Active"]) -> None:
    running = [one.process for one in active if one.process is not None and one.process.poll() is None]
    end = time.monotonic() + _SECONDS_TO_SAVE
    try:
        for process in running:
            process.terminate()
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, end - time.monotonic()))
    finally:
        for process in running:
            process.kill()
            process.wait()
        for one in active:
            one.release()


@dataclass
class _Active:
    """A run that a worker has taken on."""

    job: Job
    watch: Callable[[dict[str, Any]], None]
    process: subprocess.Popen[bytes] | None = None
    _lock: IO[str] | None = field(default=None, repr=False)
    _waits: bool = False

    def has_ended(self) -> bool:
        """Start the run if it can be started, and see whether it has come to its end.

        Raises:
          LapwingError: it failed.
        """
        if self.process is None:
            if not self._lock_run():
                if not self._waits:
                    self._waits = True
                    self._tell("waiting")
                return False
            if is_finished(self.job.folder):
                return self._end()
            self._start()
            return False
        code = self.process.poll()
        if code is None:
            return False
        if code != 0 or not is_finished(self.job.folder):
            raise self._failure(code)
        return self._end()

    def progress(self) -> dict[str, Any]:
        """Where the run is: its stage, and the iterations done of all."""
        row = _last_row(self.job.folder / "metrics.jsonl")
        is_main = row.get("stage") == "main"
        return {
            "recipe": self.job.recipe,
            "seed": self.job.seed,
            "stage": row.get("stage", "starting"),
            "done": row.get("iteration", -1) + 1 if is_main else 0,
            "iterations": self.job.iterations,
        }

    def release(self) -> None:
        """Let others have the run."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _start(self) -> None:
        folder = self.job.folder
        is_begun = (folder / "manifest.json").is_file()
        if is_begun:
            words = ["resume", str(folder), *self.job.allow_code]
        else:
            refuse_foreign(folder)
            shutil.rmtree(folder, ignore_errors=True)
            words = ["train", *self.job.train]
        descriptors = () if self._lock is None else (self._lock.fileno(),)
        with _log(folder).open("ab") as log:
            # In a session of its own, so that Ctrl-C reaches it once: from us. It inherits the lock, so that the run
            # stays locked if we are killed and it goes on.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lapwing.cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
                pass_fds=descriptors,
            )
        self._tell("begun", resumed=is_begun)

    def _end(self) -> bool:
        self.release()
        self._tell("ended")
        return True

    def _tell(self, event: str, **more: Any) -> None:
        self.watch({"event": event, "recipe": self.job.recipe, "seed": self.job.seed, **more})

    def _lock_run(self) -> bool:
        """Take the run for this process and its child; False if another one has it."""
        try:
            import fcntl
        except ImportError:  # no such locks on Windows; there a killed comparison takes its runs along
            return True
        path = _log(self.job.folder).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _failure(self, code: int) -> LapwingError:
        log = _log(self.job.folder)
        which = f"{self.job.recipe} with seed {self.job.seed}"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = next((line.removeprefix("lapwing: ") for line in reversed(lines) if line.startswith("lapwing: ")), "")
        if code == 2 and said:
            return UserError(f"{which}: {said}")
        return LapwingError(f"{which} ended with exit code {code}; see {log}. Start the comparison again to go on.")


def _log(run: Path) -> Path:
    return run.with_name(f"{run.name}.log")


def _last_row(metrics: Path) -> dict[str, Any]:
    """The last whole line of a log, without reading all of it."""
    try:
        with metrics.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
        return json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return {}
