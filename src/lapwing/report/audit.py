"""What an audit says: its tables at the terminal and on the page, and its charts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lapwing.report import charts
from lapwing.report.figures import Figure

NOTE = (
    "bias: error that no number of episodes averages away, given state, time and action; action bias: the part of it "
    "that changes the mean gradient; sd: what chance adds; < marks what was not told from 0. All in units of reward; "
    "methods that divide by a deviation are multiplied by the scale that fits best. sign, rank: agreement with the "
    "exact advantage, step by step. cosine: of the mean gradient with the exact one, 95 % interval. SNR 1 at: episodes "
    "after which the gradient's noise is as long as its signal."
)


class Table(NamedTuple):
    """A table as texts.

    Attributes:
      title: one line.
      headings, rows: the cells; the first column names the row.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]


class Section(NamedTuple):
    """An audit on the page of a run.

    Attributes:
      sentences: what was audited.
      tables, figures: what came out.
      left_out: why methods are missing, one sentence each.
    """

    sentences: list[str]
    tables: list[Table]
    figures: list[Figure]
    left_out: list[str]


def audit_section(result: Mapping[str, Any]) -> Section:
    """Everything that the page of a run shows of its audit.

    Args:
      result: the object of `lapwing audit --json`.
    """
    section = Section([], [], [], [])
    for number, audit in enumerate(result["audits"], start=1):
        section.sentences.append(summary(audit))
        section.tables.extend(audit_tables(audit))
        section.figures.extend(audit_figures(audit, f"audit-{number}"))
        section.left_out.extend(sentence for sentence in left_out(audit) if sentence not in section.left_out)
    return section


def summary(audit: Mapping[str, Any]) -> str:
    """One paragraph: what was played, and how it compares with what is exact."""
    value = audit["value"]
    return (
        f"{audit['game']}{_settings(audit)}: {audit['episodes']:,} episodes of at most {audit['max_steps']} steps from "
        f"{audit['starts']} start{'s' if audit['starts'] > 1 else ''}, {audit['states']} states. Mean return "
        f"{value['mean']:.4f} ± {value['standard_error']:.4f}, exact {value['exact']:.4f}; without penalties "
        f"{audit['domain_value']:.4f} of at best {audit['optimal_domain_value']:.4f}. Invalid replies: "
        f"{audit['invalid_share']:.2%}. Exact advantages spread by {audit['advantage_deviation']:.4f}."
    )


def left_out(audit: Mapping[str, Any]) -> list[str]:
    """One sentence for each method that was not audited."""
    return [f"not audited: {name}: {reason}" for name, reason in audit["not_audited"].items()]


def main_group_size(audit: Mapping[str, Any]) -> int:
    """The group size that is shown in full: the recipe's own, else the largest."""
    own = audit["recipe_group_size"]
    return own if own in audit["group_sizes"] else max(audit["group_sizes"])


def audit_tables(audit: Mapping[str, Any]) -> list[Table]:
    """One table with everything at one group size, and one of the episodes needed at every group size."""
    size = main_group_size(audit)
    rows = _ordered([row for row in audit["rows"] if row["group_size"] == size])
    if not rows:
        return []
    headings = ["method", "scale", "bias", "action bias", "sd", "sign", "rank", "cosine", "SNR 1 at"]
    where = _settings(audit)
    tables = [Table(f"Groups of {size}{where}", headings, [_cells(row) for row in rows])]
    sizes = audit["group_sizes"]
    if len(sizes) > 1:
        found = {(row["method"], row["group_size"]): row["gradient_episodes_for_snr_1"] for row in audit["rows"]}
        by_size = [[row["method"], *(_count(found.get((row["method"], g))) for g in sizes)] for row in rows]
        heads = ["method", *(f"groups of {g}" for g in sizes)]
        tables.append(Table(f"Episodes for a signal-to-noise ratio of 1{where}", heads, by_size))
    return tables


def audit_figures(audit: Mapping[str, Any], name: str = "audit") -> list[Figure]:
    """The cosines with their intervals, and the episodes that each method needs.

    Args:
      audit: one of the audits of a result.
      name: begins the names of the figures.
    """
    size = main_group_size(audit)
    rows = _ordered([row for row in audit["rows"] if row["group_size"] == size])
    where = f"{_settings(audit)}, groups of {size}"
    figures = []
    cosines = [(r["method"], c["mean"], c["low"], c["high"]) for r in rows if (c := r["gradient_cosine"])]
    if cosines:
        title = "Mean gradient against the exact one"
        svg = charts.interval_chart(f"{name}-cosine", title, cosines, x_label="cosine", limits=(0.0, 1.0))
        caption = f"Cosine of the mean gradient of all episodes with the exact policy gradient{where}; 95 % intervals."
        figures.append(Figure(f"{name}-cosine", title, caption, svg))
    needed = [(r["method"], n) for r in rows if (n := r["gradient_episodes_for_snr_1"]) is not None]
    if needed:
        title = "Episodes for a signal-to-noise ratio of 1"
        svg = charts.bar_chart(f"{name}-noise", title, needed, x_label="episodes")
        caption = f"Fewer is better{where}. Methods whose signal was not seen are left out."
        figures.append(Figure(f"{name}-noise", title, caption, svg))
    return figures


def _ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that need the fewest episodes first, and last those whose signal was not seen."""
    never = float("inf")
    key = "gradient_episodes_for_snr_1"
    return sorted(rows, key=lambda row: (never if row[key] is None else row[key], row["method"]))


def _settings(audit: Mapping[str, Any]) -> str:
    return "".join(f", {key} = {value}" for key, value in audit["settings"].items())


def _cells(row: Mapping[str, Any]) -> list[str]:
    cosine = row["gradient_cosine"]
    return [
        row["method"],
        "" if row["in_reward_units"] else _number(row["scale"]),
        _root(row["bias_squared"], row["bias_squared_error"]),
        _root(row["action_bias_squared"], row["action_bias_squared_error"]),
        f"{max(row['variance'], 0.0) ** 0.5:.4f}",
        _number(row["sign_agreement"]),
        _number(row["rank_correlation"]),
        "–" if cosine is None else f"{cosine['mean']:.3f} [{cosine['low']:.3f}, {cosine['high']:.3f}]",
        _count(row["gradient_episodes_for_snr_1"]),
    ]


def _root(square: float, error: float) -> str:
    """The root of an estimated square, or the bound below which it lies if it was not told from 0."""
    if square == error == 0.0:
        return "0"
    if square > 2.0 * error:
        return f"{square**0.5:.4f}"
    # Where even the bound of the estimate is below 0, chance made it so small; that of an estimate of 0 is shown.
    bound = square + 2.0 * error
    return f"< {(bound if bound > 0.0 else 2.0 * error) ** 0.5:.4f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _count(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 1" if 0.0 < value < 1.0 else f"{value:,.0f}"
