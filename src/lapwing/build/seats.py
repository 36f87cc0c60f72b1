"""Seats that play with the weights of the run, and whom the run is measured against instead."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lapwing.build.schema import Checker, Part, constant, construct
from lapwing.build.stage_plan import StagePlan
from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.policies.baselines import Random
from lapwing.policies.past_versions import PastSettings, PastVersions

_MAIN = "main"
SELF, PAST = "self", "past"
_RANDOM = Part("random", Random, {})


def self_play() -> None:
    """The learning policy plays this seat too, and learns from it; there is nothing to set."""


def learnt_seats() -> dict[str, Callable[..., Any]]:
    """What an entry of `opponents` may name besides policies that are given."""
    return {SELF: self_play, PAST: PastSettings}


def is_learnt(part: Part) -> bool:
    """Whether a seat plays with weights of the run."""
    return part.name in learnt_seats()


def learners(stage: StagePlan) -> tuple[int, ...]:
    """The seats whose episodes the learning policy learns from.

    In a warm start, whose replies are a teacher's, these are all seats that play with weights of the run.
    """
    own = {SELF} if stage.name == _MAIN else set(learnt_seats())
    return (0, *sorted(seat for seat, part in stage.opponents.items() if part.name in own))


def against_fixed(stage: StagePlan) -> StagePlan:
    """The same stage against policies that do not learn, so that what is measured means the same throughout a run.

    These are `evaluation.opponents`; a seat that it does not name has its opponent of training, or, where that plays
    with weights of the run, a random one.
    """
    usual = {seat: _RANDOM if is_learnt(part) else part for seat, part in stage.opponents.items()}
    return dataclasses.replace(stage, opponents={**usual, **stage.evaluation_opponents})


def measured_against(table: Mapping[str, Any]) -> dict[str, Any]:
    """The opponents of the evaluation, by seat, from a stage of a resolved recipe."""
    usual = {
        seat: {"name": _RANDOM.name} if opponent.get("name") in learnt_seats() else opponent
        for seat, opponent in table.get("opponents", {}).items()
    }
    return {**usual, **table.get("evaluation", {}).get("opponents", {})}


def make_opponents(stage: StagePlan) -> dict[int, Policy]:
    """The policies of the other seats.

    Raises:
      UserError: one of them plays with weights of the run.
    """
    for seat, part in stage.opponents.items():
        if is_learnt(part):
            raise UserError(
                f"Seat {seat} is played with weights of the run (opponents.{seat}.name = '{part.name}'), which change; "
                "this takes opponents that do not, such as 'random'."
            )
    return {seat: part.make(**part.settings) for seat, part in stage.opponents.items()}


def seated(stage: StagePlan, agent: Any, past: PastVersions | None) -> dict[int, Policy]:
    """The policies of the other seats in training.

    Args:
      stage: its settings.
      agent: who learns.
      past: its frozen versions, where they play.
    """
    own = learners(stage)
    found: dict[int, Policy] = {}
    for seat, part in stage.opponents.items():
        if seat in own:
            found[seat] = agent
        elif part.name == PAST:
            assert past is not None
            found[seat] = past
        else:
            found[seat] = part.make(**part.settings)
    return found


def pool_settings(stage: StagePlan) -> PastSettings | None:
    """The settings of the pool of past versions, where seats play with one."""
    own = learners(stage)
    for seat, part in stage.opponents.items():
        if part.name == PAST and seat not in own:
            return PastSettings(**part.settings)
    return None


def check_seats(checker: Checker, where: str, stage: StagePlan, num_players: int) -> None:
    """See whether every other seat has a policy, and whether those that learn can do so here."""
    seats = set(range(1, num_players))
    if set(stage.opponents) != seats:
        expected = ", ".join(map(str, sorted(seats))) or "none"
        checker.errors.append(
            f"{where}.opponents: the game needs opponents for these seats: {expected}; found {sorted(stage.opponents)}."
        )
    if strange := set(stage.evaluation_opponents) - seats:
        checker.errors.append(f"{where}.evaluation.opponents: the game has no other seat {min(strange)}.")
    for seat, part in stage.opponents.items():
        if part.name == PAST:
            construct(checker, f"{where}.opponents.{seat}", part.make, part.settings)
    checker.errors.extend(f"{where}: {reason}" for reason in _mismatches(stage))


def _mismatches(stage: StagePlan) -> Iterator[str]:
    """Why seats cannot play with weights of the run here."""
    if len(learners(stage)) > 1 and "branch_value" in constant(stage.sampler, "PRODUCES", ()):
        yield (
            f"sampler.name = '{stage.sampler.name}' measures the states of one seat that learns, and here several do; "
            "choose 'grouped'."
        )
    pools = [part for part in stage.opponents.values() if part.name == PAST]
    if any(part.settings != pools[0].settings for part in pools):
        yield "opponents: all seats of past versions share one pool; give each the same every, size and latest."
