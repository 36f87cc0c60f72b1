"""The page that a run ends in: one file, readable anywhere, that says first whether the agent got better."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.core.errors import UserError
from lapwing.core.storage import read_json, read_json_lines, write_text
from lapwing.report.alarm_marks import alarm_marks
from lapwing.report.audit import NOTE, audit_section
from lapwing.report.charts import MOST_POINTS
from lapwing.report.episodes import Episodes, episodes_section
from lapwing.report.exploitability import NOTE as EXPLOITABILITY_NOTE
from lapwing.report.exploitability import exploitability_section, learns_by_self_play
from lapwing.report.faults import faults_section
from lapwing.report.figures import comparison, curves
from lapwing.report.replay import Replay, replay_section
from lapwing.report.series import MAIN, Figure, Log
from lapwing.report.templates import template_environment
from lapwing.report.verdict import (
    Parts,
    Row,
    Verdict,
    margins,
    matches,
    part_table,
    reference_notes,
    table_rows,
    verdict,
)

_LONGEST_NAME = 200
_LONGEST_RECIPE = 100_000


class Table(NamedTuple):
    """A comparison of policies.

    Attributes:
      title: a heading.
      note: what was played.
      rows: the policies.
      figure: the headline measure drawn; None where no policy has it.
      parts: the named parts of the reward; None where there are none.
    """

    title: str
    note: str
    rows: list[Row]
    figure: Figure | None
    parts: Parts | None


class _Run(NamedTuple):
    """The files of a run folder, as far as they are there."""

    recipe_text: str
    recipe: Mapping[str, Any]
    manifest: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any] | None
    transfer: Mapping[str, Mapping[str, Any]]
    audit: Mapping[str, Any] | None = None
    exploitability: Mapping[str, Any] | None = None
    episodes: Episodes | None = None
    replay: Replay | None = None
    faults: Sequence[Mapping[str, Any]] = ()


def write_report(run_folder: Path) -> Path:
    """Write `report.html` of a run, from the files in its folder alone.

    The page needs no other file and loads nothing; equal files give equal bytes. A run that has not finished, or that
    has not been evaluated, gets a page that says so and shows what there is.

    Args:
      run_folder: the folder of a run.

    Returns:
      The path of the page.

    Raises:
      UserError: the folder is no run: it has neither a recipe, nor a manifest, nor metrics.
      LapwingError: a file is there and is no JSON.
    """
    page = _render(_read(run_folder))
    path = run_folder / "report.html"
    write_text(path, page)
    return path


def _read(folder: Path) -> _Run:
    recipe, manifest, metrics = (folder / name for name in ("recipe.toml", "manifest.json", "metrics.jsonl"))
    if not (recipe.is_file() or manifest.is_file() or metrics.is_file()):
        raise UserError(f"{folder} is no run: it has neither recipe.toml, nor manifest.json, nor metrics.jsonl.")
    text = recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else ""
    return _Run(
        recipe_text=text,
        recipe=_parse(text),
        manifest=read_json(manifest) if manifest.is_file() else {},
        rows=read_json_lines(metrics),
        evaluation=_maybe_json(folder / "evaluation.json"),
        transfer={
            path.stem.removeprefix("evaluation_"): read_json(path) for path in sorted(folder.glob("evaluation_*.json"))
        },
        audit=_maybe_json(folder / "audit.json"),
        exploitability=_maybe_json(folder / "exploitability.json"),
        episodes=episodes_section(folder),
        replay=replay_section(folder),
        faults=read_json_lines(folder / "faults.jsonl"),
    )


def _maybe_json(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _parse(recipe: str) -> dict[str, Any]:
    """The recipe as tables; one that is no TOML is still shown as text, and says nothing else."""
    try:
        return tomllib.loads(recipe)
    except tomllib.TOMLDecodeError:
        return {}


def _render(run: _Run) -> str:
    environment = template_environment()
    recipe_text = run.recipe_text
    if len(recipe_text) > _LONGEST_RECIPE:
        recipe_text = recipe_text[:_LONGEST_RECIPE] + "\n… (the rest is in recipe.toml)"
    log = _log(run)
    result = None if run.evaluation is None else verdict(run.evaluation)
    return environment.get_template("page.html.jinja").render(
        name=_short(run.manifest.get("recipe") or run.recipe.get("name") or "A run"),
        summary=_summary(run),
        unfinished=_unfinished(run),
        verdict=result,
        tone=_tone(result),
        margins=[] if run.evaluation is None else margins(run.evaluation),
        tables=_tables(run),
        figures=curves(log),
        most_points=MOST_POINTS,
        episodes=run.episodes,
        faults=faults_section(run.faults, run.rows, run.manifest, run.recipe.get("stage", [])),
        replay=run.replay,
        unescaped=_unescaped,
        audit=None if run.audit is None else audit_section(run.audit),
        audit_note=NOTE,
        exploitability=exploitability_section(run.exploitability),
        exploitability_note=EXPLOITABILITY_NOTE,
        is_self_play=learns_by_self_play(_stage(run, MAIN)),
        # The SVG is Matplotlib's own text over numbers and names that Lapwing knows; it escapes those of reward parts.
        svg=_svg,
        facts=_facts(run),
        recipe=recipe_text,
        lapwing=_short(run.manifest.get("lapwing", "")),
    )


def _unescaped(text: str) -> Any:
    """Text that is safe where it stands; everything else is escaped by the templates."""
    import markupsafe

    return markupsafe.Markup(text)


def _svg(figure: Figure) -> Any:
    import markupsafe

    return markupsafe.Markup(figure.svg)


def _log(run: _Run) -> Log:
    main = _stage(run, MAIN)
    log = Log(
        rows=run.rows,
        evaluation=run.evaluation,
        seconds=run.manifest.get("seconds", {}),
        resumed_at=run.manifest.get("resumed_at", []),
        development_episodes=main.get("evaluation", {}).get("development_episodes"),
    )
    return log._replace(alarms=alarm_marks(log.main, main.get("alarms"), run.faults))


def _stage(run: _Run, name: str) -> Mapping[str, Any]:
    return next((stage for stage in run.recipe.get("stage", []) if stage.get("name") == name), {})


def _tone(result: Verdict | None) -> str:
    if result is None or result.improved is None:
        return "unknown"
    return "better" if result.improved else ("worse" if result.heading == "Got worse" else "same")


def _summary(run: _Run) -> str:
    parts = []
    if run.evaluation is not None:
        parts.append(_short(run.evaluation["game"]))
    if "parameters" in run.manifest:
        parts.append(f"a model of {_count(run.manifest['parameters'])} parameters")
    if "seed" in run.manifest:
        parts.append(f"seed {_short(run.manifest['seed'])}")
    if "created" in run.manifest:
        parts.append(f"begun {_short(run.manifest['created'])}")
    return " · ".join(parts)


def _unfinished(run: _Run) -> str:
    """What is missing of a run that has not finished; empty for one that has."""
    status = run.manifest.get("status")
    if status == "finished":
        return ""
    done = 1 + max((row["iteration"] for row in run.rows if row["stage"] == MAIN), default=-1)
    planned = _stage(run, MAIN).get("iterations")
    where = f"{done} of {planned}" if planned is not None else f"{done}"
    how = {"interrupted": "It was interrupted", "running": "It was running, or was killed, when this was written"}
    how["stopped"] = "An alarm stopped it"
    return f"{how.get(str(status), 'Its state is not known')}; {where} iterations of the main stage are logged."


def _tables(run: _Run) -> list[Table]:
    found = []
    if run.evaluation is not None:
        found.append(_table("On the game it trained on", run.evaluation, "comparison"))
    for i, (name, result) in enumerate(run.transfer.items(), start=1):
        found.append(_table(f"Transfer: {_short(name)}, never trained there", result, f"transfer-{i}"))
    return found


def _table(title: str, evaluation: Mapping[str, Any], name: str) -> Table:
    return Table(title, _note(evaluation), table_rows(evaluation), comparison(evaluation, name), part_table(evaluation))


def _note(evaluation: Mapping[str, Any]) -> str:
    said = f"{_short(matches(evaluation))}, the same for every policy. Brackets: 95 % intervals."
    trained = evaluation["policies"].get("trained", {})
    read, written = (trained.get(name) for name in ("context_tokens_per_step", "tokens_per_step"))
    tokens = []
    if read and written:
        tokens = [f"At each step the trained policy read {read['mean']:,.1f} tokens and wrote {written['mean']:,.1f}."]
    further = [f"{_short(note)[:1].upper()}{_short(note)[1:]}." for note in reference_notes(evaluation)]
    return " ".join([said, *tokens, *further])


def _facts(run: _Run) -> list[tuple[str, str]]:
    """What a reader needs to judge or repeat the run, as pairs of a name and a text."""
    last: Mapping[str, Any] = next((row for row in reversed(run.rows) if row["stage"] == MAIN), {})
    seconds = run.manifest.get("seconds", {})
    warm = seconds.get("warm_start")
    cached = ", weights taken from the cache" if run.manifest.get("warm_start_cached") else ""
    resumed = run.manifest.get("resumed_at", [])
    found = {
        "seed": run.manifest.get("seed"),
        "parameters": _maybe_count(run.manifest.get("parameters")),
        "episodes played": _maybe_count(last.get("rollout/episodes")),
        "steps played": _maybe_count(last.get("rollout/steps")),
        "tokens sampled": _maybe_count(last.get("rollout/tokens")),
        "learning time": _maybe_seconds(last.get("time/learning")),
        "warm start": None if warm is None else f"{_maybe_seconds(warm)}{cached}",
        "whole run": _maybe_seconds(seconds.get("total")),
        "resumed at iteration": ", ".join(map(str, resumed)) or None,
        "ranks": _ranks(run.manifest.get("ranks", [])),
        "Lapwing": run.manifest.get("lapwing"),
        **{str(name): version for name, version in run.manifest.get("versions", {}).items()},
        "commit": run.manifest.get("commit"),
        "begun": run.manifest.get("created"),
    }
    return [(_short(name), _short(value)) for name, value in found.items() if value is not None]


def _ranks(sizes: Sequence[int]) -> str | None:
    """How many processes trained; sums in another order are why a run with other ranks does not repeat bit by bit."""
    if all(size == 1 for size in sizes):
        return None
    if len(set(sizes)) == 1:
        return str(sizes[0])
    return f"{', then '.join(map(str, sizes))}: not repeatable to the last bit"


def _maybe_count(value: float | None) -> str | None:
    return None if value is None else _count(value)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _maybe_seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:,.1f} s"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "…"
