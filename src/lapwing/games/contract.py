"""What every game promises, and `check_game`, which plays a game to see whether it keeps it."""

import contextlib
import dataclasses
import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from lapwing.core.errors import GameError
from lapwing.core.rng import generator
from lapwing.core.storage import canonical_json
from lapwing.core.types import State
from lapwing.games._checked_match import Broken, CheckedMatch, Ended, Tell, choose, texts_of
from lapwing.games._watchdog import Position

# What `check_game` looks at, and after it the rest of what `lapwing check-game` looks at.
PROMISES = {
    "settings": "the game is a frozen dataclass with all that a game has",
    "plays": "no method fails, seats take turns, every legal action is accepted, a heuristic plays legal ones",
    "plain data": "states, views and actions are hashable plain data, which turns into canonical JSON",
    "chance": "all chance comes from the rng argument; the global generators are left alone",
    "same seed": "the same seed is the same match, also in another process with another clock and hash seed",
    "no leak": "nothing is carried from match to match, in the instance, its class or its module",
    "step": "step leaves its arguments alone, and any state can be stepped again",
    "rewards": "rewards are finite, one for each player, within reward_range",
    "success": "a game with has_success tells at the end who succeeded, any other never does",
    "outcomes": "outcomes and initial_outcomes agree with what is drawn",
    "views": "a view is the same when it is asked again, and holds no state",
    "action texts": "the text of an action tells it from the others, and every parser reads what it composes",
    "deadline": "every call returns in time",
    "memory": "matches leave no memory behind",
    "null agents": "agents that never look at the game stay below its null_ceiling",
}

# Where an order comes from the hash of texts, two texts are in one order in half of all processes.
_PROCESSES = 3


def check_game(
    game: Any, *, matches: int = 20, max_steps: int = 100, seed: int = 0, other_process: bool = True
) -> None:
    """Play random matches and raise at the first promise that the game breaks.

    The promises: settings are a frozen dataclass; the same seed gives the same match, also in another order, in
    another instance, after other matches, and in another process with another clock and hash seed, if that can import
    the game; the global random generators are left alone; `step` leaves its arguments alone and can be repeated from
    any state; states, views and actions are hashable and turn into canonical JSON; no view holds the state; every legal
    action is accepted, and its text tells it from the others; rewards are finite floats within `reward_range`, one per
    player; a game that `has_success` tells it at the end, any other never; `outcomes` and `initial_outcomes`, where
    they exist, agree with what is drawn; `heuristic` gives legal actions. `lapwing check-game` looks at more.

    The matches have the seeds `seed`, `seed + 1`, … and half of their decisions are the heuristic's, if there is one.
    Games that are not `restorable` are never stepped twice from one state.

    Args:
      game: the game to check.
      matches: how many matches to play.
      max_steps: after how many steps a match is cut off.
      seed: the seed of the first match.
      other_process: play the matches in another process too, which takes a second.

    Raises:
      GameError: a promise is broken; the message names the smallest seed that shows it.
    """

    def tell(broken: Broken, cause: BaseException | None) -> NoReturn:
        raise GameError(sentence(game, broken)) from cause

    check_settings(game, tell)
    numbers = range(seed, seed + matches)
    with _watched_chance(tell):
        for number in numbers:
            CheckedMatch(game, number, tell, is_first=number == seed).play(max_steps)
        compare_matches(game, tell, numbers, max_steps, processes=int(other_process))


def sentence(game: Any, broken: Broken) -> str:
    """A broken promise as one sentence, with the call that shows it again."""
    place = [] if broken.seed is None else [part for part in (broken.place, f"seed {broken.seed}") if part]
    again = "" if broken.first is None else f"check_game(game, matches={broken.matches}, seed={broken.first})"
    where = "; ".join([", ".join(place), *([f"see it again with {again}"] if again else [])])
    return f"{type(game).__name__} {broken.sentence}{where and f' ({where})'}."


@dataclasses.dataclass
class Findings:
    """What was found of a game: the first thing of each promise, in the order of the seeds.

    Attributes:
      broken: by promise.
      unchecked: why a promise could not be looked at, by its name.
      played: the matches that could be played to their end or last step.
    """

    broken: dict[str, Broken] = dataclasses.field(default_factory=dict)
    unchecked: dict[str, str] = dataclasses.field(default_factory=dict)
    played: list[CheckedMatch] = dataclasses.field(default_factory=list)

    def tell(self, broken: Broken, cause: BaseException | None = None) -> None:
        """Remember the first that breaks a promise."""
        self.broken.setdefault(broken.promise, broken)

    def attempt(self, promises: Sequence[str], look: Callable[[], None]) -> None:
        """Look at promises; where that fails they are as yet unchecked."""
        try:
            look()
        except Ended:
            pass
        except (Exception, SystemExit) as error:  # whatever a broken game does
            for promise in promises:
                self.unchecked.setdefault(promise, f"{type(error).__name__}: {error}")


def look_at_game(game: Any, findings: Findings, *, matches: int, max_steps: int, seed: int) -> None:
    """What `check_game` looks at, to the end, whatever is broken.

    Args:
      game: the game to look at.
      findings: is told of everything.
      matches, max_steps, seed: as for `check_game`.
    """
    findings.attempt((), lambda: check_settings(game, findings.tell))
    if "settings" in findings.broken:
        findings.unchecked |= dict.fromkeys(list(PROMISES)[1:], "its settings come first")
        return
    numbers = range(seed, seed + matches)
    with _watched_chance(findings.tell):
        _look_at_matches(game, findings, numbers, max_steps)


def _look_at_matches(game: Any, findings: Findings, numbers: Sequence[int], max_steps: int) -> None:
    is_whole = False
    for number in numbers:
        is_whole |= _look_at_match(game, number, findings, max_steps, is_first=number == numbers[0])
    if not is_whole:
        # What comes late in a match was not seen in any.
        for promise in ("plain data", "step", "rewards", "success", "outcomes", "views", "action texts"):
            findings.unchecked.setdefault(promise, "no match could be played to its end")
    findings.attempt(
        ("same seed", "no leak"),
        lambda: compare_matches(game, findings.tell, numbers, max_steps, processes=_PROCESSES),
    )


def _look_at_match(game: Any, number: int, findings: Findings, max_steps: int, *, is_first: bool) -> bool:
    """Whether the match could be played to its end."""
    for copies in (False, True):
        match = CheckedMatch(game, number, findings.tell, copies=copies, is_first=is_first)
        try:
            match.play(max_steps)
        except Ended:
            if "step" in findings.broken:
                continue
            return False
        except Exception as error:  # a value that breaks what looks at it
            findings.tell(Broken("plays", f"fails: {type(error).__name__}: {error}", number, first=number))
            return False
        findings.played.append(match)
        return True
    return False


def compare_matches(game: Any, tell: Tell, numbers: Sequence[int], max_steps: int, *, processes: int) -> None:
    """Play matches in order, in reverse, in a second instance and in other processes.

    Args:
      game: the game.
      tell: is told of what differs.
      numbers: the seeds.
      max_steps: after how many steps a match is cut off.
      processes: in how many others, each with a hash seed of its own.
    """
    forward = [transcript(game, number, max_steps=max_steps) for number in numbers]
    backward = [transcript(game, number, max_steps=max_steps) for number in reversed(numbers)][::-1]
    fresh = [transcript(dataclasses.replace(game), number, max_steps=max_steps) for number in numbers]
    for number, once, again, elsewhere in zip(numbers, forward, backward, fresh, strict=True):
        if once != again:
            found = "plays a match differently after other matches; keep all memory in the state"
            tell(Broken("no leak", found, number, matches=len(numbers), first=numbers[0]), None)
        if once != elsewhere:
            found = "plays a match differently in a second instance; keep all memory in the state"
            tell(Broken("no leak", found, number, matches=len(numbers), first=numbers[0]), None)
    found = _elsewhere(game, numbers, max_steps, processes) if processes else None
    for number, once, digests in zip(numbers, forward, zip(*(found or ()), strict=True), strict=False):
        if set(digests) != {_digest([once])}:
            found = "plays a match differently in another process, on another day or with another hash seed"
            tell(Broken("same seed", found, number, matches=1, first=number), None)


def _elsewhere(game: Any, numbers: Sequence[int], max_steps: int, processes: int) -> list[list[str]] | None:
    # Those other processes import this module too, and start none.
    from lapwing.games._elsewhere import digests_elsewhere

    return digests_elsewhere(game, numbers, max_steps, processes)


@contextlib.contextmanager
def _watched_chance(tell: Tell) -> Iterator[None]:
    """Tell of who draws from the generators that all code shares, or seeds them; leave them as they were."""
    kept, kept_by_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    # A state that no match leaves behind: what was played before would leave its own once more.
    random.seed("nobody draws from here")
    np.random.seed(719_340_265)  # noqa: NPY002
    before = _global_chance()
    try:
        yield
        for name, now in _global_chance().items():
            if now != before[name]:
                said = f"draws from {name}, or seeds it, which others share; take all chance from the rng argument"
                tell(Broken("chance", said), None)
    finally:
        random.setstate(kept)
        np.random.set_state(kept_by_numpy)  # noqa: NPY002


def _global_chance() -> dict[str, str]:
    """What the generators that all code of a process shares would draw next."""
    return {"the module random": repr(random.getstate()), "numpy.random": repr(np.random.get_state())}  # noqa: NPY002


def transcript(game: Any, seed: int, *, max_steps: int = 100) -> list[str]:
    """Play one match by the seed alone and write it down as canonical JSON.

    Args:
      game: the game.
      seed: decides chance and actions.
      max_steps: after how many steps the match is cut off.

    Returns:
      One text for the start, and one for the actions, the transition and the views of each step.
    """
    with Position(seed) as position:
        state = game.initial(generator(seed, "check", "initial"))
        lines = [canonical_json([state, _views(game, state)])]
        for index in range(max_steps):
            position.place = f"step {index}"
            actions = {p: choose(game, seed, index, state, p, game.legal(state, p)) for p in game.players(state)}
            transition = game.step(state, actions, generator(seed, "check", "chance", index))
            state = transition.state
            lines.append(canonical_json([texts_of(actions), transition, _views(game, state)]))
            if transition.terminated:
                break
    return lines


def transcript_digest(game: Any, seed: int = 0, *, matches: int = 5, max_steps: int = 100) -> str:
    """Hash the transcripts of several matches: equal digests in two processes mean equal matches.

    Args:
      game: the game.
      seed: the seed of the first match; the others follow.
      matches: how many matches.
      max_steps: after how many steps a match is cut off.

    Returns:
      32 hexadecimal digits.
    """
    return _digest([transcript(game, number, max_steps=max_steps) for number in range(seed, seed + matches)])


def _digest(transcripts: Sequence[Sequence[str]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for lines in transcripts:
        for line in lines:
            digest.update(line.encode("utf-8", errors="replace") + b"\n")
    return digest.hexdigest()


def check_settings(game: Any, tell: Tell) -> None:
    """What can be seen of a game without playing it.

    Args:
      game: the game.
      tell: is told of the first that is wrong.

    Raises:
      Ended: something is.
    """
    found = _wrong_settings(game)
    if found:
        tell(Broken("settings", found), None)
        raise Ended


def _wrong_settings(game: Any) -> str:
    parameters = getattr(type(game), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        return "is no frozen dataclass; write @dataclass(frozen=True) above the class"
    for name in ("num_players", "reward_range", "restorable", "initial", "players", "view", "legal", "step"):
        if not hasattr(game, name):
            return f"has no {name}; see lapwing.core.protocols.Game"
    if type(game.num_players) is not int or game.num_players < 1:
        return f"has num_players {game.num_players!r}; it is an integer of at least 1"
    if not (
        isinstance(game.reward_range, tuple)
        and len(game.reward_range) == 2
        and all(math.isfinite(bound) for bound in game.reward_range)
        and game.reward_range[0] <= game.reward_range[1]
    ):
        return f"has reward_range {game.reward_range!r}; it is (lowest, highest), both finite"
    if not isinstance(game.restorable, bool):
        return f"has restorable {game.restorable!r}; it is True or False"
    if hasattr(game, "words") and not all(isinstance(word, str) for word in game.words()):
        return "has words that are no strings"
    return ""


def _views(game: Any, state: State) -> list[Any]:
    return [game.view(state, player) for player in range(game.num_players)]
