"""The signature is the schema: settings of a function or class, checked and completed."""

import dataclasses
import functools
import inspect
import math
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict, Field, ValidationError, create_model

from lapwing.build.places import plain_key
from lapwing.core import registry
from lapwing.core.errors import LapwingError, UserError, nearest, shown
from lapwing.core.memory import bound
from lapwing.core.pair_batch import PAIR_TENSORS

# Arguments of losses that are columns of the batch; all others are settings.
_LOSS_TENSORS = {
    "logprob",
    "behavior_logprob",
    "sampler_logprob",
    "reference_logprob",
    "advantage",
    "token_entropy",
    "step_of_token",
    "episode_of_token",
    "group_of_episode",
    "success",
    "return_of_episode",
    *PAIR_TENSORS,
}


# The room of each section that names a method of one.
FOLDER_OF = {
    "game": "games",
    "sampler": "samplers",
    "annotate": "annotate",
    "shaping": "shaping",
    "filters": "filters",
    "credit": "credit",
    "modulation": "modulation",
    "selection": "selection",
    "aggregation": "aggregation",
    "loss": "losses",
    "corrections": "corrections",
    "regularisers": "losses",
    "pairs": "pairing",
    "preferences": "preferences",
}


# Sections that choose among a few classes and may name one outside Lapwing: how a policy words what it sees and says.
_TEXT = (".policy.renderer", ".policy.context", ".policy.parser")

_INJECTED = {
    "game",
    "seed",
    "model",
    "tokenizer",
    "stop",
    "ends",
    "append_only",
    "vocabulary",
    "generator",
    "ask_person",
    "weights",
    "situation",
    "agent",
    "starts",
    "trust_remote_code",
    "chat",
    "policy",
    "positions",
    "state",
}


class Part(NamedTuple):
    """A thing named in a recipe with its settings, checked and complete."""

    name: str
    make: Callable[..., Any]
    settings: dict[str, Any]


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def lists(value: Any) -> Any:
    """Tuples as lists and without None, as TOML has them."""
    if isinstance(value, (tuple, list)):
        return [lists(item) for item in value]
    if isinstance(value, dict):
        return {key: lists(item) for key, item in value.items() if item is not None}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return lists({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    return value


def parameters_of(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The settings of a function or class: its keyword arguments less those that are columns or injected."""
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.signature(make)
    is_data = dataclasses.is_dataclass(make)
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if is_data or (parameter.kind is keyword_only and name not in _LOSS_TENSORS and name not in _INJECTED)
    }


@functools.lru_cache(maxsize=256)
def _schema(make: Callable[..., Any]) -> Any:
    hints = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
    fields = {
        name: (
            hints.get(name, Any),
            Field(...) if parameter.default is inspect.Parameter.empty else Field(default=parameter.default),
        )
        for name, parameter in parameters_of(make).items()
    }
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
    return create_model("Settings", __config__=config, **typing.cast(Any, fields))


@functools.lru_cache(maxsize=256)
def _tables_of(make: Callable[..., Any]) -> dict[str, Any]:
    """Settings that are tables of their own: those whose type is a dataclass, or that or None."""
    hints = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
    kinds = {name: typing.get_args(hints[name]) or (hints[name],) for name in parameters_of(make) if name in hints}
    found = {name: [kind for kind in options if dataclasses.is_dataclass(kind)] for name, options in kinds.items()}
    return {name: options[0] for name, options in found.items() if options}


# Numbers in recipes: counts, rates, weights. Seeds and sizes in bytes may use all of TOML's 64 bits.
_LARGEST_NUMBER = 10**12
_LARGEST_INTEGER = 2**63 - 1
_LONGEST_TEXT = 65_536
# Of one section; whoever has more of them has one mistake, not hundreds.
_MOST_ERRORS = 19


def _impossible(key: str, value: Any) -> str | None:
    """Why a value can be no setting, whatever its type is to be; None if it can."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        whole = key.endswith(("seed", "_bytes")) and isinstance(value, int)
        if abs(value) > (_LARGEST_INTEGER if whole else _LARGEST_NUMBER) and value not in (math.inf, -math.inf):
            return f"{shown(value)} is too large; numbers here are at most {'2^63 - 1' if whole else '10^12'}."
    elif isinstance(value, str):
        if "\0" in value:
            return f"{shown(value)} holds a NUL character, which no text has."
        if len(value) > _LONGEST_TEXT:
            return f"a text has at most {_LONGEST_TEXT:,} characters, not {len(value):,}."
    elif isinstance(value, Mapping):
        return next((why for name, item in value.items() if (why := _impossible(name, item))), None)
    elif isinstance(value, (list, tuple)):
        return next((why for item in value if (why := _impossible(key, item))), None)
    return None


class Count(NamedTuple):
    """How many errors a checker has found, and how many of them are keys that nobody knows."""

    errors: int
    unknown: int


class Checker:
    """Collects everything that is wrong with a recipe."""

    def __init__(self, allow_code: tuple[str, ...]) -> None:
        self.allow_code = allow_code
        self.errors: list[str] = []
        # How many of them are keys that nobody knows; what else is wrong shows all the same.
        self.unknown = 0
        # What to say of a key that its section does not have, from its name and the section's settings.
        self.advice: Callable[[str, Iterable[str]], str] = nearest

    def settings(self, where: str, make: Callable[..., Any], table: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of a function or class, from those that a recipe states."""
        table = dict(table)
        before = self.count()
        for name, value in table.items():
            if (why := _impossible(name, value)) is not None and len(self.errors) < before.errors + _MOST_ERRORS:
                self.errors.append(f"{where}.{name}: {why}")
        for name, kind in _tables_of(make).items():
            if isinstance(table.get(name), Mapping):
                inner = self.settings(f"{where}.{name}", kind, table[name])
                table[name] = construct(self, f"{where}.{name}", kind, inner) if self.is_whole(before) else None
        if not self.is_whole(before):
            return {}
        checked = self._checked(where, make, table)
        return {} if checked is None else {name: getattr(checked, name) for name in parameters_of(make)}

    def _checked(self, where: str, make: Callable[..., Any], table: dict[str, Any]) -> Any:
        """A section's settings with types and defaults; keys that it does not have are said, and left out."""
        try:
            return _schema(make)(**_tuples(table))
        except ValidationError as error:
            items = error.errors()
        said = [f"{where}.{self._sentence(item, make)}" for item in items[:_MOST_ERRORS]]
        if len(items) > _MOST_ERRORS:
            said.append(f"{where}: {len(items) - _MOST_ERRORS:,} further settings are wrong too.")
        self.errors.extend(said)
        if any(item["type"] != "extra_forbidden" or len(item["loc"]) > 1 for item in items):
            return None
        self.unknown += len(said)
        names = parameters_of(make)  # once: the table may have thousands of keys
        return self._checked(where, make, {key: value for key, value in table.items() if key in names})

    def count(self) -> "Count":
        """What was found so far."""
        return Count(len(self.errors), self.unknown)

    def is_whole(self, before: "Count") -> bool:
        """Whether everything since then has all its settings: at most, keys were found that nobody knows."""
        return len(self.errors) - before.errors == self.unknown - before.unknown

    def _sentence(self, item: Any, make: Callable[..., Any]) -> str:
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            key = ".".join(plain_key(str(part)) for part in item["loc"])
            advice = self.advice(str(item["loc"][-1]), parameters_of(make))
            return f"{key} is unknown; {advice}"
        if item["type"] == "missing":
            return f"{key} is missing."
        return f"{key}: {item['msg'].lower()}, found {shown(item['input'])}."

    def part(self, where: str, section: str, table: Any, extra: Mapping[str, Any] | None = None) -> Part | None:
        """A section that names a method of a folder."""
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            self.errors.append(f"{where} needs a name, as in {{ name = '…' }}; found {shown(table)}.")
            return None
        return self._found(where, FOLDER_OF[section], table, extra)

    def _found(
        self, where: str, folder: str, table: Mapping[str, Any], extra: Mapping[str, Any] | None = None
    ) -> Part | None:
        try:
            make = registry.resolve(folder, table["name"], allow_code=self.allow_code)
        except UserError as error:
            self.errors.append(f"{where}: {error}")
            return None
        rest = {key: value for key, value in table.items() if key != "name" and key not in (extra or {})}
        return Part(table["name"], make, self.settings(where, make, rest))

    def chosen(self, where: str, table: Any, options: Mapping[str, Callable[..., Any]], default: str) -> Part | None:
        """A section that names one of a few classes; of a policy's text also a class outside Lapwing."""
        table = {"name": default} if table is None else table
        if not isinstance(table, Mapping):
            self.errors.append(f"{where} is a table, as in {{ name = '{default}' }}; found {shown(table)}.")
            return None
        name = table.get("name", default)
        if isinstance(name, str) and ":" in name and where.endswith(_TEXT):
            return self._found(where, "policies", {**table, "name": name})
        if not isinstance(name, str) or name not in options:
            self.errors.append(f"{where}: there is no {shown(name)}; {nearest(str(name), options)}")
            return None
        rest = {key: value for key, value in table.items() if key != "name"}
        return Part(name, options[name], self.settings(where, options[name], rest))


def construct(checker: Checker, where: str, make: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """Call something; what it refuses becomes one of the errors, and the result None."""
    try:
        return make(**settings)
    except LapwingError as error:
        checker.errors.append(f"{where}: {error}")
    except Exception as error:
        # Of our own code that is a fault of ours; of code from outside, the user's.
        if not checker.allow_code:
            raise
        checker.errors.append(f"{where}: {raised(error)}")
    return None


def raised(error: Exception) -> str:
    """What code from outside raised, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}, line {last.lineno}, raised {type(error).__name__}: {error}"


def bind(part: Part) -> Callable[..., Any]:
    """The function of a part with its settings bound; one with memory begins to remember."""
    return bound(part.make, part.settings)


def constant(part: Part, name: str, default: Any) -> Any:
    """A constant of the module that a part comes from, such as LEVEL."""
    return getattr(inspect.getmodule(part.make), name, default)


def tensors_of(part: Part) -> tuple[str, ...]:
    """The tensors that a loss takes."""
    return tuple(name for name in inspect.signature(part.make).parameters if name in _LOSS_TENSORS)
