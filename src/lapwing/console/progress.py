"""The progress of a run: a live display at a terminal, plain lines elsewhere; of a comparison, too."""

import time
from typing import Any, Self

from lapwing.console.lines import is_terminal, say
from lapwing.console.state import RunState
from lapwing.core.clean_text import printable

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_COMPARISON_LINES = 20.0


class Progress:
    """A live display at a terminal; elsewhere one plain line every few seconds and for every evaluation."""

    def __init__(self) -> None:
        """Begin; nothing is shown yet."""
        self._started = time.monotonic()
        self._last_line = -_SECONDS_BETWEEN_LINES
        self._state = RunState()
        self._live: Any = None

    def __enter__(self) -> Self:
        """Start the live display, if there is a terminal."""
        if is_terminal():
            from lapwing.console.live import Display

            self._live = Display(self._state)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the live display."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def greet(self, what: str) -> None:
        """The first line, before anything slow is imported."""
        self._line(f"lapwing: {what} (loading the libraries takes a few seconds)")

    def watch(self, row: dict[str, Any]) -> None:
        """Show a row of metrics, or an event."""
        event = row.get("event")
        if event == "stage":
            self._last_line = -_SECONDS_BETWEEN_LINES
        self._state.take(row)
        if event is None:
            self._show(row)
        elif line := event_line(row):
            self._line(line)
        if event == "run":
            self._state.title = str(row["path"])

    def _show(self, row: dict[str, Any]) -> None:
        done, now = row["iteration"] + 1, time.monotonic()
        has_evaluation = any(name.startswith("evaluation/") for name in row)
        is_due = done == self._state.iterations or now - self._last_line >= _SECONDS_BETWEEN_LINES
        # A live display keeps only what stays of interest.
        if has_evaluation or (is_due and self._live is None):
            self._last_line = now
            self._line(f"{self._state.stage} {done}/{self._state.iterations}  {figures(row)}")

    def _line(self, text: str) -> None:
        if self._live is not None:
            self._live.line(printable(text))
        else:
            say(f"[{time.monotonic() - self._started:6.1f} s] {text}")


class ComparisonProgress:
    """As `Progress`, for many runs at once: one bar over all of them, and a line for each that begins or ends."""

    def __init__(self) -> None:
        """Begin; nothing is shown yet."""
        self._started = time.monotonic()
        self._last_line = -_SECONDS_BETWEEN_COMPARISON_LINES
        self._runs = 0
        self._command = ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        """Start the live display, if there is a terminal."""
        if is_terminal():
            from lapwing.console.live import comparison_bar

            self._bar = comparison_bar()
            self._bar.start()
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        """End the live display; if something ended it early, say how to go on."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if kind is not None and self._command:
            self._line(f"stopped; finished runs are kept, and this goes on: {self._command}")

    def greet(self, what: str) -> None:
        """The first line, before anything slow is imported."""
        self._line(f"lapwing: {what} (loading the libraries takes a few seconds)")

    def watch(self, row: dict[str, Any]) -> None:
        """Show an event of a comparison."""
        event = row["event"]
        which = f"{row.get('recipe')} seed {row.get('seed')}"
        if event == "comparison":
            at_once = f"{row['workers']} at once, {row['finished']} finished before"
            self._line(f"comparison: {row['runs']} runs, {at_once}; folder: {row['path']}")
            self._command = row["command"]
            self._line(f"if it is stopped, this goes on: {self._command}")
            if self._bar is not None:
                self._task = self._bar.add_task("runs", total=row["runs"], completed=row["finished"], figures="")
            self._runs = row["runs"]
        elif event == "begun":
            self._line(f"{which}: {'resumed' if row['resumed'] else 'begun'}")
        elif event == "ended":
            self._line(f"{which}: finished")
        elif event == "waiting":
            self._line(f"{which}: another process is training it; waiting for its end")
        else:
            self._report(row)

    def _report(self, row: dict[str, Any]) -> None:
        described = ", ".join(
            f"{one['recipe']} {one['seed']}: "
            + (f"{one['done']}/{one['iterations']}" if one["stage"] == "main" else one["stage"])
            for one in row["active"]
        )
        if self._bar is not None:
            parts = sum(one["done"] / max(1, one["iterations"]) for one in row["active"])
            # A run whose iterations are done is still to be evaluated.
            self._bar.update(self._task, completed=round(row["done"] + 0.9 * parts, 1), figures=printable(described))
        elif described and time.monotonic() - self._last_line >= _SECONDS_BETWEEN_COMPARISON_LINES:
            self._last_line = time.monotonic()
            self._line(f"{row['done']}/{self._runs} runs  {described}")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(printable(text), highlight=False, markup=False)
        else:
            say(f"[{time.monotonic() - self._started:6.1f} s] {text}")


def event_line(row: dict[str, Any]) -> str:
    """An event as one line; empty for one that says nothing to a person."""
    event = row["event"]
    if event == "run":
        return f"run folder: {row['path']}"
    if event == "cached":
        return f"{row['stage']}: taken from the cache"
    if event == "evaluation":
        return f"evaluating on {row['episodes']} test matches"
    if event == "waiting":
        return f"waiting: {row['text']}"
    if event == "fault":
        return f"{row['stage']} {row['iteration'] + 1}: {row['kind']}: {row['text']}"
    return str(row.get("text", ""))


def figures(row: dict[str, Any]) -> str:
    """A row of metrics in a few words."""
    parts = []
    if row["stage"] == "main":
        if "rollout/success" in row:
            parts.append(f"success {row['rollout/success']:.2f}")
        parts.append(f"return {row['rollout/return_mean']:+.2f}")
        for key in ("success", "score"):
            if f"evaluation/{key}" in row:
                parts.append(f"development {key} {row[f'evaluation/{key}']:.3f}")
        parts.append(f"{row['rollout/episodes']:,.0f} episodes")
        if row["time/learning"] > 0:
            parts.append(f"{row['rollout/steps'] / row['time/learning']:,.0f} steps/s")
    else:
        parts.append(f"loss {row['update/loss']:.3f}")
    return "  ".join(parts)
