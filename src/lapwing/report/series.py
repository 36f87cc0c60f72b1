"""What a run's log holds, as lines to draw: points, their intervals, and the words beside them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.report.charts import Series
from lapwing.report.svg import FIRST, SECOND
from lapwing.stats.wilson import wilson
from lapwing.training.metrics import METRICS

MAIN = "main"
_LONGEST_NAME = 40

Rows = Sequence[Mapping[str, Any]]


class Figure(NamedTuple):
    """A chart with its caption.

    Attributes:
      name: unique on the page.
      title: a heading of a few words.
      caption: one line that says what is shown and in which unit.
      svg: the SVG element.
    """

    name: str
    title: str
    caption: str
    svg: str


class Marks(NamedTuple):
    """Where alarms stand.

    Attributes:
      limits: metric → iterations and the limit that each was held against, [points] each.
      raised: metric → iterations at which its alarm was raised.
    """

    limits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    raised: Mapping[str, Sequence[float]]


class Log(NamedTuple):
    """What the charts are drawn from.

    Attributes:
      rows: the lines of metrics.jsonl, of all stages.
      evaluation: the object of evaluation.json; None while there is none.
      seconds: the manifest's "seconds".
      resumed_at: iterations of the main stage at which the run was resumed.
      development_episodes: matches of each evaluation during the run; None where it is not known.
      alarms: of the main stage.
    """

    rows: Rows
    evaluation: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] | None = None
    resumed_at: Sequence[int] = ()
    development_episodes: int | None = None
    alarms: Marks = Marks({}, {})

    @property
    def main(self) -> Rows:
        """The rows of the main stage."""
        return [row for row in self.rows if row["stage"] == MAIN]


def logged(rows: Rows, x_name: str, y_name: str, label: str, *, colour: str = FIRST) -> list[Series]:
    """A metric that every iteration logs, with its interval where the rows allow one; none if it was never logged.

    That is the half width that is logged beside it, else, for a share of the episodes, Wilson's interval over the
    episodes of its iteration, as if they were independent.

    Args:
      rows: of one stage, in order.
      x_name, y_name: metrics.
      label: of the line.
      colour: one of LINES.
    """
    found = finite_rows(rows, x_name, y_name)
    if not found:
        return []
    x, y = points(found, x_name, y_name)
    low_high = _interval(rows, found, y_name, y)
    return [Series(label, x, y, *low_high, colour=colour)]


def evaluated(log: Log, x_name: str, y_name: str, label: str) -> list[Series]:
    """A metric of the development matches, with its interval where it is known; none if it was never logged."""
    found = finite_rows(log.main, x_name, y_name)
    if not found:
        return []
    x, y = points(found, x_name, y_name)
    bounds = [(row.get(f"{y_name}_low"), row.get(f"{y_name}_high")) for row in found]
    n = log.development_episodes
    if all(low is not None and high is not None for low, high in bounds):
        low, high = np.array(bounds, dtype=np.float64).T
    elif n is not None and y_name == "evaluation/success" and ((y >= 0) & (y <= 1)).all():
        low, high = _wilson(y, np.full(len(y), n))
    else:
        low = high = None
    return [Series(label, x, y, low, high, colour=SECOND, marked=True)]


def _interval(rows: Rows, found: Rows, y_name: str, y: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The bounds of what `found`, some of the rows, say; none where one of them has none."""
    width_name = f"{y_name.removesuffix('_mean')}_half_width"
    half = np.array([row.get(width_name, np.nan) for row in found], dtype=np.float64)
    if np.isfinite(half).all():
        low, high = y - half, y + half
        # Student's interval knows of no end of the scale.
        return (np.maximum(low, 0.0), np.minimum(high, 1.0)) if y_name == "rollout/success" else (low, high)
    if y_name != "rollout/success" or not ((y >= 0) & (y <= 1)).all():
        return None, None
    played = np.diff([row.get("rollout/episodes", np.nan) for row in rows], prepend=0.0)
    of_row = dict(zip((row["iteration"] for row in rows), played, strict=True))
    total = np.array([of_row[row["iteration"]] for row in found])
    return _wilson(y, total) if (total >= 1).all() else (None, None)


def _wilson(share: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bounds = [wilson(round(float(p) * n), n) for p, n in zip(share, map(int, total), strict=True)]
    return np.array([one.low for one in bounds]), np.array([one.high for one in bounds])


def finite_rows(rows: Rows, x_name: str, y_name: str) -> Rows:
    """The rows that have both numbers."""
    return [row for row in rows if _is_number(row.get(x_name)) and _is_number(row.get(y_name))]


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def points(rows: Rows, x_name: str, y_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Both numbers of the rows that have both, [points] each."""
    pairs = [(row[x_name], row[y_name]) for row in finite_rows(rows, x_name, y_name)]
    x, y = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return x, y


def resumed(log: Log, x_name: str) -> list[float]:
    """Where the run was resumed, in the unit of x: at the last row before it."""
    if x_name == "iteration":
        return [float(at) for at in log.resumed_at]
    found = []
    for at in log.resumed_at:
        before = [row[x_name] for row in log.main if row["iteration"] < at and row.get(x_name) is not None]
        found.append(float(before[-1]) if before else 0.0)
    return found


def plain_name(text: str) -> str:
    """A name that a game gives, in letters that every font has."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)[:_LONGEST_NAME]


def sentence(metric: str) -> str:
    """What a metric means, with its unit, without a full stop."""
    meaning, unit = METRICS[metric].meaning, METRICS[metric].unit
    begun = meaning if meaning[1:2].isdigit() else f"{meaning[0].upper()}{meaning[1:]}"
    return begun + ("" if unit == "1" else f" ({unit})")


def with_unit(text: str, unit: str) -> str:
    """A name with its unit in brackets, where that says more than the name."""
    return text if text == unit else f"{text} ({unit})"
