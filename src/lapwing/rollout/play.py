"""Play matches in lockstep: every live match asks, every policy answers its asks together, every game steps."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapwing.core import rng
from lapwing.core.errors import GameError
from lapwing.core.protocols import Policy
from lapwing.core.types import Action, Ask, Decision, Episode, Guidance, Match, Step, Transition
from lapwing.policies.agent import InvalidRule
from lapwing.rollout.arena import Arena, Fault, Here, Moved, Position, initial_state, key_of_action
from lapwing.rollout.watch import Watch

__all__ = ["initial_state", "play"]

_NO_RULE = InvalidRule()


class _Seat:
    """One player's side of a live match."""

    __slots__ = (
        "chosen",
        "forfeited",
        "guidance",
        "invalid",
        "key",
        "memory",
        "outcome",
        "retries",
        "steps",
        "success",
    )

    def __init__(self, key: int, guidance: Guidance | None, invalid: InvalidRule) -> None:
        self.key = key
        self.guidance = guidance
        self.invalid = invalid
        self.memory: Any = None
        self.steps: list[Step] = []
        self.retries = 0
        self.chosen: Action | None = None
        self.forfeited = False
        self.outcome = 0.0
        self.success: bool | None = None


class _Live:
    """A match that is being played."""

    __slots__ = (
        "is_over",
        "match",
        "number",
        "opponent_version",
        "policies",
        "position",
        "seats",
        "steps",
        "terminated",
    )

    def __init__(self, number: int, match: Match, position: Position, table: "_Table") -> None:
        self.number = number
        self.match = match
        self.position = position
        self.policies, self.opponent_version = table.seated(match)
        learners = table.learners
        address = (match.seed, match.split, match.iteration, match.group)
        # To a learner its opponents are part of the chance that a group may share.
        others = "shared" if match.share_chance else match.member
        self.seats = [
            _Seat(
                rng.fold(0, "reply", *address, match.member if seat in learners else others, seat),
                match.guidance if seat in learners else None,
                # Frozen versions of a learner reply under its rule, other opponents under the usual one.
                table.invalid if seat in learners else getattr(table.policies.get(seat), "invalid", _NO_RULE),
            )
            for seat in range(match.game.num_players)
        ]
        self.steps = 0
        self.terminated = False
        self.is_over = False


@dataclass(frozen=True)
class _Table:
    """Who sits where in all matches, who learns, and under which rule."""

    policies: Mapping[int, Policy]
    learners: Sequence[int]
    invalid: InvalidRule

    def seated(self, match: Match) -> tuple[Mapping[int, Policy], int | None]:
        """The policy of each seat in a match, and the version that was drawn, where one is."""
        pools = {seat: pool for seat, policy in self.policies.items() if (pool := getattr(policy, "drawn", None))}
        if not pools:
            return self.policies, None
        found = {seat: pool(match) for seat, pool in pools.items()}
        version = next(iter(found.values())).iteration
        return {**self.policies, **{seat: drawn.policy for seat, drawn in found.items()}}, version


# Who is asked: the match, the player, its seat, and the legal actions.
_Waiting = tuple[_Live, int, _Seat, Sequence[Action] | None]
# From so many keys on, arrays are faster.
_MANY = 24


def play(
    matches: Sequence[Match],
    policies: Mapping[int, Policy],
    *,
    learners: Sequence[int] = (0,),
    invalid: InvalidRule = _NO_RULE,
    deadline_seconds: float | None = None,
    arena: Arena | None = None,
    watch: Watch | None = None,
) -> list[Episode]:
    """Play matches to their end and return the episodes of the learning seats.

    A match ends when its game terminates, when a player forfeits, or after `max_steps` steps of the game
    (truncated). The reward between two decisions of a player goes to the earlier one. A match whose game fails, also
    when it is played once more, is left out of the result; the others are what they would have been without it.

    Args:
      matches: what to play.
      policies: the policy of each seat; one with `drawn(match)` draws who plays in each match.
      learners: the seats whose episodes are wanted.
      invalid: what happens to invalid replies of the learning seats.
      deadline_seconds: matches that are still running after this time are given up and left out of the result.
      arena: where the games are stepped; None for this process.
      watch: is told of matches that fail; without one the first of them is raised.

    Returns:
      Episodes in the order of the matches, for each match in the order of `learners`.

    Raises:
      GameError: a game failed, and nobody watches.
    """
    started = time.monotonic()
    arena = Here() if arena is None else arena
    told = Watch() if watch is None else watch
    told.begin(len(matches), arena)
    everything: list[_Live] = []
    table = _Table(policies, learners, invalid)
    for number, position in enumerate(arena.begin(matches)):
        if isinstance(position, Fault):
            _fail(watch, matches[number], position)
        else:
            everything.append(_Live(number, matches[number], position, table))
    live = everything
    while live:
        told.safe_point()
        if deadline_seconds is not None and time.monotonic() - started > deadline_seconds:
            break
        told.enter("replies", len(live))
        _decide(live)
        told.enter("games")
        _advance(live, arena, watch)
        live = [one for one in live if not one.is_over]
    told.end()
    unfinished = {one.number for one in live}
    return [
        _episode(one, seat)
        for one in everything
        if one.number not in unfinished and one.position is not _FAILED
        for seat in learners
        if one.seats[seat].steps
    ]


_FAILED = Position(None, (), (), (), ())


def _fail(watch: Watch | None, match: Match, fault: Fault) -> None:
    if watch is None:
        raise GameError(fault.text) from fault.error
    watch.fail(match, fault)


def _decide(live: list[_Live]) -> None:
    """Ask every player who has not chosen yet, until all have, or someone forfeits."""
    waiting: dict[int, tuple[Policy, list[_Waiting]]] = {}
    for one in live:
        position, seats = one.position, one.seats
        for player, actions in zip(position.players, position.legal, strict=True):
            seat = seats[player]
            if seat.chosen is not None:
                continue
            policy = one.policies[player]
            found = waiting.get(id(policy))
            if found is None:
                found = waiting[id(policy)] = (policy, [])
            found[1].append((one, player, seat, actions))
    for policy, waits in waiting.values():
        asks = _asks(waits)
        answers = policy.act_many(asks)
        for (one, player, seat, _), ask, (decision, memory) in zip(waits, asks, answers, strict=True):
            _accept(seat, ask, one.position.keys[player], decision, memory)
            if seat.forfeited:
                one.terminated = one.is_over = True


def _asks(waits: Sequence[_Waiting]) -> list[Ask]:
    # Positional, because every step of every match pays for names.
    return [
        Ask(
            one.position.views[player],
            actions,
            seat.memory,
            key,
            one.match.game,
            one.position.state,
            player,
            one.match.max_steps - one.steps,
            seat.guidance,
        )
        for (one, player, seat, actions), key in zip(waits, _keys(waits), strict=True)
    ]


def _keys(waits: Sequence[_Waiting]) -> list[int]:
    """The keys of the decisions."""
    seats = [seat for _, _, seat, _ in waits]
    if len(seats) < _MANY:
        return [rng.fold(seat.key, len(seat.steps)) for seat in seats]
    key = np.array([seat.key for seat in seats], dtype=np.uint64)
    return rng.fold_many(key, np.array([len(seat.steps) for seat in seats])).tolist()


def _accept(seat: _Seat, ask: Ask, view_key: int, decision: Decision, memory: Any) -> None:
    action, invalid = decision.action, seat.invalid
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
    action_key = key_of_action(decision.action) if decision.valid else 0
    # A retry stands where it stood: the key of the view after it is that of the view before it. A step of the game
    # overwrites this.
    after = view_key
    seat.steps.append(
        Step(decision, action, ask.view, view_key, action_key, after, -penalty, 0.0, {}, ask.state, ask.steps_left)
    )
    seat.memory = memory
    seat.chosen = action


def _advance(live: Sequence[_Live], arena: Arena, watch: Watch | None) -> None:
    """Step the games of all matches whose players have chosen."""
    ready: list[_Live] = []
    moves: list[tuple[int, dict[int, Action]]] = []
    for one in live:
        seats = one.seats
        if one.is_over:  # somebody forfeited
            for seat in seats:
                seat.success = False if seat.forfeited else None
            continue
        actions = {}
        for player in one.position.players:
            chosen = seats[player].chosen
            if chosen is None:
                break
            actions[player] = chosen
        else:
            ready.append(one)
            moves.append((one.number, actions))
    for one, moved in zip(ready, arena.advance(moves), strict=True):
        if isinstance(moved, Fault):
            one.is_over, one.position = True, _FAILED
            _fail(watch, one.match, moved)
        else:
            _take(one, moved)


def _take(one: _Live, moved: Moved) -> None:
    """Note what a step of the game did."""
    transition, position = moved
    seats = one.seats
    for player in one.position.players:
        seat = seats[player]
        seat.chosen = None
        seat.retries = 0
    one.position = position
    one.steps += 1
    one.terminated = transition.terminated
    for number, seat in enumerate(seats):
        if seat.steps:
            _credit(seat, number, transition, position.keys[number])
    one.is_over = one.terminated or one.steps >= one.match.max_steps


def _credit(seat: _Seat, number: int, transition: Transition, view_key: int) -> None:
    step = seat.steps[-1]
    reward = float(transition.reward.get(number, 0.0))
    step.reward += reward
    step.domain_reward += reward
    step.next_view_key = view_key
    if transition.parts:
        added = {name: step.parts.get(name, 0.0) + value for name, value in transition.parts.items()}
        step.parts = {**step.parts, **added}
    if transition.success is not None:
        seat.success = transition.success.get(number)
    if transition.outcome is not None:
        seat.outcome += float(transition.outcome.get(number, 0.0))


def _episode(one: _Live, number: int) -> Episode:
    seat, policy = one.seats[number], one.policies[number]
    final_context = None
    final_view = one.position.views[number]
    prompt = getattr(policy, "prompt", None)
    is_out = getattr(one.match.game, "is_out", None)
    # Who has left a match that others play on will never decide again: nothing of its future was cut off.
    terminated = one.terminated or (is_out is not None and is_out(final_view))
    if not terminated and prompt is not None:
        guidance = seat.guidance
        kept = {"hint": guidance.hint} if guidance is not None and guidance.hint and not guidance.strip else {}
        final_context = prompt(final_view, seat.memory, **kept).token
    _reward_form(seat, policy)
    success = seat.success
    was_forfeited = any(other.forfeited for other in one.seats if other is not seat)
    if success is None and getattr(one.match.game, "has_success", False) and not was_forfeited:
        success = False  # a game that can be won was not
    return Episode(
        match=one.match,
        player=number,
        steps=seat.steps,
        terminated=terminated,
        truncated=not terminated,
        outcome=seat.outcome,
        success=success,
        final_context=final_context,
        final_view=final_view,
        policy_version=policy.version,
        opponent_version=one.opponent_version,
    )


def _reward_form(seat: _Seat, policy: Policy) -> None:
    """Add what the form of the replies is worth to the training reward of the last step."""
    judge = getattr(policy, "form_rewards", None)
    scores = {} if judge is None else judge([step.decision.text for step in seat.steps])
    if scores:
        last = seat.steps[-1]
        last.reward += sum(score * weight for score, weight in scores.values())
        last.parts = {**last.parts, **{name: score for name, (score, _) in scores.items()}}
