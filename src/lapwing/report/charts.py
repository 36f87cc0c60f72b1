"""Curves and bars of a run as SVG that takes its colours from the page around it."""

import html
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

# Stand-ins that Matplotlib draws with; the page's style gives each its colour in the light and in the dark.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--faint)",
    "#030303": "var(--line-1)",
    "#040404": "var(--line-2)",
    "#050505": "var(--line-3)",
    "#060606": "var(--line-4)",
    "#070707": "var(--line-5)",
    "#080808": "var(--line-6)",
}
INK, FAINT, *LINES = _COLOURS
FIRST, SECOND = LINES[:2]
# Beside the colours, for eyes that do not tell them apart.
MARKERS = ("o", "s", "^", "D", "v", "P")
_WIDTH, _HEIGHT = 4.3, 2.8
# Longer logs are drawn as means of so many equal parts.
MOST_POINTS = 300
_SMOOTHED_FROM = 40
_LEGEND_LETTERS = 60


class Series(NamedTuple):
    """A line of a chart.

    Attributes:
      label: in the legend.
      x, y: [points], finite, x ascending.
      low, high: an interval for each point, [points]; None draws none.
      colour: one of LINES.
      marked: draw points joined by a line, and no running mean.
      banded: draw the interval of a marked line as a band.
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
) -> str:
    """Draw lines over one axis.

    A line of at least 40 points is drawn faintly, with its running mean over it.

    Args:
      name: unique on the page; begins the identifiers inside the SVG.
      title: what a screen reader says for the chart.
      series: the lines.
      x_label, y_label: with their units.
      limits: the range of y that is shown at least; None fits the data.
      log: a logarithmic y axis; all y must be positive.
      references: label and height of horizontal dashed lines.
      resumed_at: places on x of vertical dotted lines.

    Returns:
      The SVG element.
    """

    def draw(axes: Any) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        for one in series:
            _draw_series(axes, one)
        if log:
            axes.set_yscale("log")
            _plain_log_ticks(axes)
        _set_limits(axes, limits)
        for place in resumed_at:
            axes.axvline(place, color=FAINT, linewidth=1, linestyle=(0, (1, 2)))
        _draw_references(axes, references)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        axes.grid(visible=True, color=FAINT, linewidth=0.5, alpha=0.35)
        if len(series) > 1:
            _legend(axes, columns)

    columns = max(1, min(len(series), _LEGEND_LETTERS // (max(len(one.label) for one in series) + 4)))
    # A legend of several rows is not taken from the axes.
    rows = -(-len(series) // columns)
    return _svg(name, title, draw, height=_HEIGHT + 0.17 * (rows - 1))


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

    return _svg(name, title, draw)


def interval_chart(
    name: str,
    title: str,
    rows: Sequence[tuple[str, float, float, float]],
    *,
    x_label: str,
    limits: tuple[float, float] | None = None,
    colours: Sequence[str] = (),
) -> str:
    """Draw a point with its interval for each row.

    Args:
      name, title: as for `line_chart`.
      rows: label, mean, low and high, from top to bottom; the first is drawn in its own colour.
      x_label: with its unit.
      limits: the range of x that is shown at least.
      colours: one of LINES for each row; left out, the first row has a colour and the others have none.

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

    return _svg(name, title, draw, width=3.7, height=0.9 + 0.31 * len(rows))


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


def _draw_series(axes: Any, one: Series) -> None:
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
    if len(x) < _SMOOTHED_FROM:
        marker = "o" if len(x) == 1 else ""
        axes.plot(x, y, color=one.colour, linewidth=1.6, marker=marker, markersize=3, label=one.label)
        return
    axes.plot(x, y, color=one.colour, linewidth=0.8, alpha=0.35)
    axes.plot(x, running_mean(y), color=one.colour, linewidth=1.8, label=one.label)


def _set_limits(axes: Any, limits: tuple[float, float] | None) -> None:
    """Show the whole of `limits`, and beyond it only what the data needs and not Matplotlib's margin."""
    if limits is None:
        return
    pad = 0.04 * (limits[1] - limits[0])
    data = axes.dataLim
    axes.set_ylim(min(data.y0, limits[0]) - pad, max(data.y1, limits[1]) + pad)


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
        axes.annotate(
            text,
            (1.0, height),
            xycoords=("axes fraction", "data"),
            xytext=(1.02, place),
            textcoords=("axes fraction", "data"),
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


def _svg(name: str, title: str, draw: Callable[[Any], None], *, width: float = _WIDTH, height: float = _HEIGHT) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.formatter.useoffset": False,
        "axes.unicode_minus": True,
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "path.simplify": True,
    }
    # A person's own matplotlibrc must not change the page.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        stream = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _inline(stream.getvalue(), name, title)


def _inline(svg: str, name: str, title: str) -> str:
    """The svg element alone: no address, no style sheet, only identifiers of its own, the page's fonts and colours."""
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None, "Matplotlib writes a viewBox"
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg[svg.index(">") + 1 :].replace("xlink:href=", "href=")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda found: _round(found[0]), svg)
    svg = re.sub(r"font-family: [^;]*; ", "", svg)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r"\s*\n\s*", "\n", svg).strip()
    titled = html.escape(title)
    return f'<svg {box[0]} role="img" aria-labelledby="{name}-title">\n<title id="{name}-title">{titled}</title>\n{svg}'


def _round(attribute: str) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", attribute)
