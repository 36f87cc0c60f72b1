"""Groups of matches, with branches played from every state that they pass."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.protocols import Game
from lapwing.core.ragged import group_mean
from lapwing.core.rollout import Rollout
from lapwing.core.types import Match
from lapwing.samplers.grouped import Grouped

PRODUCES = ("branch_value", "next_branch_value")


class Branching(Grouped):
    """As `grouped`, but what each state is worth is measured by playing `branches` further matches from it.

    branch_value_t = mean return of K matches from s_t with the steps that are left,   next_branch_value_t =
    branch_value_{t+1}, 0 after the last step

    Equal states with equally many steps left share their branches. Replies and chance of a branch are its own.
    Returns are those that are trained on, penalties for invalid replies included. Branches are counted nowhere and
    not trained on: they are the price of the estimate, K matches for each different state of an iteration.

    Reference: Kazemnejad et al. 2024, "VinePPO: Unlocking RL Potential For LLM Reasoning Through Refined Credit
      Assignment". https://arxiv.org/abs/2410.01679
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
        branches: int = 8,
    ) -> None:
        """Make the sampler.

        Args:
          game: what is played; its states can be played on from.
          seed: of the run.
          groups, group_size, max_steps, share_chance, revisit, pool: as for `grouped`.
          branches: K, matches played from each state, at least 1.

        Raises:
          UserError: a size is impossible, or the game's states cannot be restored.
        """
        super().__init__(
            game,
            seed=seed,
            groups=groups,
            group_size=group_size,
            max_steps=max_steps,
            share_chance=share_chance,
            revisit=revisit,
            pool=pool,
        )
        if branches < 1:
            raise UserError(f"sampler.branches is at least 1, not {branches}.")
        if not game.restorable:
            raise UserError(f"{type(game).__name__} cannot be played on from a state; choose the sampler 'grouped'.")
        self.branches = branches

    def columns(self, rollout: Rollout, collect: Callable[[Sequence[Match]], Rollout]) -> dict[str, np.ndarray]:
        """Play the branches and measure `branch_value` and `next_branch_value`, float64 [N]."""
        stands: dict[tuple[Any, int], int] = {}
        of_step = np.array(
            [stands.setdefault((s.state, s.steps_left), len(stands)) for e in rollout.episodes for s in e.steps]
        )
        pattern = rollout.episodes[0].match
        matches = [
            dataclasses.replace(
                pattern,
                split=f"{pattern.split}/branch",
                group=number,
                member=member,
                max_steps=left,
                share_chance=False,
                start_state=state,
            )
            for number, (state, left) in enumerate(stands)
            for member in range(self.branches)
        ]
        value = _mean_returns(collect(matches).batch, len(stands))[of_step]
        following = np.append(value[1:], 0.0)
        following[rollout.batch.step_splits[1:] - 1] = 0.0
        return {"branch_value": value, "next_branch_value": following}


def _mean_returns(batch: EpisodeBatch, count: int) -> np.ndarray:
    if len(np.unique(batch.group)) < count:
        raise LapwingError("All branches of a state failed or missed the deadline, so that its value is not known.")
    means = np.zeros(count)
    means[batch.group] = group_mean(batch.episode_return, batch.group)
    return means
