"""Groups of matches that begin in the same state."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.protocols import Game
from lapwing.core.rollout import Rollout
from lapwing.core.types import Group, Match, Verdict


class Grouped:
    """Draws `groups` starting states an iteration and plays each `group_size` times.

    With `revisit` above 0 a share of the groups begins where an earlier group of the run did not yet succeed
    throughout: solved starts leave the pool, unsolved ones stay. A group that is revisited keeps the address of its
    start but plays with fresh replies and chance.
    """

    def __init__(
        self,
        game: Game,
        *,
        seed: int,
        groups: int = 16,
        group_size: int = 16,
        max_steps: int = 20,
        share_chance: bool = True,
        revisit: float = 0.0,
        pool: int = 256,
    ) -> None:
        """Make the sampler.

        Args:
          game: what is played.
          seed: of the run.
          groups: starting states an iteration.
          group_size: episodes that share a starting state, at least 2.
          max_steps: steps of the game after which a match is cut.
          share_chance: whether the members of a group get the same chance.
          revisit: share of the groups drawn from the pool of unsolved starts, in [0, 1).
          pool: how many unsolved starts are remembered; the oldest are forgotten first.

        Raises:
          UserError: a size is impossible; a group of one has nothing to be compared with.
        """
        if groups < 1:
            raise UserError(f"sampler.groups is at least 1, not {groups}.")
        if group_size < 2:
            raise UserError(
                f"sampler.group_size is {group_size}, but a group of one has nothing to be compared "
                "with; set 2 or more."
            )
        if max_steps < 1:
            raise UserError(f"sampler.max_steps is at least 1, not {max_steps}.")
        if not 0.0 <= revisit < 1.0:
            raise UserError(f"sampler.revisit is a share in [0, 1), not {revisit}.")
        if pool < 1:
            raise UserError(f"sampler.pool is at least 1, not {pool}.")
        self.game = game
        self.seed = seed
        self.groups = groups
        self.group_size = group_size
        self.max_steps = max_steps
        self.share_chance = share_chance
        self.revisit = revisit
        self.pool = pool
        self._unsolved: list[tuple[int, int]] = []

    @property
    def adaptive(self) -> bool:
        """Whether what is drawn depends on what was reviewed."""
        return self.revisit > 0.0

    def draw(self, iteration: int) -> list[Match]:
        """All matches of an iteration, group by group."""
        revisited = min(int(self.revisit * self.groups), len(self._unsolved))
        picks = rng.generator("revisit", self.seed, iteration).permutation(len(self._unsolved))[:revisited]
        fresh = [(iteration, group) for group in range(revisited, self.groups)]
        starts = [self._unsolved[i] for i in sorted(picks.tolist())] + fresh
        return [match for group, start in enumerate(starts) for match in self._group(iteration, group, start)]

    def _group(self, iteration: int, group: int, start: tuple[int, int]) -> list[Match]:
        """The matches of one group."""
        return [
            Match(
                game=self.game,
                seed=self.seed,
                split="train",
                iteration=iteration,
                group=group,
                member=member,
                max_steps=self.max_steps,
                share_chance=self.share_chance,
                start=start,
            )
            for member in range(self.group_size)
        ]

    def review(self, group: Group) -> Verdict:
        """Accept every group; remember the start of one that did not succeed throughout."""
        if self.revisit:
            start = group.episodes[0].match.start_address
            solved = bool((group.success == 1.0).all())
            if solved and start in self._unsolved:
                self._unsolved.remove(start)
            elif not solved and start not in self._unsolved:
                self._unsolved = [*self._unsolved, start][-self.pool :]
        return Verdict()

    def columns(self, rollout: Rollout, collect: Callable[[Sequence[Match]], Rollout]) -> dict[str, np.ndarray]:
        """None: plain groups measure nothing besides their episodes."""
        del rollout, collect
        return {}

    def state(self) -> dict[str, Any]:
        """The pool of unsolved starts."""
        return {"unsolved": [list(start) for start in self._unsolved]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back the pool."""
        self._unsolved = [(int(iteration), int(group)) for iteration, group in state["unsolved"]]
