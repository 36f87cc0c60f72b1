"""Snake in words."""

from lapwing.games.snake import Body, SnakeView

INSTRUCTIONS = (
    "You steer a snake . Eat apples . Hitting a wall or a snake ends the game . Moves are up , down , left , right ."
)


def grid(view: SnakeView) -> str:
    """The board, top row first: P and T the own head and tail, E and T the other's, A apples."""
    board = [["_"] * view.width for _ in range(view.height)]
    for x, y in view.apples:
        board[y][x] = "A"
    for body in view.others:
        for x, y in body:
            board[y][x] = "T"
        board[body[0][1]][body[0][0]] = "E"
    for x, y in view.body:
        board[y][x] = "T"
    if view.body:  # a dead snake has vanished from the board
        board[view.body[0][1]][view.body[0][0]] = "P"
    # The origin is at the bottom left, so the top row comes first.
    return "board : " + " / ".join(" ".join(row) for row in reversed(board))


def coordinates(view: SnakeView, *, nearby: int, bodies: bool) -> str:
    """The head's cell and, as signed offsets from it, everything else; apples by distance.

    Without `bodies` only the head of another snake is listed, and no cell of the own body.
    """
    if not view.body:  # nobody decides from here
        return grid(view)
    x, y = view.body[0]

    def offsets(cells: Body) -> str:
        return " ".join(f"{_signed(cx - x)} {_signed(cy - y)}" for cx, cy in cells)

    parts = [f"at {x} {y}"]
    by_distance = sorted(view.apples, key=lambda a: (abs(a[0] - x) + abs(a[1] - y), a))
    parts += ["enemy " + offsets(body if bodies else body[:1]) for body in view.others]
    if bodies:
        parts.append(f"body {offsets(view.body[1:])}".rstrip())
    if nearby:
        moves = (("up", 0, 1), ("down", 0, -1), ("left", -1, 0), ("right", 1, 0))
        parts.append(" ".join(f"{name} {_cell(view, x + dx, y + dy)}" for name, dx, dy in moves))
    parts.append("apple " + " , ".join(offsets((apple,)) for apple in by_distance))
    return " ".join(parts)


def words(view: SnakeView) -> set[str]:
    """Both renderings' words, for boards of the view's size."""
    largest = max(view.width, view.height)
    fixed = {"board", ":", "/", "_", "A", "T", "E", "P", "at", "enemy", "body", "apple", ",", "wall"}
    numbers = {str(n) for n in range(largest)} | {_signed(n) for n in range(-largest + 1, largest)}
    return fixed | numbers | {"up", "down", "left", "right"}


def _signed(number: int) -> str:
    return f"{number:+d}" if number else "0"


def _cell(view: SnakeView, x: int, y: int) -> str:
    if not (0 <= x < view.width and 0 <= y < view.height):
        return "wall"
    if any((x, y) in body for body in (view.body, *view.others)):
        return "T"
    return "A" if (x, y) in view.apples else "_"
