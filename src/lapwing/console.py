"""What a person sees at the terminal: progress, the verdict and its table, games to play, lists."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from lapwing.core.clean_text import printable
from lapwing.core.errors import UserError, nearest, shown
from lapwing.core.types import Ask, View

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_COMPARISON_LINES = 20.0


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _say(text: str = "") -> None:
    sys.stdout.write(printable(text) + "\n")
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
        elif event == "waiting":
            self._line(f"waiting: {row['text']}")
        elif event in ("warning", "resumed"):
            self._line(row["text"])
        elif event == "fault":
            self._line(f"{row['stage']} {row['iteration'] + 1}: {row['kind']}: {row['text']}")
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
        figures = _figures(row)
        done = row["iteration"] + 1
        has_evaluation = any(name.startswith("evaluation/") for name in row)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, figures=figures)
            if has_evaluation:
                self._bar.console.print(
                    f"{self._stage} {done}/{self._iterations}  {figures}", highlight=False, markup=False
                )
            return
        now = time.monotonic()
        if has_evaluation or done == self._iterations or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._line(f"{self._stage} {done}/{self._iterations}  {figures}")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(printable(text), highlight=False, markup=False)
        else:
            _say(f"[{time.monotonic() - self._started:6.1f} s] {text}")


class ComparisonProgress(Progress):
    """As `Progress`, for many runs at once: one bar over all of them, and a line for each that begins or ends."""

    _command = ""

    def __exit__(self, kind: object = None, *_: object) -> None:
        """End the live display; if something ended it early, say how to go on."""
        super().__exit__()
        self._bar = None
        if kind is not None and self._command:
            self._line(f"stopped; finished runs are kept, and this goes on: {self._command}")

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
            self._iterations = row["runs"]
        elif event == "begun":
            self._line(f"{which}: {'resumed' if row['resumed'] else 'begun'}")
        elif event == "ended":
            self._line(f"{which}: finished")
        elif event == "waiting":
            self._line(f"{which}: another process is training it; waiting for its end")
        else:
            self._report(row)

    def _report(self, row: dict[str, Any]) -> None:
        figures = ", ".join(
            f"{one['recipe']} {one['seed']}: "
            + (f"{one['done']}/{one['iterations']}" if one["stage"] == "main" else one["stage"])
            for one in row["active"]
        )
        if self._bar is not None:
            parts = sum(one["done"] / max(1, one["iterations"]) for one in row["active"])
            # A run whose iterations are done is still to be evaluated.
            self._bar.update(self._task, completed=round(row["done"] + 0.9 * parts, 1), figures=figures)
        elif figures and time.monotonic() - self._last_line >= _SECONDS_BETWEEN_COMPARISON_LINES:
            self._last_line = time.monotonic()
            self._line(f"{row['done']}/{self._iterations} runs  {figures}")


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

    from lapwing.report.verdict import part_table, table_rows, verdict

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
    parts = part_table(result)
    if parts is not None:
        _say()
        _print_table(*parts)
        _say()
    _say(f"{result['episodes']} matches of {result['game']}, 95 % intervals.")
    if (usage := result.get("usage")) is not None:
        cost = "" if usage["cost"] is None else f", cost {usage['cost']:.4f}"
        tokens = f"{usage['prompt_tokens']:,} prompt and {usage['completion_tokens']:,} reply tokens"
        _say(f"The server answered {usage['requests']:,} requests: {tokens}{cost}.")


def show_comparison(comparison: Any) -> None:
    """The tables of a comparison, what they say, and where everything is."""
    from lapwing.report.comparison import pair_table, recipe_table, summary

    result = comparison.result
    _say(f"\n{summary(result)}")
    for table in (recipe_table(result), pair_table(result)):
        _say()
        _print_table(table.headings, table.rows)
    _say("\nIntervals: 95 % bootstrap over seeds. p: paired sign-flip test over seeds.")
    for sentence in result["verdict"]:
        _say(sentence)
    for note in result["notes"]:
        _say(f"Note: {note}")
    _say(f"\nreport:  {comparison.page}")
    _say(f"numbers: {comparison.path / 'comparison.json'}")


def show_audit(result: dict[str, Any]) -> None:
    """The tables of an audit, and which methods are missing."""
    from lapwing.report.audit import NOTE, audit_tables, left_out, summary

    for audit in result["audits"]:
        _say(f"\n{summary(audit)}")
        for table in audit_tables(audit):
            _say(f"\n{table.title}")
            _print_table(table.headings, table.rows)
        _say()
        for sentence in left_out(audit):
            _say(sentence)
    _say(f"\n{NOTE}")


def show_score(score: Any, out: Path | None) -> None:
    """The table of a score, what was not scored, and where everything is."""
    from lapwing.report.score_page import score_summary, score_table

    _say(score_summary(score.transcripts))
    for note in score.transcripts.notes:
        _say(f"Note: {note}")
    _say()
    _print_table(*score_table(score))
    _say(
        "\nmean |A|, zero: over steps. sign agrees: steps whose advantage has the sign of their episode's return"
        "\nrelative to its group, where neither is 0. Rank correlation: Spearman's, over steps."
    )
    if score.not_scored:
        _say(f"\nNot scored: {len(score.not_scored)}")
    for reason in score.not_scored.values():
        _say(f"  {reason}")
    if out is None:
        _say("\nThe advantage of every step: --json, or --out DIR for score.json and a page to read.")
    else:
        _say(f"\nreport:  {out / 'score.html'}")
        _say(f"numbers: {out / 'score.json'}")


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns side by side, whole on every line: a table that a terminal folds cannot be read."""
    widths = [max(len(row[at]) for row in [headings, *rows]) for at in range(len(headings))]
    for row in [headings, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        _say("  ".join(cells).rstrip())


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
    from lapwing.games.tools.dialogue import ToolGame
    from lapwing.policies.baselines import Human
    from lapwing.report import dialogue
    from lapwing.rollout.play import play

    if max_steps < 1:
        raise UserError(f"--max-steps is at least 1, not {max_steps}.")
    build.checked_seed(seed)
    plan = build.game_plan(name, settings)
    game = build.make_game(plan.game)
    opponents = build.make_opponents(plan)
    talks = isinstance(game, ToolGame)
    how = "type a call of a tool, or the answer" if talks else "type an action, or its first letters"
    _say(f"{name}: {how}; q ends the match.")

    def ask_person(ask: Ask, refused: str) -> str:
        _say()
        _say(refused or board(ask.view))
        asked = dialogue.prompt(ask.view) if talks else ", ".join(map(str, ask.legal or ()))
        sys.stdout.write(f"{printable(asked)} > ")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line or line.strip().lower() in ("q", "quit"):
            raise _Quit
        return line

    match = Match(game=game, seed=seed, split="test", iteration=0, group=0, member=0, max_steps=max_steps)
    person = Human(ask_person, read=dialogue.read_line if talks else None)
    try:
        (episode,) = play([match], {0: person, **opponents})
    except _Quit:
        _say("\nEnded.")
        return
    _say()
    _say(dialogue.ending(game, episode) if isinstance(game, ToolGame) else board(episode.final_view))
    ended = "cut after the last step" if episode.truncated else "over"
    won = "" if episode.success is None else (", you made it" if episode.success else ", you did not make it")
    part = getattr(game, "score_part", None)
    score = "" if part is None else f", {part} {sum(step.parts.get(part, 0.0) for step in episode.steps):g}"
    _say(f"\nThe match is {ended}{won}: {len(episode.steps)} steps, return {episode.domain_return:+g}{score}.")


def board(view: View) -> str:
    """A view as a person likes to see it: the grid renderer's text, one row a line; what is new in a dialogue."""
    from lapwing.games.tools.dialogue import ToolView
    from lapwing.policies.renderers import Grid
    from lapwing.report.dialogue import told

    if isinstance(view, ToolView):
        return told(view)
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
        raise UserError(f"There is no list {shown(what)}; {nearest(what, ('recipes', *registry.FOLDERS))}")
    found = [registry.describe(what, name) for name in registry.names(what)]
    return [{**entry._asdict(), "needs": list(entry.needs)} for entry in found]


def _recipes() -> list[str]:
    from lapwing.build import recipe_names

    return recipe_names()


def _first_comment(recipe: str) -> str:
    path = Path(__file__).parent / "recipes" / f"{recipe}.toml"
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
