"""The page and the tables of a comparison of recipes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.storage import read_json, write_text
from lapwing.evaluation.comparison import SCHEMA_VERSION, THRESHOLD
from lapwing.report import charts
from lapwing.report.charts import MARKERS, Series
from lapwing.report.series import Figure
from lapwing.report.svg import LINES, WIDTH
from lapwing.report.templates import template_environment
from lapwing.report.verdict import label, number
from lapwing.training.metrics import METRICS

_SHARE = "success"
# What a curve is drawn against: key of its points → title, label of the axis, words of the caption.
_AXES = {
    "episodes": ("episodes", "episodes generated", "episodes generated"),
    "iteration": ("iterations", "iteration", "iterations done"),
    "seconds": ("learning time", "learning time (s)", "seconds of playing, credit and updating, mean over the seeds"),
}


class Cell(NamedTuple):
    """A probability of improvement as text, and how far it is from ½, in [−1, 1]; 0 for a method against itself."""

    text: str
    lean: float


class Table(NamedTuple):
    """A table as text: headings, and rows of as many cells, the first of which is a name."""

    headings: list[str]
    rows: list[list[str]]


def write_comparison(folder: Path) -> Path:
    """Write `comparison.html` from `comparison.json` alone.

    The page needs no other file and loads nothing; equal files give equal bytes.

    Args:
      folder: of the comparison.

    Returns:
      The path of the page.

    Raises:
      UserError: the folder has no comparison.json, or one of another version of Lapwing.
      LapwingError: the file is no JSON.
    """
    import markupsafe

    if not (folder / "comparison.json").is_file():
        raise UserError(f"{folder} holds no finished comparison: it has no comparison.json.")
    result = read_json(folder / "comparison.json")
    if result.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{folder / 'comparison.json'} is of another version of Lapwing; the same `lapwing compare` makes it anew "
            "and trains no finished run again."
        )
    environment = template_environment()
    page = environment.get_template("comparison.html.jinja").render(
        result=result,
        names=list(result["recipes"]),
        summary=summary(result),
        recipes=recipe_table(result),
        costs=cost_table(result),
        tokens=token_table(result),
        threshold=_threshold(result),
        matrix=improvement_matrix(result),
        pairs=pair_table(result),
        runs=run_table(result),
        failed=_failed(result),
        differences=difference_table(result),
        bars=_bars(result),
        curves=[figure for key in _AXES if (figure := _curve(result, key)) is not None],
        # The SVG is Matplotlib's own text, which escapes the labels that it is given.
        svg=lambda figure: markupsafe.Markup(figure.svg),
    )
    path = folder / "comparison.html"
    write_text(path, page)
    return path


def summary(result: Mapping[str, Any]) -> str:
    """What was compared, as "success on 500 test matches of frozen_lake at the end, 3 seeds a recipe"."""
    seeds = len(result["seeds"])
    return (
        f"{result['measure']} on {result['test_matches']:,} test matches of {result['game']} at the end, "
        f"{seeds} seed{'' if seeds == 1 else 's'} a recipe"
    )


def recipe_table(result: Mapping[str, Any]) -> Table:
    """One row a recipe: how its runs came out and what they cost."""
    headings = ["recipe", "mean", "IQM [95 %]", "median", "worst", "episodes", "trained on", "learning s"]
    rows = [
        [
            name,
            number(found["mean"]),
            estimate(found["iqm"]),
            number(found["median"]),
            number(found["worst"]),
            f"{found['episodes']:,.0f}",
            f"{found['trained_episodes']:,.0f}",
            f"{found['learning_seconds']:,.1f}",
        ]
        for name, found in result["recipes"].items()
    ]
    return Table(headings, rows)


def pair_table(result: Mapping[str, Any]) -> Table:
    """One row a pair: difference, probability of improvement, p; adjusted p where there are several pairs."""
    is_one = result["comparisons"] == 1
    headings = ["first − second", "mean difference [95 %]", "P(first better) [95 %]", "p"]
    rows = []
    for pair in result["pairs"]:
        difference = estimate(pair["difference"])
        rows.append(
            [
                f"{pair['first']} − {pair['second']}",
                difference if difference.startswith("-") else f"+{difference}",
                estimate(pair["probability_of_improvement"]),
                p_text(pair["p"]),
                *([] if is_one else [p_text(pair["p_holm"])]),
                "yes" if pair["separated"] else "no",
            ]
        )
    return Table([*headings, *([] if is_one else ["p (Holm)"]), f"separated at {result['level']}"], rows)


def cost_table(result: Mapping[str, Any]) -> Table:
    """One row a recipe: time and tokens of a run, the share of credit, and what it took to reach the threshold."""
    headings = ["recipe", "tokens [95 %]", "learning s [95 %]", "of it credit"]
    headings += ["episodes to threshold", "s to threshold", "reached by"]
    rows = []
    for name, found in result["recipes"].items():
        cost, seconds = found["cost"], found["cost"]["learning_seconds"]["value"]
        share = f"{100 * cost['credit_seconds']['value'] / seconds:.1f} %" if seconds else "–"
        reached = f"{cost['reached']} of {len(found['runs'])}" if "reached" in cost else "–"
        until = [_until(cost.get(key)) for key in ("episodes_to_threshold", "seconds_to_threshold")]
        rows.append([name, _amount(cost["tokens"]), _amount(cost["learning_seconds"], 1), share, *until, reached])
    return Table(headings, rows)


def token_table(result: Mapping[str, Any]) -> Table:
    """One row a recipe: what its trained policies read and wrote at each step, beside how well they did."""
    keys = ("context_tokens_per_step", "reply_tokens_per_step")
    rows = [
        [name, *(_per_step(found["cost"].get(key)) for key in keys), estimate(found["iqm"])]
        for name, found in result["recipes"].items()
    ]
    headings = ["recipe", "context tokens a step [95 %]", "reply tokens a step [95 %]"]
    return Table([*headings, f"{result['measure']}, IQM [95 %]"], rows)


def _per_step(found: Mapping[str, float | None] | None) -> str:
    return "–" if found is None else _amount(found, 1)


def improvement_matrix(result: Mapping[str, Any]) -> list[tuple[str, list[Cell]]]:
    """For each recipe the probabilities that a run of it beats a run of each recipe, in both directions.

    P(second better) = 1 − P(first better)
    """
    names = list(result["recipes"])
    found = {}
    for pair in result["pairs"]:
        there = pair["probability_of_improvement"]
        low, high = (None if there[key] is None else 1.0 - there[key] for key in ("high", "low"))
        found[pair["first"], pair["second"]] = there
        found[pair["second"], pair["first"]] = {"value": 1.0 - there["value"], "low": low, "high": high}
    return [(row, [_cell(found.get((row, column))) for column in names]) for row in names]


def _cell(found: Mapping[str, float | None] | None) -> Cell:
    if found is None:
        return Cell("–", 0.0)
    value, low, high = found["value"], found["low"], found["high"]
    assert value is not None, "only the bounds may be missing"
    text = f"{value:.2f}" if low is None or high is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"
    return Cell(text, round(2.0 * value - 1.0, 3))


def difference_table(result: Mapping[str, Any]) -> Table:
    """One row a setting that is not the same in all recipes."""
    rows = [
        [key, *("–" if row[name] is None else row[name] for name in result["recipes"])]
        for key, row in result["differences"].items()
    ]
    return Table(["setting", *result["recipes"]], rows)


def run_table(result: Mapping[str, Any]) -> Table:
    """One row a seed with the measure of every recipe; † did not improve, ‡ had faults."""
    recipes = result["recipes"]
    rows = [
        [str(seed), *(_marked(found["runs"][at]) for found in recipes.values())]
        for at, seed in enumerate(result["seeds"])
    ]
    return Table(["seed", *recipes], rows)


def _marked(run: Mapping[str, Any]) -> str:
    marks = ("" if run["improved"] else "†") + ("‡" if run["faults"] else "")
    return f"{number(run['value'])}{' ' if marks else ''}{marks}"


def _failed(result: Mapping[str, Any]) -> list[str]:
    """Which seeds did not improve, or had faults, a sentence a recipe."""
    said = []
    for name, found in result["recipes"].items():
        still = [str(run["seed"]) for run in found["runs"] if not run["improved"]]
        faulty = [f"{run['seed']} ({run['faults']:,})" for run in found["runs"] if run["faults"]]
        parts = [f"seed{'s' if len(still) > 1 else ''} {', '.join(still)} did not improve"] if still else []
        parts += [f"faults were logged by seed{'s' if len(faulty) > 1 else ''} {', '.join(faulty)}"] if faulty else []
        if parts:
            said.append(f"{name}: {'; '.join(parts)}.")
    return said


def _threshold(result: Mapping[str, Any]) -> str:
    """What the threshold is, in a sentence."""
    found = result["threshold"]
    if found is None:
        return "No recipe is better than the untrained policies, so that there is no threshold to reach."
    return (
        f"The threshold is {result['measure']} {number(found['value'])} on the development matches: "
        f"{100 * THRESHOLD:.0f} % of the way from the untrained policies ({number(found['untrained'])}) to the best "
        f"recipe at the end ({number(found['best'])})."
    )


def _amount(found: Mapping[str, float | None], digits: int = 0) -> str:
    """An amount with its interval, as "23,040 [22,000, 24,000]"; without one that has no width."""
    value, low, high = (found[key] for key in ("value", "low", "high"))
    if low is None or high is None or low == high:
        return f"{value:,.{digits}f}"
    return f"{value:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]"


def _until(found: Mapping[str, float | None] | None) -> str:
    """A median time to the threshold; what lies beyond the budget of the runs is "never"."""
    if found is None:
        return "–"
    value, low, high = ("never" if found[key] is None else f"{found[key]:,.0f}" for key in ("value", "low", "high"))
    is_single = found["low"] is None and found["high"] is None
    return value if is_single or low == high == value else f"{value} [{low}, {high}]"


def estimate(found: Mapping[str, float | None]) -> str:
    """A number with its interval, if it has one, as "0.962 [0.863, 0.980]"."""
    value, low, high = found["value"], found["low"], found["high"]
    assert value is not None, "only the bounds may be missing"
    return number(value) if low is None or high is None else f"{number(value)} [{number(low)}, {number(high)}]"


def p_text(p: float) -> str:
    """A p value, as "0.25" or "0.0078"."""
    return f"{p:.2g}"


def _bars(result: Mapping[str, Any]) -> Figure:
    measure = result["measure"]
    found = result["recipes"]
    rows = []
    for name, recipe in found.items():
        value, low, high = (recipe["iqm"][key] for key in ("value", "low", "high"))
        rows.append((name, value, value if low is None else low, value if high is None else high))
    svg = charts.interval_chart(
        "iqm",
        f"Interquartile mean of {measure} of each recipe",
        rows,
        x_label=f"{measure}{_unit(measure)}",
        limits=(0.0, 1.0) if measure == _SHARE else None,
        colours=[LINES[at % len(LINES)] for at in range(len(rows))],
        width=WIDTH,
    )
    bars = "; bars: 95 % bootstrap intervals over seeds" if len(result["seeds"]) > 1 else ""
    caption = f"Interquartile mean of {measure} over the seeds{_unit(measure)}{bars}."
    return Figure("iqm", "Side by side", caption, svg)


def _curve(result: Mapping[str, Any], key: str) -> Figure | None:
    measure = result["measure"]
    series = [_series(at, name, found["curve"], key) for at, (name, found) in enumerate(result["recipes"].items())]
    series = [one for one in series if len(one.x)]
    if not series:
        return None
    words, x_label, against = _AXES[key]
    title = f"Development {measure} against {words}"
    svg = charts.line_chart(
        f"curves-{key}",
        title,
        series,
        x_label=x_label,
        y_label=f"{measure}{_unit(measure)}",
        limits=(0.0, 1.0) if measure == _SHARE else None,
        references=[(label(name), height) for name, height in result["references"].items()],
    )
    caption = f"Mean over the seeds of {measure} on the development matches{_unit(measure)}, against {against}"
    bands = "; bands: 95 % bootstrap intervals over seeds" if len(result["seeds"]) > 1 else ""
    dashed = "; dashed: the other policies on the test matches" if result["references"] else ""
    return Figure(f"curves-{key}", title, f"{caption}{bands}{dashed}.", svg)


def _series(at: int, name: str, points: list[Mapping[str, Any]], key: str) -> Series:
    x, y = (np.array([point[axis] for point in points], dtype=np.float64) for axis in (key, "value"))
    has_interval = all(point["low"] is not None for point in points)
    low, high = (np.array([point[bound] for point in points], dtype=np.float64) for bound in ("low", "high"))
    return Series(
        name,
        x,
        y,
        low if has_interval else None,
        high if has_interval else None,
        colour=LINES[at % len(LINES)],
        marked=True,
        banded=True,
        marker=MARKERS[at % len(MARKERS)],
    )


def _unit(measure: str) -> str:
    """The unit in brackets, where it says more than the measure's name."""
    unit = METRICS[f"evaluation/{measure}"].unit
    return "" if unit == measure else f" ({unit})"
