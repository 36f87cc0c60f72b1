"""Names of files and folders from outside."""

import os
from pathlib import Path

from lapwing.core.errors import UserError, shown

# What most file systems take, in bytes.
_LONGEST_PART = 255
_LONGEST = 4096


def checked_path(path: str | Path, what: str) -> Path:
    """A path that a file system can have, whether or not anything is there.

    Args:
      path: from a user.
      what: the argument that it came with, for the sentence.

    Raises:
      UserError: it has control characters, halves of characters, or is too long.
    """
    text = str(path)
    found = Path(text)
    if not text.isprintable():
        raise UserError(f"{what}: {shown(text)} has characters that names of files do not have.")
    if len(text.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in found.parts):
        raise UserError(f"{what}: {shown(text)} is too long for the name of a file; a part has at most 255 bytes.")
    return found


def is_file(path: str | Path) -> bool:
    """Whether a file is there; nothing is where no file system could have it."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long, a link to itself, a NUL
        return False


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; nothing is where no file system could have it."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def cache_folder() -> Path:
    """Where Lapwing keeps what it need not make twice: $LAPWING_CACHE, $XDG_CACHE_HOME/lapwing or ~/.cache/lapwing."""
    own = os.environ.get("LAPWING_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lapwing"
