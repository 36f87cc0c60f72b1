"""F62: what somebody gets who understands nothing. No game pays more than its ceiling for doing, echoing or saying all.

A reply that stands for no legal action plays the first legal one, as the shipped recipes have it, so that "nothing" is
a player who always takes what is listed first. On a board of three in a row that beats an opponent who moves at random.
"""

import dataclasses
import os

import numpy as np
import pytest

from lapwing import build
from lapwing.core import registry
from lapwing.core.errors import LapwingError
from lapwing.core.rng import generator
from lapwing.core.storage import canonical_json
from lapwing.core.types import Match
from lapwing.evaluation.null_agents import null_returns
from lapwing.games.search_qa import SearchQa
from lapwing.games.tools.dialogue import ToolGame, ToolState
from lapwing.generation.scripted import Scripted
from lapwing.policies.agent import Agent
from lapwing.policies.baselines import Random
from lapwing.policies.contexts import StateOnly, Transcript
from lapwing.policies.parsers import Tags
from lapwing.policies.renderers import Grid, ToolDialogue
from lapwing.policies.tool_parser import ToolUse
from lapwing.rollout.play import play

MATCHES = 1000 if os.environ.get("LAPWING_SOAK") else 60

# The share of matches that an agent may win at most, with the settings that a game has by default: for random legal
# play, and for all agents that never look at the game. Each is what 1,000 matches gave (docs/reliability.md) and what
# 60 matches may differ from it by chance.
CEILINGS = {
    "bandit": (0.80, 0.25),
    "bandit_suite": (0.0, 0.0),
    "chain": (0.05, 0.0),
    "connect_four": (0.45, 0.80),
    "contextual_bandit": (0.0, 0.0),
    "expert_advice": (0.40, 0.75),
    "frozen_lake": (0.25, 0.0),
    "gymnasium": (0.25, 0.25),
    "key_door": (0.35, 0.0),
    "kuhn_poker": (0.75, 0.80),
    "matrix_game": (0.0, 0.0),
    "minigrid": (0.25, 0.25),
    "mixture": (0.55, 0.15),
    "pettingzoo": (0.72, 0.90),
    "reasoning_gym": (None, 0.0),
    "rotated": (0.50, 0.70),
    "recall": (0.08, 0.0),
    "search_qa": (None, 0.0),
    "snake": (0.05, 0.0),
    "textarena": (None, 0.15),
    "textworld": (0.80, 0.0),
    "tic_tac_toe": (0.50, 0.70),
}


def nothing(context, legal):
    return ""


def echo(context, legal):
    return context


def spam(context, legal):
    """All that could be meant: every legal action, or every word as an answer, and all words together."""
    if legal is not None:
        return "".join(f"<action>{action}</action>" for action in legal)
    words = list(dict.fromkeys(context.split()))
    return "".join(f"<answer>{word}</answer>" for word in (*words, " ".join(words)))


def answer(context, legal):
    """The prompt in the form of an answer."""
    return f"<answer>{context}</answer><action>{context}</action>"


def parrot(context, legal):
    """A search for the prompt, and then what was found as the answer."""
    if "<result>" in context:
        return f"<answer>{context.rpartition('<result>')[2].partition('</result>')[0]}</answer>"
    return f'<tool>{{"name": "search", "arguments": {canonical_json(context[-300:])}}}</tool>'


AGENTS = {"nothing": nothing, "echo": echo, "answer": answer, "spam": spam, "parrot": parrot}


class Told(Agent):
    """An agent whose replies are a function of what it reads and may do."""

    def __init__(self, say, **parts):
        self._legal = []
        reply = lambda context, key: say(context, self._legal.pop(0))  # noqa: E731
        super().__init__(generator=Scripted(reply, parts["tokenizer"], max_tokens=4000), **parts)

    def act_many(self, asks):
        self._legal = [ask.legal for ask in asks]
        return super().act_many(asks)


def made(name):
    plan = build.game_plan(name, [])
    return build.make_game(plan.game), build.make_opponents(plan)


def agent(say, game, tokenizer):
    if isinstance(game, ToolGame):
        return Told(say, renderer=ToolDialogue(), context=Transcript(), parser=ToolUse(), tokenizer=tokenizer)
    return Told(say, renderer=Grid(instructions=True), context=StateOnly(), parser=Tags(), tokenizer=tokenizer)


def played(game, opponents, policy):
    matches = [Match(game, 0, "test", 0, group, 0, 50) for group in range(MATCHES)]
    return [episode for episode in play(matches, {0: policy, **opponents}) if episode.player == 0]


def won(game, opponents, policy):
    return float(np.mean([bool(episode.success) for episode in played(game, opponents, policy)]))


@pytest.fixture(scope="module")
def tokenizer(toy_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(toy_folder("qwen2"))


def test_f62_every_shipped_game_has_a_ceiling():
    assert set(CEILINGS) == set(registry.names("games"))


# Fails when a game pays for an empty reply, for its own words, or for the right answer among all others.
@pytest.mark.parametrize("name", CEILINGS)
def test_f62_who_understands_nothing_stays_below_the_ceiling(name, tokenizer):
    game, opponents = made(name)
    by_chance, by_rote = CEILINGS[name]
    for label, say in AGENTS.items():
        assert won(game, opponents, agent(say, game, tokenizer)) <= by_rote, label
    if by_chance is not None:
        assert won(game, opponents, Random()) <= by_chance


# Fails when a game pays who never looks at it more than it says itself.
@pytest.mark.parametrize("name", registry.names("games"))
def test_f62_who_never_looks_gets_no_more_than_the_game_says(name):
    try:
        game, _ = made(name)
    except LapwingError as error:
        pytest.skip(f"a package is missing: {error}")
    ceiling = getattr(game, "null_ceiling", None)
    if ceiling is None:
        pytest.skip(f"{name} states no ceiling for its defaults")
    # The ceiling is against random play; a scripted opponent may be weaker.
    for found in null_returns(game, range(MATCHES)):
        assert not found.exceeds(ceiling), f"{found.agent}: {found.mean} ± {found.half_width}"


# Fails when the rewards of search pay for the form of a reply, or a copied result as much as an answer.
def test_f62_what_search_pays_on_the_way_is_less_than_what_it_pays_for_the_answer(tokenizer):
    _, opponents = made("search_qa")
    game = SearchQa()
    paid = {
        label: np.mean([episode.domain_return for episode in played(game, opponents, agent(say, game, tokenizer))])
        for label, say in AGENTS.items()
    }
    best = sum({**game.turn_weights, **game.outcome_weights}.values())
    # The rewards of MT-GRPO pay for a search that finds the answer and for an answer that holds it somewhere.
    assert paid.pop("parrot") <= best - game.outcome_weights["exact_match"] + 1e-9
    assert set(paid.values()) == {0.0}


def parts_of(value):
    """Every object that can be reached from a value by its fields and items."""
    yield value
    inner = []
    if dataclasses.is_dataclass(value):
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, dict):
        inner = [*value, *value.values()]
    elif isinstance(value, (tuple, list, frozenset, set)):
        inner = list(value)
    for part in inner:
        yield from parts_of(part)


# Fails when a view holds the state, the game or a function of it, through which the scorer could be reached.
@pytest.mark.parametrize("name", CEILINGS)
def test_f62_a_view_is_plain_data_and_holds_neither_the_state_nor_the_game(name):
    game, _ = made(name)
    state = game.initial(generator("null agents", 0))
    for player in game.players(state):
        for part in parts_of(game.view(state, player)):
            assert part is not state
            assert part is not game
            is_plain = part is None or isinstance(part, (str, int, float, tuple, frozenset))
            assert is_plain or dataclasses.is_dataclass(part)
            assert not callable(part)


# Fails when the task, which holds the answer, gets into a view or into the definition of a tool.
def test_f62_the_answer_is_in_no_view_and_in_no_tool_before_it_was_searched_for():
    game = SearchQa()
    seen = 0
    for number in range(50):
        state = game.initial(generator("answers", number))
        assert isinstance(state, ToolState)
        words = set(canonical_json(game.view(state, 0)).replace('"', " ").split())
        right = game.right_answer(state.task)
        # An answer may be a word of the question by chance of the language, but never as a whole beside it.
        assert right
        assert not set(right.split()) <= words - set(game.question(state.task).split())
        seen += right not in game.question(state.task)
    assert seen == 50
