"""States and views of TextWorld's games, and the interpreter's text without its ornaments."""

import re
from dataclasses import dataclass, field
from typing import Any

from lapwing.games.adapters._replayed import ReplayedState


@dataclass(frozen=True, slots=True)
class Scene:
    """What a player is told after a command, and what the maker knows.

    Attributes:
      feedback, description, inventory: the texts of the command, of `look` and of `inventory`.
      commands: that do something here.
      score: so far.
      facts: a key of all that is true in the world, and of what has scored.
    """

    feedback: str
    description: str
    inventory: str
    commands: tuple[str, ...]
    score: int
    facts: int


@dataclass(frozen=True, slots=True)
class TextworldState:
    """Which game, and its scene, by which states are told apart; `way` is how the interpreter gets there."""

    game: int
    scene: Scene
    way: ReplayedState = field(compare=False)


@dataclass(frozen=True, slots=True)
class TextworldView:
    """What the player knows: the objective, the last command's text, the room, what is carried, what may be said."""

    objective: str
    feedback: str
    description: str
    inventory: str
    commands: tuple[str, ...]


class Guide:
    """Knows the rest of the walkthrough after any commands, by the rules alone: the interpreter is not asked."""

    def __init__(self, env: Any) -> None:
        """Ask an environment that was made from a game's `.json`."""
        self.env = env
        self.known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def rest(self, said: tuple[str, ...]) -> tuple[str, ...]:
        """The commands that are left."""
        if said not in self.known:
            before = self.known.get(said[:-1], ()) if said else ()
            # Who follows it is a step further; anything else is looked at from the beginning.
            self.known[said] = before[1:] if before and before[0] == said[-1] else self._searched(said)
        return self.known[said]

    def _searched(self, said: tuple[str, ...]) -> tuple[str, ...]:
        found = self.env.reset()
        for command in said:
            found, _, _ = self.env.step(command)
        return tuple(found["policy_commands"] or ())


# The letters of the title, drawn with these; and what the interpreter says after the end.
_TITLE = re.compile(r"[\s_|\\/$>]*")
_AFTER = re.compile(r"\n\s*You scored .*", re.DOTALL)


def cleaned(text: str) -> str:
    """What the interpreter said, without its title, its prompt with the bar beside it, and its empty lines."""
    lines = (line.strip() for line in _AFTER.sub("", text).splitlines() if not _TITLE.fullmatch(line))
    return "\n".join(line for line in lines if line and not line.startswith(">"))


def without(text: str, *parts: str) -> str:
    """A cleaned text without parts of it that are shown anyway."""
    for part in parts:
        text = text.replace(part, "") if part else text
    return cleaned(text)


def room_of(description: str) -> str:
    """The name of the room in the headline of its description."""
    found = re.search(r"-= (.*?) =-", description)
    return found.group(1) if found else ""
