"""A game played in a process of its own, with another clock and another hash seed."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from lapwing.core.errors import GameError

_SECONDS = 600.0
_NOT_THERE = 3
# Another day: who goes by the time of day will differ. It is set before the game's module can take a function from
# `time`; durations are what they were.
_PROGRAM = """
import json, pickle, sys, time
sys.path[:], numbers, max_steps = json.loads(sys.argv[1])
now, now_ns = time.time, time.time_ns
time.time = lambda: now() + 1234567.8
time.time_ns = lambda: now_ns() + 1234567800000001
try:
    game = pickle.load(sys.stdin.buffer)
except (ImportError, AttributeError):
    sys.exit(3)
from lapwing.games.contract import transcript_digest
found = [transcript_digest(game, n, matches=1, max_steps=max_steps) for n in reversed(numbers)][::-1]
print("\\n" + json.dumps(found))
"""


def digests_elsewhere(game: Any, numbers: Sequence[int], max_steps: int) -> list[str] | None:
    """The digest of each match as another process plays it, in reverse order.

    Args:
      game: is pickled for it.
      numbers: seeds of the matches.
      max_steps: after how many steps a match is cut off.

    Returns:
      None where another process cannot import the game.

    Raises:
      GameError: the game fails there.
    """
    try:
        content = pickle.dumps(game)
    except Exception:
        return None
    if type(game).__module__ == "__main__":
        return None
    path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100  ("" is this folder)
    other_seed = "12345" if os.environ.get("PYTHONHASHSEED") != "12345" else "54321"
    try:
        finished = subprocess.run(
            [sys.executable, "-c", _PROGRAM, json.dumps([path, list(numbers), max_steps])],
            input=content,
            env={**os.environ, "PYTHONHASHSEED": other_seed},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        name = type(game).__name__
        raise GameError(f"{name} does not end its matches in another process within {_SECONDS:g} s") from error
    if finished.returncode == _NOT_THERE:
        return None
    if finished.returncode != 0:
        said = finished.stderr.decode("utf-8", errors="replace").strip().splitlines() or [f"{finished.returncode}"]
        raise GameError(f"{type(game).__name__} fails in another process: {said[-1]}")
    return json.loads(finished.stdout.splitlines()[-1])
