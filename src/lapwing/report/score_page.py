"""The page and the table of a score: what every method thinks of every step."""

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.clean_text import printable
from lapwing.core.storage import write_text
from lapwing.evaluation.score import BASE, Score, Scored
from lapwing.evaluation.transcripts import ShownEpisode, Transcripts
from lapwing.report.templates import template_environment

_SHADES = 5
_GREEN, _RED = "26, 127, 55", "200, 40, 30"
_STYLE = """
.score td, .score th { vertical-align: top; }
.score td:nth-child(2), .score td:nth-child(3), .score th:nth-child(2), .score th:nth-child(3) { text-align: left; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 12rem; max-width: 26rem; max-height: 14rem; }
.text { overflow: auto; font: .8rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.score th, .score td { padding: .3rem .6rem; }
.pick { cursor: pointer; }
summary .muted { margin-left: .5rem; }
"""


class Cell(NamedTuple):
    """An advantage as text, and the class that gives its colour."""

    text: str
    shade: str


class StepRow(NamedTuple):
    """One step of a shown episode.

    Attributes:
      number: from 1.
      view, reply: as text.
      marks: the classes that colour the reply, one for each method.
      reward: as text.
      cells: what each method says.
    """

    number: int
    view: str
    reply: str
    marks: str
    reward: str
    cells: list[Cell]


class EpisodeRow(NamedTuple):
    """A shown episode: a heading, what is known of it, and its steps."""

    heading: str
    facts: str
    steps: list[StepRow]


def score_table(score: Score) -> tuple[list[str], list[list[str]]]:
    """Headings, and one row a method with its figures."""
    base = _base(score)
    headings = ["method", "level", "mean |A|", "zero", "sign agrees", f"rank corr. with {score.methods[base].name}"]
    rows = [
        [
            method.name,
            method.level,
            f"{method.mean_absolute:.4g}",
            f"{method.zero_share:.1%}",
            "–" if method.sign_agreement is None else f"{method.sign_agreement:.1%}",
            _correlation(score.rank_correlation[at, base]),
        ]
        for at, method in enumerate(score.methods)
    ]
    return headings, rows


def score_summary(transcripts: Transcripts) -> str:
    """What was scored, as "64 episodes, 418 steps, 8 groups (format trl)"."""
    batch, groups = transcripts.batch, len(transcripts.groups)
    return (
        f"{_count(batch.num_episodes, 'episode')}, {_count(batch.num_steps, 'step')}, {_count(groups, 'group')} "
        f"(format {transcripts.form})"
    )


def write_score_page(score: Score, path: Path) -> None:
    """Write the page of a score: one file that loads nothing and runs nothing.

    It shows the first episodes of the file; equal scores give equal bytes.

    Args:
      score: what to show.
      path: of the page.
    """
    import markupsafe

    environment = template_environment()
    style = environment.get_template("style.css").render() + _STYLE + _colours(len(score.methods))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    transcripts = score.transcripts
    headings, rows = score_table(score)
    page = environment.get_template("score.html.jinja").render(
        # Both are made here, of numbers and constants only.
        style=markupsafe.Markup(style),
        style_hash=markupsafe.Markup(digest),
        name=printable(Path(transcripts.source).name or transcripts.source),
        summary=score_summary(transcripts),
        notes=[printable(note) for note in transcripts.notes],
        headings=headings,
        rows=rows,
        base=_base(score),
        names=[method.name for method in score.methods],
        correlation=[[_correlation(rho) for rho in row] for row in score.rank_correlation],
        not_scored=[printable(reason) for reason in score.not_scored.values()],
        episodes=_episodes(score),
        num_episodes=transcripts.batch.num_episodes,
    )
    write_text(path, page)


def _base(score: Score) -> int:
    return next((at for at, method in enumerate(score.methods) if method.name == BASE), 0)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _correlation(rho: float) -> str:
    return f"{rho + 0.0:.2f}" if math.isfinite(rho) else "–"


def _colours(methods: int) -> str:
    """A rule for every shade, and for every method one that lays its shades on the replies while it is chosen."""
    shades = {
        f"{sign}{n}": (rgb, 0.11 * n) for sign, rgb in (("p", _GREEN), ("n", _RED)) for n in range(1, _SHADES + 1)
    }
    rules = [f".{name} {{ background: rgba({rgb}, {alpha:.2f}); }}" for name, (rgb, alpha) in shades.items()]
    rules += [
        f"body:has(#m{at}:checked) .m{at}{name} {{ background: rgba({rgb}, {alpha:.2f}); }}"
        for at in range(methods)
        for name, (rgb, alpha) in shades.items()
    ]
    return "\n".join(rules) + "\n"


def _episodes(score: Score) -> list[EpisodeRow]:
    splits = score.transcripts.batch.step_splits
    steps = [int(splits[one.index]) + at for one in score.transcripts.shown for at in range(len(one.steps))]
    scales = [_scale(method, steps) for method in score.methods]
    return [_episode(score, one, scales) for one in score.transcripts.shown]


def _scale(method: Scored, steps: Sequence[int]) -> float:
    """The advantage that gets the deepest colour; a few larger ones get it too."""
    size = np.abs(method.advantage[np.asarray(steps, dtype=np.int64)])
    return float(np.quantile(size[size > 0], 0.95)) if (size > 0).any() else 1.0


def _episode(score: Score, one: ShownEpisode, scales: Sequence[float]) -> EpisodeRow:
    found: dict[str, Any] = score.episode(one.index)
    rows = []
    for at, step in enumerate(one.steps):
        numbers = [found["advantage"][method.name][at] for method in score.methods]
        cells = [Cell(_signed(a), _shade(a, scale)) for a, scale in zip(numbers, scales, strict=True)]
        marks = " ".join(f"m{i}{cell.shade}" for i, cell in enumerate(cells) if cell.shade)
        reward = f"{found['reward'][at]:g}"
        rows.append(StepRow(at + 1, printable(step.view), printable(step.reply), marks, reward, cells))
    ended = "cut by a limit" if found["truncated"] else "ended by the rules"
    total = len(found["reward"])
    parts = [
        f"group {found['group']}",
        f"return {found['return']:g} ({_signed(found['relative_return'])} against its group)",
        _count(total, "step") if total == len(rows) else f"first {len(rows):,} of {total:,} steps",
        ended,
    ]
    if found["outcome"]:
        parts.append(f"outcome {found['outcome']:g}")
    return EpisodeRow(printable(found["id"]), printable(" · ".join(parts)), rows)


def _signed(value: float) -> str:
    return f"{value:+.3g}" if value else "0"


def _shade(value: float, scale: float) -> str:
    """The class of a colour; none for 0."""
    if not value:
        return ""
    return ("p" if value > 0 else "n") + str(min(_SHADES, math.ceil(_SHADES * min(1.0, abs(value) / scale))))
