"""Where the time of a run went."""

import numpy as np

from lapwing.report import charts
from lapwing.report.series import Figure, Log

_PHASES = {
    "playing": "time/play",
    "credit": "time/credit",
    "updating": "time/update",
    "development": "time/evaluation",
    "checkpoints": "time/checkpoint",
}


def time_figures(log: Log) -> list[Figure]:
    """The share of each phase over the run, and its seconds in all; nothing where no time was logged."""
    return [figure for figure in (_shares(log), _totals(log)) if figure is not None]


def _shares(log: Log) -> Figure | None:
    parts = {text: np.array([row.get(name) or 0.0 for row in log.main]) for text, name in _PHASES.items()}
    parts = {text: seconds for text, seconds in parts.items() if seconds.any()}
    if not parts:
        return None
    x = np.array([row["iteration"] for row in log.main], dtype=np.float64)
    title = "Time by phase over the run"
    svg = charts.share_chart("time-share", title, x, parts, x_label="iteration")
    caption = "Share of each phase in the wall time of the main stage's iterations (share; means of neighbouring ones)."
    return Figure("time-share", title, caption, svg)


def _totals(log: Log) -> Figure | None:
    seconds = log.seconds or {}
    spent = {text: sum(row.get(name) or 0.0 for row in log.main) for text, name in _PHASES.items()}
    bars = [
        ("warm start", float(seconds.get("warm_start", 0.0))),
        *((text, float(value)) for text, value in spent.items()),
        ("test matches", float(seconds.get("evaluation", 0.0))),
    ]
    bars = [bar for bar in bars if bar[1] > 0]
    if not bars:
        return None
    svg = charts.bar_chart("time", "Time by phase", bars, x_label="seconds")
    caption = "Wall time of each phase (s); playing, credit and updating are the learning time."
    return Figure("time", "Time by phase", caption + _checkpoints(log, spent["checkpoints"]), svg)


def _checkpoints(log: Log, spent: float) -> str:
    """What saving took of the whole run, or of what is logged of one that goes on."""
    seconds = log.seconds or {}
    whole = seconds.get("total") or sum(row.get(name) or 0.0 for row in log.main for name in _PHASES.values())
    share = f"{100 * spent / whole:.1f} % of the wall time ({spent:,.1f} of {whole:,.1f} s)" if spent else ""
    return f" Checkpoints took {share}." if share else ""
