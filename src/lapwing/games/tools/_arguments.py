"""What a model wrote as the arguments of a call, read as JSON or refused with one sentence."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lapwing.core.clean_text import encodable
from lapwing.core.types import ToolResult

# A call is shallow and its numbers are short; what is deeper or longer exhausts the stack or the clock of whoever
# reads it next.
MAX_DEPTH = 64
MAX_DIGITS = 400
MAX_ERROR_CHARS = 500


class Arguments(NamedTuple):
    """The arguments of a call that were found right: `values` for the function, `plain` as JSON types for a policy."""

    values: dict[str, Any]
    plain: dict[str, Any]


def error_result(message: str) -> ToolResult:
    """A result with status "error", its text cut to 500 characters."""
    return ToolResult("error", encodable(message)[:MAX_ERROR_CHARS])


def quoted(name: object) -> str:
    """A name that a model wrote, as a message repeats it: escaped, and cut to 60 characters."""
    return repr(str(name)[:60])


def read_object(text: str, required: Sequence[str]) -> dict[str, Any]:
    """Read the arguments of a call.

    Args:
      text: a JSON object, or a bare JSON string, which is the value of the only required argument.
      required: names of the arguments that a call must give.

    Raises:
      ValueError: the text is no JSON (NaN and infinities are none, nor is text that follows the value), an object
        names a key twice, it is deeper than 64, a number has more than 400 digits or is too large, a text holds a
        NUL or a lone surrogate, or it is neither an object nor a bare string that has a place.
    """
    value = read_json(text)
    if isinstance(value, str) and len(required) == 1:
        return {required[0]: value}
    if isinstance(value, str):
        raise ValueError(
            f"a bare string can stand only for the one required argument, and here {len(required)} are required; "
            "give the arguments as a JSON object"
        )
    if not isinstance(value, dict):
        raise ValueError(f"the arguments are a JSON object, not {_KINDS[type(value)]}")
    return value


_KINDS = {list: "a list", bool: "a truth value", int: "a number", float: "a number", type(None): "null"}


def read_json(text: str) -> Any:
    """Read JSON that a model wrote.

    Raises:
      ValueError: as for `read_object`, whatever the value is.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("the arguments hold a lone surrogate, which is no character") from None
    # Measured before it is parsed: the parser is recursive, and a raised recursion limit would let it crash.
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(text):
        raise ValueError(f"the arguments are nested deeper than {MAX_DEPTH}")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"the arguments are no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("the arguments are nested too deeply") from None
    # Unescaped, a surrogate was found above, and the parser refuses a NUL.
    if "\\u" in text:
        for part in _texts(value):
            if "\0" in part or any("\ud800" <= character <= "\udfff" for character in part):
                raise ValueError("the arguments hold a NUL or a lone surrogate, which no tool takes")
    return value


def _is_too_deep(text: str) -> bool:
    # In JSON a backslash stands only within a string; without escapes, every second piece is outside of strings.
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    depth = 0
    for character in outside:
        if character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif character in "]}":
            depth -= 1
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the arguments give {quoted(twice)} twice")
    return value


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the arguments hold a number of {len(digits)} digits, and at most {MAX_DIGITS} are read")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the arguments hold a number of {len(digits)} digits, and at most {MAX_DIGITS} are read")
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits[:60]} in the arguments is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"the arguments are no JSON: {name} is no number there")


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, list):
            waiting += part
