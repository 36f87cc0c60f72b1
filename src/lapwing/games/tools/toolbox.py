"""The tools of a game: one place where every call is checked, permitted and cut to size."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from lapwing.core.errors import UserError, nearest
from lapwing.core.storage import canonical_json
from lapwing.core.types import ToolCall, ToolResult
from lapwing.games.tools._arguments import Arguments, error_result


class AnyTool(Protocol):
    """What a toolbox holds: a `Tool`, or a tool of an MCP server."""

    @property
    def name(self) -> str:
        """What the model calls it."""
        ...

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as chat templates take it."""
        ...

    def read(self, arguments: str) -> Arguments | ToolResult:
        """Check what the model wrote; an error result says what is wrong with it."""
        ...

    def run(self, arguments: Arguments) -> ToolResult:
        """Do it."""
        ...


class Verdict(Protocol):
    """What a policy says of a call; `message` is the text of the result if it is not allowed."""

    @property
    def allowed(self) -> bool:
        """Whether the tool may run."""
        ...

    @property
    def message(self) -> str:
        """Why not."""
        ...


class CallPolicy(Protocol):
    """Who decides whether a call may run."""

    def decide(self, name: str, arguments: dict[str, Any]) -> Verdict:
        """Judge a call by the tool's name and its checked arguments."""
        ...


@dataclass(frozen=True, init=False, eq=False)
class Toolbox:
    """A few tools with names of their own.

    Equal toolboxes have the same definitions, policy and limits, whatever their functions do.

    Attributes:
      tools: the tools, in the order in which the model sees them.
      policy: which calls are allowed, unless a call brings its own; None allows all.
      max_argument_bytes: longer arguments are refused unread; UTF-8.
      max_result_chars: a longer result is cut there, and says how much of it is missing.
    """

    tools: tuple[AnyTool, ...]
    policy: CallPolicy | None
    max_argument_bytes: int
    max_result_chars: int

    def __init__(
        self,
        tools: Iterable[AnyTool],
        *,
        policy: CallPolicy | None = None,
        max_argument_bytes: int = 65536,
        max_result_chars: int = 20000,
    ) -> None:
        """Collect tools.

        Args:
          tools: the tools.
          policy: which calls are allowed; None allows all.
          max_argument_bytes: at least 1.
          max_result_chars: at least 1.

        Raises:
          UserError: two tools have one name, something is no tool, or a limit is below 1.
        """
        tools = tuple(tools)
        names = [_name(tool) for tool in tools]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"Two tools are called '{name}'; give one of them another name.")
        for limit, number in (("max_argument_bytes", max_argument_bytes), ("max_result_chars", max_result_chars)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise UserError(f"{limit} is a whole number of at least 1, not {number!r}.")
        object.__setattr__(self, "tools", tools)
        object.__setattr__(self, "policy", policy)
        object.__setattr__(self, "max_argument_bytes", max_argument_bytes)
        object.__setattr__(self, "max_result_chars", max_result_chars)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Toolbox):
            return NotImplemented
        return self._key == other._key and self.policy == other.policy

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def names(self) -> tuple[str, ...]:
        """What the tools are called."""
        return tuple(self._by_name)

    @property
    def definitions(self) -> tuple[dict[str, Any], ...]:
        """The tools as chat templates take them."""
        return tuple(tool.definition for tool in self.tools)

    def call(self, call: ToolCall, policy: CallPolicy | None = None) -> ToolResult:
        """Run a call, or say in one sentence why not.

        The policy sees the arguments as they were checked: JSON types, converted to what the tool takes, defaults
        filled in. A call that it does not allow never reaches the tool; nor does one that it fails to judge.

        Args:
          call: what the model wrote.
          policy: takes the place of the toolbox's own for this call; None keeps that one.
        """
        tool = self._by_name.get(call.name)
        if tool is None:
            return error_result(f"there is no such tool; {nearest(call.name[:128], self.names)}")
        if len(call.arguments) > self.max_argument_bytes or (
            len(call.arguments.encode("utf-8", errors="replace")) > self.max_argument_bytes
        ):
            return error_result(f"the arguments are longer than {self.max_argument_bytes} bytes")
        arguments = tool.read(call.arguments)
        if isinstance(arguments, ToolResult):
            return arguments
        policy = self.policy if policy is None else policy
        if policy is not None:
            refusal = _refusal(policy, tool.name, arguments)
            if refusal is not None:
                return refusal
        return self._cut(tool.run(arguments))

    def _cut(self, result: ToolResult) -> ToolResult:
        missing = len(result.text) - self.max_result_chars
        if missing <= 0:
            return result
        return ToolResult(result.status, f"{result.text[: self.max_result_chars]} [{missing} characters were cut]")

    @cached_property
    def _by_name(self) -> dict[str, AnyTool]:
        return {tool.name: tool for tool in self.tools}

    @cached_property
    def _key(self) -> tuple[str, int, int]:
        return canonical_json(self.definitions), self.max_argument_bytes, self.max_result_chars


def _name(tool: AnyTool) -> str:
    if not all(hasattr(tool, part) for part in ("name", "definition", "read", "run")):
        raise UserError(f"{tool!r} is no tool; make one of a function with `Tool.of(function)`.")
    return tool.name


def _refusal(policy: CallPolicy, name: str, arguments: Arguments) -> ToolResult | None:
    try:
        verdict = policy.decide(name, arguments.plain)
        return None if verdict.allowed is True else error_result(verdict.message)
    except Exception as error:  # a policy that fails permits nothing
        return error_result(f"the call could not be judged: {type(error).__name__}")
