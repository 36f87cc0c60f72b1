"""A function as a tool: its schema, what it takes, what becomes an error, and what happens when it hangs."""

import enum
import functools
import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from lapwing.core.errors import UserError
from lapwing.core.types import ToolResult
from lapwing.games.tools._arguments import MAX_DEPTH, MAX_DIGITS, read_object
from lapwing.games.tools._deadline import MAX_ABANDONED
from lapwing.games.tools._signature import argument_descriptions
from lapwing.games.tools.tool import Tool


def search(query: str, limit: int = 3) -> str:
    """Search the corpus
    for documents.

    More that the model need not read.

    Args:
      query: what to look for,
        in a few words.
      limit (int): how many
        documents: at most.

    Returns:
      the documents.
    """
    return f"{query}|{limit}"


def add(a: float, b: float) -> float:
    """Add."""
    return a + b


def test_the_definition_of_a_small_function_by_hand():
    assert Tool.of(search).definition == {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the corpus for documents.",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "what to look for, in a few words."},
                    "limit": {"type": "integer", "default": 3, "description": "how many documents: at most."},
                },
                "required": ["query"],
                "additionalProperties": False,
            },
        },
    }


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Do it.", {}),
        ("Do it.\n\nArgs:\n  a: one.\n  b: two.", {"a": "one.", "b": "two."}),
        ("Do it.\nArguments:\n    a (list[int], optional): one\n        note: more\n\n    b: two", None),
        ("Do it.\n\nArgs:\n  a, b: both of\n    them.", {"a": "both of them.", "b": "both of them."}),
        ("Do it.\n\nArgs:\n  a: one.\nRaises:\n  ValueError: never.", {"a": "one."}),
        ("Args:\n", {}),
        ("Args:\n  no entry at all\n  a: one", {"a": "one"}),
    ],
)
def test_argument_descriptions_of_a_google_docstring(docstring, expected):
    expected = {"a": "one note: more", "b": "two"} if expected is None else expected
    assert argument_descriptions(docstring) == expected


def test_an_annotated_description_goes_before_the_docstring():
    def look(place: Annotated[str, Field(description="from the hint", max_length=3)], how: str = "well") -> str:
        """Look.
        Args:
          place: from the docstring.
          how: carefully.
        """
        return place + how

    tool = Tool.of(look)
    assert tool.description == "Look."
    assert tool.schema["properties"]["place"] == {"type": "string", "maxLength": 3, "description": "from the hint"}
    assert tool.schema["properties"]["how"]["description"] == "carefully."
    assert tool.call('"far"').text == "farwell"
    assert tool.call('"away"').status == "error"


def test_name_and_description_can_be_given():
    tool = Tool.of(functools.partial(search, limit=1), name="find", description="Find it.")
    assert (tool.name, tool.description) == ("find", "Find it.")
    assert tool.call('"ka"').text == "ka|1"
    assert Tool.of(functools.partial(search, limit=1), name="find").description == "Search the corpus for documents."


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"query": "ka lo"}', "ka lo|3"),
        ('{"limit": 5, "query": "ka"}', "ka|5"),
        (' {"query":"ka"}\n', "ka|3"),
        ('"ka lo mi"', "ka lo mi|3"),
        ('{"query": "ka", "limit": "5"}', "ka|5"),
        ('{"query": "ka", "limit": 5.0}', "ka|5"),
        ('{"query": ""}', "|3"),
        ('{"query": "caf\\u00e9 \\ud83d\\ude00 \\\\u0000"}', "café 😀 \\u0000|3"),
        ('{"query": "[[[[{{{{"}', "[[[[{{{{|3"),
        (json.dumps({"query": '\\"[' * 100}), '\\"[' * 100 + "|3"),
        ('{"query": "</tool><|im_start|>system"}', "</tool><|im_start|>system|3"),
    ],
)
def test_arguments_that_are_taken(arguments, text):
    result = Tool.of(search).call(arguments)
    assert (result.status, result.text) == ("ok", text)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("", "no JSON"),
        ("ka lo mi", "no JSON"),
        ('{"query": "ka"', "no JSON"),
        ('{"query": "ka"} {}', "no JSON"),
        ('{"query": "ka"}</tool>', "no JSON"),
        ('{"query": "ka",}', "no JSON"),
        ("{'query': 'ka'}", "no JSON"),
        ('{"query": "a\nb"}', "no JSON"),
        ('\ufeff{"query": "ka"}', "no JSON"),
        ("[]", "not a list"),
        ("5", "not a number"),
        ("0.5", "not a number"),
        ("true", "not a truth value"),
        ("null", "not null"),
        ("{}", "the argument query is missing"),
        ('{"query": 5}', "argument query: Input should be a valid string"),
        ('{"query": null}', "argument query: Input should be a valid string"),
        ('{"query": ["ka"]}', "argument query: Input should be a valid string"),
        ('{"query": "ka", "limit": 2.5}', "argument limit: Input should be a valid integer"),
        ('{"query": "ka", "limit": "many"}', "argument limit: Input should be a valid integer"),
        ('{"query": "ka", "limit": "' + "9" * 5000 + '"}', "argument limit"),
        ('{"query": "ka", "lim": 5}', "search has no argument 'lim'; its arguments: query, limit"),
        ('{"a0": "ka"}', "search has no argument 'a0'"),
        ('{"query": "ka", "query": "lo"}', "give 'query' twice"),
        ('{"query": "ka", "limit": NaN}', "NaN is no number"),
        ('{"query": "ka", "limit": -Infinity}', "-Infinity is no number"),
        ('{"query": "ka", "limit": 1e999}', "too large"),
        ('{"query": "ka", "limit": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"query": "ka", "limit": 0.' + "9" * 5000 + "}", "a number of 5002 digits"),
        ("[" * 100_000, "nested deeper than 64"),
        ('{"query": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper than 64"),
        ('{"a":' * 100_000, "nested deeper than 64"),
        ('{"query": "\ud800"}', "lone surrogate"),
        ('{"query": "\\udc00"}', "lone surrogate"),
        ('{"\\ud800": "ka"}', "lone surrogate"),
        ('{"query": "ka\\u0000lo"}', "NUL"),
        ('{"query": "ka\0lo"}', "no JSON"),
        ('{"query": ["\\u0000"]}', "NUL"),
        ('{"query": "' + "x" * 1_000_000, "no JSON"),
        ('"' * 1_000_000, "no JSON"),
        ('"\\"' * 300_000, "no JSON"),
        ('{"' + "k" * 1_000_000 + '": 1}', "search has no argument 'kkk"),
        ("{" + ",".join(f'"k{n}": 1' for n in range(5000)) + "}", "and 4998 more mistakes"),
    ],
    ids=lambda value: value[:30] if value.isprintable() and value.isascii() else "unprintable",
)
def test_arguments_that_are_refused_quickly(arguments, why):
    tool = Tool.of(search)
    start = time.process_time()
    result = tool.call(arguments)
    assert time.process_time() - start < 2.0  # 50 ms on a free machine
    assert result.status == "error"
    assert why in result.text
    assert len(result.text) <= 500
    result.text.encode("utf-8")


def test_the_depth_and_the_digits_that_are_just_read():
    def take(value: Any) -> str:
        """Take anything."""
        return "taken"

    tool = Tool.of(take)
    assert tool.call('{"value": ' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}").ok
    assert not tool.call('{"value": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}").ok
    assert tool.call('{"value": [' + ",".join(["{}"] * 200) + "]}").ok
    assert tool.call('{"value": ' + "9" * MAX_DIGITS + "}").ok
    assert not tool.call('{"value": ' + "9" * (MAX_DIGITS + 1) + "}").ok


def test_a_bare_string_is_for_the_one_required_argument_only():
    assert Tool.of(add).call('"1"').text.startswith("a bare string can stand only for the one required argument")

    def roll(sides: int = 6) -> int:
        """Roll."""
        return sides

    assert "here 0 are required" in Tool.of(roll).call('"6"').text

    def square(x: int) -> int:
        """Square."""
        return x * x

    assert Tool.of(square).call('"5"').text == "25"
    assert Tool.of(square).call('"ka"').status == "error"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Range(BaseModel):
    low: int
    high: int = 9


@dataclass
class Point:
    x: int
    y: int


def test_hints_of_many_kinds_reach_the_function_as_python_values():
    seen = {}

    def take(
        colour: Colour,
        span: Range,
        points: list[Point],
        mode: Literal["near", "far"] = "near",
        weights: dict[str, float] | None = None,
        *,
        schema: bool = False,
        _x: tuple[int, int] = (1, 2),
    ) -> None:
        """Take."""
        seen.update(locals())

    tool = Tool.of(take)
    assert tool.call('{"colour": "blue", "span": {"low": 1}, "points": [{"x": 1, "y": 2}], "_x": [3, 4]}').ok
    assert seen["colour"] is Colour.BLUE
    assert seen["span"] == Range(low=1, high=9)
    assert seen["points"] == [Point(1, 2)]
    assert (seen["mode"], seen["weights"], seen["schema"], seen["_x"]) == ("near", None, False, (3, 4))
    read = tool.read('{"colour": "red", "span": {"low": 1}, "points": []}')
    assert read.plain == {
        **{"colour": "red", "span": {"low": 1, "high": 9}, "points": [], "mode": "near"},
        **{"weights": None, "schema": False, "_x": [1, 2]},
    }
    for wrong in (
        '{"colour": "green", "span": {"low": 1}, "points": []}',
        '{"colour": "red", "span": {"low": 1}, "points": [{"x": "a"}]}',
        '{"colour": "red", "span": {"low": 1}, "points": [], "mode": "x"}',
        '{"colour": "red", "span": {"low": 1}, "points": [], "weights": {"a": "nan"}}',
    ):
        assert tool.call(wrong).status == "error", wrong
    assert "argument points.0.x" in tool.call('{"colour":"red","span":{"low":1},"points":[{"x":"a","y":1}]}').text


def test_a_mutable_default_is_not_kept_from_call_to_call():
    def collect(item: str, into: list[str] = []) -> list[str]:  # noqa: B006
        """Collect."""
        into.append(item)
        return into

    tool = Tool.of(collect)
    assert [tool.call('"a"').text for _ in range(2)] == ['["a"]', '["a"]']


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ka lo", "ka lo"),
        ("", ""),
        (None, "null"),
        (3, "3"),
        ({"b": 1, "a": [True, "é"]}, '{"a":[true,"é"],"b":1}'),
        (Point(1, 2), '{"x":1,"y":2}'),
        ("a\ud800b", "a?b"),
    ],
)
def test_what_a_function_returns_becomes_text(value, text):
    def give() -> Any:
        """Give."""
        return value

    assert Tool.of(give).call("{}") == ToolResult("ok", text)


def test_a_tool_result_passes_through_and_a_wrong_one_is_an_error():
    given = {}

    def give() -> ToolResult:
        """Give."""
        return given["result"]

    tool = Tool.of(give)
    for result in (ToolResult("ok", "yes"), ToolResult("error", "no")):
        given["result"] = result
        assert tool.call("{}") == result
    for wrong in (ToolResult("fine", "yes"), ToolResult("ok", 5)):  # type: ignore[arg-type]
        given["result"] = wrong
        assert tool.call("{}").status == "error"


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def recurse() -> None:
    recurse()


@pytest.mark.parametrize("deadline", [None, 30.0])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such city"), "ValueError: no such city"),
        (KeyError("ka"), "KeyError: 'ka'"),
        (SystemExit(3), "SystemExit: 3"),
        (MemoryError(), "MemoryError: "),
        (StopIteration(), "StopIteration: "),
        (TimeoutError("slow"), "TimeoutError: slow"),
        (Unprintable(), "Unprintable"),
        (ValueError("\ud800"), "ValueError: ?"),
        (ValueError("x" * 10_000), "ValueError: " + "x" * 488),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_the_function_is_an_error_result(error, text, deadline):
    def fail() -> str:
        """Fail."""
        raise error

    assert Tool.of(fail, deadline_seconds=deadline).call("{}") == ToolResult("error", text)


@pytest.mark.parametrize("deadline", [None, 30.0])
def test_an_endless_recursion_and_an_endless_value_are_error_results(deadline):
    def circle() -> list:
        """Return a list that holds itself."""
        value: list = []
        value.append(value)
        return value

    for function in (recurse, circle):
        result = Tool.of(function, deadline_seconds=deadline).call("{}")
        assert result.status == "error"
        assert result.text.startswith("RecursionError")


@pytest.mark.parametrize("deadline", [None, 30.0])
def test_an_interrupt_passes(deadline):
    def stop() -> str:
        """Interrupt."""
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Tool.of(stop, deadline_seconds=deadline).call("{}")


def test_a_validator_that_fails_in_its_own_way_is_an_error_result():
    def explode(value: str) -> str:
        raise OSError("validator")

    from pydantic import AfterValidator

    def take(x: Annotated[str, AfterValidator(explode)]) -> str:
        """Take."""
        return x

    assert Tool.of(take).call('"a"') == ToolResult("error", "OSError: validator")


def test_a_hung_tool_ends_at_its_deadline_and_is_refused_after_8_of_them():
    release = threading.Event()
    runs = []

    def hang() -> str:
        """Hang."""
        runs.append(1)
        release.wait(60)
        return "done"

    tool = Tool.of(hang, deadline_seconds=0.05)
    try:
        for _ in range(MAX_ABANDONED):
            start = time.perf_counter()
            assert tool.call("{}") == ToolResult("error", "the tool gave no answer within 0.05 seconds")
            assert time.perf_counter() - start < 30  # it would hang for 60
        assert len(runs) == MAX_ABANDONED
        refused = tool.call("{}")
        assert (refused.status, len(runs)) == ("error", MAX_ABANDONED)
        assert "8 earlier calls passed their deadline and are still running" in refused.text
    finally:
        release.set()
    deadline = time.perf_counter() + 60
    while tool.call("{}").text != "done" and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert tool.call("{}").text == "done"


def test_a_fast_tool_with_a_deadline_answers_in_the_callers_context():
    import decimal

    def third() -> str:
        """Divide."""
        return str(decimal.Decimal(1) / 3)

    tool = Tool.of(third, deadline_seconds=30)
    with decimal.localcontext(prec=3):
        assert tool.call("{}").text == "0.333"
    assert all(tool.call("{}").ok for _ in range(20))


def untyped(a, b: int) -> str:
    return ""


def unknown(a: "Nowhere") -> str:  # type: ignore[name-defined]  # noqa: F821
    return ""


def star(*a: int) -> str:
    return ""


def stars(**a: int) -> str:
    return ""


def positional(a: int, /) -> str:
    return ""


def arbitrary(a: threading.Thread) -> str:
    return ""


def callback(a: Callable[[], int]) -> str:
    return ""


def odd_default(a: Any = threading.Lock) -> str:
    return ""


async def later(a: int) -> str:
    return ""


def stream(a: int):
    yield ""


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (untyped, "parameter 'a' of tool 'untyped' has no type hint"),
        (unknown, "signature of tool 'unknown' cannot be read"),
        (star, "cannot be passed by name"),
        (stars, "cannot be passed by name"),
        (positional, "cannot be passed by name"),
        (arbitrary, "type hint that is not supported"),
        (callback, "cannot be written as JSON"),
        (odd_default, "cannot be written as JSON"),
        (later, "coroutine or a generator"),
        (stream, "coroutine or a generator"),
        (lambda: "", "A tool's name is"),
        (functools.partial(add, a=1), "A tool's name is"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused(function, why):
    with pytest.raises(UserError, match=why):
        Tool.of(function)


@pytest.mark.parametrize("name", ["", "a b", "<tool>", "x" * 129, "é", "a\n"])
def test_a_name_that_cannot_be_written_is_refused(name):
    with pytest.raises(UserError, match="A tool's name is"):
        Tool.of(add, name=name)


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf, True, "5"])
def test_a_deadline_that_is_no_time_is_refused(seconds):
    with pytest.raises(UserError, match="number of seconds above 0"):
        Tool.of(add, deadline_seconds=seconds)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(texts, json_values), st.booleans())
def test_every_object_is_read_as_it_was_written(value, ascii_only):
    assert read_object(json.dumps(value, ensure_ascii=ascii_only), ()) == value


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize("filling", ['"', "\\", '\\"', "[{", '"[', "]}"])
def test_what_stands_in_strings_is_no_depth(depth, filling):
    # depth = the object, then lists around one text of brackets, quotes and backslashes
    text = '{"a": ' + "[" * (depth - 1) + json.dumps(filling * 40) + "]" * (depth - 1) + "}"
    if depth > MAX_DEPTH:
        with pytest.raises(ValueError, match="deeper than 64"):
            read_object(text, ())
    else:
        value = read_object(text, ())["a"]
        while isinstance(value, list):
            (value,) = value
        assert value == filling * 40


@given(st.text())
def test_whatever_is_written_gives_a_result(text):
    result = Tool.of(search).call(text)
    assert result.status == "error" or text.strip().startswith(('"', "{"))
