"""Key, door and goal in words."""

from lapwing.games.key_door import KeyDoorView

INSTRUCTIONS = (
    "Fetch the key K , open the door D with it , and reach the goal G . W is a wall . "
    "Moves are left , down , right , up ."
)

_NEIGHBOURS = (("left", 0, -1), ("down", 1, 0), ("right", 0, 1), ("up", -1, 0))
_THINGS = (("key", "K"), ("door", "D"), ("open", "O"), ("goal", "G"))


def grid(view: KeyDoorView) -> str:
    """What the player carries, and the rooms row by row, with P where the player stands."""
    rows = [list(row) for row in view.rows]
    rows[view.row][view.column] = "P"
    return f"hold {_held(view)} rooms : " + " / ".join(" ".join(row) for row in rows)


def coordinates(view: KeyDoorView, *, nearby: int) -> str:
    """The player's row and column, signed steps down and right to the key, the door and the goal, and what is nearby.

    An open door is called open; a key that was fetched is no longer there. Without neighbours the text is as
    lossless as the grid: the wall stands in the door's column.
    """
    parts = [f"hold {_held(view)} row {view.row} column {view.column}"]
    for name, symbol in _THINGS:
        for row, line in enumerate(view.rows):
            if symbol in line:
                parts.append(f"{name} {_signed(row - view.row)} {_signed(line.index(symbol) - view.column)}")
    if nearby >= 1:
        parts.append(" ".join(f"{name} {_cell(view, down, right)}" for name, down, right in _NEIGHBOURS))
    if nearby >= 2:
        far = [(d, r) for d in range(-2, 3) for r in range(-2, 3) if abs(d) + abs(r) == 2]
        parts.append("around " + " ".join(_cell(view, down, right) for down, right in far))
    return " ".join(parts)


def words(view: KeyDoorView) -> set[str]:
    """Both renderings' words, for rooms of the view's size."""
    size = len(view.rows)
    fixed = {"hold", "nothing", "rooms", ":", "/", "_", "W", "K", "D", "O", "G", "P", "edge", "row", "column", "around"}
    numbers = {str(n) for n in range(size)} | {_signed(n) for n in range(1 - size, size)}
    return fixed | numbers | {name for name, *_ in (*_NEIGHBOURS, *_THINGS)}


def _held(view: KeyDoorView) -> str:
    return "key" if view.carrying else "nothing"


def _signed(number: int) -> str:
    return f"{number:+d}" if number else "0"


def _cell(view: KeyDoorView, down: int, right: int) -> str:
    row, column = view.row + down, view.column + right
    if 0 <= row < len(view.rows) and 0 <= column < len(view.rows[0]):
        return view.rows[row][column]
    return "edge"
