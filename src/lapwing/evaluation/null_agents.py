"""What agents that never look at a game get for it, match by match."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lapwing.core import rng
from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Match
from lapwing.games.game import for_split
from lapwing.policies.baselines import Random
from lapwing.policies.null_agents import NoOp, null_agents
from lapwing.rollout.play import play

# Standard errors by which a mean may lie above the ceiling: the ceiling is a bound on the mean, and a mean is drawn.
_DEVIATIONS = 4.0
# Steps after which a match is cut, for which a game states its ceiling.
MAX_STEPS = 100


class NullReturns(NamedTuple):
    """The return of each match of one agent.

    Attributes:
      agent: "random", "no_op", "echo" or "spam".
      seeds: of the matches.
      returns: [n] in units of reward.
    """

    agent: str
    seeds: Sequence[int]
    returns: np.ndarray

    @property
    def mean(self) -> float:
        """Over the matches."""
        return float(self.returns.mean())

    @property
    def half_width(self) -> float:
        """By how much the mean may lie off by chance: four standard errors."""
        if len(self.returns) < 2:
            return 0.0
        return _DEVIATIONS * float(self.returns.std(ddof=1)) / len(self.returns) ** 0.5

    def exceeds(self, ceiling: float) -> bool:
        """Whether the mean lies above a ceiling by more than chance explains."""
        return self.mean - self.half_width > ceiling + 1e-9

    def first_above(self, ceiling: float) -> int:
        """The smallest seed whose match pays more than the ceiling."""
        above = [seed for seed, one in zip(self.seeds, self.returns, strict=True) if one > ceiling + 1e-9]
        return above[0] if above else self.seeds[0]


def null_returns(
    game: Game,
    seeds: Sequence[int],
    *,
    max_steps: int = MAX_STEPS,
    opponents: Mapping[int, Policy] | None = None,
    split: str = "all",
) -> list[NullReturns]:
    """Play the same matches with every null agent in seat 0.

    Args:
      game: what is played.
      seeds: one match each.
      max_steps: after how many steps a match is cut off.
      opponents: the policies of the other seats; random play if left out, and where any text is an action, silence.
      split: of the starts.
    """
    played = for_split(game, split)
    start = played.initial(rng.generator(seeds[0], "null", "start"))
    legal = played.legal(start, played.players(start)[0])
    other: Policy = NoOp() if legal is None else Random()
    seats = {seat: other for seat in range(1, game.num_players)} | dict(opponents or {})
    matches = [Match(played, seed, "null", 0, 0, 0, max_steps) for seed in seeds]
    found = []
    for name, agent in null_agents(legal).items():
        # A seat that never has its turn has no episode, and gets nothing.
        returns = dict.fromkeys(seeds, 0.0)
        for episode in play(matches, {0: agent, **seats}):
            returns[episode.match.seed] = episode.domain_return
        found.append(NullReturns(name, list(seeds), np.array(list(returns.values()))))
    return found
