"""A sampler that remembers what it drew."""

from typing import Any

from lapwing.core.protocols import Sampler
from lapwing.core.types import Match


class Remembered:
    """Passes everything on to a sampler and keeps the matches that it drew last."""

    def __init__(self, sampler: Sampler) -> None:
        """Wrap the sampler; nothing was drawn yet."""
        self._sampler = sampler
        self.matches: list[Match] = []

    def draw(self, iteration: int) -> list[Match]:
        """The matches to play in this iteration."""
        self.matches = self._sampler.draw(iteration)
        return self.matches

    def __getattr__(self, name: str) -> Any:
        """Everything else is the sampler's own."""
        return getattr(self._sampler, name)
