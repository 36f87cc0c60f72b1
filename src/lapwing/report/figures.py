"""Which charts a run's page shows, and what each of them says."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.columns import PART_PREFIX
from lapwing.report import charts
from lapwing.report.charts import LINES, MARKERS, SECOND, Series
from lapwing.report.verdict import headline_metric, label, ordered_policies
from lapwing.stats.wilson import wilson
from lapwing.training.metrics import METRICS

MAIN = "main"
# Headline measure → its metric during training; a score is measured in evaluations only.
_PLAYED = {"success": "rollout/success", "return": "rollout/domain_return_mean"}
_SHARES = ("success", "valid")
_PART = f"evaluation/{PART_PREFIX}"
_MOST_PARTS, _LONGEST_PART = 24, 40
# The rows of the interval chart and of the dashed lines; names that Lapwing does not know stay in the table.
_KNOWN = ("trained", "trained_greedy", "untrained", "random", "guess", "heuristic", "optimal")
_PHASES = (
    ("playing", "time/play"),
    ("credit", "time/credit"),
    ("updating", "time/update"),
    ("development", "time/evaluation"),
    ("checkpoints", "time/checkpoint"),
)

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


class Log(NamedTuple):
    """What the charts are drawn from.

    Attributes:
      rows: the lines of metrics.jsonl, of all stages.
      evaluation: the object of evaluation.json; None while there is none.
      seconds: the manifest's "seconds".
      resumed_at: iterations of the main stage at which the run was resumed.
      development_episodes: matches of each evaluation during the run; None where it is not known.
    """

    rows: Rows
    evaluation: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] | None = None
    resumed_at: Sequence[int] = ()
    development_episodes: int | None = None

    @property
    def main(self) -> Rows:
        """The rows of the main stage."""
        return [row for row in self.rows if row["stage"] == MAIN]


def comparison(evaluation: Mapping[str, Any], name: str = "comparison") -> Figure | None:
    """Every policy's headline measure with its interval; None if no policy has it.

    Args:
      evaluation: the object of `lapwing eval --json`.
      name: of the figure.
    """
    metric = headline_metric(evaluation)
    rows = [
        (label(policy), measures[metric]["mean"], measures[metric]["low"], measures[metric]["high"])
        for policy, measures in ordered_policies(evaluation).items()
        if policy in _KNOWN and measures.get(metric)
    ]
    if not rows:
        return None
    unit = METRICS[f"evaluation/{metric}"].unit
    svg = charts.interval_chart(
        name,
        f"{metric} of each policy with its 95 % interval",
        rows,
        x_label=_with_unit(metric, unit),
        limits=(0.0, 1.0) if metric in _SHARES else None,
    )
    return Figure(name, "Side by side", f"Mean {metric} on the test matches ({unit}), 95 % intervals.", svg)


def curves(log: Log) -> list[Figure]:
    """The learning curves of the main stage, the time by phase, and the loss of the warm start.

    A chart whose metric was never logged is left out.
    """
    made = [
        _progress(log, "episodes"),
        _progress(log, "seconds"),
        _returns(log),
        *_parts(log),
        _plain(log, "entropy", "Entropy", "policy/entropy"),
        _plain(log, "zero-spread", "Groups without signal", "rollout/zero_spread_groups", limits=(0.0, 1.0)),
        _valid(log),
        _plain(log, "gradient", "Gradient norm", "update/gradient_norm", log_scale=True, learning=True),
        _plain(log, "kl", "KL divergence", "policy/kl", from_zero=True),
        _plain(log, "clip", "Clipped tokens", "policy/clip_share", from_zero=True),
        _plain(log, "tokens", "Tokens per step", "rollout/tokens_per_step", from_zero=True),
        _plain(log, "length", "Steps per episode", "rollout/length", from_zero=True),
        _time(log),
        _warm_start(log),
    ]
    return [figure for figure in made if figure is not None]


def _progress(log: Log, against: str) -> Figure | None:
    x_name, x_label, measured = {
        "episodes": ("rollout/episodes", "episodes played", "episodes played"),
        "seconds": ("time/learning", "learning time (s)", "seconds of playing, credit and updating"),
    }[against]
    metric = _headline(log)
    series = [
        *_line(log.main, x_name, _PLAYED.get(metric, ""), "training"),
        *_evaluated(log, x_name, f"evaluation/{metric}", "development"),
    ]
    if not series:
        return None
    name = f"{metric}-by-{against}"
    title = f"{metric.capitalize()} against {'episodes' if against == 'episodes' else 'learning time'}"
    unit = METRICS[f"evaluation/{metric}"].unit
    svg = charts.line_chart(
        name,
        title,
        series,
        x_label=x_label,
        y_label=_with_unit(metric, unit),
        limits=(0.0, 1.0) if metric in _SHARES else None,
        references=_references(log.evaluation, metric),
        resumed_at=_resumed(log, x_name),
    )
    return Figure(name, title, f"{_sources(series, metric, unit)}, against {measured}.{_guides(log, series)}", svg)


def _returns(log: Log) -> Figure | None:
    trained = _line(log.main, "rollout/episodes", "rollout/return_mean", "training, with penalties")
    developed = _evaluated(log, "rollout/episodes", "evaluation/return", "development, domain")
    if _headline(log) == "return":
        developed = []
    if not trained and not developed:
        return None
    svg = charts.line_chart(
        "return",
        "Return against episodes",
        [*trained, *developed],
        x_label="episodes played",
        y_label="return (reward)",
        resumed_at=_resumed(log, "rollout/episodes"),
    )
    caption = "Mean return that is trained on, format penalties included"
    caption += ", and domain return on the development matches (reward)." if developed else " (reward)."
    return Figure("return", "Return against episodes", caption, svg)


def _parts(log: Log) -> list[Figure]:
    """The named parts of the reward on the development matches, a few lines to a figure."""
    names = list(dict.fromkeys(name for row in log.main for name in row if name.startswith(_PART)))
    lines = [(_plain_name(name.removeprefix(_PART)), *_points(log.main, "rollout/episodes", name)) for name in names]
    lines = [line for line in lines if len(line[1])][:_MOST_PARTS]
    figures = -(-len(lines) // len(LINES))
    made = []
    # As many lines in one figure as in the next.
    for at, places in enumerate(np.array_split(np.arange(len(lines)), max(1, figures)), 1):
        if not len(places):
            continue
        series = [
            Series(text, x, y, colour=colour, marked=True, marker=marker)
            for (text, x, y), colour, marker in zip((lines[i] for i in places), LINES, MARKERS, strict=False)
        ]
        name, title = ("parts", "Reward parts") if figures == 1 else (f"parts-{at}", f"Reward parts, {at} of {figures}")
        svg = charts.line_chart(
            name,
            title,
            series,
            x_label="episodes played",
            y_label="sum over an episode",
            limits=(0.0, 1.0) if all(((one.y >= 0) & (one.y <= 1)).all() for one in series) else None,
            resumed_at=_resumed(log, "rollout/episodes"),
        )
        caption = "Named parts of the reward before their weights, summed over an episode, on the development matches."
        made.append(Figure(name, title, caption, svg))
    return made


def _plain_name(text: str) -> str:
    """A name that a game gives, in letters that every font has."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)[:_LONGEST_PART]


def _valid(log: Log) -> Figure | None:
    played = _line(log.main, "iteration", "rollout/valid", "training")
    developed = _evaluated(log, "iteration", "evaluation/valid", "development")
    if not played and not developed:
        return None
    lowest = min(float(one.y.min()) for one in [*played, *developed])
    svg = charts.line_chart(
        "valid",
        "Valid replies",
        [*played, *developed],
        x_label="iteration",
        y_label="valid replies (share)",
        limits=(0.0, 1.0) if lowest < 0.9 else (0.9, 1.0),
        resumed_at=_resumed(log, "iteration"),
    )
    caption = f"{_sentence('rollout/valid')}." + (" The axis does not begin at 0." if lowest >= 0.9 else "")
    return Figure("valid", "Valid replies", caption, svg)


def _plain(
    log: Log,
    name: str,
    title: str,
    metric: str,
    *,
    limits: tuple[float, float] | None = None,
    log_scale: bool = False,
    from_zero: bool = False,
    learning: bool = False,
) -> Figure | None:
    """One metric against iterations; `learning` leaves out iterations that updated nothing."""
    rows = [row for row in log.main if not (learning and row.get("update/skipped"))]
    series = _line(rows, "iteration", metric, title)
    if not series:
        return None
    y = series[0].y
    if from_zero:
        limits = (0.0, 1.05 * float(y.max()) or 1.0)
    is_log = log_scale and bool((y > 0).all())
    unit = METRICS[metric].unit
    what = title if title[:2].isupper() else title.lower()
    svg = charts.line_chart(
        name,
        title,
        series,
        x_label="iteration",
        y_label=what if unit == "1" else _with_unit(what, unit),
        limits=limits,
        log=is_log,
        resumed_at=_resumed(log, "iteration"),
    )
    extra = " Iterations without an update are left out." if len(rows) < len(log.main) else ""
    extra += " Logarithmic axis." if is_log else ""
    if metric == "policy/kl" and not y.any():
        extra += " Always 0: the weights that were updated were the ones that had played."
    return Figure(name, title, f"{_sentence(metric)}.{extra}", svg)


def _time(log: Log) -> Figure | None:
    spent = [(text, float(sum(row.get(name, 0.0) for row in log.main))) for text, name in _PHASES]
    seconds = log.seconds or {}
    bars = [
        ("warm start", float(seconds.get("warm_start", 0.0))),
        *spent,
        ("test matches", float(seconds.get("evaluation", 0.0))),
    ]
    bars = [bar for bar in bars if bar[1] > 0]
    if not bars:
        return None
    svg = charts.bar_chart("time", "Time by phase", bars, x_label="seconds")
    caption = "Wall time of each phase (s); playing, credit and updating are the learning time."
    return Figure("time", "Time by phase", caption, svg)


def _warm_start(log: Log) -> Figure | None:
    rows = [{**row, "place": place} for place, row in enumerate(r for r in log.rows if r["stage"] != MAIN)]
    series = _line(rows, "place", "update/loss", "loss")
    if not series:
        return None
    svg = charts.line_chart("warm-start", "Warm-start loss", series, x_label="iteration", y_label="loss (nats)")
    caption = "Loss of the warm start before the main stage, mean over the updates of an iteration (nats)."
    return Figure("warm-start", "Warm-start loss", caption, svg)


def _line(rows: Rows, x_name: str, y_name: str, text: str) -> list[Series]:
    x, y = _points(rows, x_name, y_name)
    return [Series(text, x, y)] if len(x) else []


def _evaluated(log: Log, x_name: str, y_name: str, text: str) -> list[Series]:
    x, y = _points(log.main, x_name, y_name)
    if not len(x):
        return []
    n = log.development_episodes
    if n is None or y_name != "evaluation/success" or not ((y >= 0) & (y <= 1)).all():
        return [Series(text, x, y, colour=SECOND, marked=True)]
    found = [wilson(round(float(share) * n), n) for share in y]
    low, high = np.array([one.low for one in found]), np.array([one.high for one in found])
    return [Series(text, x, y, low, high, colour=SECOND, marked=True)]


def _points(rows: Rows, x_name: str, y_name: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have both numbers, [points] each."""
    pairs = [(row[x_name], row[y_name]) for row in rows if row.get(x_name) is not None and row.get(y_name) is not None]
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    both = both[np.isfinite(both).all(axis=1)]
    return both[:, 0], both[:, 1]


def _headline(log: Log) -> str:
    if log.evaluation is not None:
        return headline_metric(log.evaluation)
    for metric in ("success", "score"):
        if any(f"{room}/{metric}" in row for row in log.main for room in ("rollout", "evaluation")):
            return metric
    return "return"


def _references(evaluation: Mapping[str, Any] | None, metric: str) -> list[tuple[str, float]]:
    policies = {} if evaluation is None else ordered_policies(evaluation)
    return [
        (label(name), policies[name][metric]["mean"])
        for name in ("untrained", "random", "guess", "heuristic", "optimal")
        if name in policies and policies[name].get(metric)
    ]


def _resumed(log: Log, x_name: str) -> list[float]:
    """Where the run was resumed, in the unit of x: at the last row before it."""
    if x_name == "iteration":
        return [float(at) for at in log.resumed_at]
    found = []
    for at in log.resumed_at:
        before = [row[x_name] for row in log.main if row["iteration"] < at and row.get(x_name) is not None]
        found.append(float(before[-1]) if before else 0.0)
    return found


def _sources(series: Sequence[Series], metric: str, unit: str) -> str:
    what = {"training": "training episodes", "development": "development matches"}
    where = " and ".join(f"of the {what[one.label]}" for one in series)
    return f"{metric.capitalize()} {where} ({unit})"


def _guides(log: Log, series: Sequence[Series]) -> str:
    said = []
    if any(one.low is not None for one in series):
        said.append("bars: 95 % intervals")
    if log.evaluation is not None and _references(log.evaluation, _headline(log)):
        said.append("dashed: the other policies on the test matches")
    if log.resumed_at:
        said.append("dotted: resumed here")
    return f" {'; '.join(said).capitalize()}." if said else ""


def _sentence(metric: str) -> str:
    meaning = METRICS[metric].meaning
    unit = METRICS[metric].unit
    begun = meaning if meaning[1:2].isdigit() else f"{meaning[0].upper()}{meaning[1:]}"
    return begun + ("" if unit == "1" else f" ({unit})")


def _with_unit(text: str, unit: str) -> str:
    return text if text == unit else f"{text} ({unit})"
