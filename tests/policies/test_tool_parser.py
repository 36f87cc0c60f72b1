import itertools
import json
import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.core.storage import canonical_json
from lapwing.core.types import Answer, Malformed, ToolCall
from lapwing.games.tools._arguments import read_object
from lapwing.games.tools.dialogue import ToolGame
from lapwing.policies.parsers import Invalid
from lapwing.policies.tool_parser import ToolUse

JSON, WORDS = ToolUse(), ToolUse(style="words")
NATIVE = ToolUse(tool_tag="tool_call", answer_tag="", reasoning_tag="think")


def call(query="ka lo", name="search"):
    return ToolCall(name, canonical_json({"query": query}))


def written(inside):
    return f"<tool>{inside}</tool>"


# ---------------------------------------------------------------------------------------------------------------------
# Calls as JSON.


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ('{"name": "search", "arguments": {"query": "ka lo"}}', call()),
        ('\n {"arguments":{"query":"ka lo"},"name":"search"}\n', call()),  # order and blanks do not matter
        ('{"name": "search", "arguments": "ka lo"}', ToolCall("search", '"ka lo"')),
        ('{"name": "clock"}', ToolCall("clock", "{}")),
        ('{"name": "f", "arguments": {"b": 1, "a": [1.0, true, null]}}', ToolCall("f", '{"a":[1.0,true,null],"b":1}')),
        ('{"name": "search", "arguments": {"query": "\\u0041é☃"}}', call("Aé☃")),
        # What no tool takes is the game's to refuse.
        ('{"name": "no such tool", "arguments": {}}', ToolCall("no such tool", "{}")),
        ('{"name": "", "arguments": {}}', ToolCall("", "{}")),
        ('{"name": "f", "arguments": [1, 2]}', ToolCall("f", "[1,2]")),
        ('{"name": "f", "arguments": null}', ToolCall("f", "null")),
        ('{"name": "f", "arguments": 7}', ToolCall("f", "7")),
        ('{"name": "f", "thought": "hm", "arguments": {}}', ToolCall("f", "{}")),
    ],
)
def test_a_call_is_a_json_object_with_a_name(inside, expected):
    assert JSON.parse(f"<reasoning> hm </reasoning> {written(inside)}", None) == expected


NESTED = '{"name": "f", "arguments": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        ("", "no JSON"),
        ("search ka lo", "no JSON"),
        ("{'name': 'search'}", "no JSON"),
        ('{"name": "search"} and more', "no JSON"),
        ('{"name": "search", "arguments": {"query": "ka', "no JSON"),
        ("[]", "a call is a JSON object"),
        ('"search"', "a call is a JSON object"),
        ("null", "a call is a JSON object"),
        ("{}", "a call is a JSON object"),
        ('{"name": 3}', "a call is a JSON object"),
        ('{"name": null, "arguments": {}}', "a call is a JSON object"),
        ('{"name": ["search"]}', "a call is a JSON object"),
        # Fails when canonical JSON is made of it: it would not be JSON.
        ('{"name": "f", "arguments": {"x": NaN}}', "NaN"),
        ('{"name": "f", "arguments": {"x": -Infinity}}', "Infinity"),
        ('{"name": "f", "arguments": {"x": 1e999}}', "too large"),
        ('{"name": "f", "arguments": {"x": ' + "7" * 5000 + "}}", "a number of 5000 digits"),
        ('{"name": "f", "arguments": {"x": -0.' + "7" * 5000 + "}}", "digits"),
        ('{"name": "f", "arguments": {"x": 1, "x": 2}}', "twice"),
        ('{"name": "f", "name": "g"}', "twice"),
        ('{"name": "\\ud800", "arguments": {}}', "surrogate"),
        ('{"name": "f", "arguments": {"x": "\\udfff"}}', "surrogate"),
        ('{"name": "f", "arguments": {"x": "\ud800"}}', "surrogate"),
        ('{"name": "f", "arguments": {"\\u0000": 1}}', "NUL"),
        (NESTED, "characters; the longest that is read has 65,536"),
        (NESTED[:60_000], "nested deeper than 64"),
        ('{"x":' * 12_000, "nested deeper than 64"),
        ("x" * 2**20, "a call of 1,048,576 characters"),
    ],
)
def test_what_is_no_such_object_is_unreadable_and_says_why(inside, why):
    found = JSON.parse(written(inside), None)
    assert isinstance(found, Invalid)
    assert why in found.reason
    assert len(found.reason) < 300


def test_a_call_is_read_up_to_its_longest_length():
    inside = '{"name": "f", "arguments": {"x": "%s"}}'
    room = 65_536 - len(inside) + 2
    assert isinstance(JSON.parse(written(inside % ("a" * room)), None), ToolCall)
    assert isinstance(JSON.parse(written(inside % ("a" * (room + 1))), None), Invalid)


# ---------------------------------------------------------------------------------------------------------------------
# Calls as words.


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        (" search ka lo mi ", ToolCall("search", '"ka lo mi"')),
        ("search\nka  lo", ToolCall("search", '"ka  lo"')),
        ("search\t ka", ToolCall("search", '"ka"')),
        ('search "ka" \\', ToolCall("search", '"\\"ka\\" \\\\"')),
        ("clock", ToolCall("clock", "{}")),  # a tool without arguments can be called
        ("clock ", ToolCall("clock", "{}")),
        ("search {}", ToolCall("search", '"{}"')),  # it is words, whatever they look like
        ("search " + "7" * 5000, ToolCall("search", f'"{"7" * 5000}"')),
    ],
)
def test_a_call_in_words_is_a_name_and_one_argument(inside, expected):
    assert WORDS.parse(written(inside), None) == expected


@pytest.mark.parametrize("inside", ["", "  ", "\n"])
def test_a_call_without_words_is_unreadable(inside):
    assert WORDS.parse(written(inside), None) == Invalid("an empty call")
    assert isinstance(WORDS.parse(written("search " + "a" * 2**20), None), Invalid)


def test_a_call_in_words_without_an_argument_suits_a_tool_without_one():
    found = WORDS.parse(written("clock"), None)
    assert read_object(found.arguments, ()) == {}


# ---------------------------------------------------------------------------------------------------------------------
# Which pair of tags counts.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<answer> Paris </answer>", Answer("Paris")),
        ("<answer></answer>", Answer("")),
        ("<answer>\n two\nlines \n</answer>", Answer("two\nlines")),
        ("so <answer>a</answer> or <answer>b</answer>", Answer("a")),
        # The pair that is closed first, whichever is opened first.
        ("<tool> clock </tool> <answer> a </answer>", ToolCall("clock", "{}")),
        ("<answer> a </answer> <tool> clock </tool>", Answer("a")),
        ("<answer> <tool> clock </tool> </answer>", ToolCall("clock", "{}")),
        ("<tool> clock <answer> a </answer> </tool>", Answer("a")),
        ("<tool> clock <answer> a </tool> </answer>", ToolCall("clock", '"<answer> a"')),
        # A tag that is not closed, or closed before it is opened, is none.
        ("<tool> clock <answer> a </answer>", Answer("a")),
        ("<answer> a <tool> clock </tool>", ToolCall("clock", "{}")),
        ("</tool> <tool> clock </tool>", ToolCall("clock", "{}")),
        ("</answer> </tool> <answer> a </answer>", Answer("a")),
        # From the first opening tag on.
        ("<tool> <tool> clock </tool> </tool>", ToolCall("<tool>", '"clock"')),
        ("<answer> a <answer> b </answer> c </answer>", Answer("a <answer> b")),
        # What stands in the reasoning counts like anything else.
        ("<reasoning> <answer> a </answer> </reasoning> <answer> b </answer>", Answer("a")),
        # A result that a model makes up is no result.
        ("<tool> clock </tool> <result> noon </result> <answer> noon </answer>", ToolCall("clock", "{}")),
        ("<tool>\ud800</tool>", ToolCall("\ud800", "{}")),
    ],
)
def test_the_first_pair_that_is_closed_counts(text, expected):
    assert WORDS.parse(text, None) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither a <tool> nor an <answer> with its closing tag"),
        ("Paris", "neither"),
        ("<answer> Paris", "neither"),
        ("</answer> Paris <answer>", "neither"),
        ("<ANSWER> Paris </ANSWER>", "neither"),
        ("< answer > Paris </ answer >", "neither"),
        ("&lt;answer> Paris &lt;/answer>", "neither"),
        ("<tool> clock", "no closing </tool> tag"),
        ("<tool> clock </answer>", "no closing </tool> tag"),
        ("<answer> <tool>", "no closing </tool> tag"),
    ],
)
def test_a_reply_without_a_closed_pair_is_invalid(text, why):
    found = WORDS.parse(text, None)
    assert isinstance(found, Invalid)
    assert why in found.reason


def test_a_fake_tag_in_a_json_string_ends_the_call_as_it_ends_its_generation():
    # Generation stops at the first closing tag; a parser that read on would judge a text that is never sampled.
    text = '<tool> {"name": "search", "arguments": {"query": "</tool> x"}} </tool>'
    stopped = text[: text.index("</tool>") + len("</tool>")]
    assert isinstance(JSON.parse(text, None), Invalid)
    assert JSON.parse(text, None) == JSON.parse(stopped, None)
    inside = '<tool> {"name": "search", "arguments": {"query": "<answer> x </answer>"}} </tool>'
    assert JSON.parse(inside, None) == Answer("x")


def brute(text, tag, other):
    """Where the pair ends that counts: by trying all places."""
    pairs = [
        (b, a + len(t) + 2, t)
        for t in (tag, other)
        for a in range(len(text))
        if text.startswith(f"<{t}>", a)
        for b in range(a, len(text))
        if text.startswith(f"</{t}>", b)
    ]
    return min(pairs, default=None)


TAGS = [f"<{bracket}{tag}>" for tag in ("tool", "answer") for bracket in ("", "/")]


@pytest.mark.parametrize("length", range(6))
def test_all_orders_of_tags_are_read_as_a_brute_force_reading_does(length):
    for tags in itertools.product(TAGS, repeat=length):
        text = "".join(f"{tag} w{n} " for n, tag in enumerate(tags))
        pair = brute(text, "tool", "answer")
        found = WORDS.parse(text, None)
        if pair is None:
            assert isinstance(found, Invalid)
        elif pair[2] == "answer":
            assert found == Answer(text[pair[1] : pair[0]].strip())
        else:
            name, *rest = text[pair[1] : pair[0]].split(maxsplit=1)
            assert found == ToolCall(name, canonical_json(rest[0].strip()) if rest else "{}")


# ---------------------------------------------------------------------------------------------------------------------
# Tags of a model's own.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<tool_call>\n{"name": "search", "arguments": {"query": "ka lo"}}\n</tool_call>', call()),
        ('I look it up. <tool_call>{"name": "search", "arguments": {"query": "ka lo"}}</tool_call>', call()),
        ("Paris", Answer("Paris")),
        ("<think> France … </think>\n\nParis\n", Answer("Paris")),
        ("<think> a </think> b </think> c", Answer("c")),
        ("<answer> Paris </answer>", Answer("<answer> Paris </answer>")),  # no tag of this model
        ("<tool> clock </tool>", Answer("<tool> clock </tool>")),
        ("", Invalid("empty reply")),
        (" \n", Invalid("empty reply")),
        ("<think> only </think>", Invalid("empty reply")),
        ("<tool_call> {", Invalid("no closing </tool_call> tag")),
    ],
)
def test_without_a_tag_for_answers_what_is_no_call_is_the_answer(text, expected):
    assert NATIVE.parse(text, None) == expected


def test_a_model_that_does_not_reason_answers_with_everything():
    plain = ToolUse(answer_tag="", reasoning_tag="")
    assert plain.parse(" <think> a </think> b ", None) == Answer("<think> a </think> b")
    assert plain.compose(Answer("b c")) == "b c"


def test_a_reply_stops_at_the_closing_tags_that_exist():
    assert JSON.stop == ("</tool>", "</answer>")
    assert NATIVE.stop == ("</tool_call>",)
    assert NATIVE.tags == ("tool_call", "think")
    assert NATIVE.words(()) == {"<tool_call>", "</tool_call>", "<think>", "</think>"}
    assert ToolUse(tool_tag="suche", answer_tag="größe", reasoning_tag="").tags == ("suche", "größe")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"style": "yaml"}, "'json' or 'words', not 'yaml'"),
        ({"tool_tag": ""}, "different words without brackets"),
        ({"tool_tag": "<tool>"}, "without brackets"),
        ({"tool_tag": "a b"}, "different words"),
        ({"answer_tag": "tool"}, "different words"),
        ({"reasoning_tag": "answer"}, "different words"),
        ({"answer_tag": "/answer"}, "different words"),
        # `without_tags` leaves numbers alone: "1<2" is no tag.
        ({"answer_tag": "2nd"}, "different words"),
        ({"format_weight": float("nan")}, "finite"),
        ({"tags_weight": float("inf")}, "finite"),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        ToolUse(**settings)


# ---------------------------------------------------------------------------------------------------------------------
# Composing.

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
forged = st.lists(st.sampled_from([*TAGS, "</tool_call>", '"', "\\", "\\u003c", "a"]), max_size=6).map("".join)


@given(texts | forged, values | st.dictionaries(forged, forged, max_size=3))
def test_any_call_is_read_as_it_was_composed_also_with_tags_in_it(name, arguments):
    # Fails when a closing tag in an argument is written as it is.
    action = ToolCall(name, canonical_json(arguments))
    assert JSON.parse(JSON.compose(action), None) == action
    assert NATIVE.parse(NATIVE.compose(action), None) == action


names = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=10)


@given(names, st.text(string.ascii_letters + ' "\\{}', max_size=20).map(str.strip))
def test_a_call_in_words_is_read_as_it_was_composed(name, argument):
    action = ToolCall(name, canonical_json(argument) if argument else "{}")
    assert WORDS.parse(WORDS.compose(action), None) == action


@given(st.text(string.ascii_letters + " .,&;<>/", max_size=30).map(str.strip))
def test_an_answer_is_read_as_it_was_composed(text):
    assert JSON.parse(JSON.compose(Answer(text)), None) == Answer(text)
    if text:
        assert NATIVE.parse(NATIVE.compose(Answer(text)), None) == Answer(text)


def test_replies_by_hand():
    assert JSON.compose(call()) == '<tool> {"name": "search", "arguments": {"query":"ka lo"}} </tool>'
    assert JSON.compose(ToolCall("search", '"ka"')) == '<tool> {"name": "search", "arguments": "ka"} </tool>'
    assert WORDS.compose(ToolCall("search", '"ka lo"')) == "<tool> search ka lo </tool>"
    assert WORDS.compose(call()) == "<tool> search ka lo </tool>"
    assert WORDS.compose(ToolCall("clock")) == "<tool> clock </tool>"
    assert WORDS.compose(Answer("zu ve")) == "<answer> zu ve </answer>"
    assert WORDS.compose(Malformed("hm")) == "hm"


# ---------------------------------------------------------------------------------------------------------------------
# Any text.

PARSERS = (JSON, WORDS, NATIVE)


def read_by_all(text):
    """What each parser makes of a text: an action whose arguments are JSON, or why there is none."""
    for parser in PARSERS:
        found = parser.parse(text, None)
        assert isinstance(found, (ToolCall, Answer, Invalid))
        if isinstance(found, ToolCall):
            said = json.loads(found.arguments, parse_constant=pytest.fail)
            assert canonical_json(said) == found.arguments
        if isinstance(found, Invalid):
            assert found.reason
        assert all(0.0 <= score <= 1.0 for score in parser.form([text]).values())


pieces = [
    *TAGS,
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    '{"name": "f", "arguments": ',
    "{",
    "}",
    "[",
    "]",
]
pieces += ['"', "\\", "\\ud800", "\ud800", "\0", "NaN", "1e999", "9" * 500, ",", ":", "search", " ", "\n", "\u2028"]


@given(st.text() | st.lists(st.sampled_from(pieces), max_size=12).map("".join))
def test_no_text_makes_a_parser_raise(text):
    read_by_all(text)


def test_ten_thousand_mutations_of_good_replies_are_read_or_refused():
    drawn = random.Random(0)
    good = [
        JSON.compose(call()),
        f"<reasoning> hm </reasoning> {WORDS.compose(call())}",
        JSON.compose(ToolCall("f", '{"a":[1,2.5,null,true],"b":{"c":"é"}}')),
        NATIVE.compose(call()),
        "<think> hm </think> <answer> Paris </answer>",
    ]
    kinds = set()
    for _ in range(10_000):
        text = drawn.choice(good)
        for _ in range(drawn.randint(1, 4)):
            at, end = sorted(drawn.choices(range(len(text) + 1), k=2))
            part = drawn.choice([*pieces, chr(drawn.randrange(0x110000)), text[at:end], ""])
            text = text[:at] + part + text[drawn.choice([at, end]) :]
        read_by_all(text)
        kinds.add(type(JSON.parse(text, None)))
    assert kinds == {ToolCall, Answer, Invalid}


@pytest.mark.parametrize(
    "text",
    [
        "<tool>" * 170_000,
        "</tool>" * 150_000,
        "<tool> {" + '"a":[' * 200_000,
        "<answer>" + "x" * 2**20 + "</answer>",
        "<tool><answer>" * 75_000 + "</tool>",
        "<" * 2**20,
        " " * 2**20,
        "9" * 2**20,
    ],
    ids=lambda text: text[:20],
)
def test_a_megabyte_is_read_in_no_time(text):
    began = time.process_time()
    read_by_all(text)
    assert time.process_time() - began < 2.0


# ---------------------------------------------------------------------------------------------------------------------
# The form.

CALLED = "<reasoning>hm</reasoning><tool>{}</tool>"
ANSWERED = "<reasoning>so</reasoning><answer>Paris</answer>"


@pytest.mark.parametrize(
    ("replies", "form", "tags"),
    [
        ([CALLED, ANSWERED], 1.0, 1.0),
        ([CALLED, "Paris"], (1.0 + 0.2) / 2, 0.5),
        (["<tool>{}</tool>", "<answer>x</answer>"], 0.6, 1.0),
        (["<answer>x"], 0.4 * 0.0 + 0.2, 0.5),
        (["<tool>{}</tool></tool>"], 0.6, 0.5),
        ([], 0.0, 0.0),
    ],
)
def test_the_published_form_by_hand(replies, form, tags):
    assert JSON.form(replies) == {"format": pytest.approx(form), "tags": pytest.approx(tags)}
    assert JSON.form_weights == {"format": 0.2, "tags": 0.2}


def test_the_form_asks_for_the_tags_of_the_parser():
    bare = ToolUse(style="words", reasoning_tag="")
    assert bare.form(["<tool> clock </tool>", "<answer> x </answer>"]) == {"format": 1.0, "tags": 1.0}
    assert JSON.form(["<tool> clock </tool>"])["format"] == pytest.approx(0.6)
    other = ToolUse(tool_tag="tool_call", reasoning_tag="think")
    assert other.form(["<think> a </think> <tool_call> b </tool_call>"]) == {"format": 1.0, "tags": 1.0}
    assert other.form([CALLED])["format"] == pytest.approx(0.2)


def test_a_perfect_dialogue_earns_what_was_published():
    # Outcome 1.9 = answer presence 0.5 + exact match 1.0 + format 0.2 + tags 0.2.
    earned = sum(JSON.form([CALLED, ANSWERED])[name] * weight for name, weight in JSON.form_weights.items())
    assert 0.5 + 1.0 + earned == pytest.approx(1.9)


def test_what_cannot_be_read_is_an_action_of_games_with_tools():
    assert ToolGame.malformed(None, "why") == Malformed("why")  # type: ignore[arg-type]
