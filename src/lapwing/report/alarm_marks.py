"""What alarms of a run were held against, iteration by iteration, and where they were raised."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lapwing.core.errors import UserError
from lapwing.report.series import MAIN, Log, Marks, Rows
from lapwing.training.alarms import Alarms

# Alarm → the metrics on whose charts it is marked.
_METRICS = {
    "gap": ("policy/gap",),
    "nonfinite": ("update/gradient_norm",),
    "entropy": ("policy/entropy",),
    "length": ("rollout/tokens_per_step", "rollout/length"),
    "valid": ("rollout/valid",),
    "no_signal": ("rollout/zero_spread_groups",),
    "constant": ("rollout/top_action",),
}
_BELOW = ("policy/entropy", "rollout/valid")
_AT = ("rollout/zero_spread_groups",)
# Learning makes policies certain, and episodes longer or equal.
_UNLESS_BETTER = ("policy/entropy", "rollout/length", "rollout/zero_spread_groups", "rollout/top_action")


def alarm_marks(rows: Rows, settings: Mapping[str, Any] | None, faults: Sequence[Mapping[str, Any]]) -> Marks:
    """Replay the limits of a main stage's alarms.

    Args:
      rows: of the main stage, in order.
      settings: the recipe's section `alarms`; None, or one that is none, has no limits.
      faults: the lines of faults.jsonl.
    """
    raised: dict[str, list[float]] = {}
    for fault in faults:
        if fault.get("kind") == "alarm" and fault.get("stage") == MAIN:
            for metric in _METRICS.get(str(fault.get("alarm")), ()):
                raised.setdefault(metric, []).append(float(fault["iteration"]))
    try:
        alarms = Alarms(**(settings or {})) if settings is not None else None
    except (UserError, TypeError):  # a recipe of another version, or a damaged one
        alarms = None
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows if alarms is not None else ():
        assert alarms is not None
        for metric, limit in alarms.limits().items():
            found.setdefault(metric, []).append((row["iteration"], limit))
        alarms.check(row)
    limits = {metric: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for metric, pairs in found.items()}
    return Marks(limits, raised)


def alarm_words(log: Log, metric: str) -> str:
    """What a caption says of a metric's alarm, as " Alarm above 0.05 (red, where in sight)."; empty without one."""
    raised = " Full red lines: an alarm was raised." if log.alarms.raised.get(metric) else ""
    if metric not in log.alarms.limits:
        return raised
    side = "below" if metric in _BELOW else "at" if metric in _AT else "above"
    _, limit = log.alarms.limits[metric]
    moving = " at the end" if np.ptp(limit) > 0 else ""
    unless = " unless the return is better than at the start" if metric in _UNLESS_BETTER else ""
    return f" Alarm {side} {limit[-1]:.3g}{moving} (dashed red, where in sight){unless}.{raised}"
