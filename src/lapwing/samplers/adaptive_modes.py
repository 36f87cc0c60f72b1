"""Modes of reasoning, forced in some members of a group and chosen in the others."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.protocols import Game
from lapwing.core.rollout import Rollout
from lapwing.core.types import Guidance, Match
from lapwing.samplers.grouped import Grouped

PRODUCES = ("mode", "forced")


class AdaptiveModes(Grouped):
    """As `grouped`, with `forced` members of each group in every mode and `free` ones that choose theirs.

        G = |M| · ρ + γ

    A mode is what replies begin with. A forced member's replies all begin with it: it is part of their context, so
    that the choice of a mode is learnt from those who made it, whose opening is trained on as any token is. The batch
    gets the columns `mode`, by the first reply of the episode, numbered in the order of `openings`, −1 where a free
    one begins otherwise, and `forced`. The shaping `a2fm_adaptive` makes costly modes pay less where the lightest
    does.

    Provenance: formula from a paper note; code not seen.

    Reference: "A²FM: An Adaptive Agent Foundation Model for Tool-Aware Hybrid Reasoning".
      https://arxiv.org/abs/2510.12838
    """

    def __init__(
        self,
        game: Game,
        *,
        seed: int,
        groups: int = 16,
        max_steps: int = 20,
        share_chance: bool = True,
        openings: tuple[str, ...] = ("<instant>", "<reasoning>", "<agentic>"),
        forced: int = 3,
        free: int = 3,
    ) -> None:
        """Make the sampler.

        Args:
          game, seed, groups, max_steps, share_chance: as for `grouped`.
          openings: what a reply in each mode begins with, the cheapest mode first; all different.
          forced: ρ, members of a group that are forced into each mode, at least 1.
          free: γ, members that choose, at least 0.

        Raises:
          UserError: a size is impossible, or the openings cannot be told apart.
        """
        if forced < 1:
            raise UserError(f"sampler.forced is at least 1 member of each mode, not {forced}.")
        if free < 0:
            raise UserError(f"sampler.free is at least 0, not {free}.")
        if len(openings) < 2 or any(
            not opening.strip() or any(other.startswith(opening) for other in openings[:at] + openings[at + 1 :])
            for at, opening in enumerate(openings)
        ):
            raise UserError(
                f"sampler.openings are at least two texts of which none begins another, not {list(openings)}."
            )
        super().__init__(
            game,
            seed=seed,
            groups=groups,
            group_size=len(openings) * forced + free,
            max_steps=max_steps,
            share_chance=share_chance,
        )
        self.openings = tuple(openings)
        self.forced = forced

    def draw(self, iteration: int) -> list[Match]:
        """All matches of an iteration; in each group the forced ones, mode by mode, come first."""
        return [self._with_mode(match) for match in super().draw(iteration)]

    def columns(self, rollout: Rollout, collect: Callable[[Sequence[Match]], Rollout]) -> dict[str, np.ndarray]:
        """The columns `mode`, int64 [E], and `forced`, bool [E]."""
        del collect
        mode, forced = [], []
        for episode in rollout.episodes:
            reply = episode.steps[0].decision.text.lstrip()
            mode.append(next((at for at, opening in enumerate(self.openings) if reply.startswith(opening)), -1))
            forced.append(episode.match.guidance is not None)
        return {"mode": np.array(mode, dtype=np.int64), "forced": np.array(forced)}

    def _with_mode(self, match: Match) -> Match:
        mode = match.member // self.forced
        if mode >= len(self.openings):
            return match
        return dataclasses.replace(match, guidance=Guidance(opening=self.openings[mode]))
