"""Half of a group plays with a privileged text before its eyes, and all of it is trained without."""

import dataclasses

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.protocols import Game
from lapwing.core.types import Group, Guidance, Match, Verdict
from lapwing.samplers._solutions import Solutions
from lapwing.samplers.grouped import Grouped


class PolicyRollout(Grouped):
    """As `grouped`, but the second half of each group reads a text that its stored contexts do not hold.

        o_1 … o_G ~ π(· | Q),  o_{G+1} … o_{2G} ~ π(· | Q, P),  A over all 2G,  ρ_i = π(o_i | Q) / π_old(o_i | Q)

    The text P, rules or a part of a solution, stands before the first message of the user while the half plays.
    `sampler_logprob` is that of the sampler, who read it; `behavior_logprob`, the ratio's denominator, is recomputed
    by the learner on the contexts without it. So it takes weights that are current: nothing may be played ahead, and
    no correction may weigh by the sampler's log-probabilities, which would take back what the text taught. The metric
    `policy/gap` is large by construction; raise `alarms.gap`.

    Provenance: formula from a paper note; code not seen.

    Reference: "Multimodal Policy Internalization for Conversational Agents" (PolicyRollout).
      https://arxiv.org/abs/2510.09474
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
        text: str = "",
        expert: str = "optimal",
        share: float = 1.0,
    ) -> None:
        """Make the sampler.

        Args:
          game, seed, groups, max_steps, share_chance: as for `grouped`.
          group_size: 2G, an even number.
          text: what the second half reads, the same in every match; empty for the first part of the start's solution.
          expert: whose solution: "optimal", "heuristic", or "game" for the game's `solution(state)`.
          share: of the solution that is told, in (0, 1].

        Raises:
          UserError: a size is impossible, or the game does not support the expert.
        """
        super().__init__(
            game, seed=seed, groups=groups, group_size=group_size, max_steps=max_steps, share_chance=share_chance
        )
        if group_size % 2:
            raise UserError(f"sampler.group_size is even, because half of a group reads the text, not {group_size}.")
        if not 0.0 < share <= 1.0:
            raise UserError(f"sampler.share is a share of a solution in (0, 1], not {share}.")
        self.text = text
        self.share = share
        self.solutions = None if text else Solutions(game, expert=expert, max_steps=max_steps)
        self._success: dict[bool, list[float]] = {False: [], True: []}

    def draw(self, iteration: int) -> list[Match]:
        """All matches of an iteration; the second half of each group with the text."""
        self._success = {False: [], True: []}
        return [
            self._told(match) if 2 * match.member >= self.group_size else match for match in super().draw(iteration)
        ]

    def review(self, group: Group) -> Verdict:
        """Accept the group, and count success with and without the text."""
        for episode, success in zip(group.episodes, group.success.tolist(), strict=True):
            if not np.isnan(success):
                self._success[episode.match.guidance is not None].append(success)
        return Verdict()

    def metrics(self) -> dict[str, float]:
        """Success with and without the text."""
        named = {False: "sampler/unfiltered_success", True: "sampler/hinted_success"}
        return {named[is_told]: float(np.mean(one)) for is_told, one in self._success.items() if one}

    def _told(self, match: Match) -> Match:
        text = self.text
        if self.solutions is not None:
            solution = self.solutions.of(match)
            text = "" if solution is None else solution.wording(self.share)
        return dataclasses.replace(match, guidance=Guidance(hint=text, strip=True)) if text else match
