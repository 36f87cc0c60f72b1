"""What a terminal shows of a run while it goes on, redrawn a few times a second by a thread of its own."""

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lapwing.console.state import RunState
from lapwing.core.clean_text import printable

_REDRAWN_PER_SECOND = 4
_BAR_WIDTH = 24
BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = "_.:-=+*#"


class Display:
    """The lines at the bottom of a terminal, and those that scroll away above them."""

    def __init__(self, state: RunState) -> None:
        """Prepare; nothing is drawn yet.

        Args:
          state: is asked whenever the display is drawn.
        """
        console = Console(highlight=False)
        self._state = state
        self._blocks = BLOCKS if "utf" in console.encoding.lower() else PLAIN_BLOCKS
        self._live = Live(get_renderable=self._drawn, console=console, refresh_per_second=_REDRAWN_PER_SECOND)

    def start(self) -> None:
        """Draw, and redraw from now on."""
        self._live.start()

    def stop(self) -> None:
        """Draw a last time; what is there stays."""
        self._live.stop()

    def line(self, text: str) -> None:
        """Write a line above the display, where it stays."""
        self._live.console.print(printable(text), highlight=False, markup=False)

    def _drawn(self) -> Group:
        return drawn(self._state, self._blocks)


def drawn(state: RunState, blocks: str) -> Group:
    """The display: stage and time, return, speed, and what is waited for; a line that is too long is cut.

    Args:
      state: of the run.
      blocks: what the line of returns is drawn with, from low to high.
    """
    phase, waiting_for = state.phase()
    lines = [_stage_line(state, phase)]
    for text in (_return_line(state, blocks), _speed_line(state), f"waiting for {waiting_for}" if waiting_for else ""):
        if text:
            lines.append(Text(f"  {printable(text)}", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def _stage_line(state: RunState, phase: str) -> Table | Text:
    if not state.stage:
        return Text(printable(phase), no_wrap=True, overflow="ellipsis")
    left = state.seconds_left()
    row = Table.grid(padding=(0, 1))
    for _ in range(4):
        row.add_column(no_wrap=True, overflow="ellipsis")
    row.add_row(
        Text(printable(state.stage), style="bold"),
        ProgressBar(total=max(1, state.iterations), completed=state.done, width=_BAR_WIDTH),
        f"iteration {state.done}/{state.iterations}",
        Text(printable(phase) + ("" if left is None or state.ending else f"  about {clock(left)} left"), style="cyan"),
    )
    return row


def _return_line(state: RunState, blocks: str) -> str:
    row = state.row
    if "rollout/return_mean" not in row or state.stage != "main":
        return f"loss {row['update/loss']:.3f}" if "update/loss" in row else ""
    half = row.get("rollout/return_half_width")
    parts = [f"return {row['rollout/return_mean']:+.3f}" + ("" if half is None else f" ± {half:.3f}")]
    parts.append(sparkline(state.returns, blocks))
    if "rollout/success" in row:
        parts.append(f"success {row['rollout/success']:.2f}")
    for key in ("success", "score", "return"):
        if f"evaluation/{key}" in row:
            parts.append(f"development {key} {row[f'evaluation/{key}']:.3f}")
            break
    return "  ".join(filter(None, parts))


def _speed_line(state: RunState) -> str:
    parts = []
    speeds = state.speeds()
    if speeds is not None:
        parts.append(f"{speeds[0]:,.0f} episodes/s  {speeds[1]:,.0f} tokens/s")
    if "rollout/episodes" in state.row:
        parts.append(f"{state.row['rollout/episodes']:,.0f} episodes")
    if state.checkpoint is not None:
        iteration, when = state.checkpoint
        parts.append(f"checkpoint {iteration} written {clock(time.monotonic() - when)} ago")
    return "  ".join(parts)


def sparkline(values: Sequence[float], blocks: str) -> str:
    """Numbers as a row of bars, from the smallest to the largest of them; all low where they are equal.

    Args:
      values: finite numbers.
      blocks: bars from low to high.
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    if high == low:
        return blocks[0] * len(values)
    return "".join(blocks[round((value - low) / (high - low) * (len(blocks) - 1))] for value in values)


def clock(seconds: float) -> str:
    """A time as "12 s", "4:05" or "1:02:03"."""
    if seconds < 60:
        return f"{int(seconds)} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def comparison_bar() -> Progress:
    """One bar over all runs of a comparison."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
