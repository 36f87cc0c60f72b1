"""What MiniGrid's and BabyAI's environments show, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

_FACING = ("east", "south", "west", "north")
_STATES = ("open", "closed", "locked")
# The words of BabyAI's missions and of MiniGrid's that stand beside colours and things.
_MISSIONS = (
    "go to the a an pick up put next open then and after you use key door ball box object goal get green square "
    "matching same front of in on your left right behind red blue purple yellow grey traverse rooms find with treasure "
    "fetch avoid lava maze crossing reach end hallway must opening unlock first toggle"
)
_FIXED = (
    "mission : . , facing carrying nothing see ahead left right here wall away in front empty "
    "door key ball box goal lava floor agent"
)


class Words:
    """Turns an observation into a text: mission, facing, what is carried, walls ahead and beside, and what is seen.

    Places are counted in steps from the player: `2 ahead 1 left`. An observation is what the package shows: seven by
    seven cells in front of the player, who stands in the middle of the near side.
    """

    def __init__(self, colors: Mapping[int, str], kinds: Mapping[int, str]) -> None:
        """Make the description.

        Args:
          colors: the package's numbers of colours.
          kinds: the package's numbers of things.
        """
        self._colors = colors
        self._kinds = kinds
        numbers = {str(number) for number in range(30)}
        self.words = {*_FIXED.split(), *_MISSIONS.split(), *_FACING, *_STATES, *colors.values(), *numbers}

    def __call__(self, observation: Mapping[str, Any]) -> str:
        """The text."""
        cells = observation["image"].tolist()
        middle = len(cells) // 2
        carried = self._thing(cells[middle][-1])
        seen = list(self._seen(cells, middle))
        parts = [
            f"mission : {str(observation['mission']).replace(',', ' ,')}",
            f"facing {_FACING[int(observation['direction'])]}",
            f"carrying {carried or 'nothing'}",
            f"in front {self._front(cells, middle)}",
            *self._walls(cells, middle),
            "see " + (" , ".join(seen) if seen else "nothing"),
        ]
        return " . ".join(parts)

    def _kind(self, cell: list[int]) -> str:
        return self._kinds[cell[0]]

    def _thing(self, cell: list[int]) -> str:
        """What lies in a cell, empty for walls, floor and what is not seen."""
        kind = self._kind(cell)
        if kind in ("unseen", "empty", "wall", "floor", "agent"):
            return ""
        if kind in ("goal", "lava"):
            return kind
        color = self._colors[cell[1]]
        return f"{_STATES[cell[2]]} {color} door" if kind == "door" else f"{color} {kind}"

    def _front(self, cells: list[Any], middle: int) -> str:
        cell = cells[middle][-2]
        return self._thing(cell) or ("wall" if self._kind(cell) == "wall" else "empty")

    def _walls(self, cells: list[Any], middle: int) -> Iterator[str]:
        """How far the nearest wall is, where it is seen."""
        rows = {
            "ahead": [cells[middle][row] for row in range(len(cells) - 2, -1, -1)],
            "left": [cells[column][-1] for column in range(middle - 1, -1, -1)],
            "right": [cells[column][-1] for column in range(middle + 1, len(cells))],
        }
        for side, row in rows.items():
            walls = [steps for steps, cell in enumerate(row, 1) if self._kind(cell) == "wall"]
            if walls:
                yield f"wall {walls[0]} {side}"

    def _seen(self, cells: list[Any], middle: int) -> Iterator[str]:
        """Things by distance, with where they are."""
        size = len(cells)
        places = sorted(
            ((size - 1 - row, column - middle) for column in range(size) for row in range(size)),
            key=lambda place: (place[0] + abs(place[1]), place),
        )
        for ahead, right in places[1:]:
            thing = self._thing(cells[middle + right][size - 1 - ahead])
            if thing:
                beside = f"{abs(right)} {'right' if right > 0 else 'left'}" if right else ""
                yield " ".join([thing, *([f"{ahead} ahead"] if ahead else []), *([beside] if beside else [])])
