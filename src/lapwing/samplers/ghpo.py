"""Hints for groups that fail throughout: a growing part of a solution."""

import dataclasses
import itertools

import numpy as np

from lapwing.core.errors import UserError, nearest
from lapwing.core.protocols import Game
from lapwing.core.types import Group, Guidance, Match, Verdict
from lapwing.samplers._solutions import Solutions, prefix
from lapwing.samplers.grouped import Grouped

_KINDS = ("expert_actions", "text")


class Ghpo(Grouped):
    """As `grouped`, but a group without any success is played again with the first part of a solution, then with more.

    With kind "expert_actions" the first ⌊ratio · T⌋ of the T actions of a solution are made, and the match begins
    where they lead, with the steps that are left. With kind "text" they stand as words before the first message of the
    user, and what is trained on is the prompt with the hint. The group that failed is dropped for the one with the
    hint; the group that failed with the last level is kept. A start without a known solution gets no hint.

    Only success decides whether a group failed, not the form of its replies; without a notion of success, the domain
    return does (at most 0). Success with and without hints is logged apart: the mean of both would lie.

    The authors' hints are characters of a text solution; actions of an expert, made or named, are Lapwing's choice.

    Provenance: formula and defaults from the authors' code.

    Reference: "GHPO: Adaptive Guidance for Stable and Efficient LLM Reinforcement Learning".
      https://arxiv.org/abs/2507.10628
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
        kind: str = "expert_actions",
        expert: str = "optimal",
        levels: tuple[float, ...] = (0.25, 0.5, 0.75),
        lead_in: str = "",
        start_iterations: int = 0,
        start_hint: float = 0.5,
    ) -> None:
        """Make the sampler.

        Args:
          game, seed, groups, group_size, max_steps, share_chance: as for `grouped`.
          kind: "expert_actions" or "text".
          expert: whose solution it is: "optimal", "heuristic", or "game" for the game's `solution(state)`.
          levels: shares of the solution, rising within (0, 1).
          lead_in: what is said before a hint of kind "text"; a model with a vocabulary of words must know them.
          start_iterations: iterations at the start of the stage whose groups all begin with a hint.
          start_hint: the share of the solution that these begin with, in (0, 1).

        Raises:
          UserError: a setting is impossible, or the game does not support the expert.
        """
        super().__init__(
            game, seed=seed, groups=groups, group_size=group_size, max_steps=max_steps, share_chance=share_chance
        )
        if kind not in _KINDS:
            raise UserError(f"There is no sampler.kind '{kind}'; {nearest(kind, _KINDS)}")
        bounds = (0.0, *levels, 1.0)
        if not levels or any(high <= low for low, high in itertools.pairwise(bounds)):
            raise UserError(
                f"sampler.levels are shares of a solution that rise within (0, 1), not {list(levels)}; the whole of it "
                "would leave nothing to do."
            )
        if start_iterations < 0:
            raise UserError(f"sampler.start_iterations is at least 0, not {start_iterations}.")
        if not 0.0 < start_hint < 1.0:
            raise UserError(f"sampler.start_hint is a share of a solution in (0, 1), not {start_hint}.")
        self.kind = kind
        self.levels = tuple(levels)
        self.lead_in = lead_in
        self.start_iterations = start_iterations
        self.start_hint = start_hint
        self.solutions = Solutions(game, expert=expert, max_steps=max_steps)
        self._begin()

    def _begin(self) -> None:
        self._next = self.groups
        self._ratio: dict[int, float] = {}
        self._accepted: list[float] = []
        self._success: dict[bool, list[float]] = {False: [], True: []}

    def draw(self, iteration: int) -> list[Match]:
        """All matches of an iteration; in the first ones of the stage with a hint."""
        self._begin()
        hint = self.start_hint if iteration < self.start_iterations else 0.0
        drawn: list[Match] = []
        for group in range(self.groups):
            plain = self._group(iteration, group, (iteration, group))
            hinted = self._hinted(plain, hint) if hint else ()
            if hinted:
                self._ratio[group] = hint
            drawn += hinted or plain
        return drawn

    def review(self, group: Group) -> Verdict:
        """Accept the group; one that failed throughout is played again with the next part of its solution."""
        match = group.episodes[0].match
        ratio = self._ratio.get(match.group, 0.0)
        self._success[ratio > 0.0] += group.success[~np.isnan(group.success)].tolist()
        number = self._next
        for level in self.levels if has_failed(group) else ():
            if level > ratio and (replay := self._replay(match, number, level)):
                self._next += 1
                self._ratio[number] = level
                return Verdict(False, replay)
        self._accepted.append(ratio)
        return Verdict()

    def metrics(self) -> dict[str, float]:
        """How much of the solutions was given away, and success with and without that."""
        found = {"sampler/hint_ratio": float(np.mean(self._accepted)) if self._accepted else 0.0}
        named = {False: "sampler/unfiltered_success", True: "sampler/hinted_success"}
        return found | {named[is_hinted]: float(np.mean(one)) for is_hinted, one in self._success.items() if one}

    def _replay(self, match: Match, number: int, ratio: float) -> tuple[Match, ...]:
        return self._hinted(self._group(match.iteration, number, match.start_address), ratio)

    def _hinted(self, matches: list[Match], ratio: float) -> tuple[Match, ...]:
        """A group with the first share of its solution; none where that is nothing."""
        solution = self.solutions.of(matches[0])
        if solution is None:
            return ()
        if self.kind == "text":
            wording = solution.wording(ratio)
            guidance = Guidance(hint=f"{self.lead_in} {wording}".strip())
            return tuple(dataclasses.replace(match, guidance=guidance) for match in matches) if wording else ()
        if solution.text:
            raise UserError(
                f"{type(self.game).__name__}'s solution is a text, and no actions to make; set sampler.kind = 'text'."
            )
        made = len(prefix(solution.actions, ratio))
        if not made:
            return ()
        state, left = solution.states[made], self.max_steps - made
        return tuple(dataclasses.replace(match, start_state=state, max_steps=left) for match in matches)


def has_failed(group: Group) -> bool:
    """Whether no member of a group succeeded, or, without a notion of success, none has a domain return above 0."""
    if not np.isnan(group.success).any():
        return not group.success.any()
    return all(episode.domain_return <= 0.0 for episode in group.episodes)
