"""The arguments of a function as a pydantic model, described by its docstring."""

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, PydanticJsonSchemaWarning

from lapwing.core.errors import UserError

_SECTION = re.compile(r"(\s*)(Args|Arguments|Parameters):\s*")
_ENTRY = re.compile(r"(\s+)(\*{0,2}\w+(?:,\s*\w+)*)\s*(?:\([^)]*\))?:\s*(.*)")
_TYPES = "types such as str, int, list[str] or a pydantic model"


def argument_descriptions(docstring: str) -> dict[str, str]:
    """What the section `Args` of a Google docstring says of each argument.

    Args:
      docstring: cleaned as `inspect.getdoc` does; entries are `name: text`, `name (type): text` or
        `one, other: text`, and go on in lines that are indented further.
    """
    lines = docstring.split("\n")
    header = next((n for n, line in enumerate(lines) if _SECTION.fullmatch(line)), None)
    if header is None:
        return {}
    margin = _indent(lines[header])
    entries: list[tuple[list[str], list[str]]] = []
    entry_indent: int | None = None
    for line in lines[header + 1 :]:
        if line.strip() and _indent(line) <= margin:
            break
        entry = _ENTRY.fullmatch(line)
        if entry and (entry_indent is None or _indent(line) <= entry_indent):
            entry_indent = _indent(line)
            entries.append(([name.strip() for name in entry[2].split(",")], [entry[3]]))
        elif entries:
            entries[-1][1].append(line)
    return {name: " ".join(" ".join(text).split()) for names, text in entries for name in names}


def first_paragraph(docstring: str) -> str:
    """What a docstring says first, on one line.

    Args:
      docstring: cleaned as `inspect.getdoc` does.
    """
    lines = docstring.split("\n")
    end = next((n for n, line in enumerate(lines) if not line.strip() or _SECTION.fullmatch(line)), len(lines))
    return " ".join(" ".join(lines[:end]).split())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


class _Schema(GenerateJsonSchema):
    """Schemas without titles, which repeat the names of the arguments and cost tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """JSON schema of the arguments of a tool.

    Args:
      name: of the tool, for the message.
      model: of its arguments.

    Raises:
      UserError: JSON cannot express a type or a default.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PydanticJsonSchemaWarning)
            schema = model.model_json_schema(schema_generator=_Schema)
    except (PydanticUserError, PydanticJsonSchemaWarning, NameError) as error:
        raise UserError(
            f"The arguments of tool '{name}' cannot be written as JSON ({_first_sentence(error)}); use {_TYPES}."
        ) from error
    schema.pop("title", None)
    return schema


def arguments_model(name: str, function: Callable[..., Any], docstring: str) -> type[BaseModel]:
    """A model with one field per parameter of a function, whose alias is the parameter's name.

    Fields are called a0, a1, …, since parameters called `schema`, `json` or `_x` could not be fields.

    Args:
      name: of the tool, for messages.
      function: whose signature it is.
      docstring: describes the arguments.

    Raises:
      UserError: the function cannot be a tool.
    """
    described = argument_descriptions(docstring)
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except (TypeError, ValueError, NameError, SyntaxError, AttributeError) as error:
        raise UserError(f"The signature of tool '{name}' cannot be read: {_first_sentence(error)}.") from error
    lazy = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(test(function) for test in lazy):
        raise UserError(f"Tool '{name}' is a coroutine or a generator; give a function that returns its result.")
    fields: dict[str, Any] = {}
    for number, parameter in enumerate(parameters):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserError(
                f"The parameter {parameter} of tool '{name}' cannot be passed by name; tools take no *args, no "
                "**kwargs and no positional-only parameters."
            )
        if parameter.annotation is parameter.empty:
            raise UserError(f"The parameter '{parameter.name}' of tool '{name}' has no type hint; give it one.")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[f"a{number}"] = (parameter.annotation, _field(parameter, default, described))
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    try:
        return create_model("Arguments", __config__=config, **fields)
    except (PydanticUserError, NameError, TypeError) as error:
        raise UserError(
            f"Tool '{name}' has a type hint that is not supported ({_first_sentence(error)}); use {_TYPES}."
        ) from error


def _field(parameter: inspect.Parameter, default: Any, described: dict[str, str]) -> Any:
    # What `Annotated` says of an argument goes before the docstring.
    annotated = getattr(parameter.annotation, "__metadata__", ())
    if parameter.name in described and not any(getattr(part, "description", None) for part in annotated):
        return Field(default, alias=parameter.name, description=described[parameter.name])
    return Field(default, alias=parameter.name)


def _first_sentence(error: BaseException) -> str:
    return (str(error) or type(error).__name__).split("\n")[0].split(". ")[0].rstrip(".")[:300]
