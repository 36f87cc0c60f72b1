"""The replay on a run's page: its data as text that a page may hold, and the one script that shows it."""

import base64
import hashlib
import importlib.resources
import json
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.core.errors import LapwingError
from lapwing.core.storage import read_json

SCHEMA_VERSION = 1
# The page has to open from a disk at once, on a phone too.
MOST_CHARACTERS = 4_000_000
_LONGEST_TEXT = 20_000
# Inside a script element these could end it, or begin a comment; a line separator ends a line for old readers.
_ESCAPES = {character: f"\\u{ord(character):04x}" for character in "<>&'\u2028\u2029"}
_TABLE = str.maketrans(_ESCAPES)
_KEYS = ("game", "methods", "policies", "group_size", "groups")


class Replay(NamedTuple):
    """The section of a page.

    Attributes:
      data: JSON text that is safe inside a script element.
      script: the program that shows it.
      source: of that program, as a content-security policy names it: its hash.
      note: what was played, in words.
    """

    data: str
    script: str
    source: str
    note: str


def replay_section(folder: Path) -> Replay | None:
    """Read `replay.json` of a run.

    Args:
      folder: of a run.

    Returns:
      What the page needs; None if there is none.

    Raises:
      LapwingError: the file holds something else.
    """
    path = folder / "replay.json"
    if not path.is_file():
        return None
    found = read_json(path)
    _check(found, path)
    found = _fit(_short(found))
    script = importlib.resources.files("lapwing.report").joinpath("replay.js").read_text(encoding="utf-8")
    return Replay(script_safe(found), script, script_source(script), _note(found))


def script_safe(value: Any) -> str:
    """JSON text that stays inert inside `<script type="application/json">`, whatever strings it holds."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_TABLE)


def script_source(script: str) -> str:
    """The hash by which a content-security policy allows exactly this inline script."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _check(found: Any, path: Path) -> None:
    if not isinstance(found, dict) or any(key not in found for key in _KEYS):
        raise LapwingError(f"{path} holds no replay as Lapwing writes it; `lapwing report RUN --replay` makes it anew.")
    if found.get("schema") != SCHEMA_VERSION:
        raise LapwingError(
            f"{path} has schema {found.get('schema')!r}, and this Lapwing reads {SCHEMA_VERSION}; "
            "`lapwing report RUN --replay` makes it anew."
        )


def _short(value: Any) -> Any:
    """The same without the rest of texts that are longer than any that Lapwing writes."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + "…"
    if isinstance(value, list):
        return [_short(one) for one in value]
    return {key: _short(one) for key, one in value.items()} if isinstance(value, dict) else value


def _fit(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out the last episodes until the page stays small."""
    policies = [policy for policy in found["policies"].values() if policy.get("episodes")]
    while policies and len(script_safe(found)) > MOST_CHARACTERS:
        largest = max(policies, key=lambda policy: len(policy["episodes"]))
        if len(largest["episodes"]) == 1:
            break
        del largest["episodes"][len(largest["episodes"]) // 2 :]
    return found


def _note(found: dict[str, Any]) -> str:
    groups, size = found["groups"], found["group_size"]
    which = f"{groups} test match{'' if groups == 1 else 'es'} of {found['game']}, each played by {size} episodes"
    exact = found.get("no_exact_answer")
    why = f" No exact answer: {exact}" if exact else " The exact advantage is that of the policy that played."
    return f"{which}; the same for every policy. Credit is computed within these groups.{why}"
