"""The tables of a cross-play."""

from collections.abc import Mapping
from typing import Any

from lapwing.console.lines import print_table, say


def show_cross_play(result: Mapping[str, Any]) -> None:
    """Every pair by seating, and the ratings."""
    say(f"{result['matches']:,} matches of {result['game']} a pair and seating, seed {result['seed']}\n")
    headings = [
        "first",
        "second",
        "win [95 %]",
        "draw [95 %]",
        "loss [95 %]",
        "return [95 %]",
        "as seat 0",
        "as seat 1",
    ]
    rows = []
    for pair in result["pairs"]:
        seatings = [f"{row['wins']}–{row['draws']}–{row['losses']}" for row in pair["seatings"]]
        shares = [_interval(pair[name]) for name in ("win", "draw", "loss", "return")]
        rows.append([pair["first"], pair["second"], *shares, *seatings])
    print_table(headings, rows)
    for pair in result["pairs"]:
        if pair["repeats"]:
            say(f"\n{_repetition(pair)}")
    ratings = result["elo"]["ratings"]
    say()
    print_table(
        ["player", "Elo [95 %]"],
        [
            [name, f"{found['rating']:,.0f} [{found['low']:,.0f}, {found['high']:,.0f}]"]
            for name, found in sorted(ratings.items(), key=lambda item: -item[1]["rating"])
        ],
    )
    say(
        f"\nWin, draw, loss and return are the first's; seatings as wins–draws–losses. Elo: Bradley–Terry with "
        f"{result['elo']['virtual_draws']:g} virtual draw a pair, {result['elo']['anchor']} at "
        f"{result['elo']['anchor_rating']:,.0f}."
    )


def _repetition(pair: Mapping[str, Any]) -> str:
    played = pair["wins"] + pair["draws"] + pair["losses"]
    said = (
        f"{pair['first']} and {pair['second']}: of {played:,} matches {pair['different']:,} are different; the start "
        "settles the rest, and a repetition counts for nothing"
    )
    return f"{said}, so that there is no interval." if pair["win"]["low"] is None else f"{said}."


def _interval(found: Mapping[str, float | None]) -> str:
    if found["low"] is None:
        return f"{found['mean']:.3f} [–]"
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
