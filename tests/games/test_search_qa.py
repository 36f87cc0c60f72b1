"""Search and answer: what is paid for it, in numbers worked by hand; its players, its files, its rules, its safety."""

import dataclasses
import json
import math
import os
import random
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.storage import canonical_json, key_of
from lapwing.core.types import Answer, Malformed, Match, ToolCall, ToolResult, Transition
from lapwing.games.contract import check_game
from lapwing.games.search.world import SPLITS, guess_rate, make_world
from lapwing.games.search_qa import SearchQa, search
from lapwing.games.tools import qa
from lapwing.games.tools.dialogue import ToolState
from lapwing.policies.baselines import Demonstrator, Guess, Heuristic
from lapwing.policies.parsers import Invalid
from lapwing.policies.renderers import ToolDialogue
from lapwing.policies.tool_parser import ToolUse
from lapwing.rollout.play import play

CORPUS = (
    {"id": "d1", "title": "Paris", "text": "Paris is the capital of France, the City of Light."},
    {"id": "d2", "title": "Rome", "text": "The capital of Italy."},
    {"id": "d3", "title": "Tiber", "contents": "The Tiber is a river in Rome."},
    {"id": "d4", "text": "Madrid lies on the Manzanares."},
)
QUESTIONS = (
    {"id": "q1", "question": "capital of France?", "answers": ["Paris", "City of Light"], "query": "capital France"},
    {"id": "q2", "question": "capital of Italy?", "golden_answers": ["Rome"], "query": "capital Italy"},
    {"id": "q3", "question": "river in Rome?", "answer": "Tiber", "split": "development"},
    {"id": "q4", "question": "river in Madrid?", "answer": "Manzanares", "split": "test", "query": "Madrid river"},
)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A corpus and questions as files, as settings of the game."""
    folder = tmp_path_factory.mktemp("capitals")
    rows = [{"split": "train", **row} for row in QUESTIONS]
    return {
        "corpus": write_lines(folder / "corpus.jsonl", CORPUS),
        "questions": write_lines(folder / "questions.jsonl", rows),
    }


@pytest.fixture(scope="module")
def forbids_home(tmp_path_factory):
    """A tool policy that forbids to search for homes."""
    path = tmp_path_factory.mktemp("policy") / "rules.toml"
    path.write_text(
        'default = "allow"\n[[rules]]\ntool = "search"\neffect = "forbid"\nmessage = "Homes are private."\n'
        '[rules.arguments]\nquery = { pattern = ".*home.*" }\n',
        encoding="utf-8",
    )
    return str(path)


def played(game, *actions, number=1):
    """The transitions of some actions that begin with the question of this number."""
    task = next(q for q in game._source.questions if q.id == f"q{number}")
    state, found = ToolState(task, (), game.policy), []
    for action in actions:
        found.append(game.step(state, {0: action}, generator("unused")))
        state = found[-1].state
    return found


def rewards(transitions):
    return [transition.reward[0] for transition in transitions]


def total(transitions, part):
    return sum(transition.parts.get(part, 0.0) for transition in transitions)


FOUND = search("capital France")
MISSED = search("Manzanares")
FAILS = ToolCall("fetch", '{"query":"capital France"}')
UNREAD = Malformed("no tags")

# ---------------------------------------------------------------------------------------------------------------------
# The contract.


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"max_turns": 0},
        {"max_turns": 3, "hops": 2, "aliases": 1, "facts_per_document": 3, "top_k": 3},
        {"rewards": "v2", "max_turns": 1},
        {"rewards": "v2", "max_turns": 3, "hops": 2, "turn_weight": -0.3},
        {"rewards": "v2", "max_turns": 4, "search_penalty": 3.0},
        {"rewards": "v2", "max_turns": 3, "search_penalty": 0.0},
        {"turn_weight": 0.0, "max_turns": 2},
        {"tool_execution_weight": -1.0, "exact_match_weight": 7.0, "max_turns": 2, "split": "test"},
    ],
    ids=str,
)
def test_it_keeps_the_contract_whatever_its_settings(given, forbids_home):
    check_game(SearchQa(entities=60, **given))
    check_game(SearchQa(entities=60, **given, tool_policy=forbids_home), matches=5)


def test_it_keeps_the_contract_on_files(files):
    check_game(SearchQa(**files, max_turns=2, top_k=2))
    check_game(SearchQa(**files, max_turns=2, rewards="v2", split="development"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"max_turns": -1}, "game.max_turns"),
        ({"top_k": 0}, "game.top_k is a number of documents of at least 1, not 0"),
        ({"rewards": "v3"}, "'v1' or 'v2', not 'v3'"),
        ({"split": "tests"}, "did you mean test"),
        ({"turn_weight": math.nan}, "game.turn_weight is a finite number, not nan"),
        ({"exact_match_weight": math.inf}, "game.exact_match_weight is a finite number, not inf"),
        ({"search_penalty": -0.1}, "game.search_penalty is a finite number of at least 0, not -0.1"),
        ({"search_penalty": math.inf}, "game.search_penalty"),
        ({"tool_policy": "none.toml"}, "no file 'none.toml'"),
        ({"corpus": "none.jsonl", "questions": "none.jsonl"}, "no file 'none.jsonl'"),
        ({"corpus": "none.jsonl"}, "two files that go together"),
        ({"questions": "none.jsonl"}, "two files that go together"),
        ({"dataset": "trivia_qa", "corpus": "a", "questions": "b"}, "game.dataset and game.corpus"),
    ],
    ids=str,
)
def test_settings_that_make_no_game_are_refused_in_one_sentence(given, sentence):
    with pytest.raises(UserError) as raised:
        SearchQa(**given)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"entities": 5}, "entities from 20"), ({"hops": 3}, "hops from 1 to 2"), ({"mode_share": 2.0}, "mode_share")],
)
def test_a_world_that_cannot_be_is_refused_when_it_is_drawn(given, sentence):
    with pytest.raises(UserError, match=sentence):
        SearchQa(**given).initial(generator("start"))


# ---------------------------------------------------------------------------------------------------------------------
# Rewards of the first set, worked by hand.


def test_a_good_search_and_a_right_answer_pay_all_that_was_published(files):
    found = played(SearchQa(**files), FOUND, Answer(" paris "))
    assert found[0].state.turns[0].result == ToolResult("ok", CORPUS[0]["text"])
    assert rewards(found) == [pytest.approx(0.2 + 0.5), 0.0]
    assert found[1].outcome == {0: pytest.approx(0.5 + 1.0)}
    assert found[1].success == {0: True}
    assert dict(found[0].parts) == {
        "tool_calls": 1.0,
        "tool_cost": 0.0,
        "tool_execution": 1.0,
        "answer_in_result": 1.0,
        "exact_query": 1.0,
    }
    ends = {"answer_presence": 1.0, "exact_match": 1.0, "f1": 1.0}
    assert dict(found[1].parts) == dict.fromkeys(found[0].parts, 0.0) | ends


# Replies with up to two turns; rewards of the steps and the outcome, and whether the answer counts as right.
V1 = {
    "another search": ([MISSED, Answer("Paris")], [0.2, 0.0], 1.5, True),
    "nothing found": ([search("zebra"), Answer("Paris")], [0.2, 0.0], 1.5, True),
    "a wrong answer": ([FOUND, Answer("Lyon")], [0.7, 0.0], 0.0, False),
    "a longer answer": ([FOUND, Answer("It is Paris.")], [0.7, 0.0], 0.5, False),
    "an alias": ([FOUND, Answer("CITY OF LIGHT")], [0.7, 0.0], 1.5, True),
    "without blanks": ([Answer("cityoflight")], [0.0], 0.0, False),
    "no search": ([Answer("Paris")], [0.0], 1.5, True),
    "an empty answer": ([Answer("")], [0.0], 0.0, False),
    "a failing call": ([FAILS, Answer("Paris")], [0.0, 0.0], 1.5, True),
    "wrong arguments": ([ToolCall("search", '{"query":"capital France","k":2}'), Answer("")], [0.0, 0.0], 0.0, False),
    "an unread reply": ([UNREAD, Answer("Paris")], [0.0, 0.0], 1.5, True),
    # The share of calls that worked falls from 1 to ½, and rises from 0 to ½.
    "worked, failed": ([FOUND, FAILS, Answer("Paris")], [0.7, -0.1, 0.0], 1.5, True),
    "failed, worked": ([FAILS, FOUND, Answer("Paris")], [0.0, 0.1, 0.0], 1.5, True),
    "found, missed": ([FOUND, MISSED, Answer("Paris")], [0.7, 0.0, 0.0], 1.5, True),
    # Only the first result is looked at, as published.
    "missed, found": ([MISSED, FOUND, Answer("Paris")], [0.2, 0.0, 0.0], 1.5, True),
    "unread, found": ([UNREAD, FOUND, Answer("Paris")], [0.0, 0.1, 0.0], 1.5, True),
    "a call when the answer was due": ([FOUND, FOUND, FOUND], [0.7, 0.0, 0.0], 0.0, False),
    "unread when it was due": ([FOUND, FOUND, UNREAD], [0.7, 0.0, 0.0], 0.0, False),
}


@pytest.mark.parametrize("name", V1)
def test_what_the_first_set_pays_by_hand(files, name):
    actions, paid, outcome, success = V1[name]
    found = played(SearchQa(**files, max_turns=2), *actions)
    assert rewards(found) == pytest.approx(paid, abs=1e-12)
    assert found[-1].outcome == {0: pytest.approx(outcome)}
    assert found[-1].success == {0: success}
    assert [t.terminated for t in found] == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize("name", V1)
def test_without_a_weight_of_turns_they_pay_nothing_and_are_logged_all_the_same(files, name):
    actions, _, outcome, _ = V1[name]
    plain, unpaid = (played(SearchQa(**files, max_turns=2, turn_weight=w), *actions) for w in (1.0, 0.0))
    assert rewards(unpaid) == [0.0] * len(actions)
    assert unpaid[-1].outcome == {0: pytest.approx(outcome)}
    assert [dict(t.parts) for t in unpaid] == [dict(t.parts) for t in plain]


@pytest.mark.parametrize("last", [Answer("Paris"), Answer("Lyon"), FOUND, UNREAD], ids=str)
def test_who_searches_nothing_has_zeros_for_the_parts_of_the_turns(files, last):
    for rewarded in ("v1", "v2"):
        (end,) = played(SearchQa(**files, max_turns=0, rewards=rewarded), last)
        after = played(SearchQa(**files, max_turns=1, rewards=rewarded), FOUND, Answer("Lyon"))
        assert set(end.parts) == {name for t in after for name in t.parts}
        assert all(end.parts[name] == 0.0 for name in after[0].parts)


def test_each_weight_multiplies_its_own_part(files):
    weights = {"tool_execution": 3.0, "answer_in_result": 5.0, "answer_presence": 7.0, "exact_match": 11.0}
    game = SearchQa(**files, turn_weight=0.5, **{f"{name}_weight": weight for name, weight in weights.items()})
    found = played(game, FOUND, Answer("Paris"))
    assert (rewards(found)[0], found[1].outcome) == (0.5 * (3 + 5), {0: 7.0 + 11.0})
    found = played(game, MISSED, Answer("in Paris"))
    assert (rewards(found)[0], found[1].outcome) == (0.5 * 3, {0: 7.0})


def test_f1_is_that_of_the_field_and_the_score(files):
    # "it is paris" has three words, one of them right: 2 · 1 / (3 + 1).
    (end,) = played(SearchQa(**files), Answer("It is the Paris!"))
    assert end.parts["f1"] == pytest.approx(0.5) == qa.f1("It is the Paris!", ["Paris"])
    assert SearchQa.score_part == "f1"


def test_the_gold_queries_count_if_they_were_asked_and_not_refused(files):
    world = SearchQa(entities=60, hops=2, max_turns=4)
    task = next(q for q in world._source.questions if q.hops == 2)
    first, second = (search(query) for query in world._source.queries(task))
    refused = ToolCall(second.name, canonical_json({"query": json.loads(second.arguments), "k": 1}))
    for actions, share in (
        ([first], 0.5),
        ([second], 0.5),
        ([first, second], 1.0),
        ([ToolCall("search", canonical_json({"query": f" {task.query} "}))], 0.5),
        ([first, first], 0.5),
        ([first, refused], 0.5),
        ([ToolCall("fetch", second.arguments)], 0.0),
    ):
        state, parts = ToolState(task, (), None), 0.0
        for action in actions:
            transition = world.step(state, {0: action}, generator("unused"))
            state, parts = transition.state, parts + transition.parts["exact_query"]
        assert parts == share
    # A corpus that says no queries has no exact ones.
    assert total(played(SearchQa(**files), search("river in Rome"), Answer("x"), number=3), "exact_query") == 0.0


REPLIES = st.one_of(
    st.sampled_from([FOUND, MISSED, FAILS, UNREAD, search("zebra"), search("Paris")]),
    st.builds(ToolCall, st.sampled_from(["search", "fetch"]), st.text(max_size=10)),
)


def published(game, task, turns):
    """What §1.6 pays for some turns, as it is written there."""
    results = [turn.result for turn in turns]
    held = [r.ok and any(a.lower() in r.text.lower() for a in task.answers) for r in results]
    if game.rewards == "v1":
        worked = sum(r.ok for r in results) / len(results)
        return game.turn_weight * (0.2 * worked + 0.5 * held[0])
    paid, searches = 0.0, 0
    for turn, holds in zip(turns, held, strict=True):
        is_call = isinstance(turn.action, ToolCall)
        searches += is_call
        paid += 0.3 * holds + (0.1 if is_call else -0.2) - game.search_penalty * searches
    return game.turn_weight * paid


@given(
    st.lists(REPLIES, min_size=1, max_size=6),
    st.sampled_from(["v1", "v2"]),
    st.sampled_from([1.0, 0.25, -2.0]),
    st.integers(0, 4),
)
@settings(max_examples=300, deadline=None)
def test_what_was_paid_is_the_published_total_at_every_moment(files, replies, rewarded, weight, number):
    game = SearchQa(**files, max_turns=6, rewards=rewarded, turn_weight=weight, top_k=max(number, 1))
    found = played(game, *replies, number=min(number + 1, 4))
    for at, transition in enumerate(found):
        expected = published(game, transition.state.task, transition.state.turns)
        assert sum(rewards(found)[: at + 1]) == pytest.approx(expected, abs=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Rewards of the second set, worked by hand: +0.3 for a result that holds an answer, +0.1 for a reply that could be
# read and −0.2 for one that could not, −0.1 for each search so far; +1 right, +0.2 wrong, −1 no answer.

V2 = {
    "right": ([FOUND, Answer("Paris")], [0.3, 0.0], 1.0),
    "wrong": ([FOUND, Answer("It is Paris.")], [0.3, 0.0], 0.2),
    "an empty answer": ([Answer("")], [0.0], 0.2),
    "no search": ([Answer("Paris")], [0.0], 1.0),
    # 0.4 − 0.1, 0.4 − 0.2, 0.4 − 0.3: the searches cost 1 + 2 + 3 times λ.
    "three that find": ([FOUND, FOUND, FOUND, Answer("Paris")], [0.3, 0.2, 0.1, 0.0], 1.0),
    "three that miss": ([MISSED, MISSED, MISSED, Answer("Paris")], [0.0, -0.1, -0.2, 0.0], 1.0),
    "found at last": ([MISSED, FOUND, Answer("Paris")], [0.0, 0.2, 0.0], 1.0),
    "unread": ([UNREAD, Answer("Paris")], [-0.2, 0.0], 1.0),
    "unread, found": ([UNREAD, FOUND, Answer("Paris")], [-0.2, 0.3, 0.0], 1.0),
    "found, unread": ([FOUND, UNREAD, Answer("Paris")], [0.3, -0.3, 0.0], 1.0),
    "a failing call": ([FAILS, Answer("Paris")], [0.0, 0.0], 1.0),
    "a call when the answer was due": ([MISSED, MISSED, MISSED, FOUND], [0.0, -0.1, -0.2, 0.0], -1.0),
    "unread when it was due": ([UNREAD, UNREAD, UNREAD, UNREAD], [-0.2, -0.2, -0.2, 0.0], -1.0),
}


@pytest.mark.parametrize("name", V2)
def test_what_the_second_set_pays_by_hand(files, name):
    actions, paid, outcome = V2[name]
    found = played(SearchQa(**files, max_turns=3, rewards="v2"), *actions)
    assert rewards(found) == pytest.approx(paid, abs=1e-12)
    assert found[-1].outcome == {0: outcome}
    assert found[-1].success == {0: outcome == 1.0}
    assert total(found, "outcome") == outcome
    assert total(found, "retrieval") + total(found, "turn_format") + total(found, "search_cost") == pytest.approx(
        sum(paid), abs=1e-12
    )


@pytest.mark.parametrize("penalty", [0.0, 0.1, 0.5, 2.0])
def test_three_searches_cost_six_times_the_penalty(files, penalty):
    game = SearchQa(**files, max_turns=3, rewards="v2", search_penalty=penalty)
    found = played(game, FOUND, MISSED, FOUND, Answer("Paris"))
    assert [t.parts["search_cost"] for t in found[:3]] == pytest.approx([-penalty, -2 * penalty, -3 * penalty])
    assert total(found, "search_cost") == pytest.approx(-6 * penalty)
    assert total(found, "retrieval") == pytest.approx(0.6)
    assert total(found, "turn_format") == pytest.approx(0.3)
    assert sum(rewards(found)) == pytest.approx(0.9 - 6 * penalty)


def test_the_second_set_logs_the_shares_of_the_first(files):
    found = played(SearchQa(**files, max_turns=2, rewards="v2", turn_weight=0.0), FOUND, FAILS, Answer("Paris"))
    assert rewards(found) == [0.0] * 3
    parts = {name: total(found, name) for name in ("tool_calls", "tool_execution", "answer_in_result", "exact_match")}
    assert parts == {"tool_calls": 2.0, "tool_execution": 0.5, "answer_in_result": 1.0, "exact_match": 1.0}


# ---------------------------------------------------------------------------------------------------------------------
# Who plays it.

WORLDS = {
    "one hop": ({}, 1),
    "two hops": ({"hops": 2}, 2),
    "aliases": ({"aliases": 2}, 2),
    "facts": ({"facts_per_document": 3}, 1),
    "all": ({"hops": 2, "aliases": 1, "facts_per_document": 3, "top_k": 2}, 3),
}


def matches(game, count):
    return [Match(game, 0, "train", 0, group, 0, game.max_turns + 1) for group in range(count)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", WORLDS)
def test_the_heuristic_always_succeeds_and_so_does_a_perfect_demonstrator(name, split):
    given, hops = WORLDS[name]
    game = SearchQa(entities=60, max_turns=hops, **given).for_split(split)
    for policy in (Heuristic(), Demonstrator()):
        for episode in play(matches(game, 60), {0: policy}):
            task = episode.steps[0].state.task
            assert episode.success
            assert task.split == split
            assert len(episode.steps) == 1 + len(game._source.queries(task))
            parts = Counter()
            for step in episode.steps:
                parts.update(step.parts)
            assert parts["tool_execution"] == parts["exact_query"] == parts["exact_match"] == 1.0
            assert episode.domain_return == pytest.approx(0.2 + 0.5 * parts["answer_in_result"] + 1.5)
            # The first of several documents does not hold the answer yet.
            assert parts["answer_in_result"] >= (len(episode.steps) == 2)


@pytest.mark.parametrize("max_turns", [0, 1])
def test_with_fewer_turns_than_hops_the_heuristic_still_answers_rightly(max_turns):
    game = SearchQa(entities=60, hops=2, max_turns=max_turns)
    assert all(episode.success for episode in play(matches(game, 40), {0: Heuristic()}))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("mode_share", [0.1, 0.3, 0.8])
def test_the_guess_is_right_as_often_as_the_world_says(split, mode_share):
    game = SearchQa(entities=80, mode_share=mode_share, split=split)
    world = make_world(entities=80, mode_share=mode_share)
    right = []
    for task in game._source.asked(split):
        state = ToolState(task)
        end = game.step(state, {0: game.guess(state, 0)}, generator("unused"))
        assert end.terminated
        right.append(end.parts["exact_match"])
    assert np.mean(right) == pytest.approx(guess_rate(world, split))
    episodes = play(matches(game, 50), {0: Guess()})
    assert {len(episode.steps) for episode in episodes} == {1}


SETTINGS = {"call_share": 0.3, "query_accuracy": 0.4, "copy_accuracy": 0.8}
DEMONSTRATED = 4000


@pytest.fixture(scope="module")
def demonstrated():
    """Many episodes of a demonstrator of limited skill, each with the question, its calls and its answer."""
    game = SearchQa(entities=60).for_split("train")
    found = play(matches(game, DEMONSTRATED), {0: Demonstrator(**SETTINGS)})
    return game, [(e.steps[0].state.task, e.steps[:-1], e.steps[-1].action.text) for e in found]


def within(count, expected):
    """Whether a count of independent events lies within five standard errors of its expectation."""
    expected = np.asarray(expected, float)
    return abs(count - expected.sum()) <= 5 * np.sqrt((expected * (1 - expected)).sum()) + 1e-9


def answer_shares(game):
    """How often each answer is right among the training questions about each relation."""
    asked = Counter((q.text.split()[0], q.answers[0]) for q in game._source.asked("train"))
    of_relation = Counter()
    for (relation, _), count in asked.items():
        of_relation[relation] += count
    return {key: count / of_relation[key[0]] for key, count in asked.items()}


def test_a_demonstrator_calls_and_asks_rightly_as_often_as_it_is_told(demonstrated):
    _, found = demonstrated
    called = [calls for _, calls, _ in found if calls]
    assert within(len(called), [SETTINGS["call_share"]] * len(found))
    exact = sum(step.parts["exact_query"] for (step,) in called)
    assert within(exact, [SETTINGS["query_accuracy"]] * len(called))
    # Every call works, whatever it asks.
    assert all(step.parts["tool_execution"] == 1.0 for (step,) in called)


def test_a_demonstrator_guesses_as_well_as_answers_are_spread(demonstrated):
    game, found = demonstrated
    shares = answer_shares(game)
    guessed = [(task, answer) for task, calls, answer in found if not calls]
    right = sum(answer in task.answers for task, answer in guessed)
    assert within(right, [shares[task.text.split()[0], task.answers[0]] for task, _ in guessed])


def test_a_demonstrator_copies_what_the_result_holds_as_often_as_it_is_told(demonstrated):
    # Fails when it answers from what it knows and not from what it was shown.
    game, found = demonstrated
    shares = answer_shares(game)
    copied, expected = {True: 0, False: 0}, {True: [], False: []}
    for task, calls, answer in found:
        if calls:
            # The documents of this world are "name relation value", and a value has two words.
            held = " ".join(game.toolbox.call(calls[0].action).text.split()[-2:])
            is_gold = bool(calls[0].parts["exact_query"])
            copied[is_gold] += answer == held
            guessed = shares.get((task.text.split()[0], held), 0.0)
            expected[is_gold].append(SETTINGS["copy_accuracy"] + (1 - SETTINGS["copy_accuracy"]) * guessed)
    assert min(len(e) for e in expected.values()) > 300
    assert all(within(copied[is_gold], expected[is_gold]) for is_gold in (True, False))
    assert within(sum(copied.values()), expected[True] + expected[False])


@pytest.mark.parametrize(
    ("given", "calls", "right"),
    [
        ({"call_share": 0.0}, 0, None),
        ({"call_share": 1.0, "query_accuracy": 0.0, "copy_accuracy": 1.0}, 1, None),
        ({"call_share": 1.0, "query_accuracy": 1.0, "copy_accuracy": 1.0}, 1, True),
    ],
)
def test_demonstrators_at_the_ends_of_the_scale(given, calls, right):
    game = SearchQa(entities=60)
    for episode in play(matches(game, 200), {0: Demonstrator(**given)}):
        assert len(episode.steps) == 1 + calls
        assert right is None or episode.success is right
        if calls:
            assert episode.steps[0].parts["exact_query"] == float(given["query_accuracy"])


def entity(task):
    return task.id.partition("/")[0]


def called(task):
    """The name in a question, after the relation and, if it is there, the way to the friend."""
    words = task.text.split()[1:]
    return tuple(words[1:] if words[0] == "friend" else words)


@pytest.mark.parametrize("name", WORLDS)
def test_the_entities_of_a_split_are_asked_for_in_no_other(name):
    game = SearchQa(entities=100, **WORLDS[name][0])
    asked = {split: game.for_split(split)._source.asked(split) for split in SPLITS}
    for one in SPLITS:
        assert len(asked[one]) > 20
        for other in SPLITS:
            if other != one:
                assert not {entity(q) for q in asked[one]} & {entity(q) for q in asked[other]}
                assert not {called(q) for q in asked[one]} & {called(q) for q in asked[other]}
    # What is drawn for a split is asked in it, and of a test question no name was ever trained on.
    drawn = {game.for_split("test").initial(generator("drawn", i)).task for i in range(200)}
    assert drawn <= set(asked["test"])
    assert len(drawn) > 60


# ---------------------------------------------------------------------------------------------------------------------
# Files.


def test_files_are_played_from_end_to_end(files):
    game = SearchQa(**files, split="train")
    for policy, steps in ((Heuristic(), 2), (Demonstrator(), 2), (Guess(), 1)):
        episodes = play(matches(game, 30), {0: policy})
        assert {e.steps[0].state.task.id for e in episodes} == {"q1", "q2"}
        assert {len(e.steps) for e in episodes} == {steps}
        if steps == 2:
            assert all(e.success and e.domain_return == pytest.approx(2.2) for e in episodes)
        else:
            # "capital" is answered by Paris and Rome once each; the first of them is the guess.
            assert {e.steps[0].state.task.id for e in episodes if e.success} == {"q1"}


def test_without_a_query_in_the_file_the_players_answer_at_once(files):
    game = SearchQa(**files, split="development")
    (episode,) = play(matches(game, 1), {0: Heuristic()})
    assert (len(episode.steps), episode.success) == (1, True)
    (episode,) = play(matches(game, 1), {0: Demonstrator()})
    assert (len(episode.steps), episode.steps[0].action.text in ("Paris", "Rome")) == (1, True)


def test_a_file_keeps_its_case_and_its_titles(files):
    game = SearchQa(**files, split="test", max_turns=2)
    found = played(game, search("river madrid"), search("italy"), Answer("MANZANARES"), number=4)
    assert game.view(found[0].state, 0).question == "river in Madrid?"
    assert [turn.result.text for turn in found[1].state.turns] == [
        "Madrid lies on the Manzanares.",
        "Rome . The capital of Italy.",
    ]
    assert found[2].success == {0: True}
    assert {"Manzanares.", "Rome", "river", "Madrid?"} <= game.words()


def test_a_file_that_changed_is_another_game(tmp_path, monkeypatch):
    # Fails when what was read is remembered by the name of the file alone.
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    given = {"corpus": "c.jsonl", "questions": "q.jsonl", "tool_policy": "p.json"}
    games, answers = [], []
    for folder, number, default in (("one", 0, "allow"), ("two", 1, "forbid"), ("one", 3, "forbid")):
        monkeypatch.chdir(tmp_path / folder)
        write_lines(tmp_path / folder / "c.jsonl", CORPUS)
        write_lines(tmp_path / folder / "q.jsonl", [QUESTIONS[number]])
        (tmp_path / folder / "p.json").write_text(json.dumps({"default": default}))
        games.append(SearchQa(**given))
        start = games[-1].initial(generator("start"))
        answers.append((games[-1].right_answer(start.task), start.policy.layers[0].default))
    assert answers == [("Paris", "allow"), ("Rome", "forbid"), ("Manzanares", "forbid")]
    assert len(set(games)) == 3
    assert SearchQa(**given) == games[2] != games[0]
    assert "_files" not in repr(games[0])


def test_files_without_questions_for_a_split_are_refused_when_it_is_asked(tmp_path):
    rows = [{**row, "split": "train"} for row in QUESTIONS]
    given = {
        "corpus": write_lines(tmp_path / "c.jsonl", CORPUS),
        "questions": write_lines(tmp_path / "q.jsonl", rows),
    }
    assert SearchQa(**given).for_split("train").initial(generator("start")).task.split == "train"
    with pytest.raises(UserError, match="No question is in the split 'test'"):
        SearchQa(**given).for_split("test").initial(generator("start"))


@pytest.mark.parametrize(
    ("corpus", "questions", "sentence"),
    [
        ("{}\n", None, "c.jsonl, line 1 has no field 'text'"),
        ('{"id": 1}', None, "c.jsonl, line 1 has no field 'text'"),
        ("nonsense\n", None, "c.jsonl, line 1 is not JSON"),
        ("", None, "holds no documents"),
        (None, '{"id": "q", "question": "x"}\n', "q.jsonl, line 1 has no answer"),
        (None, "[]\n", "q.jsonl, line 1 is no JSON object"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_sentence(tmp_path, corpus, questions, sentence):
    given = {
        "corpus": write_lines(tmp_path / "c.jsonl", CORPUS),
        "questions": write_lines(tmp_path / "q.jsonl", QUESTIONS),
    }
    for key, content in (("corpus", corpus), ("questions", questions)):
        if content is not None:
            (tmp_path / f"{key[0]}.jsonl").write_text(content)
    with pytest.raises(UserError) as raised:
        SearchQa(**given).initial(generator("start"))
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_data_set_needs_its_package_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"'trivia_qa' needs a package: pip install 'lapwing\[datasets\]'$"):
        SearchQa(dataset="trivia_qa").initial(generator("start"))
    with pytest.raises(UserError, match=r"There is no data set 'trivia_q'.*did you mean trivia_qa"):
        SearchQa(dataset="trivia_q").initial(generator("start"))


def test_a_local_copy_of_a_data_set_is_played(tmp_path):
    # HotpotQA has no queries, but two documents with facts.
    row = {
        "id": "h1",
        "question": "In which country is the city of the Louvre?",
        "answer": "France",
        "supporting_facts": {"title": ["Louvre", "Paris"], "sent_id": [0, 0]},
        "context": {
            "title": ["Louvre", "Paris", "Rome"],
            "sentences": [["A museum in Paris."], ["It is the capital of France."], ["A city."]],
        },
    }
    rows = [row, {**row, "id": "h2", "question": "And Rome?", "answer": "Italy"}]
    given = {"dataset": write_lines(tmp_path / "train.jsonl", rows), "max_turns": 2}
    game = SearchQa(**given)
    task = next(q for q in game._source.questions if q.id == "h1")
    state = ToolState(task)
    for query in ("museum Louvre", "Paris capital"):
        state = game.step(state, {0: search(query)}, generator("unused")).state
    assert [t.result.text for t in state.turns] == [
        "Louvre . A museum in Paris.",
        "Paris . It is the capital of France.",
    ]
    assert game.step(state, {0: Answer("france")}, generator("unused")).success == {0: True}
    assert game.heuristic(ToolState(task), 0) == Answer("France")


# ---------------------------------------------------------------------------------------------------------------------
# Rules for the calls.


def test_a_forbidden_search_is_not_made_and_the_agent_reads_why(forbids_home):
    game = SearchQa(entities=60, max_turns=2, tool_policy=forbids_home)
    free = SearchQa(entities=60, max_turns=2)
    task = next(q for q in game._source.questions if q.text.startswith("home "))
    name = task.query.removesuffix(" home")
    state = game.initial(generator("start"))
    state = dataclasses.replace(state, task=task)
    found = []
    for action in (search(task.query), search(f"{name} craft"), Answer(task.answers[0])):
        found.append(game.step(state, {0: action}, generator("unused")))
        state = found[-1].state
    assert state.turns[0].result == ToolResult("error", "Homes are private.")
    assert state.turns[1].result is not None
    assert state.turns[1].result.ok
    assert rewards(found) == pytest.approx([0.0, 0.1, 0.0])
    view = game.view(found[0].state, 0)
    assert view.turns[0].result == ToolResult("error", "Homes are private.")
    assert ToolDialogue().messages(view)[-1]["content"] == "<error> Homes are private. </error>"
    # The same search as an object, and what the rules do not know.
    for arguments in ({"query": task.query}, {"query": f"x {task.query} y"}):
        call = ToolCall("search", canonical_json(arguments))
        once = game.step(ToolState(task, (), game.policy), {0: call}, generator("unused"))
        assert once.state.turns[0].result == ToolResult("error", "Homes are private.")
    assert free.policy is None
    assert free.step(ToolState(task), {0: search(task.query)}, generator("unused")).state.turns[0].result.ok


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("default = 'maybe'", "'default' is 'allow' or 'forbid', not"),
        ("[[rules]]\ntool = 'search'", "rule 1: 'effect' is missing"),
        ("= = =", "is no TOML"),
    ],
)
def test_a_file_of_rules_that_is_off_is_refused_when_the_episode_begins(tmp_path, content, sentence):
    path = tmp_path / "rules.toml"
    path.write_text(content)
    with pytest.raises(UserError, match=sentence):
        SearchQa(entities=60, tool_policy=str(path)).initial(generator("start"))


# ---------------------------------------------------------------------------------------------------------------------
# Security: whatever a model writes is data.

# `make soak` tries ten thousand and more.
FUZZED = 2_000 * int(os.environ.get("LAPWING_SOAK") or 1)
VALID = (
    '<reasoning> hm </reasoning> <tool> {"name": "search", "arguments": {"query": "capital France"}} </tool>',
    '<tool> {"name": "search", "arguments": "capital France"} </tool>',
    "<tool> search capital France </tool>",
    "<reasoning> so </reasoning> <answer> Paris </answer>",
    "<answer> City of Light </answer>",
)
FRAGMENTS = (
    *(
        "<tool>",
        "</tool>",
        "<answer>",
        "</answer>",
        "<result>",
        "</result>",
        "<error>",
        "<|im_start|>system\n",
        "<|im_end|>",
    ),
    *(
        "\nUser:",
        "[INST]",
        "<s>",
        "{",
        "}",
        "[",
        "]",
        '"',
        ":",
        ",",
        "\\",
        "\\u0000",
        "\\ud800",
        "\0",
        "\ud800",
        "\udfff",
    ),
    *(
        "9" * 5000,
        "-1e999",
        "NaN",
        "Infinity",
        "[" * 3000,
        '{"a":' * 3000,
        "]" * 3000,
        "\u202e",
        "\x1b[2J",
        "𝕏",
        "\r\n",
    ),
    *(
        "../../etc/passwd",
        "$(true)",
        "__import__('os')",
        "{0.__class__}",
        "%n%s",
        "'; DROP TABLE",
        "file:///etc/passwd",
    ),
    *(
        '"name"',
        '"arguments"',
        '"query"',
        "null",
        "true",
        "search",
        "fetch",
        "answer",
        "Paris",
        " " * 5000,
        "x" * 70_000,
    ),
)


def mutated(rng, text):
    for _ in range(rng.randint(1, 4)):
        at, kind = rng.randrange(len(text) + 1), rng.randrange(6)
        if kind < 3:
            text = text[:at] + rng.choice(FRAGMENTS) + text[at + rng.randrange(3) :]
        elif kind == 3:
            text = text[:at] + text[rng.randrange(len(text) + 1) :]
        elif kind == 4:
            text = text[:at] + chr(rng.choice((rng.randrange(128), rng.randrange(0x110000)))) + text[at + 1 :]
        else:
            text += rng.choice(VALID)
        text = text[:100_000]
    return text


@pytest.mark.parametrize("style", ["json", "words"])
def test_each_of_thousands_of_replies_gives_a_transition(files, style):
    # Half of the replies for each style; episodes go on until they end, so that odd texts meet in one state.
    rng = random.Random(7)
    parser, renderer = ToolUse(style=style), ToolDialogue()
    games = [SearchQa(**files, max_turns=3, rewards=rewarded) for rewarded in ("v1", "v2")]
    met, state, game = Counter(), None, games[0]
    for number in range(FUZZED // 2):
        if state is None:
            game = games[rng.randrange(2)]
            state = game.initial(generator("fuzz", number))
        parsed = parser.parse(mutated(rng, rng.choice(VALID)), game.legal(state, 0))
        action = game.malformed(parsed.reason) if isinstance(parsed, Invalid) else parsed
        transition = game.step(state, {0: action}, generator("unused"))
        assert type(transition) is Transition
        low, high = game.reward_range
        assert low <= transition.reward[0] <= high
        assert all(math.isfinite(value) for value in transition.parts.values())
        assert all(math.isfinite(value) for value in (transition.outcome or {}).values())
        view = game.view(transition.state, 0)
        assert key_of(view) > 0
        assert key_of(action) > 0
        hash(transition.state)
        if not transition.terminated:
            (message,) = renderer.messages(view)
            # One pair of tags, ours, and no more.
            assert message["role"] == "tool"
            assert sum(message["content"].count(tag) for tag in ("<result>", "<error>")) == 1
            assert not any(tag in message["content"] for tag in ("<tool>", "</tool>", "<answer>", "</answer>", "<|im"))
            message["content"].encode("utf-8", errors="replace")
            met[transition.state.turns[-1].result.status] += 1
        met[type(action).__name__] += 1
        state = None if transition.terminated else transition.state
    assert min(met[name] for name in ("ToolCall", "Answer", "Malformed", "ok", "error")) > FUZZED // 100


def test_the_right_queries_are_paid_only_if_asked_for():
    # Two hops: the first query is right, the second is not; nothing published pays for that but the call itself.
    for weight, expected in ((0.0, 0.0), (0.5, 0.25)):
        game = SearchQa(entities=60, hops=2, max_turns=2, exact_query_weight=weight)
        state = next(state for n in range(50) if (state := game.initial(generator("paid", n))).task.hops == 2)
        first = game.step(state, {0: game.heuristic(state, 0)}, generator("step"))
        assert first.parts["exact_query"] == 0.5
        assert first.parts["answer_in_result"] == 0.0
        assert first.reward[0] == pytest.approx(0.2 + expected)
        second = game.step(first.state, {0: ToolCall("search", '"nobody home"')}, generator("step"))
        assert second.parts["exact_query"] == 0.0
