"""A real MCP server as a child process: its tools work, and its death, its silence and its start are survived."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from lapwing.core.errors import UserError
from lapwing.core.types import ToolCall, ToolResult
from lapwing.games.tools.mcp_tools import McpServer
from lapwing.games.tools.tool import Tool
from lapwing.games.tools.toolbox import Toolbox

pytest.importorskip("mcp")

SERVER = '''
import os
import sys
import time

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import BlobResourceContents, EmbeddedResource, ResourceLink, TextResourceContents

server = MCPServer("small")


@server.tool()
def add(a: int, b: int = 1) -> str:
    """Add two numbers."""
    return str(a + b)


@server.tool()
def echo(text: str) -> list[str]:
    """Say it twice."""
    return [text, text.upper()]


@server.tool(structured_output=False)
def picture() -> list:
    """Draw."""
    return ["a dot", Image(data=b"abc", format="png")]


@server.tool(structured_output=False)
def links() -> list:
    """Give what is neither text nor picture."""
    text = TextResourceContents(uri="file:///a.txt", text="inside")
    blob = BlobResourceContents(uri="file:///b.bin", blob="YWJj")
    link = ResourceLink(name="c", uri="file:///c.txt")
    return [EmbeddedResource(resource=text), EmbeddedResource(resource=blob), link]


@server.tool(structured_output=False)
def nothing() -> list:
    """Give nothing."""
    return []


@server.tool()
def fail(reason: str) -> str:
    """Raise an error."""
    raise ToolError(reason)


@server.tool()
async def hang() -> str:
    """Never answer."""
    import anyio

    await anyio.sleep_forever()


@server.tool()
def block() -> str:
    """Keep the server's process busy."""
    time.sleep(60)
    return "awake"


@server.tool()
def pid() -> str:
    """The server's process, and what it knows of its environment."""
    return f"{os.getpid()} {os.environ.get('GIVEN')} {os.environ.get('SECRET_OF_THE_PARENT')}"


print("ready to serve", file=sys.stderr)
server.run("stdio")
'''


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    path = tmp_path_factory.mktemp("server") / "server.py"
    path.write_text(SERVER)
    return [sys.executable, str(path)]


@pytest.fixture(scope="module")
def tools(command):
    with McpServer(command, env={"GIVEN": "yes"}, deadline_seconds=60) as server:
        yield {tool.name: tool for tool in server.tools()}


def test_the_tools_of_a_server_are_described_and_called(tools):
    assert set(tools) == {"add", "echo", "picture", "links", "nothing", "fail", "hang", "block", "pid"}
    assert tools["add"].definition["function"]["description"] == "Add two numbers."
    assert tools["add"].definition["function"]["parameters"] == tools["add"].schema
    assert tools["add"].schema["required"] == ["a"]
    assert (tools["add"].call('{"a": 2, "b": 3}').status, tools["add"].call('{"a": 2, "b": 3}').text) == ("ok", "5")
    assert tools["echo"].call('"ka lo"').text == "ka lo\nKA LO"
    assert tools["picture"].call("{}").text == "a dot\n[image, image/png, 3 bytes]"
    assert tools["links"].call("{}").text.split("\n") == [
        *("[resource file:///a.txt]", "inside", "[resource file:///b.bin]"),
        "[link to the resource file:///c.txt]",
    ]
    assert tools["nothing"].call("{}") == ToolResult("ok", "")
    assert tools["pid"].call("{}").text.split()[1:] == ["yes", "None"]


def test_errors_of_the_server_and_of_the_arguments_are_results(tools):
    failed = tools["fail"].call('"no luck"')
    assert failed.status == "error"
    assert "no luck" in failed.text
    for arguments in ('{"a": "many"}', "{}", '{"a": 1', "[1]", '{"a": 1, "a": 2}', "NaN", '"\\ud800"'):
        assert tools["add"].call(arguments).status == "error", arguments
    assert tools["add"].call('{"a": 1}').text == "2"


def test_the_tools_stand_in_a_toolbox_beside_functions_and_under_a_policy(tools):
    class OnlySmall:
        def decide(self, name, arguments):
            class Verdict:
                allowed = name != "add" or arguments["a"] < 10
                message = "too large"

            return Verdict()

    def double(text: str) -> str:
        """Say it twice."""
        return text + text

    toolbox = Toolbox([*tools.values(), Tool.of(double)], policy=OnlySmall())
    assert toolbox.call(ToolCall("add", '{"a": 9}')).text == "10"
    assert toolbox.call(ToolCall("add", '{"a": 10}')).text == "too large"
    assert toolbox.call(ToolCall("double", '"ab"')).text == "abab"
    assert json.dumps(toolbox.definitions)


def test_a_tool_that_hangs_ends_at_its_deadline_and_the_server_goes_on(command):
    with McpServer(command, deadline_seconds=60) as server:
        tools = {tool.name: tool for tool in server.tools()}
        server.deadline_seconds = 0.5
        result = tools["hang"].call("{}")
        assert (result.status, result.text) == ("error", "the MCP server gave no answer within 0.5 seconds")
        server.deadline_seconds = 60
        assert tools["add"].call('{"a": 1}').text == "2"


def test_a_killed_server_gives_errors_at_once_and_closes_cleanly(command):
    with McpServer(command, deadline_seconds=90) as server:
        tools = {tool.name: tool for tool in server.tools()}
        pid = int(tools["pid"].call("{}").text.split()[0])
        os.kill(pid, signal.SIGKILL)
        start = time.perf_counter()
        for _ in range(3):
            assert tools["add"].call('{"a": 1}').status == "error"
        assert time.perf_counter() - start < 60
    assert not is_alive(pid)


def test_a_server_that_is_killed_during_a_call_gives_an_error(command):
    with McpServer(command, deadline_seconds=90) as server:
        tools = {tool.name: tool for tool in server.tools()}
        pid = int(tools["pid"].call("{}").text.split()[0])
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        start = time.perf_counter()
        assert tools["hang"].call("{}").status == "error"
        assert time.perf_counter() - start < 60
        killer.join()


@pytest.mark.parametrize("stop", [signal.SIGSTOP, None], ids=["stopped", "busy"])
def test_closing_ends_a_server_that_does_not_listen(command, stop):
    before = set(threading.enumerate())
    with McpServer(command, deadline_seconds=60) as server:
        tools = {tool.name: tool for tool in server.tools()}
        pid = int(tools["pid"].call("{}").text.split()[0])
        server.deadline_seconds = 0.3
        if stop:
            os.kill(pid, stop)
            # More than a pipe holds: the client's writer is stuck as well.
            assert tools["echo"].call(json.dumps("x" * 500_000)).status == "error"
        else:
            assert tools["block"].call("{}").status == "error"
        start = time.perf_counter()
    assert time.perf_counter() - start < 30  # the server is busy for 60
    assert not is_alive(pid)
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("mcp")]


def test_a_closed_server_is_told_and_can_be_started_again(command):
    server = McpServer(command)
    with pytest.raises(UserError, match="not running"):
        server.tools()
    with server:
        (add,) = [tool for tool in server.tools() if tool.name == "add"]
        with pytest.raises(UserError, match="runs already"):
            server.__enter__()
    assert add.call('{"a": 1}').text == "the MCP server is closed"
    server.close()
    with server:
        assert add.call('{"a": 1}').text == "2"


def test_calls_from_several_threads_get_their_own_answers(tools):
    answers = {}

    def ask(number):
        answers[number] = tools["add"].call(json.dumps({"a": number, "b": 100})).text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: str(number + 100) for number in range(8)}


def test_a_server_that_cannot_start_is_one_sentence(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemError('no corpus here')\n")
    with pytest.raises(UserError, match=r"could not be started: .*no corpus here"):
        McpServer([sys.executable, str(broken)]).__enter__()
    with pytest.raises(UserError, match="could not be started: FileNotFoundError"):
        McpServer([str(tmp_path / "absent")]).__enter__()
    silent = tmp_path / "silent.py"
    silent.write_text("import time\ntime.sleep(60)\n")
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"could not be started: it gave no answer within 0\.5 seconds"):
        McpServer([sys.executable, str(silent)], deadline_seconds=0.5).__enter__()
    assert time.perf_counter() - start < 30  # it would be silent for 60


@pytest.mark.parametrize("command", ["python server.py", [], [Path("server.py")]])
def test_a_command_is_a_list_of_words(command):
    with pytest.raises(UserError, match="is a list like"):
        McpServer(command)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5"])
def test_a_deadline_is_a_number_above_0(seconds):
    with pytest.raises(UserError, match="number of seconds above 0"):
        McpServer(["server"], deadline_seconds=seconds)


def test_without_the_package_the_install_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(UserError, match=r'pip install "lapwing\[mcp\]"'):
        McpServer(["server"]).__enter__()
