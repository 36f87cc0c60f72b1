"""What mirrors are told of a run, and how text from outside becomes harmless in them."""

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.core.clean_text import printable

# Lines of their own to some readers and none to others.
_SEPARATORS = re.compile("[\u2028\u2029\x85]")
_MEASURES = ("mean", "low", "high")
_NOT_METRICS = {"stage", "iteration"}


class About(NamedTuple):
    """A run, as mirrors are told of it.

    Attributes:
      path: its folder.
      name: of the folder.
      identifier: the same after every resume, letters and digits.
      recipe: with every default.
      text: the same as TOML.
    """

    path: Path
    name: str
    identifier: str
    recipe: dict[str, Any]
    text: str


def escaped(text: str) -> str:
    """Text that means itself wherever HTML or Markdown with HTML in it is made of it, without control characters.

    Args:
      text: from a recipe, a game or a path.
    """
    return html.escape(printable(_SEPARATORS.sub("\ufffd", text)), quote=False)


def as_config(value: Any) -> Any:
    """A recipe with every key and text escaped; lists become tables with numbers for keys, which all mirrors show.

    Args:
      value: plain data.
    """
    if isinstance(value, Mapping):
        return {escaped(str(name)): as_config(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)) and any(isinstance(inner, (Mapping, list, tuple)) for inner in value):
        return {_key(number, inner): as_config(inner) for number, inner in enumerate(value)}
    if isinstance(value, (list, tuple)):
        return [as_config(inner) for inner in value]
    return escaped(value) if isinstance(value, str) else value


def _key(number: int, value: Any) -> str:
    """The name of what has one, as stages have."""
    name = value.get("name") if isinstance(value, Mapping) else None
    return f"{number}:{escaped(name)}" if isinstance(name, str) else str(number)


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row by the names of `metrics.jsonl`, escaped where a game chose a part of the name.

    Args:
      row: of metrics.
    """
    return {
        escaped(name): float(value)
        for name, value in row.items()
        if name not in _NOT_METRICS and isinstance(value, (int, float)) and abs(value) < float("inf")
    }


def final_numbers(evaluation: Mapping[str, Any], transfer: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """An evaluation as numbers: `test/<policy>/<measure>/mean`, `…/low`, `…/high`, and `transfer_<label>/…`.

    Args:
      evaluation: the object of `evaluation.json`.
      transfer: the same of each transfer game, by label.
    """
    every = {"test": evaluation, **{f"transfer_{label}": result for label, result in transfer.items()}}
    return {name: value for prefix, result in every.items() for name, value in _flat(prefix, result)}


def _flat(prefix: str, result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for policy, measures in result["policies"].items():
        for measure, interval in measures.items():
            for bound in _MEASURES:
                if isinstance(interval, Mapping) and isinstance(interval.get(bound), (int, float)):
                    yield escaped(f"{prefix}/{policy}/{measure}/{bound}"), float(interval[bound])
