import dataclasses
import json
import types
from typing import Any, ClassVar

import pytest

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.storage import key_of
from lapwing.core.types import Answer, Malformed, ToolCall, ToolResult, Transition
from lapwing.games.bandit import Bandit
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.search_qa import SearchQa
from lapwing.games.snake import Snake
from lapwing.policies.agent import InvalidRule
from lapwing.policies.baselines import Heuristic, LegalRandom, Optimal, Scripted, _Baseline
from lapwing.policies.contexts import LastK, Transcript
from lapwing.rollout.play import initial_state, play

SLIPPERY = FrozenLake(map_name="8x8", slippery=True)


class Always(_Baseline):
    """Plays one action, whatever comes."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def choose(self, ask):
        return self.action


def cells(episode):
    return [(step.view.row, step.view.column) for step in episode.steps]


@dataclasses.dataclass(frozen=True)
class Turns:
    """Two players count up in turn; every move pays the mover 1 and its opponent 10 times the count."""

    length: int = 5
    num_players: ClassVar[int] = 2
    reward_range: ClassVar[tuple[float, float]] = (0.0, 100.0)
    restorable: ClassVar[bool] = True

    def initial(self, rng):
        return 0

    def players(self, state):
        return (state % 2,)

    def view(self, state, player):
        return ("count", state, player)

    def legal(self, state, player):
        return ("on",)

    def step(self, state, actions, rng):
        mover = state % 2
        ended = state + 1 == self.length
        return Transition(
            state + 1,
            {mover: 1.0, 1 - mover: 10.0 * state},
            terminated=ended,
            success={0: True, 1: False} if ended else None,
            outcome={0: 0.5, 1: -0.5} if ended else None,
            parts={"count": float(state)},
        )


def group(make_match, **settings):
    return [make_match(group=3, member=member, **settings) for member in range(6)]


def test_members_that_share_chance_walk_the_same_way(make_match):
    # Fails when the member gets into the key of the chance.
    matches = group(make_match, game=SLIPPERY, max_steps=30)
    walks = [cells(episode) for episode in play(matches, {0: Always("right")})]
    assert all(walk == walks[0] for walk in walks)
    assert len(set(walks[0])) > 2


def test_members_with_chance_of_their_own_walk_apart_from_the_same_start(make_match):
    # Fails when the member is left out of the key of the chance, or gets into that of the start.
    game = FrozenLake(size=8, slippery=True)
    matches = group(make_match, game=game, max_steps=30, share_chance=False)
    episodes = play(matches, {0: Always("right")})
    assert len({tuple(cells(episode)) for episode in episodes}) > 3
    assert len({episode.steps[0].view for episode in episodes}) == 1


def test_groups_splits_iterations_and_seeds_begin_in_states_of_their_own(make_match):
    game = FrozenLake(size=8)
    settings: list[dict] = [{}, {"group": 1}, {"iteration": 1}, {"split": "test"}, {"seed": 1}]
    starts = [initial_state(make_match(game=game, **setting)) for setting in settings]
    assert len(set(starts)) == len(starts)


def test_an_earlier_start_is_played_again_with_fresh_chance(make_match):
    # Fails when the start's address is used for the chance of the steps too.
    game = FrozenLake(size=8, slippery=True)
    earlier = make_match(game=game, iteration=2, group=5, max_steps=30)
    again = make_match(game=game, iteration=7, group=0, start=(2, 5), max_steps=30)
    assert initial_state(again) == initial_state(earlier)
    first, second = play([earlier, again], {0: Always("down")})
    assert first.steps[0].view == second.steps[0].view
    assert cells(first) != cells(second)


def test_the_end_of_the_game_terminates_and_the_cap_truncates(make_match):
    # Fails when a match is cut one step late, or the last step of a match that ended by itself counts as cut.
    long, cut, won = play(
        [make_match(max_steps=8), make_match(max_steps=1), make_match(game=Bandit(arms=(1.0,)), max_steps=1)],
        {0: FirstOf("right", "a")},
    )
    # Along the upper edge there is no hole, and no goal either.
    assert (cut.terminated, cut.truncated, len(cut.steps)) == (False, True, 1)
    assert (won.terminated, won.truncated, won.success) == (True, False, True)
    assert (long.terminated, long.truncated, len(long.steps)) == (False, True, 8)
    assert long.success is False  # a game that can be won, and was not


class FirstOf(_Baseline):
    """Plays the first of its actions that is legal."""

    def __init__(self, *actions: str) -> None:
        self.actions = actions

    def choose(self, ask):
        return next(action for action in self.actions if action in ask.legal)


def test_a_game_without_success_has_none(make_match):
    (episode,) = play([make_match(game=Snake(), max_steps=2)], {0: LegalRandom()})
    assert episode.success is None


def test_steps_tell_the_views_before_and_after(make_match):
    (episode,) = play([make_match(max_steps=3)], {0: Always("down")})
    for step, following in zip(episode.steps, episode.steps[1:], strict=False):
        assert step.view_key == key_of(step.view)
        assert step.next_view_key == following.view_key
    assert {step.action_key for step in episode.steps} == {key_of("down")}


def test_reward_between_two_decisions_goes_to_the_earlier(make_match):
    # Fails when a reward is only given to the player who moved.
    first, second = play([make_match(game=Turns(), max_steps=9)], {0: Always("on"), 1: Always("on")}, learners=(0, 1))
    #   Counts 0 1 2 3 4; player 0 moves at 0, 2, 4 and gets 10 and 30 in between; player 1 moves at 1, 3.
    assert [step.reward for step in first.steps] == [1.0 + 10.0, 1.0 + 30.0, 1.0]
    #   The 0 that player 1 gets before its first decision belongs to no step.
    assert [step.reward for step in second.steps] == [1.0 + 20.0, 1.0 + 40.0]
    assert [step.domain_reward for step in first.steps] == [step.reward for step in first.steps]
    assert (first.success, second.success) == (True, False)
    assert (first.outcome, second.outcome) == (0.5, -0.5)
    assert first.episode_return == 11 + 31 + 1 + 0.5
    # What the next decision sees, not what the opponent saw.
    assert first.steps[0].next_view_key == first.steps[1].view_key
    assert [(e.player, e.match) for e in (first, second)] == [(0, first.match), (1, first.match)]


def test_a_cut_ends_two_players_at_once(make_match):
    first, second = play([make_match(game=Turns(), max_steps=2)], {0: Always("on"), 1: Always("on")}, learners=(0, 1))
    assert first.truncated
    assert second.truncated
    assert (len(first.steps), len(second.steps)) == (1, 1)


def test_a_snake_plays_against_a_scripted_opponent(make_match):
    game = Snake(width=4, height=4, num_snakes=2)
    matches = [make_match(game=game, group=number, max_steps=20, share_chance=False) for number in range(20)]
    policies = {0: LegalRandom(), 1: Scripted()}
    episodes = play(matches, policies)
    assert [episode.match for episode in episodes] == matches
    assert {episode.player for episode in episodes} == {0}
    assert all(len(step.view.others) == 1 for episode in episodes for step in episode.steps)
    both = play(matches, policies, learners=(0, 1))
    assert [[step.view for step in episode.steps] for episode in both[::2]] == [
        [step.view for step in episode.steps] for episode in episodes
    ]
    assert any(episode.steps[-1].domain_reward == -1.0 for episode in both)


def test_members_that_share_their_chance_meet_the_same_opponent(make_match):
    # Fails when the opponent's stream depends on the member (ms_grpo §3.3; §3.6, test 6).
    game = Snake(width=5, height=5, num_snakes=2)
    courses = {}
    for share in (True, False):
        group = [make_match(game=game, member=member, max_steps=20, share_chance=share) for member in range(6)]
        episodes = play(group, {0: Heuristic(), 1: Scripted()})
        courses[share] = len({tuple(step.view for step in episode.steps) for episode in episodes})
    assert courses[True] == 1
    assert courses[False] > 3


def test_other_matches_of_the_same_call_change_nothing(make_match):
    # Fails when any random number depends on the order of play.
    matches = [
        make_match(game=SLIPPERY, group=number, member=member, max_steps=15)
        for number in range(3)
        for member in range(2)
    ]

    def walks(some):
        return [[(step.view, step.action) for step in episode.steps] for episode in play(some, {0: LegalRandom()})]

    together = walks(matches)
    assert walks(matches[::-1])[::-1] == together
    assert [walks([match])[0] for match in matches] == together


def test_decisions_have_the_keys_of_their_own_steps_in_any_company(make_match):
    # Fails when many keys are made in another way than few.
    seen = []

    class Keeper(_Baseline):
        def choose(self, ask):
            seen.append((ask.key, ask.steps_left))
            return "left"

    play([make_match(member=member, max_steps=3) for member in range(40)], {0: Keeper()})
    expected = [
        (rng.fold(0, "reply", 0, "train", 0, 0, member, 0, step), 3 - step) for step in range(3) for member in range(40)
    ]
    assert seen == expected


def test_a_policy_is_told_how_many_steps_are_left(make_match):
    seen = []

    class Watcher(_Baseline):
        def choose(self, ask):
            seen.append(ask.steps_left)
            return "left"

    play([make_match(max_steps=4)], {0: Watcher()})
    assert seen == [4, 3, 2, 1]


def test_matches_past_the_deadline_are_left_out(make_match, monkeypatch):
    # A clock of its own: a busy machine would be late by itself.
    slept = []
    monkeypatch.setattr("lapwing.rollout.play.time", types.SimpleNamespace(monotonic=lambda: sum(slept)))

    class Slow(_Baseline):
        def choose(self, ask):
            slept.append(0.03)
            return "left"

    matches = [make_match(max_steps=50), make_match(max_steps=1, member=1), make_match(max_steps=50, member=2)]
    episodes = play(matches, {0: Slow()}, deadline_seconds=0.02)
    assert [episode.match for episode in episodes] == [matches[1]]
    assert len(slept) == 3
    assert play(matches, {0: Slow()}, deadline_seconds=-1.0) == []


# Invalid replies. "hm" stands for no action.

BAD_THEN_DOWN = ["hm", "<action> down </action>"]


def scripted(replies):
    """Replies by the step of the first match of the group: the keys tell the steps apart."""
    keys = [rng.fold(0, "reply", 0, "train", 0, 0, 0, 0, step) for step in range(40)]
    return lambda _text, key: replies[keys.index(key) % len(replies)]


def test_the_default_action_replaces_an_invalid_reply(make_agent, make_match):
    # Fails when the penalty reaches the domain reward, or the action's key is taken from what was executed.
    (episode,) = play(
        [make_match(max_steps=2)],
        {0: make_agent(scripted(BAD_THEN_DOWN))},
        invalid=InvalidRule(penalty=0.25, default_action="right"),
    )
    bad, good = episode.steps
    assert (bad.action, bad.decision.action, bad.decision.valid) == ("right", None, False)
    assert (bad.reward, bad.domain_reward, bad.action_key) == (-0.25, 0.0, 0)
    assert (good.action, good.reward, good.action_key) == ("down", 0.0, key_of("down"))
    assert cells(episode) == [(0, 0), (0, 1)]
    assert episode.episode_return == -0.25
    assert episode.domain_return == 0.0


def test_the_penalty_is_taken_off_what_the_game_pays(make_agent, make_match):
    (episode,) = play(
        [make_match(game=Bandit(arms=(1.0, 0.0)))],
        {0: make_agent(lambda _text, _key: "hm")},
        invalid=InvalidRule(penalty=0.25),
    )
    (step,) = episode.steps
    assert (step.action, step.reward, step.domain_reward) == ("a", 0.75, 1.0)
    batch = EpisodeBatch.pack([episode])
    assert batch.reward.tolist() == [0.75]
    assert batch.column("domain_reward").tolist() == [1.0]
    assert batch.valid.tolist() == [False]


def test_a_random_legal_action_replaces_an_invalid_reply(make_agent, make_match):
    matches = [make_match(member=member, max_steps=1) for member in range(60)]
    policy = {0: make_agent(lambda _text, _key: "hm")}
    episodes = play(matches, policy, invalid=InvalidRule(rule="random_legal"))
    drawn = [episode.steps[0].action for episode in episodes]
    assert set(drawn) == {"left", "down", "right", "up"}
    again = play(matches[::-1], policy, invalid=InvalidRule(rule="random_legal"))
    assert [episode.steps[0].action for episode in again[::-1]] == drawn


def test_an_invalid_reply_can_forfeit_the_match(make_agent, make_match):
    # Fails when the game is stepped on, or the match counts as cut.
    (episode,) = play(
        [make_match()],
        {0: make_agent(scripted(["<action> down </action>", "hm"]))},
        invalid=InvalidRule(rule="forfeit", penalty=1.0),
    )
    assert len(episode.steps) == 2
    assert episode.steps[1].action is None
    assert (episode.terminated, episode.truncated, episode.success) == (True, False, False)
    assert (episode.steps[1].reward, episode.steps[1].domain_reward) == (-1.0, 0.0)
    assert episode.final_context is None


def test_a_retry_is_a_step_of_its_own_that_the_game_does_not_see(make_agent, make_match):
    # Fails when the retry uses up a step of the game, or its reward is that of the game.
    (episode,) = play(
        [make_match(max_steps=3)],
        {0: make_agent(scripted(BAD_THEN_DOWN))},
        invalid=InvalidRule(rule="retry", penalty=0.5),
    )
    assert [step.action for step in episode.steps] == [None, "down"] * 3
    assert [step.reward for step in episode.steps] == [-0.5, 0.0] * 3
    assert [step.domain_reward for step in episode.steps] == [0.0] * 6
    assert cells(episode)[::2] == cells(episode)[1::2] == [(0, 0), (1, 0), (2, 0)]
    retried = episode.steps[0]
    assert retried.next_view_key == retried.view_key
    assert episode.steps[1].next_view_key == episode.steps[2].view_key
    # The map has a hole at the lower left.
    assert episode.terminated


def test_after_its_retries_a_reply_is_replaced_by_the_default(make_agent, make_match):
    (episode,) = play(
        [make_match(max_steps=2)],
        {0: make_agent(lambda _text, _key: "hm")},
        invalid=InvalidRule(rule="retry", retries=2, default_action="down", penalty=1.0),
    )
    # Fails when the count of retries is not set back after a step of the game.
    assert [step.action for step in episode.steps] == [None, None, "down"] * 2
    assert cells(episode) == [(0, 0)] * 3 + [(1, 0)] * 3
    assert episode.episode_return == -6.0


@pytest.mark.parametrize("context", [Transcript(), LastK(k=3)], ids=["transcript", "last three"])
def test_a_retry_reads_a_fresh_context_without_the_invalid_reply(make_agent, make_match, tokenizer, context):
    # Fails when the invalid reply is remembered, or the retry claims to extend it.
    replies = ["<action> right </action>", "hm", "<action> left </action>", "<action> right </action>"]
    agent = make_agent(scripted(replies), context=context)
    (episode,) = play([make_match(max_steps=3)], {0: agent}, invalid=InvalidRule(rule="retry"))
    first, bad, retry, last = [step.decision for step in episode.steps]
    assert retry.context.tolist() == bad.context.tolist()
    assert retry.extends == 0
    assert "hm" not in tokenizer.decode(last.context)
    assert "<action> left </action>" in tokenizer.decode(last.context)
    batch = EpisodeBatch.pack([episode])
    for n, decision in enumerate((first, bad, retry, last)):
        assert batch.context(n).tolist() == decision.context.tolist()
    is_transcript = isinstance(context, Transcript)
    assert batch.extends_previous.tolist() == [False, is_transcript, False, is_transcript]


def test_the_rule_is_for_the_learning_seats_alone(make_agent, make_match):
    game = Snake(width=4, height=4, num_snakes=2)
    silent = make_agent(lambda _text, _key: "hm")
    first, second = play(
        [make_match(game=game, max_steps=1)], {0: silent, 1: silent}, invalid=InvalidRule(penalty=5.0), learners=(0, 1)
    )
    assert first.steps[0].reward == first.steps[0].domain_reward - 5.0
    (alone,) = play([make_match(game=game, max_steps=1)], {0: silent, 1: silent}, invalid=InvalidRule(penalty=5.0))
    assert alone.steps[0].domain_reward == first.steps[0].domain_reward
    assert second.steps[0].reward == second.steps[0].domain_reward - 5.0


def test_a_cut_episode_keeps_the_context_that_comes_next(make_agent, make_match, tokenizer):
    # Fails when the final context is that of the last decision.
    for context in (None, Transcript()):
        agent = make_agent(lambda _text, _key: "<action> down </action>", context=context)
        (cut,) = play([make_match(max_steps=2)], {0: agent})
        (longer,) = play([make_match(max_steps=3)], {0: agent})
        assert cut.final_context is not None
        assert cut.final_context.tolist() == longer.steps[2].decision.context.tolist()
        assert longer.terminated
        assert longer.final_context is None


def test_without_temperature_a_group_plays_one_episode(tokenizer, model, make_match):
    # Fails when members of a group that shares its chance see different ice.
    from lapwing.generation.transformers import Transformers
    from lapwing.policies.agent import Agent
    from lapwing.policies.contexts import StateOnly
    from lapwing.policies.parsers import Bare
    from lapwing.policies.renderers import Grid

    agent = Agent(
        renderer=Grid(),
        context=StateOnly(),
        parser=Bare(),
        tokenizer=tokenizer,
        generator=Transformers(model, tokenizer, max_tokens=2, temperature=1e-6),
    )
    episodes = play(group(make_match, game=SLIPPERY, max_steps=10), {0: agent}, invalid=InvalidRule())
    told = [[(step.view, step.decision.text) for step in episode.steps] for episode in episodes]
    assert all(one == told[0] for one in told)


def test_an_optimal_and_a_random_player_share_a_call(make_match):
    solved, random = (play([make_match(max_steps=8)], {0: policy})[0] for policy in (Optimal(), LegalRandom()))
    assert solved.success
    assert len(solved.steps) == 6
    assert solved.episode_return == 1.0 >= random.episode_return


# ---------------------------------------------------------------------------------------------------------------------
# Games with tools. "hm" can be read as neither a call nor an answer.

SEARCH = SearchQa(entities=60, relations=2, values=4, max_turns=1)


@pytest.fixture(scope="module")
def make_searcher():
    """An agent that searches and answers with given replies, one for each step of the match."""
    from lapwing.generation.scripted import Scripted as ScriptedGenerator
    from lapwing.models.tiny import tiny_tokenizer
    from lapwing.policies.agent import Agent
    from lapwing.policies.renderers import ToolDialogue
    from lapwing.policies.tool_parser import ToolUse

    def make(replies, **settings):
        renderer = ToolDialogue(errors="bare")
        parser = ToolUse(**{"style": "words", "reasoning_tag": "", **settings})
        view = SEARCH.view(SEARCH.initial(rng.generator("words")), 0)
        words = tiny_tokenizer(renderer.words(view) | parser.words(()) | SEARCH.words() | {"hm"})
        return Agent(
            renderer=renderer,
            context=Transcript(),
            parser=parser,
            tokenizer=words,
            generator=ScriptedGenerator(scripted(replies), words),
        )

    return make


def gold(match):
    """A right call and a right answer of a match, as replies."""
    state = initial_state(match)
    called = SEARCH.heuristic(state, 0)
    return f"<tool> search {json.loads(called.arguments)} </tool>", f"<answer> {state.task.answers[0]} </answer>"


def test_what_cannot_be_read_uses_up_a_turn_and_gets_an_error(make_searcher, make_match):
    # Fails when a default action is played in its place, or when it ends the episode.
    match = make_match(game=SEARCH, max_steps=2)
    _, answer = gold(match)
    agent = make_searcher(["hm", answer], format_weight=0.0, tags_weight=0.0)
    (episode,) = play([match], {0: agent}, invalid=InvalidRule(penalty=0.5, default_action="answer x"))
    bad, good = episode.steps
    reason = "neither a <tool> nor an <answer> with its closing tag"
    assert bad.action == Malformed(reason)
    assert (bad.decision.action, bad.decision.valid, bad.decision.reason) == (None, False, reason)
    assert (bad.action_key, bad.reward, bad.domain_reward) == (0, -0.5, 0.0)
    (turn,) = good.view.turns
    assert (turn.action, turn.result) == (Malformed(reason), ToolResult("error", reason))
    assert (episode.success, episode.terminated, episode.outcome) == (True, True, 1.5)


@pytest.mark.parametrize("rule", ["default", "random_legal"])
def test_every_rule_that_goes_on_plays_what_the_game_says(make_searcher, make_match, rule):
    agent = make_searcher(["hm"])
    (episode,) = play([make_match(game=SEARCH, max_steps=2)], {0: agent}, invalid=InvalidRule(rule=rule))
    assert [type(step.action) for step in episode.steps] == [Malformed, Malformed]
    assert (episode.success, episode.terminated, episode.outcome) == (False, True, 0.0)


def test_a_retry_comes_before_the_error(make_searcher, make_match):
    match = make_match(game=SEARCH, max_steps=2)
    call, answer = gold(match)
    (saved,) = play([match], {0: make_searcher(["hm", call, answer])}, invalid=InvalidRule(rule="retry"))
    assert [type(step.action) for step in saved.steps] == [type(None), ToolCall, Answer]
    (spent,) = play([match], {0: make_searcher(["hm", "hm", answer])}, invalid=InvalidRule(rule="retry"))
    assert [type(step.action) for step in spent.steps] == [type(None), Malformed, Answer]


def test_the_form_is_paid_once_at_the_end_and_never_as_domain_reward(make_searcher, make_match):
    # Fails when it is paid at every step, to the wrong one, or counts as the game's own reward.
    match = make_match(game=SEARCH, max_steps=2)
    call, answer = gold(match)
    (episode,) = play([match], {0: make_searcher([call, answer], format_weight=0.25, tags_weight=2.0)})
    first, last = episode.steps
    #   The turns pay 0.2 + 0.5, the outcome is 0.5 + 1.0, and the form is perfect: 0.25 + 2.
    assert (first.reward, first.domain_reward) == (pytest.approx(0.7), pytest.approx(0.7))
    assert (last.reward, last.domain_reward) == (pytest.approx(2.25), 0.0)
    assert (last.parts["format"], last.parts["tags"]) == (1.0, 1.0)
    assert not {"format", "tags"} & set(first.parts)
    assert episode.outcome == 1.5
    assert episode.domain_return == pytest.approx(0.7 + 1.5)
    assert episode.episode_return == pytest.approx(0.7 + 1.5 + 2.25)


def test_a_perfect_episode_earns_what_was_published(make_searcher, make_match):
    match = make_match(game=SEARCH, max_steps=2)
    (episode,) = play([match], {0: make_searcher(gold(match))})
    assert episode.steps[0].reward == pytest.approx(0.7)
    assert episode.outcome + episode.steps[1].reward == pytest.approx(1.9)


def test_the_form_is_a_mean_over_all_replies_retries_and_unreadable_ones_too(make_searcher, make_match):
    match = make_match(game=SEARCH, max_steps=2)
    call, answer = gold(match)
    #   Without reasoning: "hm" has the format 0.2 and no tags; the other two are perfect.
    agent = make_searcher(["hm", call, answer], format_weight=1.0, tags_weight=10.0)
    (episode,) = play([match], {0: agent}, invalid=InvalidRule(rule="retry", penalty=0.125))
    last = episode.steps[-1]
    assert (last.parts["format"], last.parts["tags"]) == (pytest.approx(2.2 / 3), pytest.approx(2 / 3))
    assert last.reward == pytest.approx(2.2 / 3 + 20 / 3)
    assert episode.steps[0].reward == -0.125


@pytest.mark.parametrize(
    ("settings", "replies"),
    [({"max_steps": 1}, ["hm"]), ({"max_steps": 2}, ["hm"])],
    ids=["cut", "forfeited"],
)
def test_the_form_counts_however_an_episode_ends(make_searcher, make_match, settings, replies):
    rule = "default" if settings["max_steps"] == 1 else "forfeit"
    agent = make_searcher(replies, format_weight=1.0)
    (episode,) = play([make_match(game=SEARCH, **settings)], {0: agent}, invalid=InvalidRule(rule=rule))
    (step,) = episode.steps
    assert (step.reward, step.domain_reward) == (pytest.approx(0.2), 0.0)
    assert step.parts["format"] == pytest.approx(0.2)


def test_weights_of_nothing_are_logged_and_pay_nothing(make_searcher, make_match):
    match = make_match(game=SEARCH, max_steps=2)
    (episode,) = play([match], {0: make_searcher(gold(match), format_weight=0.0, tags_weight=0.0)})
    assert episode.steps[-1].reward == 0.0
    assert episode.steps[-1].parts["format"] == 1.0


def test_policies_without_words_have_no_form(make_match, make_agent):
    (episode,) = play([make_match(game=SEARCH, max_steps=2)], {0: Heuristic()})
    assert episode.steps[-1].reward == 0.0
    assert not {"format", "tags"} & set(episode.steps[-1].parts)
    (lake,) = play([make_match(max_steps=1)], {0: make_agent(lambda _text, _key: "hm")})
    assert lake.steps[-1].parts == {}


def test_a_batch_says_what_was_called_and_answered(make_searcher, make_match):
    matches = [make_match(game=SEARCH, group=number, max_steps=2) for number in range(3)]
    call, answer = gold(matches[0])
    (one,) = play(matches[:1], {0: make_searcher([call, answer])})
    (two,) = play(matches[:1], {0: make_searcher([answer])})
    (three,) = play(matches[:1], {0: make_searcher(["hm", "hm"])})
    batch = EpisodeBatch.pack([one, two, three])
    assert batch.column("tool_calls").tolist() == [1.0, 0.0, 0.0]
    assert batch.column("tool_cost").tolist() == [0.0, 0.0, 0.0]
    key = batch.column("answer_key")
    assert key[0] == key[1] != 0
    assert key[2] == 0
    assert batch.column("part:format").tolist() == pytest.approx([0.0, 1.0, 1.0, 0.0, 0.2])


def test_a_batch_of_forfeits_has_the_columns_of_its_game_all_the_same(make_searcher, make_match):
    # Fails when the columns depend on what was played: shaping by tool calls would find none.
    match = make_match(game=SEARCH, max_steps=2)
    (episode,) = play([match], {0: make_searcher(["hm"])}, invalid=InvalidRule(rule="forfeit"))
    batch = EpisodeBatch.pack([episode])
    assert batch.column("tool_calls").tolist() == [0.0]
    assert batch.column("answer_key").tolist() == [0]
