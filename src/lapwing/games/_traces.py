"""What playing leaves behind: memory outside of states, objects that are never freed, and calls that take too long."""

import collections
import gc
import hashlib
import inspect
import random
import sys
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.rng import generator
from lapwing.core.types import State
from lapwing.games._checked_match import choose
from lapwing.games._watchdog import Position

# Bytes that a match may leave behind, on all lines of code together, each time that it is played again: what Python
# and packages keep for themselves is less (names that are looked up again; 100 bytes with MiniGrid).
_LEAK = 128
# Rounds of the same matches. The first ones fill caches; every later one must leave nothing.
_WARM, _ROUNDS = 4, 8
# Matches in a round, at least, by repeating the few that are given: what else the process keeps meanwhile is a share of
# so many.
_PLAYS = 8
# Of a large container as many items are looked at.
_MOST_ITEMS = 1_000
_DEEPEST = 5
_Line = tuple[str, int]
_MEASURING = (__file__, tracemalloc.__file__)
_PLAIN = (bool, int, float, complex, str, bytes, bytearray, type(None), range)
_CONTAINERS = (list, tuple, set, frozenset, collections.deque)
# Their globals are nobody's memory of a match.
_OTHERS = ("builtins", "abc", "typing", "collections", "dataclasses")


class Slow(NamedTuple):
    """A call that took too long, twice."""

    seed: int
    step: int
    method: str
    seconds: float


def play_once(game: Any, seed: int, max_steps: int, call: Callable[..., Any] | None = None) -> State:
    """Play a match as the checks do, and write nothing down.

    Args:
      game: the game.
      seed: of the match.
      max_steps: after how many steps it is cut off.
      call: makes each call of the game: step, method, arguments.
    """

    def plain(_: int, method: str, *given: Any) -> Any:
        return getattr(game, method)(*given)

    ask = call or plain
    with Position(seed) as position:
        state = ask(-1, "initial", generator(seed, "check", "initial"))
        for index in range(max_steps):
            position.place = f"step {index}"
            actions = {}
            for player in ask(index, "players", state):
                ask(index, "view", state, player)
                legal = ask(index, "legal", state, player)
                actions[player] = choose(game, seed, index, state, player, legal)
            transition = ask(index, "step", state, actions, generator(seed, "check", "chance", index))
            state = transition.state
            if transition.terminated:
                break
    return state


def slow_call(game: Any, numbers: Sequence[int], max_steps: int, deadline_seconds: float) -> Slow | None:
    """The first call that takes longer than it may, also when its match is played again.

    Args:
      game: the game.
      numbers: seeds of the matches.
      max_steps: after how many steps a match is cut off.
      deadline_seconds: what a call may take.
    """
    for seed in numbers:
        first = _slow_calls(game, seed, max_steps, deadline_seconds)
        # The first call may load what all others use, and the machine may have been busy.
        again = _slow_calls(game, seed, max_steps, deadline_seconds) if first else {}
        for (step, method), seconds in first.items():
            if (step, method) in again:
                return Slow(seed, step, method, min(seconds, again[step, method]))
    return None


def _slow_calls(game: Any, seed: int, max_steps: int, deadline_seconds: float) -> dict[tuple[int, str], float]:
    found: dict[tuple[int, str], float] = {}

    def call(index: int, method: str, *given: Any) -> Any:
        started = time.perf_counter()
        result = getattr(game, method)(*given)
        taken = time.perf_counter() - started
        if taken > deadline_seconds:
            found.setdefault((index, method), taken)
        return result

    play_once(game, seed, max_steps, call)
    return found


def bytes_left(game: Any, numbers: Sequence[int], max_steps: int) -> float:
    """How many bytes a match leaves behind, at least, each time that the same matches are played again.

    Args:
      game: the game.
      numbers: seeds of the matches.
      max_steps: after how many steps a match is cut off.

    Returns:
      The sum over lines of code of what they allocated and nobody freed: of the rounds the second smallest, line by
      line. What leaks does so in every round and on the same line; what other threads and caches take and give back
      comes and goes. 0 where it is little.
    """
    plays = [*numbers] * max(1, _PLAYS // len(numbers))
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    grown: list[dict[_Line, int]] = []
    before: dict[_Line, int] = {}
    left = 0.0
    # What was there before is set aside, or each collection would go through all of it.
    is_free = gc.get_freeze_count() == 0
    if is_free:
        gc.freeze()
    try:
        for number_of_round in range(_WARM + _ROUNDS):
            for number in plays:
                play_once(game, number, max_steps)
            gc.collect()
            held = _held_by_line()
            if number_of_round >= _WARM:
                grown.append({line: size - before.get(line, 0) for line, size in held.items()})
            before = held
            if len(grown) > 1:
                every = (sorted(one.get(line, 0) for one in grown)[1] for line in grown[0])
                left = sum(max(0, size) for size in every) / len(plays)
                if left <= _LEAK:
                    return 0.0
    finally:
        if is_free:
            gc.unfreeze()
        if not was_tracing:
            tracemalloc.stop()
    return left


def _held_by_line() -> dict[_Line, int]:
    """Bytes that are held, by file and line of who allocated them; what measures does not count."""
    held: dict[_Line, int] = collections.defaultdict(int)
    for trace in tracemalloc.take_snapshot().traces:
        frame = trace.traceback[-1]
        if frame.filename not in _MEASURING:
            held[frame.filename, frame.lineno] += trace.size
    return held


def changed_memory(game: Any, numbers: Sequence[int], max_steps: int) -> list[str]:
    """What code of the game remembers of matches: names of globals, class attributes and fields that change.

    The matches are played twice before anything is compared, so that a cache of what they need is full.

    Args:
      game: the game.
      numbers: seeds of the matches.
      max_steps: after how many steps a match is cut off.
    """
    state = None
    for number in [*numbers, *numbers]:
        state = play_once(game, number, max_steps)
    kinds = _kinds(game, state)
    before = _remembered(game, kinds)
    for number in numbers:
        play_once(game, number, max_steps)
    after = _remembered(game, kinds)
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _kinds(game: Any, state: State) -> list[type]:
    """The classes whose code plays the game."""
    found = [*type(game).__mro__, *type(state).__mro__]
    return [kind for kind in dict.fromkeys(found) if kind.__module__.partition(".")[0] not in _OTHERS]


def _remembered(game: Any, kinds: Sequence[type]) -> dict[str, str]:
    """Everything outside of states that could hold a memory, by name, as a hash of its content."""
    modules = {kind.__module__ for kind in kinds}
    named: dict[str, Any] = {}
    for module in sorted(modules):
        inside = vars(sys.modules[module]) if module in sys.modules else {}
        short = module.rpartition(".")[2]
        named |= {f"{short}.{name}": value for name, value in inside.items() if not name.startswith("__")}
    for kind in kinds:
        named |= {f"{kind.__name__}.{name}": value for name, value in vars(kind).items() if not name.startswith("__")}
    named |= {f"the field {name}": value for name, value in getattr(game, "__dict__", {}).items()}
    found = {}
    for name, value in named.items():
        for place, held in _memories(name, value, modules):
            text = _described(held, modules, _DEEPEST)
            found[place] = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return found


def _memories(name: str, value: Any, modules: set[str]) -> Iterator[tuple[str, Any]]:
    """A value, or what a function holds: its defaults and its own attributes."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if inspect.isfunction(value):
        if value.__module__ in modules:
            yield f"the defaults of {name}", (value.__defaults__, value.__kwdefaults__)
            yield f"the attributes of {name}", {key: held for key, held in vars(value).items() if key != "__wrapped__"}
    elif not isinstance(value, (type, types.ModuleType, property)):
        yield name, value


def _described(value: Any, modules: set[str], depth: int) -> str:
    """The content of plain data, containers and the game's own objects; of all others the kind alone."""
    kind = type(value).__name__
    if isinstance(value, _PLAIN):
        return repr(value)
    if depth == 0:
        return kind
    if isinstance(value, dict):
        some = list(value.items())[:_MOST_ITEMS]
        inner = [f"{_described(k, modules, depth - 1)}: {_described(v, modules, depth - 1)}" for k, v in some]
        return f"{kind} {len(value)} {inner}"
    if isinstance(value, _CONTAINERS):
        some = [_described(one, modules, depth - 1) for one in list(value)[:_MOST_ITEMS]]
        return f"{kind} {len(value)} {sorted(some) if isinstance(value, (set, frozenset)) else some}"
    if isinstance(value, np.ndarray):
        return f"{kind} {value.shape} {value.tobytes() if value.dtype != object else ''}"
    if isinstance(value, np.random.Generator):
        return f"{kind} {value.bit_generator.state}"
    if isinstance(value, random.Random):
        return f"{kind} {value.getstate()}"
    if kind == "count" and type(value).__module__ == "itertools":
        return repr(value)
    if type(value).__module__ in modules:
        fields = getattr(value, "__dict__", None) or {
            name: getattr(value, name, None) for name in getattr(type(value), "__slots__", ())
        }
        return f"{kind} {_described(fields, modules, depth - 1)}"
    return kind
