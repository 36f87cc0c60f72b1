"""A pool of earlier versions of the learning policy, from which opponents are drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.core.types import Ask, Decision, Match, Memory
from lapwing.policies.agent import InvalidRule

# In place of an iteration: the weights of now.
NOW = -1


@dataclass(frozen=True)
class PastSettings:
    """How the pool grows, and who is drawn from it.

    Reference: Bansal et al. 2018, "Emergent Complexity via Multi-Agent Competition", section 3.2 (opponents sampled
      from earlier versions). https://arxiv.org/abs/1710.03748

    Attributes:
      every: iterations between two versions that are kept; the first is the one that the stage begins with.
      size: versions that are kept at most; the oldest leaves.
      latest: probability that the weights of now play instead; all versions of the pool share the rest equally.
    """

    every: int = 10
    size: int = 5
    latest: float = 0.5

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"every is a number of iterations of at least 1, not {self.every}.")
        if not 1 <= self.size <= 1000:
            raise UserError(f"size is a number of versions from 1 to 1,000, not {self.size}.")
        if not 0.0 <= self.latest <= 1.0:
            raise UserError(f"latest is a probability in [0, 1], not {self.latest}.")


class Version(NamedTuple):
    """Frozen weights; never changed, so that who holds one need not copy it.

    Attributes:
      iteration: after how many iterations they were taken.
      weights: tensors by name.
    """

    iteration: int
    weights: Mapping[str, Any]


class Drawn(NamedTuple):
    """Who plays a match: the policy, and the iteration after which its weights were taken, `NOW` for the current."""

    policy: Policy
    iteration: int


class PastVersions:
    """Plays seats with frozen weights of the learning policy; nothing is learnt from what it replies.

        P(now) = latest,   P(v) = (1 − latest) / pool   for each version v of the pool

    Who plays is drawn for each match by a key; matches of a group that shares its chance meet the same version, since
    to a learner its opponent is a part of that chance.

    Attributes:
      versions: the pool, oldest first.
      invalid: what happens to invalid replies.
    """

    def __init__(
        self,
        current: Policy,
        settings: PastSettings,
        *,
        weights: Callable[[], Mapping[str, Any]] | None,
        freeze: Callable[[Mapping[str, Any]], Policy],
        invalid: InvalidRule,
    ) -> None:
        """Make the pool, with nothing in it.

        Args:
          current: the learning policy.
          settings: of the pool.
          weights: copies the weights of now; None where the versions come from elsewhere, by `restore` alone.
          freeze: makes a policy of copied weights.
          invalid: as for the learning policy.
        """
        # Nothing is learnt from its replies, so that nobody asks by which weights they were made.
        self.version = NOW
        self.settings = settings
        self.invalid = invalid
        self.versions: tuple[Version, ...] = ()
        self._current = current
        self._weights = weights
        self._freeze = freeze
        self._made: list[tuple[Version, Policy]] = []

    @property
    def frozen(self) -> list[Policy]:
        """The policies of those versions that have played."""
        return [policy for _, policy in self._made]

    def note(self, iteration: int) -> None:
        """An iteration begins: its weights join the pool if it is their turn."""
        if self._weights is None or iteration % self.settings.every:
            return
        if iteration not in [one.iteration for one in self.versions]:
            self.restore((*self.versions, Version(iteration, self._weights()))[-self.settings.size :])

    def restore(self, versions: Sequence[Version]) -> None:
        """The pool holds these versions now."""
        self.versions = tuple(versions)
        self._made = [pair for pair in self._made if any(pair[0] is one for one in self.versions)]

    def forget(self) -> None:
        """Empty what generators remember, as those of the learning policy do after every update."""
        # What was computed before a checkpoint would change the last bits of what is computed after it.
        for policy in self.frozen:
            policy.generator.forget()  # pyright: ignore[reportAttributeAccessIssue]

    def drawn(self, match: Match) -> Drawn:
        """Who plays the seats of this pool in a match."""
        others = "shared" if match.share_chance else match.member
        key = rng.fold(0, "opponent", match.seed, match.split, match.iteration, match.group, others)
        height, latest = rng.unit(key), self.settings.latest
        if height < latest or not self.versions:
            return Drawn(self._current, NOW)
        at = int((height - latest) / (1.0 - latest) * len(self.versions))
        version = self.versions[min(at, len(self.versions) - 1)]
        return Drawn(self._policy(version), version.iteration)

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """As the learning policy decides, where nobody was drawn."""
        return self._current.act_many(asks)

    def _policy(self, version: Version) -> Policy:
        for made, policy in self._made:
            if made is version:
                return policy
        self._made.append((version, self._freeze(version.weights)))
        return self._made[-1][1]
