import json
import pickle
import random
import re
import tomllib
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.core.types import ToolCall, ToolResult
from lapwing.games.tools.tool import Tool
from lapwing.games.tools.tool_policy import (
    ABSENT,
    DEFAULT_MESSAGE,
    Decision,
    Difference,
    Request,
    Rule,
    ToolPolicy,
    differences,
    enumerate_requests,
    is_narrower,
)
from lapwing.games.tools.toolbox import Toolbox


def rule(effect, tool="*", priority=0, message="", **arguments):
    return {"tool": tool, "effect": effect, "priority": priority, "message": message, "arguments": arguments}


def policy(*rules, default="forbid"):
    return ToolPolicy.of({"default": default, "rules": list(rules)})


# ---------------------------------------------------------------------------------------------------------------------
# A second evaluator: it reads the mapping, thinks in sets of possible truth values instead of three-valued logic, uses
# Python's own regular expressions, and looks for the deciding rule priority by priority.

YES, NO, EITHER = {True}, {False}, {True, False}


def brute_tag(value):
    """Equal for JSON values that are equal, and for no others."""
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, (int, float)):
        return Fraction(value)
    if isinstance(value, list):
        return ["list", *map(brute_tag, value)]
    if isinstance(value, dict):
        return {key: brute_tag(inner) for key, inner in value.items()}
    return ("text", value)


def brute_find(arguments, path):
    """(found, value), or None where the path goes through something that is no object."""
    head, _, tail = path.partition(".")
    if not isinstance(arguments, dict):
        return None
    if head not in arguments:
        return (False, None)
    return brute_find(arguments[head], tail) if tail else (True, arguments[head])


def brute_number(value):
    return type(value) in (int, float)


def brute_predicate(name, setting, found):
    if name == "not":
        return {not truth for truth in brute_predicates(setting, found)}
    if found is None:
        return EITHER
    there, value = found
    if name == "present":
        return {there}
    if name == "absent":
        return {not there}
    if not there:
        return NO
    return brute_test(name, setting, value)


def brute_test(name, setting, value):
    if name == "equals":
        return {brute_tag(value) == brute_tag(setting)}
    if name == "one_of":
        return {brute_tag(value) in [brute_tag(one) for one in setting]}
    if name == "pattern" and isinstance(value, str) and len(value) <= 10_000:
        return {re.fullmatch(setting, value, re.DOTALL) is not None}
    if name == "prefix" and isinstance(value, str):
        return {value[: len(setting)] == setting}
    if name == "minimum" and brute_number(value):
        return {not value < setting}
    if name == "maximum" and brute_number(value):
        return {not value > setting}
    if name == "max_length" and isinstance(value, (str, list)):
        return {sum(1 for _ in value) <= setting}
    return EITHER


def brute_predicates(table, found):
    possible = [brute_predicate(name, setting, found) for name, setting in table.items()]
    return {all(truths) for truths in product(*possible)}


def brute_glob(glob, name):
    """Globs with `*` and `?` only."""
    if not glob:
        return not name
    if glob[0] == "*":
        return any(brute_glob(glob[1:], name[at:]) for at in range(len(name) + 1))
    return bool(name) and glob[0] in ("?", name[0]) and brute_glob(glob[1:], name[1:])


def brute_layer(layer, name, arguments, message):
    applying = []
    for number, one in enumerate(layer["rules"], 1):
        if brute_glob(one["tool"], name):
            parts = [brute_predicates(t, brute_find(arguments, path)) for path, t in one["arguments"].items()]
            truths = {all(combination) for combination in product(*parts)}
            if truths == YES or (truths == EITHER and one["effect"] == "forbid"):
                applying.append((number, one))
    for priority in sorted({one["priority"] for _, one in applying}, reverse=True):
        for effect in ("forbid", "allow"):
            for number, one in applying:
                if (one["priority"], one["effect"]) == (priority, effect):
                    return (True, "", number) if effect == "allow" else (False, one["message"] or message, number)
    return (True, "", None) if layer["default"] == "allow" else (False, message, None)


# ---------------------------------------------------------------------------------------------------------------------
# Random policies and requests; the values are few, so that they meet.

TEXTS = ["", "bob", "evil", "evil@example.org", "docs/a", "docs/b.txt", "a\nb", "1"]
NUMBERS = [0, 1, 1.0, 2, -3.5, 10**6]
PATTERNS = ["evil.*", "docs/[a-z]", r".*@example\.org|bob", ".*b", r"\d*"]
NAMES = ["send", "send_file", "read", "Send"]
GLOBS = ["*", "send", "send*", "?end", "r*d", "*_*"]
PATHS = ["to", "to", "path", "n", "at.x", "at.x.y", "at"]


def random_value(rng, deep=0):
    kind = rng.randrange(7 if deep < 2 else 5)
    if kind < 2:
        return rng.choice(TEXTS)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind == 4:
        return rng.choice([True, False, None])
    if kind == 5:
        return [random_value(rng, deep + 1) for _ in range(rng.randrange(3))]
    return {key: random_value(rng, deep + 1) for key in rng.sample(["x", "y"], rng.randrange(3))}


def random_predicates(rng, *, negated=False):
    makers = {
        "equals": lambda: random_value(rng),
        "one_of": lambda: [random_value(rng) for _ in range(rng.randint(1, 4))],
        "pattern": lambda: rng.choice(PATTERNS),
        "prefix": lambda: rng.choice([text for text in TEXTS if text]),
        "minimum": lambda: rng.choice([-4, 0, 0.5, 1]),
        "maximum": lambda: rng.choice([1, 1.5, 10**6]),
        "max_length": lambda: rng.randrange(6),
        "present": lambda: True,
        "absent": lambda: True,
        "not": lambda: random_predicates(rng, negated=True),
    }
    names = rng.sample([name for name in makers if not (negated and name == "not")], rng.choice([1, 1, 1, 2]))
    if {"present", "absent"} <= set(names):
        names.remove("absent")
    return {name: makers[name]() for name in names}


def random_rules(rng, most=6):
    rules, seen = [], []
    for _ in range(rng.randint(0, most)):
        arguments = {path: random_predicates(rng) for path in rng.sample(PATHS, rng.choice([0, 1, 1, 2]))}
        one = rule(
            rng.choice(["allow", "forbid"]), rng.choice(GLOBS), rng.randint(-1, 1), rng.choice(["", "no", "stop"])
        )
        one["arguments"] = arguments
        meaning = json.dumps([one[key] for key in ("tool", "effect", "priority", "arguments")], sort_keys=True)
        if meaning not in seen:
            rules.append(one)
            seen.append(meaning)
    return rules


def random_mapping(rng):
    mapping = {"default": rng.choice(["allow", "forbid"]), "rules": random_rules(rng)}
    if rng.random() < 0.5:
        mapping["message"] = "not here"
    return mapping


def random_request(rng):
    arguments = {key: random_value(rng) for key in ("to", "path", "n", "at") if rng.random() < 0.6}
    if rng.random() < 0.05:
        arguments["to"] = "evil" * 3000
    return Request(rng.choice(NAMES), arguments)


def test_a_thousand_random_decisions_agree_with_brute_force():
    rng, decisions = random.Random(4), []
    for _ in range(1000):
        mapping, request = random_mapping(rng), random_request(rng)
        decision = ToolPolicy.of(mapping).decide(*request)
        assert decision == brute_layer(mapping, *request, mapping.get("message", DEFAULT_MESSAGE)), (mapping, request)
        decisions.append(decision)
    # Agreement on a thousand defaults would say little.
    by_rule = [decision for decision in decisions if decision.rule is not None]
    assert len(by_rule) > 400
    assert 150 < sum(decision.allowed for decision in by_rule) < len(by_rule) - 150


# ---------------------------------------------------------------------------------------------------------------------
# Decisions by hand.


def test_progents_own_case(tmp_path):
    (tmp_path / "mail.json").write_text(
        json.dumps(
            {
                "rules": [
                    {"tool": "send", "effect": "allow", "priority": 1},
                    {
                        "tool": "send",
                        "effect": "forbid",
                        "priority": 2,
                        "arguments": {"to": {"equals": "evil"}},
                        "message": "Mail to this person is not sent; tell the user.",
                    },
                ]
            }
        )
    )
    first, again = ToolPolicy.read(tmp_path / "mail.json"), ToolPolicy.read(str(tmp_path / "mail.json"))
    for _ in range(3):
        for one in (first, again):
            assert one.decide("send", {"to": "bob"}) == Decision(True, "", 1)
            blocked = one.decide("send", {"to": "evil"})
            assert blocked == Decision(False, "Mail to this person is not sent; tell the user.", 2)
            assert one.decide("delete", {"to": "bob"}) == Decision(False, DEFAULT_MESSAGE, None)


def test_without_a_rule_the_default_decides():
    assert policy().decide("send", {}) == Decision(False, "The tool policy forbids this call.", None)
    assert ToolPolicy.of({}) == policy()
    assert policy(default="allow").decide("send", {}) == Decision(True, "", None)


def test_the_highest_priority_decides_whatever_the_order():
    low, high = rule("forbid", priority=-5), rule("allow", priority=3)
    assert policy(low, high).decide("send", {}) == (True, "", 2)
    assert policy(high, low).decide("send", {}) == (True, "", 1)


def test_of_equal_priority_a_forbid_wins_and_the_first_of_several_speaks():
    rules = [rule("allow"), rule("forbid", "s*", message="first"), rule("forbid", "send", message="second")]
    assert policy(*rules).decide("send", {}) == (False, "first", 2)
    assert policy(*reversed(rules)).decide("send", {}) == (False, "second", 1)


def test_a_message_tells_nothing_of_the_rule_unless_it_is_written_so():
    quiet = policy(rule("forbid", "send", to={"equals": "secret@example.org"}), default="allow")
    assert quiet.decide("send", {"to": "secret@example.org"}).message == "The tool policy forbids this call."
    own = ToolPolicy.of({"message": "Ask first.", "rules": [rule("forbid", "send")]})
    assert own.decide("send", {}).message == own.decide("read", {}).message == "Ask first."


@pytest.mark.parametrize(("glob", "yes", "no"), [
    ("send", ["send"], ["Send", "send_file", "", "sen"]),
    ("send*", ["send", "send_file"], ["Send"]),
    ("mail.?et", ["mail.get", "mail.set"], ["mailxget", "mail.et"]),
    ("[a-c]*", ["add", "call"], ["delete"]),
    ("[!a-c]*", ["delete"], ["add"]),
    ("*", ["", "any\nthing"], []),
])  # fmt: skip
def test_tools_are_globs_in_which_upper_case_matters(glob, yes, no):
    one = policy(rule("allow", glob))
    assert [name for name in yes if not one.decide(name, {}).allowed] == []
    assert [name for name in no if one.decide(name, {}).allowed] == []


T, F, U = True, False, None


@pytest.mark.parametrize(("predicate", "verdicts"), [
    # verdicts: what a call with the argument `a` gets; U = cannot be told.
    ({"equals": 1}, [(1, T), (1.0, T), (True, F), ("1", F), (None, F), (2, F), (10**30, F)]),
    ({"equals": True}, [(True, T), (1, F), ("true", F), (False, F)]),
    ({"equals": False}, [(False, T), (0, F), (None, F), ("", F), ([], F)]),
    ({"equals": None}, [(None, T), (0, F), (False, F), ("", F)]),
    ({"equals": "1"}, [("1", T), (1, F)]),
    ({"equals": [1, {"x": False}]}, [([1, {"x": False}], T), ([1, {"x": 0}], F), ([1], F), ({}, F), (1, F), ("ab", F)]),
    ({"equals": {"x": 1}}, [({"x": 1}, T), ({"x": True}, F), ({"x": 1, "y": 1}, F), ({}, F), ([], F)]),
    ({"one_of": ["a", 2, None]}, [("a", T), (2.0, T), (None, T), ("2", F), (True, F), (["a"], F)]),
    ({"pattern": "b.b"}, [("bob", T), ("b\nb", T), ("bobb", F), ("bob\n", F), (7, U), (None, U), (["bob"], U)]),
    ({"pattern": "a*"}, [("a" * 10_000, T), ("a" * 10_001, U), ("b" * 10_001, U)]),
    ({"prefix": "docs/"}, [("docs/", T), ("docs/../x", T), ("Docs/", F), ("doc", F), (3, U), (["docs/"], U)]),
    ({"minimum": 2}, [(2, T), (2.5, T), (1.99, F), (10**400, T), (float("inf"), T), ("3", U), (True, U), (None, U)]),
    ({"maximum": 2}, [(2, T), (-(10**400), T), (2.01, F), (float("nan"), U), ([1], U), (False, U)]),
    ({"minimum": 2**63 - 1}, [(2**63 - 1, T), (2**63 - 2, F)]),
    ({"max_length": 2}, [("ab", T), ("abc", F), ([1, 2], T), ([1, 2, 3], F), ({"x": 1}, U), (1, U), (None, U)]),
    ({"present": True}, [(None, T), ("", T), (ABSENT, F)]),
    ({"absent": True}, [(None, F), (ABSENT, T)]),
    ({"not": {"equals": "evil"}}, [("bob", T), ("evil", F), (["evil"], T), (ABSENT, T)]),
    ({"not": {"prefix": "/etc"}}, [("/home", T), ("/etc/passwd", F), (["/etc/passwd"], U), (ABSENT, T)]),
    ({"not": {"prefix": "/etc"}, "present": True}, [("/home", T), (ABSENT, F)]),
    ({"not": {"minimum": 1, "maximum": 3}}, [(0, T), (2, F), (4, T), ("2", U)]),
    ({"minimum": 1, "one_of": ["x", 5]}, [(5, T), ("x", U), ("y", F), (4, F)]),
    *(({name: setting}, [(ABSENT, F)]) for name, setting in {
        "equals": None, "one_of": [None], "pattern": "", "prefix": "a", "minimum": 0, "maximum": 0, "max_length": 9,
    }.items()),
])  # fmt: skip
def test_predicates_by_hand(predicate, verdicts):
    allow, forbid = policy(rule("allow", a=predicate)), policy(rule("forbid", a=predicate), default="allow")
    for value, verdict in verdicts:
        arguments = {} if value is ABSENT else {"a": value}
        # What cannot be told never helps the caller: an allow does not match, a forbid does.
        assert allow.decide("send", arguments).allowed is (verdict is T), value
        assert forbid.decide("send", arguments).allowed is (verdict is F), value


@pytest.mark.parametrize(("arguments", "is_evil", "is_absent"), [
    ({"message": {"to": {"name": "evil"}}}, T, F),
    ({"message": {"to": {"name": "bob"}}}, F, F),
    ({"message": {"to": {"name": None}}}, F, F),
    ({"message": {"to": {}}}, F, T),
    ({"message": {}}, F, T),
    ({}, F, T),
    ({"message.to.name": "evil"}, F, T),
    ({"message": "evil"}, U, U),
    ({"message": None}, U, U),
    ({"message": {"to": ["evil"]}}, U, U),
])  # fmt: skip
def test_a_path_leads_into_objects_and_what_is_no_object_cannot_be_told(arguments, is_evil, is_absent):
    for predicate, verdict in (({"equals": "evil"}, is_evil), ({"absent": True}, is_absent)):
        table = {"arguments": {"message.to.name": predicate}}
        assert policy(rule("allow") | table).decide("t", arguments).allowed is (verdict is T)
        assert policy(rule("forbid") | table, default="allow").decide("t", arguments).allowed is (verdict is F)


def test_all_predicates_of_a_rule_must_hold_and_other_arguments_do_not_matter():
    one = policy(rule("allow", to={"equals": "bob"}, n={"maximum": 3, "minimum": 1}))
    assert one.decide("send", {"to": "bob", "n": 2, "extra": "x"}).allowed
    assert not one.decide("send", {"to": "bob", "n": 4}).allowed
    assert not one.decide("send", {"to": "bob"}).allowed
    assert not one.decide("send", {"to": "eve", "n": 2}).allowed


def test_no_argument_is_too_deep_or_too_odd_to_decide():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    loop = {}
    loop["x"] = loop
    predicates = [
        {"equals": [[[]]]},
        {"equals": {"x": {"x": 1}}},
        {"one_of": ["a", [[1]]]},
        {"max_length": 3},
        {"pattern": "a", "prefix": "a"},
        {"minimum": 0, "maximum": 1.5},
    ]
    for predicate in predicates:
        one = policy(rule("forbid", a=predicate), default="allow")
        for value in (deep, loop, object(), {1: 2}, "\ud800", b"bytes", 10**6000, float("nan")):
            assert one.decide("send", {"a": value}) == one.decide("send", {"a": value})


def test_a_policy_is_frozen_hashable_and_survives_pickling():
    one = policy(rule("allow", to={"one_of": ["bob", 1]}))
    assert one.decide("send", {"to": 1}).allowed
    assert pickle.loads(pickle.dumps(one)) == one
    assert {one: 1}[policy(rule("allow", to={"one_of": ["bob", 1]}))] == 1
    # Fails when rules are compared as Python values, where True == 1.
    assert one != policy(rule("allow", to={"one_of": ["bob", True]}))
    with pytest.raises(AttributeError):
        one.message = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_rules_may_be_made_directly_and_are_checked_then_too():
    assert Rule("send", "allow", '{"to": {"equals": 1}}') == Rule.of(rule("allow", "send", to={"equals": 1}))
    for arguments in ("{", '{"to": {"equal": 1}}', "[]", '{"to": {"equals": NaN}}', "[" * 100_000):
        with pytest.raises(UserError):
            Rule("send", "allow", arguments)


def test_a_toolbox_asks_the_policy_before_it_runs_a_tool():
    sent = []

    def send(to: str, amount: int = 500) -> str:
        """Send money."""
        sent.append((to, amount))
        return "done"

    rules = [rule("allow", "send"), rule("forbid", "send", 1, "Too much.", amount={"minimum": 100})]
    toolbox = Toolbox([Tool.of(send)], policy=policy(*rules))
    assert toolbox.call(ToolCall("send", '{"to": "bob", "amount": 5}')) == ToolResult("ok", "done")
    # A number in quotes, and one that is left out, are judged as what the tool would get.
    for arguments in ('{"to": "bob", "amount": 100}', '{"to": "bob", "amount": "100"}', '{"to": "bob"}'):
        result = toolbox.call(ToolCall("send", arguments))
        assert result.status == "error"
    assert toolbox.call(ToolCall("send", '{"to": "bob"}')) == ToolResult("error", "Too much.")
    assert sent == [("bob", 5)]


# ---------------------------------------------------------------------------------------------------------------------
# Updates.


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(["allow", "forbid"]))
def test_an_update_never_allows_what_was_forbidden(rng, default):
    before = ToolPolicy.of(random_mapping(rng))
    rules = random_rules(rng)
    after = before.narrowed(rules, default=default)
    update = ToolPolicy.of({"default": default, "rules": rules})
    requests = [random_request(rng) for _ in range(5)]
    for request in requests:
        old, new = before.decide(*request), after.decide(*request)
        assert new.allowed == (old.allowed and update.decide(*request).allowed)
        if not old.allowed or new.allowed:
            assert new == old
    assert is_narrower(after, before, requests)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_updates_does_not_change_what_is_allowed(rng):
    before, (first, second) = ToolPolicy.of(random_mapping(rng)), (random_rules(rng), random_rules(rng))
    one, other = before.narrowed(first).narrowed(second), before.narrowed(second).narrowed(first)
    assert differences(one, other, [random_request(rng) for _ in range(5)]) == []


def test_an_update_of_forbids_by_hand():
    before = policy(rule("allow", "send", priority=9), rule("allow", "read"))
    after = before.narrowed([rule("forbid", "send", message="Enough mail.", to={"prefix": "e"})])
    assert after.decide("send", {"to": "bob"}) == (True, "", 1)
    # The priority of the rule that allowed it is of no help: the update is a layer of its own, its rule the third.
    assert after.decide("send", {"to": "evil"}) == (False, "Enough mail.", 3)
    assert after.decide("read", {}) == (True, "", 2)
    assert after.decide("drop", {}) == (False, DEFAULT_MESSAGE, None)
    assert before.decide("send", {"to": "evil"}).allowed


def test_an_allow_in_an_update_is_an_exception_to_its_forbids_and_gives_nothing_back():
    before = policy(rule("allow", "send"))
    after = before.narrowed(
        [rule("forbid", "*"), rule("allow", "send", 1, to={"equals": "bob"}), rule("allow", "read", 1)]
    )
    assert after.decide("send", {"to": "bob"}).allowed
    assert not after.decide("send", {"to": "eve"}).allowed
    assert not after.decide("read", {}).allowed


def test_an_update_that_forbids_by_default_keeps_only_what_it_names():
    after = policy(default="allow").narrowed([rule("allow", "read")], default="forbid")
    assert [after.decide(name, {}).allowed for name in ("read", "send")] == [True, False]
    assert not policy(default="allow").narrowed([], default="forbid").decide("read", {}).allowed


def test_an_update_that_is_in_force_already_or_says_nothing_changes_nothing():
    before = policy(rule("allow"))
    after = before.narrowed([rule("forbid", "send")])
    assert after != before
    assert after.narrowed([Rule("send", "forbid")]) == after
    assert after.narrowed([]) == after
    assert len(after.narrowed([rule("forbid", "read")]).layers) == 3


def test_a_bad_update_names_its_rule():
    with pytest.raises(UserError, match=r"^The update, rule 2: 'effect' is 'allow' or 'forbid', not 'deny'\.$"):
        policy().narrowed([rule("forbid"), rule("deny")])
    with pytest.raises(UserError, match="'default' is 'allow' or 'forbid', not 'deny'"):
        policy().narrowed([], default="deny")


# ---------------------------------------------------------------------------------------------------------------------
# The comparator.

DOMAINS = {
    "send": {"to": ["bob", "evil", 1, None, ABSENT], "at": [ABSENT, {}, {"x": 1}, {"x": "evil"}, "no object"]},
    "read": {"path": ["docs/a", "/etc", ["docs/a"]]},
    "stop": {},
}


def test_requests_are_enumerated_in_order_and_arguments_may_be_absent():
    assert enumerate_requests({"send": {"to": ["bob", ABSENT], "n": [1, 2]}, "stop": {}}) == [
        ("send", {"to": "bob", "n": 1}),
        ("send", {"to": "bob", "n": 2}),
        ("send", {"n": 1}),
        ("send", {"n": 2}),
        ("stop", {}),
    ]
    assert len(enumerate_requests(DOMAINS)) == 5 * 5 + 3 + 1
    assert enumerate_requests({}) == []


@pytest.mark.parametrize(
    ("values", "why"), [([], "at least one value"), ("bob", "not 'bob'"), ({"a"}, "is a list"), (7, "not 7")]
)
def test_a_domain_is_a_list_that_is_not_empty(values, why):
    with pytest.raises(UserError, match=f"domain of 'to' of 'send' .*{why}"):
        enumerate_requests({"send": {"to": values}})


def test_domains_with_too_many_requests_are_refused_before_they_fill_the_memory():
    with pytest.raises(UserError, match=r"have 10000000000 requests, and 1000000 are the most"):
        enumerate_requests({"send": {name: list(range(100)) for name in "abcde"}})


def test_differences_by_hand():
    first = policy(rule("allow", "send"), rule("forbid", "send", 1, to={"equals": "evil"}))
    second = policy(rule("allow", "send", to={"one_of": ["bob", "evil"]}))
    assert differences(first, second, enumerate_requests({"send": {"to": ["bob", "evil", "eve", ABSENT]}})) == [
        Difference(Request("send", {"to": "evil"}), Decision(False, DEFAULT_MESSAGE, 2), Decision(True, "", 1)),
        Difference(Request("send", {"to": "eve"}), Decision(True, "", 1), Decision(False, DEFAULT_MESSAGE, None)),
        Difference(Request("send", {}), Decision(True, "", 1), Decision(False, DEFAULT_MESSAGE, None)),
    ]


def test_messages_and_rules_are_no_difference():
    first, second = policy(), ToolPolicy.of({"message": "No.", "rules": [rule("forbid")]})
    assert differences(first, second, enumerate_requests(DOMAINS)) == []


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_differences_are_exactly_those_of_brute_force(rng):
    mappings = random_mapping(rng), random_mapping(rng)
    first, second = map(ToolPolicy.of, mappings)
    expected, widened = [], False
    for tool in ("send", "read", "stop"):
        for to in DOMAINS[tool].get("to", [ABSENT]):
            for at in DOMAINS[tool].get("at", [ABSENT]):
                for path in DOMAINS[tool].get("path", [ABSENT]):
                    both = {"to": to, "at": at, "path": path}
                    arguments = {key: value for key, value in both.items() if value is not ABSENT}
                    one, other = (brute_layer(mapping, tool, arguments, "no")[0] for mapping in mappings)
                    expected += [(tool, arguments)] if one != other else []
                    widened |= one > other
    requests = enumerate_requests(DOMAINS)
    assert [found.request for found in differences(first, second, requests)] == expected
    assert is_narrower(first, second, requests) is not widened
    assert differences(second, first, requests) == [
        Difference(r, b, a) for r, a, b in differences(first, second, requests)
    ]


def test_narrower_is_an_order():
    none, some, everything = policy(), policy(rule("allow", "send")), policy(default="allow")
    requests = enumerate_requests(DOMAINS)
    assert is_narrower(none, some, requests)
    assert is_narrower(some, everything, requests)
    assert not is_narrower(some, none, requests)
    assert is_narrower(some, some, requests)


# ---------------------------------------------------------------------------------------------------------------------
# Files.

TOML = """
default = "allow"
message = "Not here."

[[rules]]
tool = "send"
effect = "forbid"
priority = 2
message = "Not to strangers."
[rules.arguments]
to = { not = { pattern = '[a-z]+@example\\.org' } }
"body.size" = { maximum = 1e3, minimum = 0 }

[[rules]]
tool = "read_*"
effect = "allow"
"""


def test_toml_and_json_give_the_same_policy(tmp_path):
    (tmp_path / "rules.toml").write_text(TOML)
    # As editors of other systems write it.
    (tmp_path / "rules.json").write_text(json.dumps(tomllib.loads(TOML)), encoding="utf-8-sig")
    from_toml, from_json = ToolPolicy.read(tmp_path / "rules.toml"), ToolPolicy.read(tmp_path / "rules.json")
    assert from_toml == from_json == ToolPolicy.of(tomllib.loads(TOML))
    assert from_toml.decide("send", {"to": "eve@other", "body": {"size": 3}}) == (False, "Not to strangers.", 1)
    assert from_toml.decide("send", {"to": "bob@example.org", "body": {"size": 3}}) == (True, "", None)


def without_none(value):
    """TOML has no null."""
    return json.loads(json.dumps(value).replace("null", '"null"'))


def test_files_round_trip(tmp_path):
    rng = random.Random(7)
    json_file, toml_file = tmp_path / "rules.json", tmp_path / "rules.toml"
    for number in range(100):
        one = ToolPolicy.of(without_none(random_mapping(rng)))
        if number % 2:
            one = one.narrowed(without_none(random_rules(rng)))
            one = one.narrowed(without_none(random_rules(rng)), default="forbid")
        json_file.write_text(json.dumps(one.as_mapping(), allow_nan=False))
        toml_file.write_text(tomli_w.dumps(one.as_mapping()))
        assert ToolPolicy.read(json_file) == ToolPolicy.read(toml_file) == one


def test_an_update_in_a_file_leaves_what_it_does_not_name():
    one = ToolPolicy.of({"default": "allow", "updates": [{"rules": [rule("forbid", "send")]}, {}]})
    assert [one.decide(name, {}).allowed for name in ("send", "read")] == [False, True]


def test_null_survives_a_json_file(tmp_path):
    one = policy(rule("allow", to={"one_of": [None, {"x": [None]}]}))
    (tmp_path / "rules.json").write_text(json.dumps(one.as_mapping()))
    assert ToolPolicy.read(tmp_path / "rules.json") == one


def predicates(text):
    return f'{{"rules": [{{"tool": "a", "effect": "allow"}}, {{"tool": "b", "effect": "allow", "arguments": {text}}}]}}'


@pytest.mark.parametrize(("text", "why"), [
    ("[]", r"it is a table with the keys default, message, rules, updates, not \[\]"),
    ('{"defualt": "allow"}', "there is no key 'defualt'; did you mean default"),
    ('{"default": "deny"}', "'default' is 'allow' or 'forbid', not 'deny'"),
    ('{"default": ["allow"]}', "'default' is 'allow' or 'forbid'"),
    ('{"message": ""}', "'message' is a text"),
    ('{"message": 3}', "'message' is a text.*not 3"),
    ('{"rules": {}}', "'rules' is a list of tables, not {}"),
    ('{"rules": ["x"]}', "rule 1: it is a table .*not 'x'"),
    ('{"rules": [{"tool": "a"}]}', "rule 1: 'effect' is missing; a rule needs tool and effect"),
    ('{"rules": [{"effect": "allow"}]}', "rule 1: 'tool' is missing"),
    ('{"rules": [{"tool": "", "effect": "allow"}]}', "rule 1: 'tool' is the name of a tool"),
    ('{"rules": [{"tool": ["a"], "effect": "allow"}]}', "rule 1: 'tool' is the name of a tool"),
    ('{"rules": [{"tool": "a", "effect": "alow"}]}', "rule 1: 'effect' is 'allow' or 'forbid', not 'alow'"),
    ('{"rules": [{"tool": "a", "effect": "allow", "prority": 1}]}', "rule 1: .*'prority'; did you mean priority"),
    ('{"rules": [{"tool": "a", "effect": "allow", "priority": 1.5}]}', "rule 1: 'priority' is a whole number"),
    ('{"rules": [{"tool": "a", "effect": "allow", "priority": true}]}', "rule 1: 'priority' is a whole number"),
    ('{"rules": [{"tool": "a", "effect": "allow", "priority": 1e400}]}', "rule 1: 'priority' is a whole number"),
    ('{"rules": [{"tool": "a", "effect": "allow", "priority": 9223372036854775808}]}', "'priority' is a whole number"),
    ('{"rules": [{"tool": "a", "effect": "allow", "message": 5}]}', "rule 1: 'message' is a text, not 5"),
    ('{"rules": [{"tool": "a", "effect": "allow"}, {"tool": "a", "effect": "allow", "message": "x"}]}',
     "rule 2 says again what rule 1 says"),
    ('{"rules": [{"tool": "a", "tool": "b", "effect": "allow"}]}', "the key 'tool' is there twice"),
    ('{"updates": [{"message": "x"}]}', "update 1: there is no key 'message'"),
    ('{"updates": [{"rules": []}, {"rules": [7]}]}', "update 2, rule 1: it is a table"),
    ('{"updates": 1}', "'updates' is a list"),
    (predicates("[]"), r"rule 2: 'arguments' is a table"),
    (predicates('{"a..b": {"present": true}}'), "rule 2: an argument is a name.*not 'a..b'"),
    (predicates('{"": {"present": true}}'), "rule 2: an argument is a name"),
    (predicates('{"to": "bob"}'), "rule 2: argument 'to': predicates are a table .*not 'bob'"),
    (predicates('{"to": {}}'), "rule 2: argument 'to': predicates are a table with at least one entry"),
    (predicates('{"to": {"equal": 1}}'), "rule 2: argument 'to': there is no predicate 'equal'; did you mean equals"),
    (predicates('{"to": {"equals": NaN}}'), "NaN is no number"),
    (predicates('{"to": {"equals": [1e999]}}'), "rule 2: argument 'to': 'equals' has a number outside"),
    (predicates('{"to": {"equals": ' + "[" * 22 + "]" * 22 + "}}"), "'equals' has a value that is nested more than 20"),
    (predicates('{"to": {"one_of": "bob"}}'), "'one_of' is a list of at least one value, not 'bob'"),
    (predicates('{"to": {"one_of": []}}'), "'one_of' is a list of at least one value"),
    (predicates('{"to": {"pattern": 5}}'), "'pattern' is a regular expression in quotes, not 5"),
    (predicates('{"to": {"pattern": "(a"}}'), "rule 2: argument 'to': 'pattern' is no regular expression"),
    (predicates('{"to": {"pattern": "(?=a)"}}'), "only '\\(\\?:' is supported"),
    (predicates('{"to": {"prefix": ""}}'), "'prefix' is a text of at least one character"),
    (predicates('{"to": {"minimum": "3"}}'), "'minimum' is a finite number between .*not '3'"),
    (predicates('{"to": {"minimum": true}}'), "'minimum' is a finite number"),
    (predicates('{"to": {"maximum": -Infinity}}'), "-Infinity is no number"),
    (predicates('{"to": {"maximum": 1e999}}'), "'maximum' is a finite number"),
    (predicates('{"to": {"minimum": 3, "maximum": 2}}'), "'minimum' is above 'maximum'"),
    (predicates('{"to": {"max_length": -1}}'), "'max_length' is a whole number of at least 0"),
    (predicates('{"to": {"max_length": 2.0}}'), "'max_length' is a whole number"),
    (predicates('{"to": {"present": false}}'), "'present' is true or left out.*'absent'"),
    (predicates('{"to": {"absent": 1}}'), "'absent' is true or left out"),
    (predicates('{"to": {"present": true, "absent": true}}'), "both 'present' and 'absent'"),
    (predicates('{"to": {"not": {"not": {"equals": 1}}}}'), "'not' inside 'not'"),
    (predicates('{"to": {"not": {"minimum": 3, "maximum": 2}}}'), "'minimum' is above"),
    (predicates('{"to": {"equals": ' + "9" * 5000 + "}}"), "is no JSON: Exceeds the limit"),
    ("[" * 200_000, "nested too deeply"),
    ("{", "is no JSON"),
])  # fmt: skip
def test_a_bad_json_file_is_refused_with_its_name_and_the_rules_number(tmp_path, text, why):
    file = tmp_path / "rules.json"
    file.write_text(text)
    with pytest.raises(UserError, match=f"{re.escape(str(file))}.*{why}") as caught:
        ToolPolicy.read(file)
    assert str(caught.value).endswith((".", "?")) or "valid names: " in str(caught.value)


@pytest.mark.parametrize(("text", "why"), [
    ("[[rules]]\ntool = 'a'\neffect = 'allow'\neffect = 'forbid'", "is no TOML: Cannot overwrite a value"),
    ("rules = [", "is no TOML"),
    ("[[rules]]\ntool = 'a'\neffect = 'allow'\n[rules.arguments]\nn = { minimum = nan }", "rule 1: .*finite number"),
    ("[[rules]]\ntool = 'a'\neffect = 'allow'\n[rules.arguments]\nn = { equals = inf }", "rule 1: .*outside"),
    ("[[rules]]\ntool = 'a'\neffect = 'allow'\n[rules.arguments]\nn = { equals = 2024-01-01 }", "JSON does not know"),
    ("[[rules]]\ntool = 0x1" + "0" * 5000 + "\neffect = 'allow'", "rule 1: 'tool' is .*not <int>"),
    ("[[rules]]\ntool = 'a'\neffect = 'allow'\npriority = " + "1" * 5000, "is no TOML: Exceeds the limit"),
    ("a = " + "[" * 100_000, "nested too deeply"),
])  # fmt: skip
def test_a_bad_toml_file_is_refused(tmp_path, text, why):
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=f"{re.escape(str(file))}.*{why}"):
        ToolPolicy.read(file)


def test_what_is_no_file_of_rules_is_refused(tmp_path):
    (tmp_path / "rules.yaml").write_text("rules: []")
    (tmp_path / "latin.json").write_bytes(b'{"message": "\xe9"}')
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"rules.yaml is a .toml or .json file by its name; found '.yaml'"):
        ToolPolicy.read(tmp_path / "rules.yaml")
    for name in ("latin.json", "folder.json", "missing.toml", "a\0b.json"):
        with pytest.raises(UserError, match="could not be read"):
            ToolPolicy.read(tmp_path / name)


def test_the_error_of_a_mapping_names_the_rule():
    with pytest.raises(
        UserError, match=r"^The tool policy, rule 2: 'effect' is missing; a rule needs tool and effect\.$"
    ):
        ToolPolicy.of({"rules": [rule("allow"), {"tool": "a"}]})
    with pytest.raises(UserError, match=r"^The tool policy: there is no key 'rule'; did you mean rules\?$"):
        ToolPolicy.of({"rule": []})


def test_the_policies_of_the_documentation_are_policies():
    page = (Path(__file__).parents[3] / "docs" / "tool-policy.md").read_text("utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (as_json,) = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    assert ToolPolicy.of(tomllib.loads(toml)) == ToolPolicy.of(json.loads(as_json))
