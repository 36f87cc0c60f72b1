"""Equal steps of a game are made once in a play.

A step is a function of state, actions and chance, and of chance only where a number is drawn. So the members of a
group that go the same way share their steps, and what draws nothing is shared by all matches.
"""

from collections.abc import Hashable
from typing import Any


class KnownSteps:
    """What the steps of one game did, as long as its states can be stepped again."""

    def __init__(self) -> None:
        """Know no step."""
        # A step that draws has what it did by its chance.
        self._found: dict[Hashable, tuple[Any, ...] | dict[Hashable, tuple[Any, ...]]] = {}

    def get(self, step: Hashable, chance: Hashable) -> Any:
        """What a step did; None if it is not known.

        Args:
          step: the state, the actions, and what else decides.
          chance: names the numbers that it may draw.
        """
        found = self._found.get(step)
        return found.get(chance) if type(found) is dict else found

    def add(self, step: Hashable, chance: Hashable | None, moved: tuple[Any, ...]) -> None:
        """Remember what a step did; `chance` is None if it drew nothing."""
        if chance is None:
            self._found[step] = moved
            return
        by_chance = self._found.setdefault(step, {})
        if type(by_chance) is dict:
            by_chance[chance] = moved
