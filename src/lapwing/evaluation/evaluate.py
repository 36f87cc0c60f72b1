"""Measure policies on the same matches."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Decision, Episode, Match
from lapwing.games.game import for_split
from lapwing.stats.regret_curve import regret_curve, regret_growth
from lapwing.stats.summarise import summarise

_MOST_TRANSFERS = 100
_MOST_REPLAY_GROUPS = 64
# The part of the reward that says what a decision cost, in expectation, beside the best one.
_REGRET = "regret"

Play = Callable[[Policy, list[Match]], list[Episode]]


@dataclass(frozen=True)
class EvaluationSettings:
    """How a run is evaluated.

    Attributes:
      episodes: test matches at the end, each from its own start.
      development_episodes: development matches during the run.
      every: iterations between these; 0 evaluates at the end only.
      seed: of the matches; the same for every run, so that runs are compared on the same matches.
      max_steps: step cap; None takes the sampler's.
      transfer: further games for the same weights, each a table of game settings that differ, with an optional
        `max_steps`.
    """

    episodes: int = 500
    development_episodes: int = 200
    every: int = 0
    seed: int = 1_000_003
    max_steps: int | None = None
    transfer: tuple[dict[str, Any], ...] = ()
    replay_groups: int = 4

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.development_episodes < 1:
            raise UserError("evaluation.episodes and evaluation.development_episodes are at least 1.")
        if self.every < 0:
            raise UserError(f"evaluation.every is a number of iterations of at least 0, not {self.every}.")
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"evaluation.max_steps is at least 1, not {self.max_steps}.")
        if not 0 <= self.replay_groups <= _MOST_REPLAY_GROUPS:
            raise UserError(
                f"evaluation.replay_groups is a number from 0 to {_MOST_REPLAY_GROUPS}, not {self.replay_groups}."
            )
        if len(self.transfer) > _MOST_TRANSFERS:
            raise UserError(f"evaluation.transfer names at most {_MOST_TRANSFERS} games, not {len(self.transfer)}.")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"evaluation.seed is a whole number in [0, 2^63), not {self.seed}.")


def evaluation_matches(game: Game, *, split: str, seed: int, episodes: int, max_steps: int) -> list[Match]:
    """One match from each of `episodes` starts of a split, with chance of its own."""
    restricted = for_split(game, split)
    return [
        Match(game=restricted, seed=seed, split=split, iteration=0, group=i, member=0, max_steps=max_steps)
        for i in range(episodes)
    ]


def measure(episodes: list[Episode], score_part: str | None = None, *, against_others: bool = False) -> dict[str, Any]:
    """Success, score, return, regret, length, valid replies and tokens per step, with 95 % intervals.

    Args:
      episodes: what one policy played.
      score_part: the named reward part whose sum is the game's score, if it has one.
      against_others: measure `not_lost` too, the share of episodes whose return is at least 0: wins and draws.

    Returns:
      For each measure {"mean", "low", "high"}, or None where the game has no such notion; "parts" holds such an object
      for each named part of the reward, summed over an episode. "tokens_per_step" counts replies and
      "context_tokens_per_step" what was read. "regret" is the summed part of that name; where every step has it,
      "regret_curve" tells how it grew, and "regret_growth" how much like a logarithm and how much like a line.
    """
    success = [episode.success for episode in episodes]
    steps = np.array([len(episode.steps) for episode in episodes], dtype=np.float64)
    valid = np.array([np.mean([s.decision.valid for s in e.steps]) for e in episodes])
    tokens = np.array([np.mean([_num_tokens(s.decision) for s in e.steps]) for e in episodes])
    read = np.array([np.mean([_num_context_tokens(s.decision) for s in e.steps]) for e in episodes])
    returns = np.array([episode.domain_return for episode in episodes])
    parts = _parts(episodes)
    score = None
    if score_part is not None:
        score = np.array([sum(s.parts.get(score_part, 0.0) for s in e.steps) for e in episodes])
    return {
        "success": None if None in success else summarise(np.array(success, dtype=bool)).to_dict(),
        **({"not_lost": summarise(returns >= 0.0).to_dict()} if against_others else {}),
        "score": None if score is None else summarise(score).to_dict(),
        "return": summarise(returns).to_dict(),
        "length": summarise(steps).to_dict(),
        "valid": summarise(valid).to_dict(),
        "tokens_per_step": summarise(tokens).to_dict(),
        "context_tokens_per_step": summarise(read).to_dict(),
        "regret": parts.get(_REGRET),
        **_growing_regret(episodes),
        "parts": parts,
    }


def _growing_regret(episodes: list[Episode]) -> dict[str, Any]:
    """The regret after some of the steps, and how it grows; None where not every step has a regret of its own."""
    steps = [[step.parts.get(_REGRET) for step in episode.steps] for episode in episodes]
    regret = [[float(part) for part in row if part is not None] for row in steps]
    if [len(row) for row in regret] != [len(row) for row in steps]:
        return {"regret_curve": None, "regret_growth": None}
    curve = regret_curve(regret)
    points = [{"step": step, **found.to_dict()} for step, found in curve]
    if len(curve) < 2:
        return {"regret_curve": points, "regret_growth": None}
    growth = regret_growth(np.array([step for step, _ in curve]), np.array([found.mean for _, found in curve]))
    return {"regret_curve": points, "regret_growth": growth._asdict()}


def _num_tokens(decision: Decision) -> int:
    return len(decision.token) if decision.num_tokens is None else decision.num_tokens


def _num_context_tokens(decision: Decision) -> int:
    return len(decision.context) if decision.num_context_tokens is None else decision.num_context_tokens


def _parts(episodes: list[Episode]) -> dict[str, Any]:
    """Sum over an episode of each named part of the reward, where a game has such parts."""
    sums = [Counter[str]() for _ in episodes]
    for total, episode in zip(sums, episodes, strict=True):
        for step in episode.steps:
            total.update(step.parts)
    names = sorted({name for total in sums for name in total})
    return {name: summarise(np.array([float(total[name]) for total in sums])).to_dict() for name in names}


def evaluate(
    policies: Mapping[str, Policy],
    game: Game,
    *,
    name: str,
    play: Play,
    split: str,
    seed: int,
    episodes: int,
    max_steps: int,
) -> dict[str, Any]:
    """Play the same matches with every policy.

    Args:
      policies: by the name that the result gives them.
      game: what is played.
      name: of the game, as recipes write it.
      play: plays matches with a policy in seat 0.
      split: of the starts.
      seed, episodes, max_steps: of the matches.

    Returns:
      The object of `lapwing eval --json`.
    """
    matches = evaluation_matches(game, split=split, seed=seed, episodes=episodes, max_steps=max_steps)
    score_part = getattr(game, "score_part", None)
    return {
        "game": name,
        "episodes": episodes,
        "seed": seed,
        "policies": {
            key: measure(play(policy, matches), score_part, against_others=game.num_players > 1)
            for key, policy in policies.items()
        },
    }
