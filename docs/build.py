"""Write reference.md, methods.md, games.md and the tables of other pages: `make docs`. --check: fail if one is old."""

import argparse
import sys
from pathlib import Path

import games_numbers
import games_tables
import methods_tables
import performance_tables
import reliability_tables

from lapwing import build, console
from lapwing.core import registry
from lapwing.core.columns import COLUMNS
from lapwing.training.metrics import METRICS

PAGE = Path(__file__).parent / "reference.md"
# Pages with generated tables in them.
TABLES = {"reliability.md": reliability_tables, "performance.md": performance_tables}
ROOMS = {
    "games": "Games",
    "credit": "Credit",
    "modulation": "Modulation",
    "selection": "Selection",
    "filters": "Filters",
    "shaping": "Shaping",
    "aggregation": "Aggregation",
    "losses": "Losses and regularisers",
    "corrections": "Corrections of a loss",
    "pairing": "Pairing",
    "preferences": "Preference losses",
    "samplers": "Samplers",
}


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])


def settings(folder: str, name: str) -> str:
    make = registry.resolve(folder, name)
    shown = []
    for key, parameter in build.parameters_of(make).items():
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        shown.append(f"`{key}{default}`")
    return ", ".join(shown)


def page() -> str:
    parts = ["# Reference", "Generated from the code by `make docs`."]
    for folder, title in ROOMS.items():
        entries = [registry.describe(folder, name) for name in registry.names(folder)]
        rows = [(f"`{e.name}`", e.summary, settings(folder, e.name), e.source) for e in entries]
        parts += [f"## {title}", table(("name", "what it is", "settings", "source"), rows)]
    recipes = [(f"`{row['name']}`", row["summary"]) for row in console.listing("recipes")]
    parts += ["## Recipes", table(("name", "what it is"), recipes)]
    metrics = [(f"`{name}`", metric.unit, metric.meaning) for name, metric in METRICS.items()]
    told = (
        "One row an iteration in `metrics.jsonl`. Where seats have weights of their own, `policy/…`, `update/…` and "
        "`critic/…` are logged for each model too, as `<name>:<seat>` with the lowest of its seats."
    )
    parts += ["## Metrics", told, table(("name", "unit", "meaning"), metrics)]
    columns = [(f"`{name}`", c.axis, c.meaning, c.producer) for name, c in COLUMNS.items()]
    parts += [
        "## Columns of a batch",
        "Besides the base arrays of `EpisodeBatch`. Producers that do not exist yet belong to later methods.",
        table(("name", "axis", "meaning", "producer"), columns),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    if (new := games_numbers.missing()) and check:
        sys.exit(f"docs/games.json has no numbers of {', '.join(new)}; run `make docs`.")
    if new:
        games_numbers.measure(new)
    paths = {PAGE.with_name(name): tables for name, tables in TABLES.items()}
    texts = {path: tables.with_tables(path.read_text(encoding="utf-8")) for path, tables in paths.items()}
    texts[PAGE] = page()
    texts[PAGE.with_name("methods.md")] = methods_tables.page()
    texts[PAGE.with_name("games.md")] = games_tables.page()
    for path, text in texts.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{path.name} is out of date; run `make docs`.")


if __name__ == "__main__":
    main()
