"""Groups that can be learnt from, drawn until there are enough of them."""

import math

import numpy as np

from lapwing.core.errors import UserError, nearest
from lapwing.core.protocols import Game
from lapwing.core.ragged import has_spread
from lapwing.core.types import Group, Match, Verdict
from lapwing.samplers.grouped import Grouped

_MEASURES = ("success", "return")


class Dynamic(Grouped):
    """Keeps the groups whose members differ, and draws a fresh one for every other, until there are enough.

        keep ⇔ 0 < successes < members        by = "success", where the game has that notion
        keep ⇔ max return > min return        by = "return"

    A group that is dropped is replaced in the next round of play; what is missing after `max_rounds` rounds stays
    missing. With `oversample` above 1 more groups are drawn in the first round, which saves rounds; of the groups that
    could be kept the surplus is dropped, the last ones first. Success among the groups that are kept is near one half
    whatever the policy can do: what it can do is `sampler/unfiltered_success`.

    Provenance: formula and defaults from the authors' code.

    Reference: Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", section 3.2.
      https://arxiv.org/abs/2503.14476
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
        by: str = "success",
        max_rounds: int = 10,
        oversample: float = 1.0,
    ) -> None:
        """Make the sampler.

        Args:
          game, seed, group_size, max_steps, share_chance: as for `grouped`.
          groups: that are trained on in an iteration, at most.
          by: what must differ within a group, "success" or "return"; without a notion of success it is the return.
          max_rounds: of play in an iteration, at least 1.
          oversample: how many times `groups` are drawn in the first round, at least 1.

        Raises:
          UserError: a size is impossible, the rounds have no bound, or there is no such measure.
        """
        super().__init__(
            game, seed=seed, groups=groups, group_size=group_size, max_steps=max_steps, share_chance=share_chance
        )
        if max_rounds < 1:
            raise UserError(
                f"sampler.max_rounds is {max_rounds}, but rounds without end could be played where no group differs; "
                "set 1 or more."
            )
        if not 1.0 <= oversample < math.inf:
            raise UserError(f"sampler.oversample is a finite number of at least 1, not {oversample}.")
        if by not in _MEASURES:
            raise UserError(f"There is no sampler.by '{by}'; {nearest(by, _MEASURES)}")
        self.by = by
        self.max_rounds = max_rounds
        self.oversample = oversample
        self._begin(0)

    def _begin(self, drawn: int) -> None:
        """Nothing is reviewed yet of so many groups, numbered from 0."""
        self._kept = 0
        self._waiting = self._next = drawn
        self._round: dict[int, int] = {}

    def draw(self, iteration: int) -> list[Match]:
        """All matches of the first round."""
        drawn = math.ceil(self.oversample * self.groups)
        self._begin(drawn)
        return [match for group in range(drawn) for match in self._group(iteration, group, (iteration, group))]

    def review(self, group: Group) -> Verdict:
        """Keep the group if its members differ; else ask for a fresh one, while rounds are left."""
        match = group.episodes[0].match
        self._waiting -= 1
        if differs(group, self.by):
            self._kept += 1
            return Verdict(accept=self._kept <= self.groups)
        following = self._round.get(match.group, 1) + 1
        if following > self.max_rounds or self._kept + self._waiting >= self.groups:
            return Verdict(accept=False)
        number, self._next = self._next, self._next + 1
        self._waiting += 1
        self._round[number] = following
        return Verdict(False, tuple(self._group(match.iteration, number, (match.iteration, number))))

    def metrics(self) -> dict[str, float]:
        """Nothing besides the counts of the review."""
        return {}


def differs(group: Group, by: str = "success") -> bool:
    """Whether the members of a group differ in success, or in return where they have no notion of success."""
    values = group.success if by == "success" and not np.isnan(group.success).any() else group.episode_return
    return bool(has_spread(values, np.zeros(len(values), dtype=np.int64)).any())
