"""Curves and bars of a run as SVG that takes its colours from the page around it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.report.svg import ALARM, FAINT, FIRST, HEIGHT, INK, LINES, svg_of

# Beside the colours, for eyes that do not tell them apart.
MARKERS = ("o", "s", "^", "D", "v", "P")
# Longer logs are drawn as means of so many equal parts.
MOST_POINTS = 300
_MOST_SHARES = 40
_SMOOTHED_FROM = 40
_LEGEND_LETTERS = 60


class Series(NamedTuple):
    """A line of a chart.

    Attributes:
      label: in the legend; an empty one is not there.
      x, y: [points], finite, x ascending.
      low, high: an interval for each point, [points], finite; None draws none.
      colour: one of LINES.
      marked: draw points joined by a line, and no running mean.
      banded: draw the interval of a marked line as a band; that of another line always is one.
      marker: of MARKERS.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    colour: str = FIRST
    marked: bool = False
    banded: bool = False
    marker: str = MARKERS[0]


def line_chart(
    name: str,
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    references: Sequence[tuple[str, float]] = (),
    resumed_at: Sequence[float] = (),
    alarm: tuple[np.ndarray, np.ndarray] | None = None,
    alarmed_at: Sequence[float] = (),
) -> str:
    """Draw lines over one axis.

    A line of at least 40 points is drawn faintly, with its running mean over it; its band is the running mean of its
    intervals.

    Args:
      name: unique on the page; begins the identifiers inside the SVG.
      title: what a screen reader says for the chart.
      series: the lines.
      x_label, y_label: with their units.
      limits: the range of y that is shown at least; None fits the data.
      log: a logarithmic y axis; all y must be positive.
      references: label and height of horizontal dashed lines.
      resumed_at: places on x of vertical dotted lines.
      alarm: x and y, [points] each, of a dashed line in the colour of what is wrong, as far as it is in sight.
      alarmed_at: places on x of full vertical lines in that colour.

    Returns:
      The SVG element.
    """

    def draw(axes: Any) -> None:
        for one in series:
            _draw_series(axes, one, 0.35 if len(series) < 4 else 0.15)
        if log:
            axes.set_yscale("log")
            _plain_log_ticks(axes)
        _set_limits(axes, limits)
        for place in resumed_at:
            axes.axvline(place, color=FAINT, linewidth=1, linestyle=(0, (1, 2)))
        _draw_alarm(axes, alarm, alarmed_at)
        _draw_references(axes, references)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _plain_ticks(axes.xaxis)
        axes.grid(visible=True, color=FAINT, linewidth=0.5, alpha=0.35)
        if len(labels) > 1:
            _legend(axes, columns)

    labels = [one.label for one in series if one.label]
    columns, height = _room(labels)
    return svg_of(name, title, draw, height=height)


def share_chart(name: str, title: str, x: np.ndarray, parts: Mapping[str, np.ndarray], *, x_label: str) -> str:
    """Draw how a whole is shared out along x, as areas on top of each other.

    Args:
      name, title: as for `line_chart`.
      x: [points], ascending.
      parts: name → amount at each x, [points], at least 0; at most as many as there are colours. A point at which all
        are 0 is drawn as nothing.
      x_label: with its unit.

    Returns:
      The SVG element.
    """
    # Few and with steps, so that what is done every so often does not look like a spike.
    places, amounts = thin(x, np.zeros(len(x)), _MOST_SHARES)[0], [thin(x, y, _MOST_SHARES)[1] for y in parts.values()]
    total = np.sum(amounts, axis=0)
    shares = [np.divide(one, total, out=np.zeros_like(total), where=total > 0) for one in amounts]
    if len(places) == 1:
        places, shares = places[0] + np.array([-0.5, 0.5]), [np.repeat(one, 2) for one in shares]

    def draw(axes: Any) -> None:
        axes.stackplot(places, *shares, labels=list(parts), colors=LINES, alpha=0.75, linewidth=0, step="mid")
        axes.set_xlim(places[0], places[-1])
        axes.set_ylim(0, 1)
        axes.set_xlabel(x_label)
        axes.set_ylabel("share of the time")
        _plain_ticks(axes.xaxis)
        _legend(axes, columns)

    columns, height = _room(list(parts), most=3)
    return svg_of(name, title, draw, height=height)


def _room(labels: Sequence[str], most: int = 6) -> tuple[int, float]:
    """Columns of a legend, and the height of its chart: a legend of several rows is not taken from the axes."""
    columns = max(1, min(len(labels), most, _LEGEND_LETTERS // (max(map(len, labels)) + 4)))
    return columns, HEIGHT + 0.17 * (-(-len(labels) // columns) - 1)


def bar_chart(name: str, title: str, bars: Sequence[tuple[str, float]], *, x_label: str) -> str:
    """Draw horizontal bars from 0, each with its value at its end.

    Args:
      name, title: as for `line_chart`.
      bars: label and length, from top to bottom.
      x_label: with its unit.

    Returns:
      The SVG element.
    """

    def draw(axes: Any) -> None:
        place = np.arange(len(bars))
        values = [value for _, value in bars]
        axes.barh(place, values, height=0.62, color=FIRST)
        for at, value in zip(place, values, strict=True):
            axes.annotate(
                f"{value:,.1f}" if value >= 1 else f"{value:.2f}",
                (value, at),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=INK,
            )
        axes.set_yticks(place, [text for text, _ in bars])
        axes.invert_yaxis()
        axes.set_xlim(0, max([*values, 1e-9]) * 1.18)
        axes.set_xlabel(x_label)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=True, axis="x", color=FAINT, linewidth=0.5, alpha=0.35)

    return svg_of(name, title, draw)


def interval_chart(
    name: str,
    title: str,
    rows: Sequence[tuple[str, float, float, float]],
    *,
    x_label: str,
    limits: tuple[float, float] | None = None,
    colours: Sequence[str] = (),
    width: float = 3.7,
) -> str:
    """Draw a point with its interval for each row.

    Args:
      name, title: as for `line_chart`.
      rows: label, mean, low and high, from top to bottom; the first is drawn in its own colour.
      x_label: with its unit.
      limits: the range of x that is shown at least.
      colours: one of LINES for each row; left out, the first row has a colour and the others have none.
      width: in inches.

    Returns:
      The SVG element.
    """

    def draw(axes: Any) -> None:
        for at, (_, mean, low, high) in enumerate(rows):
            colour = colours[at] if colours else FIRST if at == 0 else INK
            axes.plot([low, high], [at, at], color=colour, linewidth=2.4, solid_capstyle="butt", alpha=0.7)
            axes.plot([mean], [at], marker="o", markersize=6, color=colour)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        if limits is not None:
            spread = limits[1] - limits[0]
            low = min(limits[0], *(row[2] for row in rows)) - 0.03 * spread
            high = max(limits[1], *(row[3] for row in rows)) + 0.03 * spread
            axes.set_xlim(low, high)
        axes.set_xlabel(x_label)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=True, axis="x", color=FAINT, linewidth=0.5, alpha=0.35)

    return svg_of(name, title, draw, width=width, height=0.9 + 0.31 * len(rows))


def thin(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Means of at most `most` runs of neighbouring points, [points] each; shorter data is returned as it is."""
    if len(x) <= most:
        return x, y
    parts = np.array_split(np.arange(len(x)), most)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def running_mean(y: np.ndarray) -> np.ndarray:
    """Mean over a twentieth of the points on either side, [points].

    Near the beginning the window shrinks evenly, so that what is learnt at once stays visible and the line begins at
    the first point; near the end it shrinks on its right alone, so that the line ends in a mean.
    """
    half = max(1, len(y) // 20)
    total = np.concatenate([[0.0], np.cumsum(y)])
    at = np.arange(len(y))
    first = np.maximum(at - half, 0)
    end = at + 1 + np.minimum(np.minimum(half, at), len(y) - 1 - at)
    return (total[end] - total[first]) / (end - first)


def _draw_series(axes: Any, one: Series, faint: float) -> None:
    if one.marked:
        style: dict[str, Any] = {"color": one.colour, "marker": one.marker, "label": one.label, "zorder": 4}
        axes.plot(one.x, one.y, linewidth=1.4, markersize=3.6, **style)
        if one.low is None or one.high is None:
            return
        if one.banded:
            axes.fill_between(one.x, one.low, one.high, color=one.colour, alpha=0.15, linewidth=0)
        else:
            axes.vlines(one.x, one.low, one.high, color=one.colour, linewidth=1.2, alpha=0.6, zorder=4)
        return
    x, y = thin(one.x, one.y)
    is_short = len(x) < _SMOOTHED_FROM
    if one.low is not None and one.high is not None:
        low, high = (thin(one.x, bound)[1] for bound in (one.low, one.high))
        low, high = (low, high) if is_short else (running_mean(low), running_mean(high))
        axes.fill_between(x, low, high, color=one.colour, alpha=0.15, linewidth=0)
    if is_short:
        marker = "o" if len(x) == 1 else ""
        axes.plot(x, y, color=one.colour, linewidth=1.6, marker=marker, markersize=3, label=one.label)
        return
    axes.plot(x, y, color=one.colour, linewidth=0.8, alpha=faint)
    axes.plot(x, running_mean(y), color=one.colour, linewidth=1.8, label=one.label)


def _set_limits(axes: Any, limits: tuple[float, float] | None) -> None:
    """Show the whole of `limits`, and beyond it only what the data needs and not Matplotlib's margin."""
    if limits is None:
        return
    pad = 0.04 * (limits[1] - limits[0])
    data = axes.dataLim
    axes.set_ylim(min(data.y0, limits[0]) - pad, max(data.y1, limits[1]) + pad)


def _draw_alarm(axes: Any, alarm: tuple[np.ndarray, np.ndarray] | None, alarmed_at: Sequence[float]) -> None:
    # A limit that is far away must not flatten the line that it is held against.
    sight = axes.get_xlim(), axes.get_ylim()
    if alarm is not None:
        axes.plot(*alarm, color=ALARM, linewidth=1, linestyle=(0, (6, 3)), zorder=1.5)
    for place in alarmed_at:
        axes.axvline(place, color=ALARM, linewidth=1, alpha=0.8, zorder=1.5)
    axes.set_xlim(sight[0])
    axes.set_ylim(sight[1])


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(_tick))


def _tick(value: float, _: int | None = None) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def _plain_log_ticks(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axes.get_ylim()
    is_narrow = high / low < 30
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_narrow else (1,), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_references(axes: Any, references: Sequence[tuple[str, float]]) -> None:
    low, high = axes.get_ylim()
    shown = sorted((height, text) for text, height in references if low <= height <= high)
    if not shown:
        return
    places = _apart([height for height, _ in shown], 0.085 * (high - low), low, high)
    for (height, text), place in zip(shown, places, strict=True):
        axes.axhline(height, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6, zorder=1)
        # From a line to its name, which its neighbours may have moved.
        axes.plot(
            [1.0, 1.03],
            [height, place],
            transform=axes.get_yaxis_transform(),
            color=INK,
            linewidth=0.6,
            alpha=0.6,
            clip_on=False,
            scalex=False,
            scaley=False,
        )
        axes.annotate(
            text,
            (1.04, place),
            xycoords=("axes fraction", "data"),
            va="center",
            color=INK,
            fontsize=8,
            annotation_clip=False,
        )


def _apart(heights: list[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending heights moved as little as needed to be `gap` apart, within low … high where they fit."""
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + gap) if places else max(height, low))
    ceiling = high
    for i in reversed(range(len(places))):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return places


def _legend(axes: Any, columns: int) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        borderaxespad=0.1,
        handlelength=1.4,
        columnspacing=1.2,
    )
