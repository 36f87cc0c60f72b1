"""Charts with a line for each of several names: the parts of the reward, the critics."""

import numpy as np

from lapwing.core.columns import PART_PREFIX
from lapwing.report import charts
from lapwing.report.charts import MARKERS, Series
from lapwing.report.series import Figure, Log, plain_name, points, resumed
from lapwing.report.svg import LINES

_X = "rollout/episodes"
_MOST_PARTS = 24
_VARIANCE = "_explained_variance"
_LOSS = "_loss"


def part_figures(log: Log) -> list[Figure]:
    """The named parts of the reward, a few to a figure: lines of training episodes, marks of development matches."""
    rooms = [f"{room}/{PART_PREFIX}" for room in ("rollout", "evaluation")]
    found = dict.fromkeys(name.removeprefix(room) for row in log.main for name in row for room in rooms if room in name)
    names = [name for name in found if any(len(points(log.main, _X, room + name)[0]) for room in rooms)][:_MOST_PARTS]
    figures = -(-len(names) // len(LINES))
    made = []
    # As many names in one figure as in the next.
    for at, places in enumerate(np.array_split(np.arange(len(names)), max(1, figures)), 1):
        if not len(places):
            continue
        series = [line for nth, place in enumerate(places) for line in _part(log, names[place], nth)]
        name, title = ("parts", "Reward parts") if figures == 1 else (f"parts-{at}", f"Reward parts, {at} of {figures}")
        svg = charts.line_chart(
            name,
            title,
            series,
            x_label="episodes played",
            y_label="sum over an episode",
            limits=(0.0, 1.0) if all(((one.y >= 0) & (one.y <= 1)).all() for one in series) else None,
            resumed_at=resumed(log, _X),
        )
        alone = f" The part: {series[0].label}." if len(names) == 1 else ""
        made.append(Figure(name, title, _part_caption(log) + alone, svg))
    return made


def _part(log: Log, name: str, nth: int) -> list[Series]:
    """The line of the training episodes, and the marks of the development matches in its colour; named once."""
    label, colour, marker = plain_name(name), LINES[nth], MARKERS[nth]
    found = []
    x, y = points(log.main, _X, f"rollout/{PART_PREFIX}{name}")
    if len(x):
        found.append(Series(label, x, y, colour=colour))
    x, y = points(log.main, _X, f"evaluation/{PART_PREFIX}{name}")
    if len(x):
        found.append(Series("" if found else label, x, y, colour=colour, marked=True, marker=marker))
    return found


def _part_caption(log: Log) -> str:
    where = {
        "rollout": "lines: of the training episodes",
        "evaluation": "marks: on the development matches",
    }
    shown = [
        text
        for room, text in where.items()
        if any(name.startswith(f"{room}/{PART_PREFIX}") for row in log.main for name in row)
    ]
    return f"Named parts of the reward before their weights, summed over an episode (means); {', '.join(shown)}."


def critic_figures(log: Log) -> list[Figure]:
    """How much of the returns the critics foresaw, and their losses; nothing without a critic."""
    made = []
    for ending, name, title, y_label, caption in (
        (
            _VARIANCE,
            "critic-variance",
            "Critics: explained variance",
            "explained variance (share)",
            "Variance of the targets that each value head foresaw when the episodes were played (share); 1 is perfect, "
            "at 0 and below the mean of the targets is as good.",
        ),
        (
            _LOSS,
            "critic-loss",
            "Critics: value loss",
            "value loss (reward²)",
            "Value loss of each head, mean over the critic's updates (reward²).",
        ),
    ):
        heads = list(
            dict.fromkeys(key for row in log.main for key in row if key.startswith("critic/") and key.endswith(ending))
        )
        lines = [
            (key.removeprefix("critic/").removesuffix(ending), *points(log.main, "iteration", key)) for key in heads
        ]
        series = [
            Series(plain_name(head), x, y, colour=colour)
            for (head, x, y), colour in zip((line for line in lines if len(line[1])), LINES, strict=False)
        ]
        if not series:
            continue
        svg = charts.line_chart(
            name,
            title,
            series,
            x_label="iteration",
            y_label=y_label,
            limits=(0.0, 1.0) if ending == _VARIANCE and min(float(one.y.min()) for one in series) > -1.0 else None,
            resumed_at=resumed(log, "iteration"),
        )
        if len(series) == 1:
            caption += f" Head: {series[0].label}."
        made.append(Figure(name, title, caption, svg))
    return made
