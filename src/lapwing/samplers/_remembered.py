"""A sampler that remembers what it drew."""

from typing import Any

from lapwing.core.protocols import Sampler
from lapwing.core.types import Group, Match, Verdict


class Remembered:
    """Passes everything on to a sampler and keeps the matches that it asked for last, those of its reviews too."""

    def __init__(self, sampler: Sampler) -> None:
        """Wrap the sampler; nothing was drawn yet."""
        self._sampler = sampler
        self.matches: list[Match] = []

    def draw(self, iteration: int) -> list[Match]:
        """The matches to play in this iteration."""
        self.matches = self._sampler.draw(iteration)
        return self.matches

    def review(self, group: Group) -> Verdict:
        """What the sampler makes of a finished group."""
        verdict = self._sampler.review(group)
        if verdict.replay:
            # A new list: a collector that plays ahead knows the one that was drawn by its identity.
            self.matches = [*self.matches, *verdict.replay]
        return verdict

    def __getattr__(self, name: str) -> Any:
        """Everything else is the sampler's own."""
        return getattr(self._sampler, name)
