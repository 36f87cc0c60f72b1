"""The tables of docs/reliability.md: which tests name a fault case, and what the last soak found."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CASES = ROOT / "docs" / "fault_cases.toml"
SOAK = ROOT / "docs" / "soak.json"

# The first case is F01: F1 is also a score of answers.
_IN_NAME = re.compile(r"(?<=_)f(?!1_)0?(\d{1,2})(?=_)")
_IN_TEXT = re.compile(r"\bF(?!1\b)0?(\d{1,2})\b")
# What each part of the soak is about, in the order of the table.
_PARTS = {
    "kills": "SIGKILL at random moments, then `lapwing resume`, compared with a run that nothing interrupted",
    "corruptions": "Flipped bits, cuts, tails of zeros and missing files, one at a time, in every file of a checkpoint",
    "interrupts": "SIGINT and SIGTERM at random moments",
    "parents": "Runs with worker processes, killed",
    "deaths": "Worker processes that die or are killed while they play",
    "replies": "Invented replies and tool calls, through parsers, tools and whole matches",
    "tests": "All other tests that have a long form, ten times as much",
    "actors": "Ray actors, killed while they play",
    "ranks": "One of two ranks, killed; torchrun starts both again",
    "memory": "One long run of the default recipe",
    "mutants": "Faults put into a copy of the sources, one by one; the test that is named must fail",
}
_NOT_SHOWN = {"failures", "files", "recipes"}


def cases() -> dict[str, dict[int, str]]:
    """What is in docs/fault_cases.toml: the cases of each section by number, and under "reasons" why none names one."""
    read = tomllib.loads(CASES.read_text("utf-8"))
    reasons = read.pop("reasons")
    found = {part.pop("title"): {int(number): text for number, text in part.items()} for part in read.values()}
    return found | {"reasons": {int(number): text for number, text in reasons.items()}}


def naming_tests() -> dict[int, list[str]]:
    """The tests that name each case: in their name, in the comment above them, or in their parameters."""
    found: dict[int, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, numbers in _named_in(path.read_text("utf-8")):
            for number in sorted(numbers):
                found.setdefault(number, []).append(f"{path.relative_to(ROOT / 'tests').as_posix()}::{name}")
    return found


def _named_in(text: str) -> Iterator[tuple[str, set[int]]]:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        said = [value.value for d in node.decorator_list for value in ast.walk(d) if isinstance(value, ast.Constant)]
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
        while first and lines[first - 1].lstrip().startswith("#"):
            first -= 1
            said.append(lines[first])
        numbers = {int(n) for words in said if isinstance(words, str) for n in _IN_TEXT.findall(words)}
        yield node.name, numbers | {int(n) for n in _IN_NAME.findall(node.name)}


def fault_table() -> str:
    """All cases with the test files that name them."""
    found, parts = naming_tests(), cases()
    reasons = parts.pop("reasons")
    rows = ["| F | case | tested in |", "| --- | --- | --- |"]
    for title, numbered in parts.items():
        rows.append(f"| | **{title}** | |")
        for number, text in sorted(numbered.items()):
            files = [test.partition("::")[0] for test in found.get(number, [])]
            counts = [f"`{name}` ({files.count(name)})" for name in dict.fromkeys(files)]
            rows.append(f"| {number} | {text} | {', '.join(counts) or 'not tested: ' + reasons.get(number, '?')} |")
    return "\n".join(rows)


def soak_table() -> str:
    """The newest figures of each part."""
    records = json.loads(SOAK.read_text("utf-8")) if SOAK.exists() else []
    newest = {record["part"]: record for record in records}
    if not newest:
        return "No soak has been run yet."
    rows = ["| what | found | when | command |", "| --- | --- | --- | --- |"]
    for part, about in _PARTS.items():
        if part in newest:
            record = newest[part]
            when = f"{record['date']}, {record['commit']}, {record['seconds'] / 60:.0f} min"
            rows.append(f"| {about} | {_figures(record)} | {when} | `{record['command']}` |")
    machines = {record["machine"] for record in newest.values()}
    versions = {", ".join(f"{name} {v}" for name, v in record["versions"].items()) for record in newest.values()}
    return "\n".join([*rows, "", f"On {'; '.join(sorted(machines))}; {'; '.join(sorted(versions))}."])


def _figures(record: dict[str, Any]) -> str:
    shown = [f"{name}: {_plain(value)}" for name, value in record["figures"].items() if name not in _NOT_SHOWN]
    return ("" if record["holds"] else "**does not hold** · ") + " · ".join(shown)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def with_tables(page: str) -> str:
    """The page with its tables made anew, between the comments that mark their places."""
    for name, table in (("soak", soak_table()), ("faults", fault_table())):
        begin, end = f"<!-- {name}: generated by make docs -->\n", f"\n<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        page = before + begin + "\n" + table + "\n" + end + rest.partition(end)[2]
    return page
