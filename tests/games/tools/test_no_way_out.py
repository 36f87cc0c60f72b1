"""What a model writes is never a command, a path, an address or code; there is nothing that would run it.

Lapwing ships one tool, the search of `search_qa`, and tools that people make of their own functions or take from MCP
servers. There is no calculator, so that expressions are only text, and no tool that runs code.
"""

import ast
import json
import socket
import sys
import time
from pathlib import Path

import pytest

import lapwing
from lapwing.core.rng import generator
from lapwing.core.types import Answer, ToolCall
from lapwing.games.search_qa import SearchQa
from lapwing.games.tools.tool import Tool
from lapwing.games.tools.toolbox import Toolbox

PAYLOADS = (
    *("; touch {canary}", "$(touch {canary})", "`touch {canary}`", "| touch {canary} #", "&& touch {canary}", "\n: x"),
    *("../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "..\\..\\x", "~/.ssh/id_rsa", "{canary}", "\0/"),
    *("http://169.254.169.254/latest/meta-data/", "http://metadata.google.internal/", "http://127.0.0.1:22", "//a.b"),
    *("__import__('os').system('touch {canary}')", "().__class__.__base__.__subclasses__()", "{{7*7}}", "{0.real}"),
    *("9**9**9", "9**9**9**9", "lambda: 0", "[i for i in range(10**12)]", "'a'*10**12", "%s%n"),
    "open('{canary}', 'w')",
)
# What no search, no check of arguments and no answer may do.
FORBIDDEN = (
    *("open", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.system"),
    *("os.exec", "os.posix_spawn", "os.spawn", "os.remove", "os.rename", "os.mkdir", "urllib.Request", "compile"),
    *("exec", "import"),
)


@pytest.fixture
def happened():
    """Everything of that kind that happens while the test is in its block, by the interpreter's own account."""
    found = []
    state = {"is_on": False}

    def listen(event, arguments):
        if state["is_on"] and event in FORBIDDEN:
            found.append((event, str(arguments)[:100]))

    sys.addaudithook(listen)
    yield found, state
    state["is_on"] = False


def payloads(canary):
    texts = [payload.replace("{canary}", str(canary)) for payload in PAYLOADS]
    for text in texts:
        yield ToolCall("search", json.dumps({"query": text}))
        yield ToolCall("search", json.dumps(text))
        yield ToolCall("search", text)
        yield ToolCall(text, "{}")
        yield ToolCall("search", json.dumps({text: "ka"}))
        yield Answer(text)


# Fails when anything of a call is opened, run, looked up or evaluated.
def test_f58_f59_no_call_and_no_answer_of_the_shipped_game_leaves_the_process(tmp_path, happened):
    found, state = happened
    game, canary = SearchQa(max_turns=1), tmp_path / "canary"
    chance = generator("ways out", 0)
    start = game.initial(chance)
    # What is loaded once is loaded now.
    game.step(start, {0: ToolCall("search", '{"query": "ka", "x": 1}')}, chance)
    game.step(start, {0: ToolCall("nothing", "{}")}, chance)
    game.step(start, {0: Answer("ka")}, chance)
    slowest = 0.0
    for action in payloads(canary):
        began = time.process_time()
        state["is_on"] = True
        after = game.step(start, {0: action}, chance)
        state["is_on"] = False
        slowest = max(slowest, time.process_time() - began)
        assert after.terminated == isinstance(action, Answer)
    assert found == []
    assert not canary.exists()
    assert slowest < 0.5


# Fails when arguments are looked for anywhere but in the schema of the function.
def test_f59_a_tool_of_a_function_gets_its_arguments_as_text_and_nothing_is_evaluated(tmp_path, happened):
    found, state = happened

    def calculate(expression: str) -> str:
        """Repeat."""
        return expression

    toolbox, canary = Toolbox([Tool.of(calculate)]), tmp_path / "canary"
    for payload in PAYLOADS:
        text = payload.replace("{canary}", str(canary))
        state["is_on"] = True
        result = toolbox.call(ToolCall("calculate", json.dumps({"expression": text})))
        state["is_on"] = False
        assert result.text == text or result.status == "error"
    assert found == []
    assert not canary.exists()


def test_the_account_of_the_interpreter_is_kept(happened):
    # Fails when the hook hears nothing, so that the tests above could not fail.
    found, state = happened
    state["is_on"] = True
    eval("1 + 1")
    Path(__file__).read_bytes()
    with pytest.raises(OSError), socket.socket() as one:  # noqa: PT011
        one.connect(("127.0.0.1", 1))
    state["is_on"] = False
    assert {event for event, _ in found} >= {"compile", "exec", "open", "socket.connect"}


# Fails when somebody adds a shell, an `eval`, or a process in a file that has none now.
def test_f58_the_package_runs_no_shell_and_evaluates_nothing():
    starts_processes = set()
    for file in sorted(Path(lapwing.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "compile", "os.system", "os.popen", "pty.spawn"), (file, node.lineno)
            assert not any(word.arg == "shell" for word in node.keywords), (file, node.lineno)
            if called.startswith(("subprocess.", "os.exec", "os.spawn", "os.posix_spawn")):
                starts_processes.add(file.name)
    # The commit of a checkout, the runs of a comparison, the workers of games and their check, the maker of TextWorld's
    # games; all with lists of words.
    known = {"sameness.py", "paired_runs.py", "_worker_process.py", "_elsewhere.py", "textworld.py"}
    assert starts_processes <= known
