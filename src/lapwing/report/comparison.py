"""The page and the tables of a comparison of recipes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.storage import read_json, write_text
from lapwing.report import charts
from lapwing.report.charts import LINES, MARKERS, Series
from lapwing.report.figures import Figure
from lapwing.report.templates import template_environment
from lapwing.report.verdict import number
from lapwing.training.metrics import METRICS

_SHARE = "success"


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
      UserError: the folder has no comparison.json.
      LapwingError: the file is no JSON.
    """
    import markupsafe

    if not (folder / "comparison.json").is_file():
        raise UserError(f"{folder} holds no finished comparison: it has no comparison.json.")
    result = read_json(folder / "comparison.json")
    environment = template_environment()
    page = environment.get_template("comparison.html.jinja").render(
        result=result,
        names=list(result["recipes"]),
        summary=summary(result),
        recipes=recipe_table(result),
        pairs=pair_table(result),
        runs=run_table(result),
        bars=_bars(result),
        curve=_curve(result),
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


def run_table(result: Mapping[str, Any]) -> Table:
    """One row a seed with the measure of every recipe."""
    recipes = result["recipes"]
    rows = [
        [str(seed), *(number(found["runs"][at]["value"]) for found in recipes.values())]
        for at, seed in enumerate(result["seeds"])
    ]
    return Table(["seed", *recipes], rows)


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
        x_label=measure + _unit(measure),
        limits=(0.0, 1.0) if measure == _SHARE else None,
        colours=[LINES[at % len(LINES)] for at in range(len(rows))],
    )
    bars = "; bars: 95 % bootstrap intervals over seeds" if len(result["seeds"]) > 1 else ""
    caption = f"Interquartile mean of {measure} over the seeds{_unit(measure)}{bars}."
    return Figure("iqm", "Side by side", caption, svg)


def _curve(result: Mapping[str, Any]) -> Figure | None:
    measure = result["measure"]
    series = [_series(at, name, found["curve"]) for at, (name, found) in enumerate(result["recipes"].items())]
    series = [one for one in series if len(one.x)]
    if not series:
        return None
    title = f"Development {measure} against episodes"
    svg = charts.line_chart(
        "curves",
        title,
        series,
        x_label="episodes generated",
        y_label=measure + _unit(measure),
        limits=(0.0, 1.0) if measure == _SHARE else None,
    )
    caption = f"Mean over the seeds of {measure} on the development matches{_unit(measure)}"
    bands = "; bands: 95 % bootstrap intervals over seeds" if len(result["seeds"]) > 1 else ""
    return Figure("curves", title, f"{caption}{bands}.", svg)


def _series(at: int, name: str, points: list[Mapping[str, Any]]) -> Series:
    x, y = (np.array([point[key] for point in points], dtype=np.float64) for key in ("episodes", "value"))
    has_interval = all(point["low"] is not None for point in points)
    low, high = (np.array([point[key] for point in points], dtype=np.float64) for key in ("low", "high"))
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
