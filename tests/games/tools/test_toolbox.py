"""The toolbox: which tool, whether it may, how long the arguments and the result may be, and when two are equal."""

from dataclasses import dataclass

import pytest

from lapwing.core.errors import UserError
from lapwing.core.types import ToolCall, ToolResult
from lapwing.games.tools.tool import Tool
from lapwing.games.tools.toolbox import Toolbox


def search(query: str, limit: int = 3) -> str:
    """Search the corpus.

    Args:
      query: what to look for.
    """
    return f"{query}|{limit}"


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@dataclass
class Decision:
    allowed: object
    message: str = "not allowed here"


class Recorded:
    """Allows what a function allows and remembers what it was asked."""

    def __init__(self, allow):
        self.allow = allow
        self.asked = []

    def decide(self, name, arguments):
        self.asked.append((name, arguments))
        return Decision(self.allow(name, arguments))


def test_calls_go_to_the_tool_of_their_name():
    toolbox = Toolbox([Tool.of(search), Tool.of(add)])
    assert toolbox.names == ("search", "add")
    assert [definition["function"]["name"] for definition in toolbox.definitions] == ["search", "add"]
    assert toolbox.call(ToolCall("search", '"ka lo"')) == ToolResult("ok", "ka lo|3")
    assert toolbox.call(ToolCall("add", '{"a": 1, "b": 2}')) == ToolResult("ok", "3")
    assert toolbox.call(ToolCall("add", '{"a": 1}')) == ToolResult("error", "the argument b is missing")


@pytest.mark.parametrize("name", ["serch", "", "SEARCH", "search ", "</tool>", "\ud800", "x" * 1_000_000, "_by_name"])
def test_an_unknown_tool_is_an_error_that_names_the_known(name):
    result = Toolbox([Tool.of(search), Tool.of(add)]).call(ToolCall(name, "{}"))
    assert result.status == "error"
    assert result.text.startswith("there is no such tool; ")
    assert "search" in result.text


def test_a_toolbox_without_tools_knows_none():
    assert Toolbox([]).call(ToolCall("search", "{}")) == ToolResult("error", "there is no such tool; there are none")


def test_arguments_are_bounded_in_bytes_and_the_bound_itself_is_allowed():
    toolbox = Toolbox([Tool.of(search)], max_argument_bytes=10)
    assert toolbox.call(ToolCall("search", '"ka lo mi"')).ok
    assert toolbox.call(ToolCall("search", '"ka lo mi" ')) == ToolResult(
        "error", "the arguments are longer than 10 bytes"
    )
    assert toolbox.call(ToolCall("search", '"éééé"')).ok  # 2 + 4 · 2 bytes
    assert not toolbox.call(ToolCall("search", '"ééééé"')).ok
    assert not Toolbox([Tool.of(search)]).call(ToolCall("search", '"' + "x" * 1_000_000 + '"')).ok


@pytest.mark.parametrize("status", ["ok", "error"])
def test_a_long_result_is_cut_and_says_how_much_is_missing(status):
    def give(n: int) -> ToolResult:
        """Give."""
        return ToolResult(status, "x" * n)

    toolbox = Toolbox([Tool.of(give)], max_result_chars=10)
    assert toolbox.call(ToolCall("give", '{"n": 10}')) == ToolResult(status, "x" * 10)
    assert toolbox.call(ToolCall("give", '{"n": 17}')) == ToolResult(status, "x" * 10 + " [7 characters were cut]")


def test_a_policy_sees_checked_arguments_and_what_it_refuses_never_runs():
    ran = []

    def spend(amount: int, currency: str = "EUR") -> str:
        """Spend."""
        ran.append(amount)
        return "done"

    policy = Recorded(lambda name, arguments: arguments["amount"] <= 10)
    toolbox = Toolbox([Tool.of(spend)], policy=policy)
    assert toolbox.call(ToolCall("spend", '{"amount": "7"}')) == ToolResult("ok", "done")
    assert toolbox.call(ToolCall("spend", '{"amount": 11.0}')) == ToolResult("error", "not allowed here")
    assert policy.asked == [
        ("spend", {"amount": 7, "currency": "EUR"}),
        ("spend", {"amount": 11, "currency": "EUR"}),
    ]
    assert ran == [7]
    toolbox.call(ToolCall("spend", '{"amount": "many"}'))
    toolbox.call(ToolCall("spent", '{"amount": 1}'))
    assert len(policy.asked) == 2  # calls that cannot run are no question of policy


def test_the_policy_of_a_call_takes_the_place_of_the_toolboxes():
    toolbox = Toolbox([Tool.of(search)], policy=Recorded(lambda *_: False))
    assert not toolbox.call(ToolCall("search", '"ka"')).ok
    assert toolbox.call(ToolCall("search", '"ka"'), Recorded(lambda *_: True)).ok
    assert not Toolbox([Tool.of(search)]).call(ToolCall("search", '"ka"'), Recorded(lambda *_: False)).ok


def test_a_policy_cannot_change_what_the_function_gets():
    def show(items: list[int]) -> list[int]:
        """Show."""
        return items

    def tamper(name, arguments):
        arguments["items"].append(99)
        return True

    assert Toolbox([Tool.of(show)], policy=Recorded(tamper)).call(ToolCall("show", '{"items": [1]}')).text == "[1]"


@pytest.mark.parametrize("allow", [lambda *_: 1 / 0, lambda *_: 1, lambda *_: "yes", lambda *_: None])
def test_a_policy_that_fails_or_does_not_say_true_permits_nothing(allow):
    ran = []

    def act() -> str:
        """Act."""
        ran.append(1)
        return "done"

    assert Toolbox([Tool.of(act)], policy=Recorded(allow)).call(ToolCall("act")).status == "error"
    assert ran == []


def test_toolboxes_are_equal_by_what_the_model_and_the_limits_see():
    one, other = Toolbox([Tool.of(search)]), Toolbox([Tool.of(search)])
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1
    policy = Recorded(lambda *_: True)
    for different in (
        Toolbox([Tool.of(add)]),
        Toolbox([Tool.of(search), Tool.of(add)]),
        Toolbox([Tool.of(search, description="Other.")]),
        Toolbox([Tool.of(search)], max_argument_bytes=5),
        Toolbox([Tool.of(search)], max_result_chars=5),
        Toolbox([Tool.of(search)], policy=policy),
    ):
        assert one != different
    assert Toolbox([Tool.of(search)], policy=policy) == Toolbox([Tool.of(search)], policy=policy)
    assert one != "toolbox"


def test_a_toolbox_is_frozen():
    toolbox = Toolbox([Tool.of(search)])
    with pytest.raises(AttributeError):
        toolbox.policy = Recorded(lambda *_: True)  # type: ignore[misc]


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(UserError, match="Two tools are called 'search'"):
        Toolbox([Tool.of(search), Tool.of(add, name="search")])


def test_a_plain_function_is_no_tool():
    with pytest.raises(UserError, match=r"make one of a function with `Tool\.of\(function\)`"):
        Toolbox([search])


@pytest.mark.parametrize("limit", ["max_argument_bytes", "max_result_chars"])
@pytest.mark.parametrize("number", [0, -5, 2.5, True, None])
def test_limits_are_whole_numbers_of_at_least_1(limit, number):
    with pytest.raises(UserError, match=f"{limit} is a whole number of at least 1"):
        Toolbox([Tool.of(search)], **{limit: number})
