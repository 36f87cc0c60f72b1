"""The chart of regret: what every policy lost beside the best arm, pull by pull."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lapwing.report import charts
from lapwing.report.charts import MARKERS, Series
from lapwing.report.series import Figure
from lapwing.report.svg import LINES
from lapwing.report.verdict import ORACLES, label, ordered_policies


def regret_figures(evaluation: Mapping[str, Any] | None) -> list[Figure]:
    """One line a policy, for games with a regret at every step; empty for all others.

    Args:
      evaluation: the object of `lapwing eval --json`.
    """
    policies = {} if evaluation is None else ordered_policies(evaluation)
    curves = {name: found["regret_curve"] for name, found in policies.items() if found.get("regret_curve")}
    # A heuristic that is one of the named players would lie under its line.
    if curves.get("heuristic") in [curves.get(name) for name in ORACLES]:
        curves.pop("heuristic", None)
    if not curves:
        return []
    series = []
    for nth, (name, points) in enumerate(curves.items()):
        step, mean, low, high = (np.array([point[key] for point in points]) for key in ("step", "mean", "low", "high"))
        # Where the colours begin again, they have other markers.
        colour, marker = LINES[nth % len(LINES)], MARKERS[(nth + nth // len(LINES)) % len(MARKERS)]
        series.append(Series(label(name), step, mean, low, high, colour, marked=True, banded=True, marker=marker))
    svg = charts.line_chart(
        "regret", "Regret of each policy", series, x_label="pulls", y_label="regret so far (reward)"
    )
    caption = (
        "Expected reward lost beside the best arm on the test matches, summed up to a pull; bands: 95 % intervals. "
        "A line that goes on rising straight never settles on the best arm."
    )
    return [Figure("regret", "Regret", caption, svg)]
