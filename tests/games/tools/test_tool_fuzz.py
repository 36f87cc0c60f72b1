"""10,000 calls as a broken model may write them: each gives a result, none raises, none is slow."""

import json
import random
import time
from typing import Literal

import pytest

from lapwing.core.types import ToolCall, ToolResult
from lapwing.games.tools.tool import Tool
from lapwing.games.tools.toolbox import Toolbox

CALLS = 10_000
MAX_RESULT_CHARS = 200


def search(query: str, limit: int = 3) -> str:
    """Search."""
    return f"{query} " * limit if limit < 1000 else query[limit]


def calculate(a: float, b: float, operation: Literal["+", "/", "**"] = "+") -> float:
    """Calculate."""
    return {"+": a.__add__, "/": a.__truediv__, "**": a.__pow__}[operation](b)


def book(city: str, nights: list[int], options: dict[str, str | bool] | None = None) -> dict:
    """Book."""
    return {"city": city.encode().decode(), "sum": sum(nights), "first": nights[0], "options": options}


def now() -> str:
    """Tell the time."""
    return "noon"


VALID = (
    ("search", '{"query": "ka lo mi", "limit": 2}'),
    ("search", '"ka lo mi"'),
    ("calculate", '{"a": 1.5, "b": 2, "operation": "**"}'),
    ("book", '{"city": "Zürich", "nights": [1, 2, 3], "options": {"breakfast": true, "bed": "wide"}}'),
    ("now", "{}"),
)
FRAGMENTS = (
    *("{", "}", "[", "]", '"', ",", ":", "\\", "\\u0000", "\\ud800", "\\udc00", "\0", "\ud800", "\x7f", "\u202e"),
    *("NaN", "Infinity", "-Infinity", "1e999", "-0", "01", "0x10", "1_000", "null", "true", "None", "'", "//", "/**/"),
    *("</tool>", "<tool>", "<result>", "</result>", "<|im_start|>system", "<|im_end|>", "[INST]", "\nUser:", "<s>"),
    *("__import__('os').system('true')", "$(true)", "; DROP TABLE", "../../etc/passwd", "{{7*7}}", "%s%n", "{0}"),
    *("9" * 400, "9" * 5000, "-" + "9" * 401, "0." + "1" * 500, "[" * 70, '{"a":' * 70, "[" * 2000, "]" * 70),
    *('"query"', '"limit": "5"', '"query": 5', '"__class__": 1', '"self": 1', '"a0": 1', '"nights": [[]]', "é", "𝕏"),
)
KEYS = ("query", "limit", "a", "b", "operation", "city", "nights", "options", "extra", "", "a0", "__class__", "x" * 500)


def truncated(rng, text):
    return text[: rng.randrange(len(text) + 1)]


def spliced(rng, text):
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(FRAGMENTS) + text[at + rng.randrange(3) :]
    return text


def shuffled(rng, text):
    parts = list(text)
    for _ in range(rng.randint(1, 5)):
        if parts:
            parts[rng.randrange(len(parts))] = chr(rng.choice((rng.randrange(128), rng.randrange(0x110000))))
    return "".join(parts)


def garbage(rng, text):
    data = rng.randbytes(rng.randrange(200))
    return data.decode(rng.choice(("latin-1", "utf-8", "utf-16-le")), errors=rng.choice(("replace", "ignore")))


def repeated(rng, text):
    return text * rng.choice((2, 3, 50, 1000))


def retyped(rng, text):
    return json.dumps({rng.choice(KEYS): random_value(rng) for _ in range(rng.randrange(5))}, ensure_ascii=False)


def wrapped(rng, text):
    depth = rng.choice((1, 3, 63, 64, 65, 500))
    return rng.choice(("[" * depth + text + "]" * depth, '{"query":' * depth + text + "}" * depth, json.dumps(text)))


def unchanged(rng, text):
    return text


MUTATIONS = (truncated, spliced, shuffled, garbage, repeated, retyped, wrapped, unchanged)


def random_value(rng, depth=0):
    kind = rng.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {rng.choice(KEYS): random_value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return (
        rng.choice(FRAGMENTS),
        rng.choice((0, 1, -1, 10**18, -(10**300), 2**63)),
        rng.choice((0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"))),
        rng.random() < 0.5,
        None,
        "ka lo",
    )[kind]


def written(rng):
    """A call, mutated once to three times; sometimes the name of the tool as well."""
    name, arguments = rng.choice(VALID)
    for _ in range(rng.randint(1, 3)):
        arguments = rng.choice(MUTATIONS)(rng, arguments)[:70_000]
    fate = rng.random()
    if fate < 0.1:
        name = shuffled(rng, name)
    elif fate < 0.2:
        name = rng.choice((*FRAGMENTS, "", "serch", "__class__", "call", "search" * 10_000))
    elif fate < 0.4:
        name = rng.choice(VALID)[0]
    return ToolCall(name, arguments)


@pytest.mark.parametrize("deadline_seconds", [None, 30.0], ids=["direct", "in threads"])
def test_ten_thousand_calls_each_give_a_result(deadline_seconds):
    tools = [Tool.of(function, deadline_seconds=deadline_seconds) for function in (search, calculate, book, now)]
    toolbox = Toolbox(tools, max_result_chars=MAX_RESULT_CHARS)
    rng = random.Random(4)
    seen = {"ok": 0, "error": 0}
    reasons = set()
    slowest = 0.0
    began = time.process_time()
    for _ in range(CALLS if deadline_seconds is None else CALLS // 10):
        call = written(rng)
        start = time.process_time()
        result = toolbox.call(call)
        slowest = max(slowest, time.process_time() - start)
        assert type(result) is ToolResult
        assert result.status in seen
        assert len(result.text) <= 500
        result.text.encode("utf-8")
        assert "Traceback" not in result.text
        seen[result.status] += 1
        reasons.add(result.text[:20] if result.status == "error" else "ok")
    # All kinds of refusal have been met, and enough calls got through to reach the functions.
    assert min(seen.values()) > sum(seen.values()) // 20
    for reason in ("there is no such tool", "the arguments are no ", "the arguments are nes", "the argument"):
        assert any(met.startswith(reason[:20]) for met in reasons), reason
    assert slowest < 0.3  # 50 ms on a free machine
    assert time.process_time() - began < 20


def test_the_functions_themselves_are_driven_into_errors():
    toolbox = Toolbox([Tool.of(function) for function in (search, calculate, book, now)])
    for call, error in (
        (ToolCall("search", '{"query": "ka", "limit": 5000}'), "IndexError"),
        (ToolCall("calculate", '{"a": 1, "b": 0, "operation": "/"}'), "ZeroDivisionError"),
        (ToolCall("calculate", '{"a": 10, "b": 999, "operation": "**"}'), "OverflowError"),
        (ToolCall("book", '{"city": "ka", "nights": []}'), "IndexError"),
    ):
        result = toolbox.call(call)
        assert (result.status, result.text.split(":")[0]) == ("error", error)
