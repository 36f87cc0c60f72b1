"""Frozen Lake in words."""

from lapwing.games.frozen_lake import FrozenLakeView

INSTRUCTIONS = (
    "Cross the frozen lake from S to G . F is safe ice , H is a hole that ends the game . "
    "Moves are left , down , right , up ."
)

# Row and column of the four neighbours, in the order left, down, right, up.
_NEIGHBOURS = (("left", 0, -1), ("down", 1, 0), ("right", 0, 1), ("up", -1, 0))


def grid(view: FrozenLakeView) -> str:
    """The map, row by row, with P where the player stands."""
    rows = [list(row) for row in view.rows]
    rows[view.row][view.column] = "P"
    return f"{_ice(view)} lake : " + " / ".join(" ".join(row) for row in rows)


def coordinates(view: FrozenLakeView, *, nearby: int, board: bool) -> str:
    """The player's row and column, the cells up to `nearby` steps away, and the map if `board`."""
    lines = [f"{_ice(view)} lake :"]
    if board:
        lines.append(" / ".join(" ".join(row) for row in view.rows))
    lines.append(f"row {view.row} column {view.column}")
    if nearby >= 1:
        cells = [f"{name} {_cell(view, down, right)}" for name, down, right in _NEIGHBOURS]
        lines.append(" ".join(cells))
    if nearby >= 2:
        far = [(d, r) for d in range(-2, 3) for r in range(-2, 3) if abs(d) + abs(r) == 2]
        lines.append("around " + " ".join(_cell(view, down, right) for down, right in far))
    return " ".join(lines)


def words(view: FrozenLakeView) -> set[str]:
    """Both renderings' words, for maps up to the size of the view's."""
    fixed = {"dry", "slippery", "lake", ":", "/", "S", "F", "H", "G", "P", "edge", "row", "column", "around"}
    numbers = {str(n) for n in range(max(len(view.rows), 8))}
    return fixed | numbers | {name for name, _, _ in _NEIGHBOURS}


def _ice(view: FrozenLakeView) -> str:
    return "slippery" if view.slippery else "dry"


def _cell(view: FrozenLakeView, down: int, right: int) -> str:
    row, column = view.row + down, view.column + right
    if 0 <= row < len(view.rows) and 0 <= column < len(view.rows[0]):
        return view.rows[row][column]
    return "edge"
