"""Decisions restricted to what the game's heuristic allows, ever more seldom."""

import dataclasses

from lapwing.core.errors import UserError
from lapwing.core.protocols import Game
from lapwing.core.types import Guidance, Match
from lapwing.samplers.grouped import Grouped


class Masked(Grouped):
    """As `grouped`, but with probability ε a reply is drawn among those of the actions that a heuristic allows.

        ε(t) = max(0, 1 − t / decay)        t the iteration of the stage
        p(a | allowed) = p(a) / Σ_{b allowed and legal} p(b),  p(a) the probability of the composed reply of a

    What is allowed is what the game's `allowed(state, player)` lists, or, where it has no such method, the action of
    its `heuristic`. If nothing legal is allowed, nothing is masked. `sampler_logprob` is that of the restricted draw;
    `behavior_logprob`, the ratio's denominator, is the learner's without restriction, so that ratios begin at 1. The
    metric `policy/gap` is large by construction while ε is above 0; raise `alarms.gap`. Replies that think before they
    act are not composed by the model: take a parser of direct replies.

    The original clips continuous actions; the discrete form, and the schedule by iterations, are Lapwing's choice.

    Provenance: formula from a paper note; code not seen.

    Reference: "CAMEL: Continuous Action Masking Enabled by Large Language Models for Reinforcement
      Learning". https://arxiv.org/abs/2502.11896
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
        decay: int = 100,
    ) -> None:
        """Make the sampler.

        Args:
          game: what is played; it has a heuristic.
          seed, groups, group_size, max_steps, share_chance: as for `grouped`.
          decay: iterations until nothing is masked any more, at least 1.

        Raises:
          UserError: a size is impossible, or the game has no heuristic.
        """
        super().__init__(
            game, seed=seed, groups=groups, group_size=group_size, max_steps=max_steps, share_chance=share_chance
        )
        if decay < 1:
            raise UserError(f"sampler.decay is at least 1 iteration, not {decay}.")
        if not callable(getattr(game, "allowed", None)) and not callable(getattr(game, "heuristic", None)):
            raise UserError(f"{type(game).__name__} has no heuristic to mask actions by; choose the sampler 'grouped'.")
        self.decay = decay
        self._mask = 0.0

    def draw(self, iteration: int) -> list[Match]:
        """All matches of an iteration, with the probability of its masks."""
        self._mask = mask_probability(iteration, self.decay)
        matches = super().draw(iteration)
        if not self._mask:
            return matches
        return [dataclasses.replace(match, guidance=Guidance(mask=self._mask)) for match in matches]

    def metrics(self) -> dict[str, float]:
        """How often decisions were masked."""
        return {"sampler/mask": self._mask}


def mask_probability(iteration: int, decay: int) -> float:
    """ε(t) = max(0, 1 − t / decay).

    Args:
      iteration: t, from 0.
      decay: iterations until it is 0.
    """
    return max(0.0, 1.0 - iteration / decay)
