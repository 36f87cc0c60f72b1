"""A typed Python function as a tool that a model may call."""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lapwing.core.clean_text import encodable
from lapwing.core.errors import UserError
from lapwing.core.storage import canonical_json
from lapwing.core.types import ToolResult
from lapwing.games.tools._arguments import Arguments, error_result, quoted, read_object
from lapwing.games.tools._deadline import Deadline, is_duration

if TYPE_CHECKING:  # pydantic is imported where a tool is made, so that games that have tools are imported fast
    from pydantic import BaseModel

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_REPORTED_MISTAKES = 3
_REPORTED_PLACES = 8


@dataclass(frozen=True, eq=False)
class Tool:
    """A typed Python function that a model may call; make it with `Tool.of`.

    A call never raises because of what the model wrote or what the function did: both become results with status
    "error".

    Attributes:
      name: what the model calls it.
      description: what it does, in words.
      schema: JSON schema of its arguments.
    """

    name: str
    description: str
    schema: dict[str, Any]
    _function: Callable[..., Any]
    _model: "type[BaseModel]"
    _deadline: Deadline | None

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        deadline_seconds: float | None = None,
    ) -> "Tool":
        """Make a tool of a function.

        Arguments are checked by pydantic against the type hints, in its lax mode: "5" and 5.0 are taken for an
        integer, and the function gets the integer; 5 is not taken for a text. Arguments that the function does not
        have, NaN and infinities are refused. What the function returns is the text of the result: a string as it is,
        a `ToolResult` as it is, anything else as canonical JSON.

        A deadline is kept by waiting no longer; a thread cannot be killed, so the function goes on in the background.
        When 8 abandoned calls are still running, further calls are refused at once. A function that hangs in
        C code without releasing the interpreter cannot be left in this way at all: it belongs into a process of its
        own, for instance an MCP server (`mcp_tools.py`). With a deadline the result depends on how busy the machine
        is; without one the function is called directly.

        Args:
          function: each parameter has a type hint that JSON can express and can be passed by name.
          name: 1 to 128 letters, digits, `_`, `.` or `-`; the function's own if left out.
          description: the first paragraph of the docstring if left out. Arguments are described by the section
            `Args` of a Google docstring, or by `Annotated[…, pydantic.Field(description=…)]`, which comes first.
          deadline_seconds: seconds after which a call ends with an error; None waits for ever.

        Raises:
          UserError: the function cannot be a tool, or a setting is wrong.
        """
        from lapwing.games.tools._signature import arguments_model, first_paragraph, schema_of

        # The docstring of a partial is that of the class `partial`.
        docstring = inspect.getdoc(function.func if isinstance(function, functools.partial) else function) or ""
        name = str(getattr(function, "__name__", "")) if name is None else name
        check_name(name)
        if deadline_seconds is not None and not is_duration(deadline_seconds):
            raise UserError(f"The deadline of tool '{name}' is a number of seconds above 0, not {deadline_seconds!r}.")
        model = arguments_model(name, function, docstring)
        return cls(
            name=name,
            description=first_paragraph(docstring) if description is None else description,
            schema=schema_of(name, model),
            _function=function,
            _model=model,
            _deadline=None if deadline_seconds is None else Deadline(deadline_seconds),
        )

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as chat templates take it: `{"type": "function", "function": {…}}`."""
        return definition(self.name, self.description, self.schema)

    def call(self, arguments: str) -> ToolResult:
        """Read the arguments and run the function.

        Args:
          arguments: a JSON object, or a bare JSON string for a tool with one required argument.
        """
        read = self.read(arguments)
        return read if isinstance(read, ToolResult) else self.run(read)

    def read(self, arguments: str) -> Arguments | ToolResult:
        """Check the arguments, defaults filled in; an error result says what is wrong with them."""
        from pydantic import ValidationError

        try:
            checked = self._model.model_validate(read_object(arguments, self.schema.get("required", ())))
            plain = checked.model_dump(mode="json", by_alias=True, warnings=False)
        except ValidationError as error:
            return error_result(self._mistakes(error))
        except ValueError as error:
            return error_result(str(error))
        except Exception as error:  # a validator that a type hint brought along may raise anything
            return error_result(_described(error))
        values = {field.alias or key: getattr(checked, key) for key, field in self._model.model_fields.items()}
        return Arguments(values, plain)

    def run(self, arguments: Arguments) -> ToolResult:
        """Run the function on arguments that `read` returned."""
        if self._deadline is None:
            return self._run(arguments)
        return self._deadline.run(lambda: self._run(arguments))

    def _run(self, arguments: Arguments) -> ToolResult:
        try:
            return _result(self._function(**arguments.values))
        except (Exception, SystemExit) as error:
            return error_result(_described(error))

    def _mistakes(self, error: Any) -> str:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        said = [self._mistake(mistake) for mistake in found[:_REPORTED_MISTAKES]]
        more = len(found) - len(said)
        return "; ".join([*said, f"and {more} more mistakes"] if more else said)

    def _mistake(self, mistake: Any) -> str:
        first, *inner = mistake["loc"] or ("",)
        if mistake["type"] == "extra_forbidden" and not inner:
            known = ", ".join(self.schema.get("properties", ())) or "none"
            return f"{self.name} has no argument {quoted(first)}; its arguments: {known}"
        if mistake["type"] == "missing" and not inner:
            return f"the argument {first} is missing"
        place = ".".join(str(part)[:60] for part in (first, *inner[:_REPORTED_PLACES]))
        return f"argument {place}: {mistake['msg']}"


def check_name(name: str) -> None:
    """Refuse a name that a model or a protocol could not write.

    Raises:
      UserError: it is not 1 to 128 letters, digits, `_`, `.` or `-`.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"A tool's name is 1 to 128 letters, digits, '_', '.' or '-', not {quoted(name)}; give it another `name`."
        )


def definition(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A tool as chat templates take it.

    Args:
      name, description: of the tool.
      schema: JSON schema of its arguments.
    """
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # an error whose text cannot be made is still told by its type
        return type(error).__name__


def _result(value: Any) -> ToolResult:
    if isinstance(value, ToolResult):
        if value.status not in ("ok", "error") or not isinstance(value.text, str):
            return error_result(f"the tool returned a result of status {quoted(value.status)}, not 'ok' or 'error'")
        return ToolResult(value.status, encodable(value.text))
    return ToolResult("ok", encodable(value if isinstance(value, str) else canonical_json(value)))
