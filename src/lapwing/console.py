"""What a person sees at the terminal: progress, the verdict and its table, games to play, lists."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from lapwing.core.errors import UserError, nearest
from lapwing.core.types import Ask, View

_SECONDS_BETWEEN_LINES = 5.0


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Progress:
    """One live bar at a terminal; elsewhere one plain line every few seconds and for every evaluation."""

    def __init__(self) -> None:
        """Begin; nothing is shown yet."""
        self._started = time.monotonic()
        self._last_line = -_SECONDS_BETWEEN_LINES
        self._stage = ""
        self._iterations = 0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        """Start the live display, if there is a terminal."""
        if _is_terminal():
            from rich import progress

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(bar_width=20),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.fields[figures]}"),
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the live display."""
        if self._bar is not None:
            self._bar.stop()

    def greet(self, what: str) -> None:
        """The first line, before anything slow is imported."""
        self._line(f"lapwing: {what} (loading the libraries takes a few seconds)")

    def watch(self, row: dict[str, Any]) -> None:
        """Show a row of metrics, or an event."""
        event = row.get("event")
        if event == "run":
            self._line(f"run folder: {row['path']}")
        elif event == "cached":
            self._line(f"{row['stage']}: taken from the cache")
        elif event == "stage":
            self._begin(row)
        elif event == "evaluation":
            self._line(f"evaluating on {row['episodes']} test matches")
        else:
            self._show(row)

    def _begin(self, row: dict[str, Any]) -> None:
        self._stage, self._iterations = row["stage"], row["iterations"]
        self._last_line = -_SECONDS_BETWEEN_LINES
        if self._bar is not None:
            if self._task is not None:
                self._bar.stop_task(self._task)
            self._task = self._bar.add_task(
                self._stage, total=self._iterations, completed=row.get("first", 0), figures=""
            )

    def _show(self, row: dict[str, Any]) -> None:
        if "fault" in row:
            self._line(f"{row['stage']} {row['iteration'] + 1}: update left out, weights kept: {row['fault']}")
        figures = _figures(row)
        done = row["iteration"] + 1
        has_evaluation = any(name.startswith("evaluation/") for name in row)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, figures=figures)
            if has_evaluation:
                self._bar.console.print(f"{self._stage} {done}/{self._iterations}  {figures}", highlight=False)
            return
        now = time.monotonic()
        if has_evaluation or done == self._iterations or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._line(f"{self._stage} {done}/{self._iterations}  {figures}")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            _say(f"[{time.monotonic() - self._started:6.1f} s] {text}")


def _figures(row: dict[str, Any]) -> str:
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


def show_result(run: Any) -> None:
    """The verdict of a finished run, its table, its transfer, and where everything is."""
    _say()
    show_evaluation(run.evaluation)
    for label, result in run.transfer.items():
        _say(f"\nTransfer: the same weights on {label}, never trained there")
        show_evaluation(result, with_verdict=False)
    _say()
    _say(f"report:  {run.path / 'report.html'}")
    _say(f"model:   {run.model}")
    origin = f" --from {run.start_from}" if run.start_from else ""
    _say(f"repeat:  lapwing train {run.path / 'recipe.toml'}{origin}")


def show_evaluation(result: dict[str, Any], *, with_verdict: bool = True) -> None:
    """The table of an evaluation, with its verdict before it."""
    from rich.console import Console
    from rich.table import Table

    from lapwing.report.verdict import table_rows, verdict

    if with_verdict and {"trained", "untrained"} <= set(result["policies"]):
        _say(verdict(result).sentence)
        _say()
    rows = table_rows(result)
    table = Table(title=None, box=None, pad_edge=False)
    for heading in ("policy", *rows[0].cells):
        table.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for row in rows:
        table.add_row(row.label, *row.cells.values())
    Console(highlight=False, width=None if _is_terminal() else 120).print(table)
    _say(f"{result['episodes']} matches of {result['game']}, 95 % intervals.")


class _Quit(Exception):
    """The person does not want to go on."""


def play_at_terminal(name: str, settings: Sequence[str], seed: int, max_steps: int) -> None:
    """Let a person play one match of a game.

    Args:
      name: of the game.
      settings: `key=value` or `game.key=value` overrides of its settings.
      seed: of the match.
      max_steps: step cap.

    Raises:
      UserError: there is no such game or setting, or the match could not begin.
    """
    from lapwing import build
    from lapwing.core.types import Match
    from lapwing.policies.baselines import Human
    from lapwing.rollout.play import play

    if max_steps < 1:
        raise UserError(f"--max-steps is at least 1, not {max_steps}.")
    build.checked_seed(seed)
    plan = build.game_plan(name, settings)
    game = build.make_game(plan.game)
    opponents = build.make_opponents(plan)
    _say(f"{name}: type an action, or its first letters; q ends the match.")

    def ask_person(ask: Ask, refused: str) -> str:
        _say()
        _say(refused or board(ask.view))
        sys.stdout.write(f"{', '.join(map(str, ask.legal or ()))} > ")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line or line.strip().lower() in ("q", "quit"):
            raise _Quit
        return line

    match = Match(game=game, seed=seed, split="test", iteration=0, group=0, member=0, max_steps=max_steps)
    try:
        (episode,) = play([match], {0: Human(ask_person), **opponents})
    except _Quit:
        _say("\nEnded.")
        return
    _say()
    _say(board(episode.final_view))
    ended = "cut after the last step" if episode.truncated else "over"
    won = "" if episode.success is None else (", you made it" if episode.success else ", you did not make it")
    part = getattr(game, "score_part", None)
    score = "" if part is None else f", {part} {sum(step.parts.get(part, 0.0) for step in episode.steps):g}"
    _say(f"\nThe match is {ended}{won}: {len(episode.steps)} steps, return {episode.domain_return:+g}{score}.")


def board(view: View) -> str:
    """A view as a person likes to see it: the grid renderer's text, one row a line."""
    from lapwing.policies.renderers import Grid

    text = Grid().messages(view)[-1]["content"]
    title, colon, rows = text.partition(" : ")
    return text if not colon else "\n".join([title, *(f"  {row}" for row in rows.split(" / "))])


def listing(what: str) -> list[dict[str, Any]]:
    """What `lapwing list` shows: one object for each name.

    Raises:
      UserError: there is no such list.
    """
    from lapwing.core import registry

    if what == "recipes":
        return [{"name": name, "summary": _first_comment(name)} for name in _recipes()]
    if what not in registry.FOLDERS:
        raise UserError(f"There is no list '{what}'; {nearest(what, ('recipes', *registry.FOLDERS))}")
    found = [registry.describe(what, name) for name in registry.names(what)]
    if not found:
        raise UserError(f"There is nothing in '{what}' yet.")
    return [{**entry._asdict(), "needs": list(entry.needs)} for entry in found]


def _recipes() -> list[str]:
    from lapwing.build import recipe_names

    return recipe_names()


def _first_comment(recipe: str) -> str:
    path = Path(__file__).parent / "recipes" / f"{recipe}.toml"
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
