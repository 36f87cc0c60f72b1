"""Built-in descriptions: what an observation of a well-known environment says, word by word."""

from collections.abc import Callable, Set
from typing import Any, NamedTuple

from lapwing.core.errors import UserError, nearest, shown
from lapwing.games.adapters._gymnasium_package import shows_as_made
from lapwing.games.adapters._spaces import check_describable, kind_of, plain, spelled, words_of

_SIDES = (("left", 0, -1), ("down", 1, 0), ("right", 0, 1), ("up", -1, 0))
_NUMBERS = frozenset(str(number) for number in range(32))


class Description(NamedTuple):
    """How observations are said, and with which words; None where they have to be looked for."""

    text: Callable[[Any], str]
    words: Set[str] | None


class Known(NamedTuple):
    """What is known of an environment of Gymnasium: how it is described, its actions, and when it is won."""

    describe: str
    actions: tuple[str, ...] | None = None
    success: str | None = None


# By the class of the environment.
KNOWN = {
    "TaxiEnv": Known("taxi", ("south", "north", "east", "west", "pickup", "dropoff"), "terminated"),
    "CliffWalkingEnv": Known("cliff_walking", ("up", "right", "down", "left"), "terminated"),
    "FrozenLakeEnv": Known("frozen_lake", ("left", "down", "right", "up"), "reward"),
    "BlackjackEnv": Known("blackjack", ("stick", "hit"), "reward"),
    "CartPoleEnv": Known("numbers", ("left", "right")),
    "MountainCarEnv": Known("numbers", ("left", "wait", "right"), "terminated"),
    "AcrobotEnv": Known("numbers", ("left", "wait", "right"), "terminated"),
    "LunarLander": Known("numbers", ("wait", "left", "main", "right")),
}
UNKNOWN = Known("numbers")


def known_of(env: Any) -> Known:
    """What is known of an environment, by its class or one that it builds on."""
    bases = type(env.unwrapped).__mro__
    # Somebody else's FrozenLakeEnv may have other actions.
    names = [base.__name__ for base in bases if base.__module__.partition(".")[0] == "gymnasium"]
    return next((KNOWN[name] for name in names if name in KNOWN), UNKNOWN)


def description(given: Any, env: Any, name: str) -> Description:
    """How the observations of an environment are said.

    Args:
      given: the name of a built-in description, a function from an observation to a text, or None for what fits. A
        function may have a set `words` of all that its texts are made of.
      env: the environment.
      name: of it.

    Raises:
      UserError: there is no such description, or it does not fit.
    """
    if callable(given):
        return Description(lambda observation: _text(given(observation)), getattr(given, "words", None))
    known = known_of(env)
    asked = given if given is not None else known.describe if shows_as_made(env) else "numbers"
    if not isinstance(asked, str) or asked not in DESCRIPTIONS:
        raise UserError(f"There is no description {shown(asked)}; {nearest(str(asked), DESCRIPTIONS)}")
    if asked != "numbers" and asked != known.describe:
        raise UserError(
            f"The description {asked!r} is of another environment than {shown(name)}; leave game.describe out."
        )
    if asked == "numbers":
        check_describable(env.observation_space, name)
        return _numbers(env.observation_space)
    if env.observation_space != env.unwrapped.observation_space:
        raise UserError(
            f"The description {asked!r} is of what {shown(name)} shows by itself, and a wrapper changes that; leave "
            "game.describe out, or pass a function."
        )
    return _MAKERS[asked](env.unwrapped)


def _text(said: Any) -> str:
    if not isinstance(said, str):
        raise UserError(f"describe= gave {shown(said)}; it is a function from an observation to a text.")
    return said


def _numbers(space: Any) -> Description:
    head = "state " if kind_of(space) == "Discrete" else ""
    return Description(lambda observation: head + spelled(observation, space), words_of(space) | set(head.split()))


def _taxi(inner: Any) -> Description:
    places = [(int(row), int(column)) for row, column in inner.locs]
    names = ("red", "green", "yellow", "blue")

    def text(observation: Any) -> str:
        row, column, passenger, destination = (int(part) for part in inner.decode(observation))
        side = {
            "south": row < inner.max_row,
            "north": row > 0,
            "east": inner.desc[1 + row, 2 * column + 2] == b":",
            "west": inner.desc[1 + row, 2 * column] == b":",
        }
        walls = " ".join(name for name, is_open in side.items() if not is_open) or "none"

        def place(number: int) -> str:
            here = " here" if places[number] == (row, column) else ""
            return f"{names[number]} row {places[number][0]} column {places[number][1]}{here}"

        where = f"at {place(passenger)}" if passenger < len(places) else "in taxi"
        return f"taxi row {row} column {column} . passenger {where} . destination {place(destination)} . walls {walls}"

    fixed = {"taxi", "row", "column", ".", "passenger", "destination", "walls", "none", "in", "at", "here"}
    return Description(text, fixed | {*names, "south", "north", "east", "west"} | _NUMBERS)


def _cliff_walking(inner: Any) -> Description:
    rows, columns = (int(side) for side in inner.shape)

    def cell(row: int, column: int) -> str:
        if not (0 <= row < rows and 0 <= column < columns):
            return "edge"
        if inner._cliff[row, column]:
            return "cliff"
        return "goal" if (row, column) == (rows - 1, columns - 1) else "free"

    def text(observation: Any) -> str:
        row, column = divmod(int(observation), columns)
        sides = " ".join(f"{name} {cell(row + down, column + right)}" for name, down, right in _SIDES)
        return f"row {row} column {column} . goal row {rows - 1} column {columns - 1} . {sides}"

    fixed = {"row", "column", ".", "goal", "cliff", "edge", "free", *(name for name, _, _ in _SIDES)}
    return Description(text, fixed | _NUMBERS)


def _frozen_lake(inner: Any) -> Description:
    cells = [[letter.decode() for letter in row] for row in inner.desc.tolist()]
    # Ice that does not slip moves with certainty.
    slips = any(len(outcomes) > 1 for actions in inner.P.values() for outcomes in actions.values())
    board = " / ".join(" ".join(row) for row in cells)

    def cell(row: int, column: int) -> str:
        return cells[row][column] if 0 <= row < len(cells) and 0 <= column < len(cells[0]) else "edge"

    def text(observation: Any) -> str:
        row, column = divmod(int(observation), len(cells[0]))
        sides = " ".join(f"{name} {cell(row + down, column + right)}" for name, down, right in _SIDES)
        return f"{'slippery' if slips else 'dry'} lake : {board} . row {row} column {column} . {sides}"

    fixed = {"slippery", "dry", "lake", ":", "/", ".", "row", "column", "edge", *"SFHG", *(n for n, _, _ in _SIDES)}
    return Description(text, fixed | _NUMBERS | {str(number) for number in range(max(len(cells), len(cells[0])))})


def _blackjack(_: Any) -> Description:
    def text(observation: Any) -> str:
        total, dealer, ace = (int(part) for part in plain(observation))
        return f"sum {total} . usable ace {'yes' if ace else 'no'} . dealer shows {'ace' if dealer == 1 else dealer}"

    return Description(text, _NUMBERS | {"sum", ".", "usable", "ace", "yes", "no", "dealer", "shows", "natural"})


_MAKERS: dict[str, Callable[[Any], Description]] = {
    "taxi": _taxi,
    "cliff_walking": _cliff_walking,
    "frozen_lake": _frozen_lake,
    "blackjack": _blackjack,
}
DESCRIPTIONS = ("numbers", *_MAKERS)
