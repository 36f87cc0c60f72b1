"""What the benchmark scripts share: arms that work turn and turn about, figures of the machine, and where results go.

An arm is a process of its own, so that its peak memory is its own, and exactly one arm works at any time. Its work is a
function in a file, `FILE.py:FUNCTION`, that is called once with the arm's settings, prepares everything, and returns
another function, which does one unit of work each time it is called and returns what it counted as a table of numbers.
"""

import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

Row = dict[str, Any]
Step = Callable[..., Mapping[str, float]]

# What is counted of these is also given per second, as `episodes_per_second` and `episodes_per_cpu_second`.
COUNTS = ("episodes", "steps", "tokens", "trained_tokens")
HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "performance.json"
# Libraries that bring threads of their own read these when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Arm:
    """A named process that does one unit of work each time it is told to.

    Attributes:
      name: of the arm.
      prepared: seconds that the preparation took and the memory after it, once it is done.
    """

    def __init__(
        self, name: str, work: str, settings: Mapping[str, Any] | None = None, *, threads: int | None = 1
    ) -> None:
        """Name the work; nothing is started.

        Args:
          name: of the arm.
          work: `FILE.py:FUNCTION`, the file relative to this folder.
          settings: keyword arguments of the function, as JSON has them.
          threads: that the process may use; None leaves it to its libraries.
        """
        self.name = name
        self.work = work
        self.settings = dict(settings or {})
        self.threads = threads
        self.prepared: Row = {}
        self._process: subprocess.Popen[str] | None = None

    def prepare(self) -> Row:
        """Start the process and let it prepare itself; what that took."""
        limits = {} if self.threads is None else dict.fromkeys(_THREADS, str(self.threads))
        self._process = subprocess.Popen(
            [sys.executable, __file__, self.work],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **limits},
        )
        self.prepared = self._ask({"settings": self.settings, "threads": self.threads})
        return self.prepared

    def step(self, **task: Any) -> Row:
        """Let the arm do one unit of work.

        Args:
          task: keyword arguments for the unit; most works take none.

        Returns:
          What the work counted, and what it counted of COUNTS per second, with `seconds` (wall), `cpu_seconds` (of all
          its threads) and `peak_bytes` (the largest resident memory of the process since its start).

        Raises:
          RuntimeError: the process ended.
        """
        if self._process is None:
            self.prepare()
        return self._ask(task)

    def close(self) -> None:
        """End the process; it may be started again."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # pyright: ignore[reportOptionalMemberAccess]
        try:
            # Whoever waits for work sees the end of its input; other threads of a peer may not.
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # pyright: ignore[reportOptionalMemberAccess]

    def _ask(self, message: Row) -> Row:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            code = process.wait()
            self.close()
            raise RuntimeError(f"The arm {self.name} ended with exit code {code}; what it said stands above.")
        return json.loads(answer)


@contextlib.contextmanager
def started(arms: Sequence[Arm]) -> Iterator[None]:
    """Prepare all arms, one after the other, and end them in any case."""
    try:
        for arm in arms:
            arm.prepare()
        yield
    finally:
        for arm in arms:
            arm.close()


def interleave(
    arms: Sequence[Arm],
    rounds: int,
    warmup: int = 1,
    *,
    report: Callable[[str, int, Row], None] | None = None,
    task: Callable[[int], Row] | None = None,
) -> dict[str, Row]:
    """Let arms work turn and turn about; the order rotates from round to round.

    Args:
      arms: who works.
      rounds: measured ones.
      warmup: rounds before them that do not count.
      report: is told of every unit: arm, round (below 0 while warming up), what was measured.
      task: keyword arguments of a round's units, by the number of the round from the first warm-up on.

    Returns:
      For each arm `prepared`, its `rounds`, and the `median`, `low` and `high` (quartiles) of each number over them.
    """
    rows: dict[str, list[Row]] = {arm.name: [] for arm in arms}
    with started(arms):
        for number in range(warmup + rounds):
            first = number % len(arms)
            for arm in (*arms[first:], *arms[:first]):
                row = arm.step(**({} if task is None else task(number)))
                if report is not None:
                    report(arm.name, number - warmup, row)
                if number >= warmup:
                    rows[arm.name].append(row)
    return {arm.name: {"prepared": arm.prepared, "rounds": rows[arm.name], **spread(rows[arm.name])} for arm in arms}


def spread(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """The median and the quartiles of each number that all rows have, by `median`, `low` and `high`."""
    shared = set.intersection(*(set(row) for row in rows)) if rows else set()
    names = [name for name in (rows[0] if rows else ()) if name in shared and isinstance(rows[0][name], (int, float))]
    found = {name: quartiles([row[name] for row in rows]) for name in names}
    return {kind: {name: three[i] for name, three in found.items()} for i, kind in enumerate(("low", "median", "high"))}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile; between two values on a straight line."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratios(found: Mapping[str, Row], rate: str, base: str) -> dict[str, Row]:
    """How many times the base's rate each arm has, paired within rounds.

    Args:
      found: of `interleave`.
      rate: a number that is larger for what is faster, say `episodes_per_second`.
      base: the arm that counts as 1.

    Returns:
      For each arm the `median`, `low` and `high` of the ratio over rounds.
    """
    result = {}
    for name, arm in found.items():
        pairs = zip(arm["rounds"], found[base]["rounds"], strict=True)
        low, median, high = quartiles([own[rate] / other[rate] for own, other in pairs])
        result[name] = {"median": median, "low": low, "high": high}
    return result


def machine(threads: int | None = None) -> Row:
    """What the figures depend on besides the code: processor, cores, versions, commit, date.

    Args:
      threads: that each arm uses.
    """
    packages = ("torch", "transformers", "trl", "lapwing")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: found for package in packages if (found := _version(package))},
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def matmul_rate(threads: int = 1, dtype: str = "float32", size: int = 1024, tries: int = 10) -> float:
    """Floating-point operations a second of a square matrix product: 2·size³ over the least time of some tries.

    Args:
      threads: to compute with; as many as before are set afterwards.
      dtype: of the numbers, by its name in torch.
      size: of the matrices.
      tries: the best one counts.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
        least = float("inf")
        for _ in range(tries):
            began = time.perf_counter()
            torch.mm(a, b)
            least = min(least, time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / least


def peak_bytes() -> int:
    """The largest resident memory that this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():
        # What Linux calls ru_maxrss begins at the memory of the process that started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    # macOS counts in bytes, others in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def write_results(
    key: str, figures: Row, *, part: str | None = None, threads: int | None = None, path: Path = RESULTS
) -> None:
    """Put a benchmark's figures under its key, with the command and the machine; the others stay.

    The file is replaced as a whole, so that whoever reads it never sees half of it.

    Args:
      key: of the benchmark, "peers", "floor", "growth" or "learning".
      figures: what was measured.
      part: a name under the key, whose other parts stay too; None replaces the whole.
      threads: that the measured processes used.
      path: of the file.
    """
    found = json.loads(path.read_text()) if path.exists() else {}
    entry = {"command": command(), "machine": machine(threads), **figures}
    if part is None:
        found[key] = entry
    else:
        found.setdefault(key, {})[part] = entry
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(dict(sorted(found.items())), indent=2) + "\n")
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def command() -> str:
    """The command line that was given, from the root of the repository."""
    script = Path(sys.argv[0])
    with contextlib.suppress(ValueError):
        script = script.resolve().relative_to(HERE.parent)
    return " ".join(["python", str(script), *sys.argv[1:]])


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit, and `+` where files that git follows differ from it."""
    try:
        said = [
            subprocess.run(["git", "-C", str(HERE), *asked], capture_output=True, text=True, check=True).stdout.strip()
            for asked in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno", "--", "../src", "."])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return said[0] + ("+" if said[1] else "")


def _load(work: str) -> Callable[..., Step]:
    """The function of a `FILE.py:FUNCTION`."""
    place, _, name = work.rpartition(":")
    path = HERE / place
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise SystemExit(f"There is no file {place} with works for an arm in {HERE}.")
    sys.path.insert(0, str(path.parent))
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def _serve(work: str, asked: IO[str], answers: IO[str]) -> None:
    """Prepare, then do one unit of work for every line that comes in."""

    def answer(row: Mapping[str, Any]) -> None:
        answers.write(json.dumps(dict(row)) + "\n")
        answers.flush()

    given = json.loads(asked.readline())
    began = time.perf_counter()
    make = _load(work)
    if given["threads"] is not None and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(given["threads"])
    step = make(**given["settings"])
    answer({"seconds": time.perf_counter() - began, "peak_bytes": peak_bytes()})
    for line in asked:
        task = json.loads(line)
        began, cpu = time.perf_counter(), time.process_time()
        counted = step(**task)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        spent = (("second", seconds), ("cpu_second", cpu_seconds))
        rates = {f"{n}_per_{unit}": counted[n] / took for n in COUNTS if n in counted for unit, took in spent if took}
        answer({"seconds": seconds, "cpu_seconds": cpu_seconds, **counted, **rates, "peak_bytes": peak_bytes()})


def _main() -> None:
    # What is printed on the way must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _serve(sys.argv[1], sys.stdin, answers)
    answers.flush()
    # A peer may have threads that nobody can end.
    os._exit(0)


if __name__ == "__main__":
    _main()
