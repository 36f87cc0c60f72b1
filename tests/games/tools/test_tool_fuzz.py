"""F57: calls and replies as a broken model may write them: each gives a result, none raises, none is slow."""

import json
import os
import random
import time
from typing import Literal

import pytest

from lapwing.core.clean_text import encodable
from lapwing.core.rng import generator
from lapwing.core.types import Malformed, Match, ToolCall, ToolResult
from lapwing.games.search_qa import SearchQa
from lapwing.games.tools.tool import Tool
from lapwing.games.tools.toolbox import Toolbox
from lapwing.generation.scripted import Scripted
from lapwing.policies.agent import Agent
from lapwing.policies.contexts import Transcript
from lapwing.policies.parsers import Invalid
from lapwing.policies.renderers import ToolDialogue
from lapwing.policies.tool_parser import ToolUse
from lapwing.rollout.play import play

# `make soak` tries ten thousand.
CALLS = 10_000 if os.environ.get("LAPWING_SOAK") else 1_000
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
def test_f57_every_call_gives_a_result(deadline_seconds):
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


def replied(rng):
    """A reply: a call or an answer, mutated inside of its tags, around them, or both."""
    if rng.random() < 0.1:
        return rng.choice(('<tool> {"name": "search", "arguments": "ka"} </tool>', "<tool> search ka lo </tool>"))
    call = written(rng)
    name = json.dumps(call.name) if rng.random() < 0.9 else call.name
    text = f'<tool> {{"name": {name}, "arguments": {call.arguments}}} </tool>'
    text = rng.choice((text, text, text, f"<answer> {call.arguments} </answer>", call.arguments))
    if rng.random() < 0.3:
        text = "<reasoning> hm </reasoning> " + text
    for _ in range(rng.choice((0, 0, 1, 2))):
        text = rng.choice(MUTATIONS)(rng, text)[:200_000]
    return text


# Fails when a parser, the toolbox or the game raises, or a reply that cannot be read has no result.
@pytest.mark.parametrize(
    "parser", [ToolUse(), ToolUse(style="words"), ToolUse(answer_tag="")], ids=["json", "words", "bare"]
)
def test_f57_every_reply_is_a_call_an_answer_or_an_error_and_play_goes_on(parser):
    game, rng = SearchQa(max_turns=4), random.Random(57)
    state, seen = None, {"ok": 0, "error": 0, "end": 0}
    slowest = 0.0
    for number in range(CALLS):
        state = game.initial(generator("fuzz", number)) if state is None else state
        text = replied(rng)
        start = time.process_time()
        action = parser.parse(text, None)
        if isinstance(action, Invalid):
            assert action.reason
            action = game.malformed(action.reason)
        after = game.step(state, {0: action}, generator("fuzz chance", number))
        view = game.view(after.state, 0)
        slowest = max(slowest, time.process_time() - start)
        last = view.turns[-1]
        if last.result is None:
            assert after.terminated
            seen["end"] += 1
            # Nobody names an answer of this world by chance.
            assert after.success == {0: False}
        else:
            assert last.result.text or last.result.status == "ok"
            last.result.text.encode("utf-8")
            assert isinstance(action, (ToolCall, Malformed))
            seen[last.result.status] += 1
        state = None if after.terminated else after.state
    assert min(seen.values()) > CALLS // 100, seen
    assert slowest < 0.5


# Fails when a result cannot be rendered or tokenised, or its error ends the episode.
def test_f57_matches_of_an_agent_that_writes_nonsense_are_played_to_their_ends(toy_folder):
    from transformers import AutoTokenizer

    tokenizer, rng = AutoTokenizer.from_pretrained(toy_folder("qwen2")), random.Random(58)
    spoken = Scripted(lambda context, key: encodable(replied(rng))[:2000], tokenizer, max_tokens=600)
    parts = {"renderer": ToolDialogue(), "context": Transcript(), "parser": ToolUse(), "tokenizer": tokenizer}
    game = SearchQa(max_turns=3)
    matches = [Match(game, 0, "train", 0, group, 0, 10) for group in range(CALLS // 20)]
    episodes = play(matches, {0: Agent(generator=spoken, **parts)})
    assert len(episodes) == len(matches)
    for episode in episodes:
        turns = episode.final_view.turns
        assert episode.terminated
        assert 1 <= len(episode.steps) == len(turns) <= 4
        assert all(turn.result is not None for turn in turns[:-1])
    results = [turn.result.status for episode in episodes for turn in episode.final_view.turns[:-1]]
    assert results.count("error") > len(results) // 10


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
