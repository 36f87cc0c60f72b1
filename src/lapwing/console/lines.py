"""Text on its way to a terminal, a pipe or a log: made safe first, whole lines, tables that stay readable."""

import os
import sys
from collections.abc import Sequence

from lapwing.core.clean_text import printable


def is_terminal() -> bool:
    """Whether a person looks at stdout, with a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def say(text: str = "") -> None:
    """Write a line to stdout at once."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Write a line to stderr at once."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns side by side, whole on every line: a table that a terminal folds cannot be read."""
    widths = [max(len(row[at]) for row in [headings, *rows]) for at in range(len(headings))]
    for row in [headings, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        say("  ".join(cells).rstrip())
