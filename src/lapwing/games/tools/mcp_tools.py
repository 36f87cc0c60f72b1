"""The tools of an MCP server that is started as a child process and spoken to over its standard streams."""

import asyncio
import contextlib
import copy
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lapwing.core.clean_text import encodable
from lapwing.core.errors import UserError
from lapwing.core.storage import canonical_json
from lapwing.core.types import ToolResult
from lapwing.games.tools._arguments import Arguments, error_result, read_object
from lapwing.games.tools._deadline import is_duration
from lapwing.games.tools.tool import check_name, definition

# The client gives a server 2 s to end by itself and 2 s after SIGTERM; then it is killed.
_CLOSING_SECONDS = 6.0
_PAGES = 100
_ERROR_LINES = 20
_LINE_CHARS = 4096


class McpServer:
    """An MCP server that runs as a child process as long as the context lasts.

        with McpServer([sys.executable, "server.py"]) as server:
            toolbox = Toolbox(server.tools())

    The child gets only the harmless part of this process's environment (PATH, HOME and the like) and `env`. A server
    that dies or hangs gives error results; every call ends at its deadline. What the server writes to its standard
    error is kept apart from the terminal; its last line is part of the message if the server cannot be started.

    Needs the package `mcp`, version 2 or later: `pip install "lapwing[mcp]"`.

    Reference: Model Context Protocol, https://modelcontextprotocol.io/specification
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, deadline_seconds: float = 30
    ) -> None:
        """Say how to start the server; nothing is started yet.

        Args:
          command: the program and its arguments.
          env: environment variables for the server.
          deadline_seconds: seconds for the start, and for each call.

        Raises:
          UserError: the command is empty or a single string, or the deadline is not above 0.
        """
        if isinstance(command, str) or not command or not all(isinstance(part, str) for part in command):
            raise UserError(f"The command of an MCP server is a list like ['python', 'server.py'], not {command!r}.")
        if not is_duration(deadline_seconds):
            raise UserError(f"The deadline of an MCP server is a number of seconds above 0, not {deadline_seconds!r}.")
        self.command = tuple(command)
        self.deadline_seconds = deadline_seconds
        self._env = dict(env or {})
        self._connection: _Connection | None = None

    def __enter__(self) -> "McpServer":
        """Start the server.

        Raises:
          UserError: the package `mcp` is missing, the program cannot be started, or it does not answer in time.
        """
        if self._connection is not None:
            raise UserError("This MCP server runs already; make another McpServer for a second one.")
        _require_mcp()
        connection = _Connection(self.command, self._env, self.deadline_seconds)
        problem = connection.start()
        if problem:
            raise UserError(f"The MCP server {' '.join(self.command)!r} could not be started: {problem}.")
        self._connection = connection
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def tools(self) -> tuple["McpTool", ...]:
        """The tools that the server offered when it was started.

        Raises:
          UserError: the server is not running, or a tool has a name that no model could write.
        """
        if self._connection is None:
            raise UserError("This MCP server is not running; use its tools inside `with McpServer(…) as server`.")
        return tuple(
            McpTool(tool.name, encodable(tool.description or ""), tool.input_schema, self)
            for tool in self._connection.offered
        )

    def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Let the server run one of its tools.

        Args:
          name: of the tool.
          arguments: as JSON types.

        Returns:
          What the server said, as text; an error result if the server has ended, or is silent until the deadline.
        """
        if self._connection is None:
            return error_result("the MCP server is closed")
        return self._connection.call(name, arguments, self.deadline_seconds)

    def close(self) -> None:
        """End the server within 5 seconds; calls that still come get an error result."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.stop()


@dataclass(frozen=True, eq=False)
class McpTool:
    """A tool of an MCP server; the server checks the arguments against its schema.

    Attributes:
      name: what the model calls it.
      description: what it does, in words.
      schema: JSON schema of its arguments.
    """

    name: str
    description: str
    schema: dict[str, Any]
    _server: McpServer = field(repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as chat templates take it: `{"type": "function", "function": {…}}`."""
        return definition(self.name, self.description, self.schema)

    def call(self, arguments: str) -> ToolResult:
        """Read the arguments and let the server run the tool.

        Args:
          arguments: a JSON object, or a bare JSON string for a tool with one required argument.
        """
        read = self.read(arguments)
        return read if isinstance(read, ToolResult) else self.run(read)

    def read(self, arguments: str) -> Arguments | ToolResult:
        """Read the arguments as JSON; an error result says what is wrong with them."""
        required = self.schema.get("required", ())
        try:
            values = read_object(arguments, required if isinstance(required, list) else ())
        except ValueError as error:
            return error_result(str(error))
        return Arguments(values, copy.deepcopy(values))

    def run(self, arguments: Arguments) -> ToolResult:
        """Let the server run the tool on arguments that `read` returned."""
        return self._server.call(self.name, arguments.values)


def _require_mcp() -> None:
    try:
        from mcp import Client  # noqa: F401  (the name is new in version 2)
    except ImportError as error:
        raise UserError(
            'MCP servers need the package mcp, version 2 or later; install it with pip install "lapwing[mcp]".'
        ) from error


class _Connection:
    """The client of one server: an event loop in a thread of its own, from start to stop."""

    def __init__(self, command: tuple[str, ...], env: dict[str, str], deadline_seconds: float) -> None:
        self.offered: list[Any] = []
        self._command = command
        self._env = env
        self._deadline_seconds = deadline_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._timeout: asyncio.Timeout | None = None
        self._problem = ""
        self._ready = threading.Event()
        self._said: deque[str] = deque(maxlen=_ERROR_LINES)
        self._thread = threading.Thread(target=self._live, name="mcp client", daemon=True)
        read_end, self._error_end = os.pipe()
        self._listener = threading.Thread(target=self._listen, args=(read_end,), name="mcp stderr", daemon=True)

    def start(self) -> str:
        """Start the server and ask what it offers; return what went wrong, or nothing."""
        self._listener.start()
        self._thread.start()
        try:
            self._ready.wait(self._deadline_seconds + _CLOSING_SECONDS)
        except BaseException:  # Ctrl-C while the server starts
            self.stop()
            raise
        if self._client is not None:
            return ""
        self.stop()
        last = next((line for line in reversed(self._said) if line), "")
        return f"{self._problem or 'it does not answer'}{f' ({last[:300]})' if last else ''}"

    def stop(self) -> None:
        """End the server, the loop and both threads."""
        self._client = None
        loop, timeout = self._loop, self._timeout
        if loop is not None and timeout is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have ended by itself
                loop.call_soon_threadsafe(_expire, timeout, loop.time())
        self._thread.join(_CLOSING_SECONDS)
        self._listener.join(1.0)

    def call(self, name: str, arguments: dict[str, Any], deadline_seconds: float) -> ToolResult:
        """Let the server run a tool; wait until the deadline and no longer."""
        client, loop = self._client, self._loop
        if client is None or loop is None:
            return error_result("the MCP server has ended")
        request = client.call_tool(name, arguments)
        try:
            future = asyncio.run_coroutine_threadsafe(request, loop)
        except RuntimeError:  # the loop has ended meanwhile
            request.close()
            return error_result("the MCP server has ended")
        try:
            return _result(future.result(deadline_seconds))
        except TimeoutError:
            return error_result(f"the MCP server gave no answer within {deadline_seconds:g} seconds")
        except Exception as error:
            return error_result(f"{type(error).__name__}: {error}")
        finally:
            future.cancel()

    def _live(self) -> None:
        try:
            asyncio.run(self._serve())
        except TimeoutError:
            self._problem = f"it gave no answer within {self._deadline_seconds:g} seconds"
        except Exception as error:
            self._problem = _innermost(error)
        finally:
            self._client = None
            os.close(self._error_end)
            self._ready.set()

    async def _serve(self) -> None:
        from mcp import Client, StdioServerParameters, stdio_client

        self._loop = asyncio.get_running_loop()
        program, *arguments = self._command
        parameters = StdioServerParameters(command=program, args=arguments, env=self._env)
        # One timeout from start to stop: at first it is that of the start, and it ends the server when it expires.
        async with asyncio.timeout(self._deadline_seconds) as self._timeout:
            with os.fdopen(self._error_end, "w", closefd=False) as errors:
                async with Client(stdio_client(parameters, errlog=errors)) as client:
                    self.offered = await _all_tools(client)
                    self._timeout.reschedule(None)
                    self._client = client
                    self._ready.set()
                    await self._loop.create_future()  # waits until it is cancelled

    def _listen(self, read_end: int) -> None:
        with os.fdopen(read_end, encoding="utf-8", errors="replace") as lines:
            for line in iter(lambda: lines.readline(_LINE_CHARS), ""):
                self._said.append(line.strip())


def _expire(timeout: asyncio.Timeout, now: float) -> None:
    if not timeout.expired():
        timeout.reschedule(now)


async def _all_tools(client: Any) -> list[Any]:
    found: list[Any] = []
    cursor = None
    for _ in range(_PAGES):  # a server that never stops turning pages offers no more than these
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _result(result: Any) -> ToolResult:
    parts = [_in_words(part) for part in result.content]
    if not parts and result.structured_content is not None:
        parts = [canonical_json(result.structured_content)]
    return ToolResult("error" if result.is_error else "ok", encodable("\n".join(parts)))


def _in_words(part: Any) -> str:
    """A part of a result as text; what is no text is named."""
    if part.type == "text":
        return part.text
    if part.type in ("image", "audio"):
        return f"[{part.type}, {part.mime_type}, {len(part.data) * 3 // 4} bytes]"
    if part.type == "resource_link":
        return f"[link to the resource {part.uri}]"
    text = getattr(part.resource, "text", None)
    return f"[resource {part.resource.uri}]" if text is None else f"[resource {part.resource.uri}]\n{text}"


def _innermost(error: BaseException) -> str:
    """What went wrong, out of the groups that task groups wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".rstrip(".")
