"""What a rule of a tool policy says about the arguments of a call: true, false, or cannot be told."""

import functools
import json
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lapwing.core.errors import UserError, nearest
from lapwing.games.tools._patterns import LONGEST_TEXT, Pattern

# True, False, or None where it cannot be told.
Verdict = bool | None
Test = Callable[[Any], Verdict]

_DEEPEST = 20
_LARGEST = 2**63


def check_arguments(arguments: Any) -> None:
    """Refuse a table of predicates that is none.

    Raises:
      UserError: says which argument and which predicate.
    """
    if not isinstance(arguments, Mapping):
        raise UserError(f"'arguments' is a table from arguments to predicates, not {shown(arguments)}.")
    for path, predicates in arguments.items():
        if not isinstance(path, str) or not all(path.split(".")):
            raise UserError(f"an argument is a name, or names with dots between them, not {shown(path)}.")
        try:
            _conjunction(predicates)
        except UserError as error:
            raise UserError(f"argument {shown(path)}: {error}") from None


@functools.lru_cache(maxsize=4096)
def tests(arguments: str) -> tuple[tuple[tuple[str, ...], Test], ...]:
    """The predicates of a rule, ready to be asked, from their JSON text: (path into the arguments, test)."""
    return tuple((tuple(path.split(".")), _conjunction(table)) for path, table in json.loads(arguments).items())


def hold(arguments: str, called_with: Mapping[str, Any]) -> Verdict:
    """Whether all predicates of a rule hold for the arguments of a call.

    Args:
      arguments: the predicates as JSON text.
      called_with: the arguments of the call.

    Returns:
      False if one of them is false, else None if one of them cannot be told, else True.
    """
    return _all(test(_look_up(called_with, path)) for path, test in tests(arguments))


def shown(value: Any) -> str:
    """A value as short text for an error."""
    try:
        return reprlib.repr(value)
    except ValueError:  # a number of thousands of digits
        return f"<{type(value).__name__}>"


class _Hidden:
    """What a path leads to where there is no value: nothing, or something inside a value that is no object."""


_MISSING, _UNREADABLE = _Hidden(), _Hidden()


def _look_up(arguments: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = arguments
    for name in path:
        if not isinstance(value, Mapping):
            return _UNREADABLE
        if name not in value:
            return _MISSING
        value = value[name]
    return value


def _all(verdicts: Iterable[Verdict]) -> Verdict:
    """Kleene's conjunction: it does not depend on the order."""
    result: Verdict = True
    for verdict in verdicts:
        if verdict is False:
            return False
        result = verdict if verdict is None else result
    return result


def _conjunction(table: Any, *, negated: bool = False) -> Test:
    if not isinstance(table, Mapping) or not table:
        example = '{ equals = "…" }'
        raise UserError(f"predicates are a table with at least one entry, such as {example}, not {shown(table)}.")
    if negated and "not" in table:
        raise UserError("'not' inside 'not' is not supported; write a second rule.")
    made = []
    for name, setting in table.items():
        if name not in _PREDICATES:
            raise UserError(f"there is no predicate {shown(name)}; {nearest(str(name), _PREDICATES)}")
        try:
            made.append(_PREDICATES[name](setting))
        except ValueError as error:
            raise UserError(f"'{name}' {error}.") from error
    if "present" in table and "absent" in table:
        raise UserError("it cannot be both 'present' and 'absent'; leave one of them out.")
    if "minimum" in table and "maximum" in table and table["minimum"] > table["maximum"]:
        raise UserError("'minimum' is above 'maximum'; no number is both.")
    return lambda value: _all(test(value) for test in made)


def _of_value(test: Test) -> Test:
    """A test of a value is false where there is none, and cannot be told inside something that is no object."""
    return lambda value: (None if value is _UNREADABLE else False) if isinstance(value, _Hidden) else test(value)


def _equals(setting: Any) -> Test:
    _check_value(setting)
    return _of_value(lambda value: _same(value, setting))


def _one_of(setting: Any) -> Test:
    if not isinstance(setting, list) or not setting:
        raise ValueError(f"is a list of at least one value, not {shown(setting)}")
    _check_value(setting)
    return _of_value(lambda value: any(_same(value, wanted) for wanted in setting))


def _pattern(setting: Any) -> Test:
    if not isinstance(setting, str):
        raise ValueError(f"is a regular expression in quotes, not {shown(setting)}")
    try:
        pattern = Pattern(setting)
    except ValueError as error:
        raise ValueError(f"is no regular expression that a policy can use: {error} (found {shown(setting)})") from error

    def test(value: Any) -> Verdict:
        return pattern.matches(value) if isinstance(value, str) and len(value) <= LONGEST_TEXT else None

    return _of_value(test)


def _prefix(setting: Any) -> Test:
    if not isinstance(setting, str) or not setting:
        raise ValueError(f"is a text of at least one character, not {shown(setting)}")
    return _of_value(lambda value: value.startswith(setting) if isinstance(value, str) else None)


def _minimum(setting: Any) -> Test:
    _check_number(setting)
    return _of_value(lambda value: value >= setting if _is_number(value) else None)


def _maximum(setting: Any) -> Test:
    _check_number(setting)
    return _of_value(lambda value: value <= setting if _is_number(value) else None)


def _max_length(setting: Any) -> Test:
    if isinstance(setting, bool) or not isinstance(setting, int) or not 0 <= setting < _LARGEST:
        raise ValueError(f"is a whole number of at least 0, not {shown(setting)}")
    return _of_value(lambda value: len(value) <= setting if isinstance(value, str | list | tuple) else None)


def _present(setting: Any) -> Test:
    if setting is not True:
        raise ValueError(f"is true or left out, not {shown(setting)}; its opposite is 'absent'")
    return lambda value: None if value is _UNREADABLE else value is not _MISSING


def _absent(setting: Any) -> Test:
    if setting is not True:
        raise ValueError(f"is true or left out, not {shown(setting)}; its opposite is 'present'")
    return lambda value: None if value is _UNREADABLE else value is _MISSING


def _not(setting: Any) -> Test:
    test = _conjunction(setting, negated=True)

    def negation(value: Any) -> Verdict:
        verdict = test(value)
        return None if verdict is None else not verdict

    return negation


_PREDICATES: dict[str, Callable[[Any], Test]] = {
    "equals": _equals,
    "one_of": _one_of,
    "pattern": _pattern,
    "prefix": _prefix,
    "minimum": _minimum,
    "maximum": _maximum,
    "max_length": _max_length,
    "present": _present,
    "absent": _absent,
    "not": _not,
}


def _same(value: Any, wanted: Any) -> bool:
    """Equality of JSON values: numbers by value, true and false only with themselves, no text with any number.

    It looks no deeper into `value` than `wanted` is deep, so that a model cannot make it recurse.
    """
    if wanted is None or isinstance(wanted, bool) or isinstance(value, bool):
        return value is wanted
    if isinstance(wanted, int | float):
        return isinstance(value, int | float) and value == wanted
    if isinstance(wanted, Mapping):
        return (
            isinstance(value, Mapping)
            and value.keys() == wanted.keys()
            and all(_same(value[key], inner) for key, inner in wanted.items())
        )
    if isinstance(wanted, list):
        is_list = isinstance(value, list | tuple) and len(value) == len(wanted)
        return is_list and all(map(_same, value, wanted))
    return isinstance(value, str) and value == wanted


def _is_number(value: Any) -> bool:
    # NaN is not even itself; math.isnan would overflow on a long integer.
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _check_number(setting: Any) -> None:
    if not _is_number(setting) or not -_LARGEST <= setting <= _LARGEST:
        raise ValueError(f"is a finite number between -2^63 and 2^63, not {shown(setting)}")


def _check_value(setting: Any, deep: int = 0) -> None:
    """Refuse what is no JSON value."""
    if deep > _DEEPEST:
        raise ValueError(f"has a value that is nested more than {_DEEPEST} deep")
    if setting is None or isinstance(setting, str | bool):
        return
    if isinstance(setting, list):
        for inner in setting:
            _check_value(inner, deep + 1)
    elif isinstance(setting, Mapping) and all(isinstance(key, str) for key in setting):
        for inner in setting.values():
            _check_value(inner, deep + 1)
    elif isinstance(setting, int | float):
        if not _is_number(setting) or not -_LARGEST <= setting <= _LARGEST:
            raise ValueError(f"has a number outside [-2^63, 2^63], {shown(setting)}")
    else:
        raise ValueError(f"has a value that JSON does not know, {shown(setting)}")
