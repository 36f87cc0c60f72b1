"""A chart as an SVG element that takes its colours and its letters from the page around it."""

import html
import io
import re
from collections.abc import Callable
from typing import Any

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
    "#090909": "var(--worse)",
}
INK, FAINT, *LINES, ALARM = _COLOURS
FIRST, SECOND = LINES[:2]
WIDTH, HEIGHT = 4.3, 2.8


def svg_of(name: str, title: str, draw: Callable[[Any], None], *, width: float = WIDTH, height: float = HEIGHT) -> str:
    """Draw with Matplotlib and keep the element alone; equal drawings give equal text.

    Args:
      name: unique on the page; begins the identifiers inside the SVG.
      title: what a screen reader says for the chart.
      draw: is given the axes; its colours are INK, FAINT, those of LINES, and ALARM.
      width, height: in inches; text is 9 points high.
    """
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
