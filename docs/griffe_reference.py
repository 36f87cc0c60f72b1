"""How the site shows the `Reference:` of our docstrings: as a line of its own, whose lines were joined."""

import re
from typing import Any

from griffe import Extension, Object

# From the word to the next empty line.
_REFERENCE = re.compile(r"^Reference: (.+?)(?=\n[ \t]*\n|\Z)", re.MULTILINE | re.DOTALL)


class ReferenceLine(Extension):
    """Google style knows no such section; it would become a box whose title is the first line of the text."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of whatever has one."""
        if obj.docstring is not None:
            obj.docstring.value = _REFERENCE.sub(_as_line, obj.docstring.value)


def _as_line(found: re.Match[str]) -> str:
    return f"**Reference.** {' '.join(found.group(1).split())}"
