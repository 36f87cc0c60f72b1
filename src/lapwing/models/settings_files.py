"""JSON files of models, read within bounds: they come from anybody."""

import json
from pathlib import Path
from typing import Any

from lapwing.core.errors import UserError
from lapwing.core.json_lines import shown

# The largest published configurations have a megabyte, the largest index 10.
_MAX_BYTES = 64 * 2**20


def read_settings(file: Path) -> dict[str, Any]:
    """The object of a JSON file that somebody else wrote.

    Args:
      file: of a model folder.

    Raises:
      UserError: it is missing, larger than any of its kind, no JSON object, or holds NaN.
    """
    check_size(file, _MAX_BYTES)
    try:
        value = json.loads(file.read_text(encoding="utf-8"), parse_constant=_number)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); the folder is not whole.") from error
    except RecursionError:
        raise UserError(f"{file} is nested too deeply to be a model's; fetch it again.") from None
    except ValueError as error:
        raise UserError(f"{file} is no JSON ({error}); fetch it again.") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} is no JSON object but {shown(value)}; fetch it again.")
    return value


def _number(name: str) -> float:
    # Some state space models publish a limit of Infinity.
    if name == "NaN":
        raise ValueError("it holds NaN")
    return float(name.replace("Infinity", "inf"))


def check_size(file: Path, most: int) -> None:
    """Refuse a file that is larger than any of its kind; one that is missing passes.

    Args:
      file: of a model folder.
      most: bytes.

    Raises:
      UserError: it is larger.
    """
    if file.is_file() and file.stat().st_size > most:
        raise UserError(
            f"{file} has {file.stat().st_size:,} bytes, and no model needs more than {most:,} there; fetch it again."
        )
