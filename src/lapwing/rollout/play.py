"""Play matches in lockstep: every live match asks, every policy answers its asks together, every game steps."""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from lapwing.core import rng
from lapwing.core.protocols import Game, Policy
from lapwing.core.storage import key_of
from lapwing.core.types import Action, Ask, Decision, Episode, Match, State, Step, Transition
from lapwing.games.game import drawn, has_exact_outcomes, outcomes
from lapwing.policies.agent import InvalidRule

_NO_RULE = InvalidRule()


def initial_state(match: Match) -> State:
    """The state that a match begins in; members of a group begin in the same one, whatever they share later."""
    if match.start_state is not None:
        return match.start_state
    address = (match.seed, match.split, *match.start_address)
    if match.game.restorable:
        return _shared_start(match.game, address)
    # The state may be a handle on something that only one match can use.
    return _start(match.game, address)


def _start(game: Game, address: tuple[int, str, int, int]) -> State:
    return game.initial(rng.generator("chance", *address, "initial"))


_shared_start = lru_cache(maxsize=4096)(_start)


class _Seat:
    """One player's side of a live match."""

    __slots__ = ("chosen", "forfeited", "key", "memory", "outcome", "retries", "steps", "success")

    def __init__(self, key: int) -> None:
        self.key = key
        self.memory: Any = None
        self.steps: list[Step] = []
        self.retries = 0
        self.chosen: Action | None = None
        self.forfeited = False
        self.outcome = 0.0
        self.success: bool | None = None


class _Live:
    """A match that is being played."""

    __slots__ = ("chance", "enumerable", "game", "match", "seats", "state", "steps", "terminated")

    def __init__(self, match: Match, learners: Sequence[int]) -> None:
        self.match = match
        self.game = match.game
        self.enumerable = has_exact_outcomes(match.game)
        address = (match.seed, match.split, match.iteration, match.group)
        self.state = initial_state(match)
        # To a learner its opponents are part of the chance that a group may share.
        others = "shared" if match.share_chance else match.member
        self.chance = ("chance", *address, others)
        self.seats = [
            _Seat(rng.fold(0, "reply", *address, match.member if seat in learners else others, seat))
            for seat in range(match.game.num_players)
        ]
        self.steps = 0
        self.terminated = False


def play(
    matches: Sequence[Match],
    policies: Mapping[int, Policy],
    *,
    learners: Sequence[int] = (0,),
    invalid: InvalidRule = _NO_RULE,
    deadline_seconds: float | None = None,
) -> list[Episode]:
    """Play matches to their end and return the episodes of the learning seats.

    A match ends when its game terminates, when a player forfeits, or after `max_steps` steps of the game
    (truncated). The reward between two decisions of a player goes to the earlier one.

    Args:
      matches: what to play.
      policies: the policy of each seat.
      learners: the seats whose episodes are wanted.
      invalid: what happens to invalid replies of the learning seats.
      deadline_seconds: matches that are still running after this time are given up and left out of the result.

    Returns:
      Episodes in the order of the matches, for each match in the order of `learners`.
    """
    started = time.monotonic()
    everything = [_Live(match, learners) for match in matches]
    live = everything
    while live:
        if deadline_seconds is not None and time.monotonic() - started > deadline_seconds:
            break
        _decide(live, policies, learners, invalid)
        live = [one for one in live if not _advance(one)]
    unfinished = {id(one) for one in live}
    return [
        _episode(one, seat, policies[seat])
        for one in everything
        if id(one) not in unfinished
        for seat in learners
        if one.seats[seat].steps
    ]


def _decide(live: list[_Live], policies: Mapping[int, Policy], learners: Sequence[int], invalid: InvalidRule) -> None:
    """Ask every player who has not chosen yet, until all have, or someone forfeits."""
    waiting: dict[int, tuple[Policy, list[tuple[_Live, int, Ask]]]] = {}
    for one in live:
        game, state = one.game, one.state
        for player in game.players(state):
            seat = one.seats[player]
            if seat.chosen is not None:
                continue
            ask = Ask(
                view=game.view(state, player),
                legal=game.legal(state, player),
                memory=seat.memory,
                key=rng.fold(seat.key, len(seat.steps)),
                game=game,
                state=state,
                player=player,
                steps_left=one.match.max_steps - one.steps,
            )
            policy = policies[player]
            waiting.setdefault(id(policy), (policy, []))[1].append((one, player, ask))
    for policy, asked in waiting.values():
        answers = policy.act_many([ask for _, _, ask in asked])
        for (one, player, ask), (decision, memory) in zip(asked, answers, strict=True):
            _accept(one.seats[player], ask, decision, memory, invalid if player in learners else _NO_RULE)


def _accept(seat: _Seat, ask: Ask, decision: Decision, memory: Any, invalid: InvalidRule) -> None:
    action = decision.action
    penalty = 0.0
    if seat.retries:
        # The step before was an invalid reply that nobody remembers: this context is a fresh one.
        decision.extends = 0
    if not decision.valid:
        penalty = invalid.penalty
        if invalid.rule == "forfeit":
            seat.forfeited = True
        elif invalid.rule == "retry" and seat.retries < invalid.retries:
            seat.retries += 1
            memory = ask.memory
        else:
            malformed = getattr(ask.game, "malformed", None)
            unreadable = None if malformed is None else malformed(decision.reason)
            action = invalid.action(ask.legal, ask.key, unreadable=unreadable)
    view_key = key_of_view(ask.view)
    action_key = key_of_action(decision.action) if decision.valid else 0
    seat.steps.append(
        Step(
            decision=decision,
            action=action,
            view=ask.view,
            view_key=view_key,
            action_key=action_key,
            # A retry stands where it stood; a step of the game overwrites this.
            next_view_key=view_key,
            reward=-penalty,
            domain_reward=0.0,
            parts={},
            state=ask.state,
            steps_left=ask.steps_left,
        )
    )
    seat.memory = memory
    seat.chosen = action


def _advance(one: _Live) -> bool:
    """Step the game once all players have chosen; True when the match is over."""
    if any(seat.forfeited for seat in one.seats):
        one.terminated = True
        for seat in one.seats:
            seat.success = False if seat.forfeited else None
        return True
    players = one.game.players(one.state)
    if any(one.seats[player].chosen is None for player in players):
        return False
    actions = {player: one.seats[player].chosen for player in players}
    transition = _step(one, actions)
    one.state = transition.state
    one.steps += 1
    one.terminated = transition.terminated
    for number, seat in enumerate(one.seats):
        _credit(one, seat, number, transition)
    for player in players:
        one.seats[player].chosen = None
        one.seats[player].retries = 0
    return one.terminated or one.steps >= one.match.max_steps


def _step(one: _Live, actions: Mapping[int, Action]) -> Transition:
    if not one.enumerable:
        return one.game.step(one.state, actions, rng.lazy_generator(*one.chance, one.steps))
    # One number decides among the listed outcomes, so that play on a table draws the same ones.
    possible = outcomes(one.game, one.state, actions)
    u = 0.0 if len(possible) == 1 else rng.unit(rng.fold(0, *one.chance, one.steps))
    return drawn(possible, u)


def _credit(one: _Live, seat: _Seat, number: int, transition: Transition) -> None:
    if not seat.steps:
        return
    step = seat.steps[-1]
    reward = float(transition.reward.get(number, 0.0))
    step.reward += reward
    step.domain_reward += reward
    step.next_view_key = key_of_view(one.game.view(transition.state, number))
    if transition.parts:
        added = {name: step.parts.get(name, 0.0) + value for name, value in transition.parts.items()}
        step.parts = {**step.parts, **added}
    if transition.success is not None:
        seat.success = transition.success.get(number)
    if transition.outcome is not None:
        seat.outcome += float(transition.outcome.get(number, 0.0))


def _episode(one: _Live, number: int, policy: Policy) -> Episode:
    seat = one.seats[number]
    final_context = None
    final_view = one.game.view(one.state, number)
    prompt = getattr(policy, "prompt", None)
    if not one.terminated and prompt is not None:
        final_context = prompt(final_view, seat.memory).token
    _reward_form(seat, policy)
    success = seat.success
    was_forfeited = any(other.forfeited for other in one.seats if other is not seat)
    if success is None and getattr(one.game, "has_success", False) and not was_forfeited:
        success = False  # a game that can be won was not
    return Episode(
        match=one.match,
        player=number,
        steps=seat.steps,
        terminated=one.terminated,
        truncated=not one.terminated,
        outcome=seat.outcome,
        success=success,
        final_context=final_context,
        final_view=final_view,
        policy_version=policy.version,
    )


def _reward_form(seat: _Seat, policy: Policy) -> None:
    """Add what the form of the replies is worth to the training reward of the last step."""
    judge = getattr(policy, "form_rewards", None)
    scores = {} if judge is None else judge([step.decision.text for step in seat.steps])
    if scores:
        last = seat.steps[-1]
        last.reward += sum(score * weight for score, weight in scores.values())
        last.parts = {**last.parts, **{name: score for name, (score, _) in scores.items()}}


@lru_cache(maxsize=1 << 17)
def key_of_view(view: Any) -> int:
    """The key of a view, remembered."""
    return key_of(view)


@lru_cache(maxsize=1 << 12)
def key_of_action(action: Any) -> int:
    """The key of an action, remembered."""
    return key_of(action)
