"""Keys of views and actions that are JSON already: the same as `core.storage.key_of`, which also takes objects."""

import json
from typing import Any

from lapwing.core.errors import UserError
from lapwing.core.storage import bytes_key

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
NEVER = 0


def json_key(value: Any, where: str) -> int:
    """The 64-bit key of a JSON value, blake2b-64 of its canonical text; never 0.

    Raises:
      UserError: it is nested too deeply to be written as text.
    """
    try:
        return bytes_key(_encode(value).encode("utf-8", errors="replace"))
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply to be a view or an action.") from error


def chain_key(*keys: int) -> int:
    """One key for several in order."""
    return bytes_key(b"".join(key.to_bytes(8, "little") for key in keys))
