"""Which charts a run's page shows, and what each of them says."""

from collections.abc import Mapping, Sequence
from typing import Any

from lapwing.report import charts
from lapwing.report.alarm_marks import alarm_words
from lapwing.report.charts import Series
from lapwing.report.many_lines import critic_figures, part_figures
from lapwing.report.regret import regret_figures
from lapwing.report.series import MAIN, Figure, Log, evaluated, logged, resumed, sentence, with_unit
from lapwing.report.timing import time_figures
from lapwing.report.verdict import ORACLES, headline_metric, label, ordered_policies
from lapwing.training.metrics import METRICS

# Headline measure → its metric during training; a score is measured in evaluations only.
_PLAYED = {"success": "rollout/success", "return": "rollout/domain_return_mean"}
_SHARES = ("success", "valid")
# The rows of the interval chart and of the dashed lines; names that Lapwing does not know stay in the table.
_KNOWN = ("trained", "trained_greedy", "untrained", "random", "guess", "heuristic", *ORACLES, "optimal")


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
        x_label=with_unit(metric, unit),
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
        *regret_figures(log.evaluation),
        _returns(log),
        *part_figures(log),
        _plain(log, "entropy", "Entropy", "policy/entropy"),
        _plain(log, "zero-spread", "Groups without signal", "rollout/zero_spread_groups", limits=(0.0, 1.0)),
        _valid(log),
        _plain(log, "gradient", "Gradient norm", "update/gradient_norm", log_scale=True, learning=True),
        _plain(log, "kl", "KL divergence", "policy/kl", from_zero=True),
        _plain(log, "clip", "Clipped tokens", "policy/clip_share", from_zero=True),
        _plain(log, "tokens", "Tokens per step", "rollout/tokens_per_step", from_zero=True),
        _plain(log, "length", "Steps per episode", "rollout/length", from_zero=True),
        _plain(log, "top-action", "Most frequent action", "rollout/top_action", limits=(0.0, 1.0)),
        _plain(log, "gap", "Sampler–trainer gap", "policy/gap", from_zero=True),
        *critic_figures(log),
        *time_figures(log),
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
        *logged(log.main, x_name, _PLAYED.get(metric, ""), "training"),
        *evaluated(log, x_name, f"evaluation/{metric}", "development"),
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
        y_label=with_unit(metric, unit),
        limits=(0.0, 1.0) if metric in _SHARES else None,
        references=_references(log.evaluation, metric),
        resumed_at=resumed(log, x_name),
    )
    return Figure(name, title, f"{_sources(series, metric, unit)}, against {measured}.{_guides(log, series)}", svg)


def _returns(log: Log) -> Figure | None:
    trained = logged(log.main, "rollout/episodes", "rollout/return_mean", "training, with penalties")
    developed = evaluated(log, "rollout/episodes", "evaluation/return", "development, domain")
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
        resumed_at=resumed(log, "rollout/episodes"),
    )
    caption = "Mean return that is trained on, format penalties included"
    caption += ", and domain return on the development matches (reward)." if developed else " (reward)."
    caption += _intervals([*trained, *developed])
    return Figure("return", "Return against episodes", caption, svg)


def _valid(log: Log) -> Figure | None:
    played = logged(log.main, "iteration", "rollout/valid", "training")
    developed = evaluated(log, "iteration", "evaluation/valid", "development")
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
        resumed_at=resumed(log, "iteration"),
        alarm=log.alarms.limits.get("rollout/valid"),
        alarmed_at=log.alarms.raised.get("rollout/valid", ()),
    )
    caption = f"{sentence('rollout/valid')}." + (" The axis does not begin at 0." if lowest >= 0.9 else "")
    caption += _intervals(developed) + alarm_words(log, "rollout/valid")
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
    series = logged(rows, "iteration", metric, title)
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
        y_label=what if unit == "1" else with_unit(what, unit),
        limits=limits,
        log=is_log,
        resumed_at=resumed(log, "iteration"),
        alarm=log.alarms.limits.get(metric),
        alarmed_at=log.alarms.raised.get(metric, ()),
    )
    extra = " Iterations without an update are left out." if len(rows) < len(log.main) else ""
    extra += " Logarithmic axis." if is_log else ""
    if metric == "policy/kl" and not y.any():
        extra += " Always 0: the weights that were updated were the ones that had played."
    return Figure(name, title, f"{sentence(metric)}.{extra}{alarm_words(log, metric)}", svg)


def _warm_start(log: Log) -> Figure | None:
    rows = [{**row, "place": place} for place, row in enumerate(r for r in log.rows if r["stage"] != MAIN)]
    series = logged(rows, "place", "update/loss", "loss")
    if not series:
        return None
    svg = charts.line_chart("warm-start", "Warm-start loss", series, x_label="iteration", y_label="loss (nats)")
    caption = "Loss of the warm start before the main stage, mean over the updates of an iteration (nats)."
    return Figure("warm-start", "Warm-start loss", caption, svg)


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


def _sources(series: Sequence[Series], metric: str, unit: str) -> str:
    what = {"training": "training episodes", "development": "development matches"}
    where = " and ".join(f"of the {what[one.label]}" for one in series)
    return f"{metric.capitalize()} {where} ({unit})"


def _guides(log: Log, series: Sequence[Series]) -> str:
    said = []
    if log.evaluation is not None and _references(log.evaluation, _headline(log)):
        said.append("dashed: the other policies on the test matches")
    if log.resumed_at:
        said.append("dotted: resumed here")
    # Where no width is logged, Wilson's interval knows nothing of groups.
    knows_groups = _headline(log) != "success" or any("rollout/success_half_width" in row for row in log.main)
    more = "" if knows_groups else ", its episodes taken for independent"
    return _intervals(series, more) + (f" {'; '.join(said).capitalize()}." if said else "")


def _intervals(series: Sequence[Series], more: str = "") -> str:
    """What the bars and the band of a chart are."""
    bars = any(one.low is not None and one.marked for one in series)
    bands = [one for one in series if one.low is not None and not one.marked]
    said = ["bars: 95 % intervals"] if bars else []
    if bands:
        said.append(f"band: 95 % interval of a single iteration{more}")
    text = "; ".join(said)
    return f" {text[0].upper()}{text[1:]}." if text else ""
