"""The signature is the schema: settings of a function or class, checked and completed."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import ConfigDict, Field, ValidationError, create_model

from lapwing.core import registry
from lapwing.core.errors import LapwingError, UserError, nearest

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
}


_FOLDER_OF = {
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
    "regularisers": "losses",
}


_INJECTED = {
    "game",
    "seed",
    "model",
    "tokenizer",
    "stop",
    "ends",
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


class Checker:
    """Collects everything that is wrong with a recipe."""

    def __init__(self, allow_code: tuple[str, ...]) -> None:
        self.allow_code = allow_code
        self.errors: list[str] = []

    def settings(self, where: str, make: Callable[..., Any], table: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of a function or class, from those that a recipe states."""
        table = dict(table)
        before = len(self.errors)
        for name, kind in _tables_of(make).items():
            if isinstance(table.get(name), Mapping):
                inner = self.settings(f"{where}.{name}", kind, table[name])
                table[name] = construct(self, f"{where}.{name}", kind, inner) if len(self.errors) == before else None
        if len(self.errors) > before:
            return {}
        try:
            checked = _schema(make)(**_tuples(table))
        except ValidationError as error:
            for item in error.errors():
                self.errors.append(f"{where}.{self._sentence(item, make)}")
            return {}
        return {name: getattr(checked, name) for name in parameters_of(make)}

    @staticmethod
    def _sentence(item: Any, make: Callable[..., Any]) -> str:
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            return f"{key} is unknown; {nearest(key, parameters_of(make))}"
        if item["type"] == "missing":
            return f"{key} is missing."
        return f"{key}: {item['msg'].lower()}, found {item['input']!r}."

    def part(self, where: str, section: str, table: Any, extra: Mapping[str, Any] | None = None) -> Part | None:
        """A section that names a method of a folder."""
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            self.errors.append(f"{where} needs a name, as in {{ name = '…' }}; found {table!r}.")
            return None
        try:
            make = registry.resolve(_FOLDER_OF[section], table["name"], allow_code=self.allow_code)
        except UserError as error:
            self.errors.append(f"{where}: {error}")
            return None
        rest = {key: value for key, value in table.items() if key != "name" and key not in (extra or {})}
        return Part(table["name"], make, self.settings(where, make, rest))

    def chosen(self, where: str, table: Any, options: Mapping[str, Callable[..., Any]], default: str) -> Part | None:
        """A section that names one of a few classes."""
        table = {"name": default} if table is None else table
        if not isinstance(table, Mapping):
            self.errors.append(f"{where} is a table, as in {{ name = '{default}' }}; found {table!r}.")
            return None
        name = table.get("name", default)
        if not isinstance(name, str) or name not in options:
            self.errors.append(f"{where}: there is no '{name}'; {nearest(str(name), options)}")
            return None
        rest = {key: value for key, value in table.items() if key != "name"}
        return Part(name, options[name], self.settings(where, options[name], rest))


def construct(checker: Checker, where: str, make: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """Call something; what it refuses becomes one of the errors, and the result None."""
    try:
        return make(**settings)
    except LapwingError as error:
        checker.errors.append(f"{where}: {error}")
        return None


def bind(part: Part) -> Callable[..., Any]:
    """The function of a part with its settings bound."""
    return functools.partial(part.make, **part.settings)


def constant(part: Part, name: str, default: Any) -> Any:
    """A constant of the module that a part comes from, such as LEVEL."""
    return getattr(inspect.getmodule(part.make), name, default)


def tensors_of(part: Part) -> tuple[str, ...]:
    """The tensors that a loss takes."""
    return tuple(name for name in inspect.signature(part.make).parameters if name in _LOSS_TENSORS)
