"""Seats that play with the weights of the run, and whom the run is measured against instead."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lapwing.build.schema import Checker, Part, constant, construct
from lapwing.build.stage_plan import StagePlan
from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.policies.baselines import Random
from lapwing.policies.past_versions import PastSettings, PastVersions

_MAIN = "main"
SELF, PAST, SEPARATE = "self", "past", "separate"
_RANDOM = Part("random", Random, {})


def self_play() -> None:
    """The learning policy plays this seat too, and learns from it; there is nothing to set."""


@dataclasses.dataclass(frozen=True)
class SeparateSettings:
    """A model of its own plays the seat, and learns from it beside the first.

    Attributes:
      weights: seats with the same name here share one set of weights; one without a name has its own.
    """

    weights: str | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and not self.weights.strip():
            raise UserError("weights is a name for the weights that several seats share; leave it out for one's own.")


def learnt_seats() -> dict[str, Callable[..., Any]]:
    """What an entry of `opponents` may name besides policies that are given."""
    return {SELF: self_play, PAST: PastSettings, SEPARATE: SeparateSettings}


def is_learnt(part: Part) -> bool:
    """Whether a seat plays with weights of the run."""
    return part.name in learnt_seats()


def learners(stage: StagePlan) -> tuple[int, ...]:
    """The seats whose episodes are learnt from.

    In a warm start, whose replies are a teacher's, these are all seats that play with weights of the run.
    """
    own = {SELF, SEPARATE} if stage.name == _MAIN else set(learnt_seats())
    return (0, *sorted(seat for seat, part in stage.opponents.items() if part.name in own))


def weight_sets(stage: StagePlan) -> tuple[tuple[int, ...], ...]:
    """The seats of each set of weights that learns, in the order of their lowest seats; the first set has seat 0."""
    sets: dict[str | int, list[int]] = {0: [0]}
    for seat in learners(stage)[1:]:
        part = stage.opponents[seat]
        shared = part.settings.get("weights") if part.name == SEPARATE else 0
        sets.setdefault(seat if shared is None else shared, []).append(seat)
    return tuple(tuple(seats) for seats in sets.values())


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


def seated(stage: StagePlan, agents: Sequence[Any], past: PastVersions | None) -> dict[int, Policy]:
    """The policies of the other seats in training.

    Args:
      stage: its settings.
      agents: who learn, one for each of the `weight_sets`.
      past: frozen versions of the first, where they play.
    """
    own = {seat: agent for seats, agent in zip(weight_sets(stage), agents, strict=True) for seat in seats}
    found: dict[int, Policy] = {}
    for seat, part in stage.opponents.items():
        if seat in own:
            found[seat] = own[seat]
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
        if part.name in (PAST, SEPARATE):
            construct(checker, f"{where}.opponents.{seat}", part.make, part.settings)
    checker.errors.extend(f"{where}: {reason}" for reason in _mismatches(stage))


def _mismatches(stage: StagePlan) -> Iterator[str]:
    """Why seats cannot play with weights of the run here."""
    if len(learners(stage)) > 1 and "branch_value" in constant(stage.sampler, "PRODUCES", ()):
        yield (
            f"sampler.name = '{stage.sampler.name}' measures the states of one seat that learns, and here several do; "
            "choose 'grouped'."
        )
    yield from _not_with_separate(stage)
    pools = [part for part in stage.opponents.values() if part.name == PAST]
    if any(part.settings != pools[0].settings for part in pools):
        yield "opponents: all seats of past versions share one pool; give each the same every, size and latest."


def _not_with_separate(stage: StagePlan) -> Iterator[str]:
    """What does not go with seats that have weights of their own."""
    names = {part.name for part in stage.opponents.values()}
    if SEPARATE not in names:
        return
    why = "opponents: seats with weights of their own ('separate') learn in one process from matches that it plays; "
    if stage.collector.name not in ("local", "isolated"):
        yield f"{why}collector.name = '{stage.collector.name}' does not go with them; choose 'local' or 'isolated'."
    if stage.learner is not None:
        yield f"{why}a learner section does not go with them; leave it out, or choose 'self', which goes with it."
    if stage.pairs is not None:
        yield f"{why}pairs are not divided among seats; leave the pairs section out, or choose 'self'."
    if PAST in names:
        yield f"{why}'past' plays versions of one set of weights; choose one of the two for all seats."


def check_same_sets(stages: Sequence[StagePlan]) -> None:
    """See that every set of weights that an earlier stage trains is one of the main stage.

    Raises:
      UserError: one is not.
    """
    known = weight_sets(stages[-1])[1:]
    for stage in stages[:-1]:
        for seats in weight_sets(stage)[1:]:
            if seats not in known:
                raise UserError(
                    f"{stage.name}.opponents: seat {seats[0]} has weights of its own here and not in the same way in "
                    "the stage main; give both stages the same opponents."
                )
