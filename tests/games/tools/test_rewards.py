import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.core.types import ToolResult
from lapwing.games.tools import rewards
from lapwing.games.tools.rewards import (
    answer_in_result,
    answer_presence,
    exact_match,
    format_score,
    outcome_v2,
    tag_score,
    tool_execution,
    turn_v2,
)

CALL = "<reasoning>hm</reasoning>\n<tool>{}</tool>"
ANSWER = "<reasoning>so</reasoning><answer>Paris</answer>"


def ok(text=""):
    return ToolResult("ok", text)


def error(text=""):
    return ToolResult("error", text)


@pytest.mark.parametrize(
    ("results", "share"),
    [([], 0.0), ([ok()], 1.0), ([error()], 0.0), ([ok(), error()], 0.5), ([error(), ok(), ok()], 2 / 3)],
)
def test_tool_execution_is_the_share_of_calls_that_worked(results, share):
    assert tool_execution(results) == pytest.approx(share)


def test_the_status_decides_whether_a_call_worked_and_not_the_text():
    # The published code pays "Error during search: …", and would not pay a page that begins with "Error:".
    assert tool_execution([error("Error during search: no index")]) == 0.0
    assert tool_execution([error("all is well")]) == 0.0
    assert tool_execution([ok("Error: a film of 2012")]) == 1.0


@pytest.mark.parametrize(
    ("results", "aliases", "expected"),
    [
        ([ok("Paris is the capital")], ["PARIS"], 1.0),
        ([ok("the PARISIAN")], ["lyon", "paris"], 1.0),  # a part of a word is enough
        ([ok("Lyon"), ok("Paris")], ["Paris"], 0.0),  # only the first result
        ([error("no"), ok("Paris")], ["Paris"], 0.0),
        ([error("'Paris' is no tool")], ["Paris"], 0.0),  # an error repeats what the agent wrote
        ([], ["Paris"], 0.0),
        ([ok("Paris")], [], 0.0),
        ([ok("Paris")], [""], 0.0),
        ([ok("in Paris")], [" "], 0.0),
        ([ok("")], [""], 0.0),
        ([ok("Paris")], [" Paris"], 0.0),  # an alias is taken as it is
    ],
)
def test_an_answer_in_the_first_result(results, aliases, expected):
    assert answer_in_result(results, aliases) == expected


@pytest.mark.parametrize(
    ("answer", "aliases", "present", "exact"),
    [
        ("Paris", ["paris"], 1.0, 1.0),
        ("  PARIS\n", [" Paris "], 0.0, 1.0),  # only the equality drops blanks
        ("It is Paris.", ["London", "Paris"], 1.0, 0.0),
        ("the paris", ["Paris"], 1.0, 0.0),  # articles count
        ("Par", ["Paris"], 0.0, 0.0),
        ("", ["Paris"], 0.0, 0.0),
        ("", [""], 0.0, 0.0),
        (" ", [" "], 0.0, 0.0),
        ("Paris", [], 0.0, 0.0),
        ("Paris", [""], 0.0, 0.0),
    ],
)
def test_an_answer_that_holds_or_is_an_alias(answer, aliases, present, exact):
    assert answer_presence(answer, aliases) == present
    assert exact_match(answer, aliases) == exact


def test_a_dialogue_that_does_everything_right_earns_what_was_published():
    # Turn 0.2 + 0.5 = 0.7; outcome 0.5 + 1.0 + 0.2 + 0.2 = 1.9.
    results, replies, aliases = [ok("Paris is …")], [CALL, ANSWER], ["Paris"]
    turn = rewards.TOOL_EXECUTION_WEIGHT * tool_execution(results)
    turn += rewards.ANSWER_IN_RESULT_WEIGHT * answer_in_result(results, aliases)
    outcome = rewards.ANSWER_PRESENCE_WEIGHT * answer_presence("Paris", aliases)
    outcome += rewards.EXACT_MATCH_WEIGHT * exact_match("Paris", aliases)
    outcome += rewards.FORMAT_WEIGHT * format_score(replies)
    outcome += rewards.TAG_WEIGHT * tag_score(replies)
    assert (turn, outcome) == (pytest.approx(0.7), pytest.approx(1.9))
    assert all(f"{part}_WEIGHT".upper() in vars(rewards) and part in vars(rewards) for part in rewards.V1_PARTS)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (CALL, 1.0),
        (f"\n  {ANSWER} \n", 1.0),
        ("<reasoning> hm </reasoning> <tool>\n{}\n</tool>", 1.0),  # blanks inside are never wrong
        ("<tool>{}</tool>", 0.2 + 0.2 + 0.2),  # one set of two, spacing, ends
        ("<reasoning>hm</reasoning>", 0.2 + 0.2 + 0.2),  # one set, spacing, begins
        ("hello", 0.2),  # spacing alone
        ("", 0.2),
        ("<reasoning>hm", 0.2 + 0.2),  # no pair: the set does not count; spacing, begins
        ("hm</tool>", 0.2 + 0.2),
        ("</tool><tool>", 0.2),  # closed before it is opened
        ("<tool>x</tool><reasoning>", 0.4 + 0.2),  # a pair anywhere lets a lone tag count
        (f"so: {ANSWER}", 0.8),  # does not begin with reasoning
        (f"{ANSWER}.", 0.8),  # does not end with a field
        ("<answer>x</answer><reasoning>hm</reasoning>", 0.6),
        ("<REASONING>hm</REASONING><tool>x</tool>", 0.2 + 0.2 + 0.2),  # tags have a case
    ],
)
def test_the_format_of_a_reply_by_hand(reply, expected):
    assert format_score([reply]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("<tool>{}</tool>", 1.0),
        ("<answer>x</answer>", 1.0),
        ("well <answer>x</answer>", 0.8),
        ("<answer>x</answer>.", 0.8),
        ("<answer>x", 0.4),
        ("x", 0.2),
        (CALL, 0.8),  # reasoning is not asked for: the reply does not begin with a field
    ],
)
def test_an_agent_that_does_not_reason_begins_with_a_field(reply, expected):
    assert format_score([reply], reasoning="") == pytest.approx(expected, abs=1e-12)


def test_other_tags_can_be_asked_for():
    assert format_score(["<think>a</think><search>b</search>"], reasoning="think", fields=("search",)) == 1.0


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (CALL, 1.0),
        ("<tool>x</tool>", 1.0),
        ("<tool>x</tool></tool>", 0.5),
        ("<tool>x", 0.5),
        ("x", 0.0),
        ("<tool><tool>x</tool></tool>", 0.0),  # 0 + 0
        ("<tool>" * 4 + "</tool>", 0.0),  # (−2 + 1) / 2 is below 0
        ("<reasoning>a</reasoning><tool>x", 3 / 4),
        ("<other>x</other>", 0.0),
    ],
)
def test_the_tags_of_a_reply_by_hand(reply, expected):
    assert tag_score([reply]) == pytest.approx(expected, abs=1e-12)


def test_scores_are_means_over_replies_and_zero_without_one():
    assert format_score([]) == tag_score([]) == 0.0
    assert format_score([CALL, "x"]) == pytest.approx(0.6)
    assert tag_score([CALL, "x"]) == pytest.approx(0.5)
    # The mean is clamped and not each reply: (1 − 0.5) / 2.
    assert tag_score([CALL, "<tool>" * 4 + "</tool>"]) == pytest.approx(0.25)


@given(st.lists(st.lists(st.sampled_from(["<tool>", "</tool>", "<reasoning>", "</reasoning>", " ", "x"])).map("".join)))
def test_scores_of_any_replies_are_shares(replies):
    assert 0.0 <= format_score(replies) <= 1.0
    assert 0.0 <= format_score(replies, reasoning="") <= 1.0
    assert 0.0 <= tag_score(replies) <= 1.0


@pytest.mark.timeout(60)
def test_a_megabyte_of_open_tags_is_judged_at_once():
    reply = "<tool>" * 170_000
    assert format_score([reply]) == pytest.approx(0.2)
    assert tag_score([reply]) == 0.0


@pytest.mark.parametrize(
    ("correct", "well_formed", "expected"),
    [(True, True, 1.0), (False, True, 0.2), (False, False, -1.0), (True, False, -1.0)],
)
def test_the_outcome_of_the_second_design(correct, well_formed, expected):
    assert outcome_v2(correct=correct, well_formed=well_formed) == expected


@pytest.mark.parametrize(
    ("has", "well_formed", "searches", "total"),
    [
        (True, True, 1, 0.3 + 0.1 - 0.1),
        (False, True, 2, 0.1 - 0.2),
        (False, False, 0, -0.2),
        (True, True, 3, 0.3 + 0.1 - 0.3),
    ],
)
def test_a_turn_of_the_second_design(has, well_formed, searches, total):
    parts = turn_v2(result_has_answer=has, well_formed=well_formed, searches_so_far=searches)
    assert set(parts) == {"retrieval", "turn_format", "search_cost"}
    assert sum(parts.values()) == pytest.approx(total, abs=1e-12)


def test_the_penalty_of_searches_can_be_set_and_is_no_gift():
    parts = turn_v2(result_has_answer=False, well_formed=True, searches_so_far=4, search_penalty=0.25)
    assert parts["search_cost"] == -1.0
    assert str(turn_v2(result_has_answer=False, well_formed=True, searches_so_far=0)["search_cost"]) == "0.0"
    for penalty in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="search_penalty is a finite number of at least 0"):
            turn_v2(result_has_answer=False, well_formed=True, searches_so_far=1, search_penalty=penalty)
