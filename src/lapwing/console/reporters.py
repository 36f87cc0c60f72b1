"""Who tells a person, or a program, how a run goes on: in full, hardly at all, or as JSON."""

import contextlib
import json
import math
import sys
import threading
from typing import Any, Protocol, Self

from lapwing import __version__
from lapwing.console.lines import complain
from lapwing.console.progress import Progress, event_line
from lapwing.core.errors import UserError


class Reporter(Protocol):
    """Is told everything about a run, from its first moment to its result."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def greet(self, what: str) -> None:
        """A run begins, and nothing slow was imported yet."""
        ...

    def watch(self, row: dict[str, Any]) -> None:
        """A row of metrics, or an event; some come from other threads."""
        ...

    def conclude(self, run: Any) -> None:
        """The run is finished; called after the context has ended."""
        ...


def reporter(*, quiet: bool, as_json: bool) -> Reporter:
    """The one that the options of a command ask for.

    Raises:
      UserError: they exclude each other.
    """
    if quiet and as_json:
        raise UserError("--quiet and --json exclude each other: leave one out.")
    return JsonLines() if as_json else Quiet() if quiet else Full()


class Full(Progress):
    """Progress while it goes on; then the verdict, the table, the paths and the next commands."""

    def conclude(self, run: Any) -> None:
        """Show the result."""
        from lapwing.console.results import show_result

        show_result(run)


class Quiet:
    """Nothing on stdout but the verdict and the paths; warnings and faults go to stderr, where errors go."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def greet(self, what: str) -> None:
        """Say nothing."""

    def watch(self, row: dict[str, Any]) -> None:
        """Pass on what somebody should know at once."""
        if row.get("event") in ("warning", "fault"):
            complain(f"lapwing: {event_line(row)}")

    def conclude(self, run: Any) -> None:
        """Show the verdict and the paths."""
        from lapwing.console.results import show_verdict

        show_verdict(run)


class JsonLines:
    """One JSON object a line on stdout, and nothing else there: what others print goes to stderr.

    Each has `event`: "begin", "run", "cached", "stage", "checkpoint", "metrics" (a row of `metrics.jsonl`),
    "evaluation", "waiting", "warning", "fault", "resumed", and at the end "result".
    """

    def __init__(self) -> None:
        """Begin; nothing is written yet."""
        self._out = sys.stdout
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Send what others print to stderr."""
        self._stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        return self

    def __exit__(self, *_: object) -> None:
        """Let them print again."""
        self._stack.close()

    def greet(self, what: str) -> None:
        """The first line, before anything slow is imported."""
        self._write({"event": "begin", "what": what, "lapwing": __version__})

    def watch(self, row: dict[str, Any]) -> None:
        """A line for an event or a row."""
        self._write(row if "event" in row else {"event": "metrics", **row})

    def conclude(self, run: Any) -> None:
        """The last line: the verdict, the evaluations, and where everything is."""
        from lapwing.report.verdict import verdict

        found = verdict(run.evaluation)
        self._write(
            {
                "event": "result",
                "path": str(run.path),
                "report": str(run.path / "report.html"),
                "model": str(run.model),
                "verdict": found._asdict(),
                "evaluation": run.evaluation,
                "transfer": run.transfer,
            }
        )

    def _write(self, row: dict[str, Any]) -> None:
        line = json.dumps(_plain(row), allow_nan=False)
        with self._lock:
            self._out.write(line + "\n")
            self._out.flush()


def _plain(value: Any) -> Any:
    """What JSON can hold; numbers that are not finite, and functions, are left out of objects."""
    if isinstance(value, dict):
        kept = {str(name): inner for name, inner in value.items() if not callable(inner) and not _is_strange(inner)}
        return {name: _plain(inner) for name, inner in kept.items()}
    if isinstance(value, (list, tuple)):
        return [None if _is_strange(inner) else _plain(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _is_strange(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
