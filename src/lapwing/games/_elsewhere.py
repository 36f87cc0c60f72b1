"""A game played in a process of its own, with another clock and another hash seed."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lapwing.core.errors import GameError

_SECONDS = 600.0
_NOT_THERE = 3
# Another day: who goes by a clock will differ. 465 days, nine hours, 44 minutes and 17.731 seconds on, the year, the
# month, the weekday and the hour are others, and what was even is odd; in further processes it is a day, two hours,
# three minutes and four seconds later each. It is set before the game's module can take a
# function from `time` or `datetime`; durations are what they were.
_PROGRAM = """
import datetime, json, pickle, sys, time

sys.path[:], numbers, max_steps, further = json.loads(sys.argv[1])
LATER = 40211057.731 + 93784 * further
def later(clock, by):
    return lambda: clock() + by
for name in ("time", "monotonic", "perf_counter"):
    setattr(time, name, later(getattr(time, name), LATER))
    setattr(time, name + "_ns", later(getattr(time, name + "_ns"), int(LATER * 1e9)))
def of_now(convert):
    return lambda seconds=None: convert(time.time() if seconds is None else seconds)
time.localtime, time.gmtime, time.ctime = map(of_now, (time.localtime, time.gmtime, time.ctime))
strftime, asctime = time.strftime, time.asctime
time.strftime = lambda form, when=None: strftime(form, when or time.localtime())
time.asctime = lambda when=None: asctime(when or time.localtime())

class Alike(type):
    def __instancecheck__(cls, value):
        return isinstance(value, cls.__mro__[1])
class date(datetime.date, metaclass=Alike):
    today = classmethod(lambda cls: cls.fromtimestamp(time.time()))
class later_datetime(datetime.datetime, metaclass=Alike):
    today = classmethod(lambda cls: cls.fromtimestamp(time.time()))
    now = classmethod(lambda cls, tz=None: cls.fromtimestamp(time.time(), tz))
    utcnow = classmethod(lambda cls: cls.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None))
later_datetime.__name__ = later_datetime.__qualname__ = "datetime"
date.__module__ = later_datetime.__module__ = "datetime"
datetime.date, datetime.datetime = date, later_datetime

try:
    game = pickle.load(sys.stdin.buffer)
except (ImportError, AttributeError):
    sys.exit(3)
from lapwing.games.contract import transcript_digest
found = [transcript_digest(game, n, matches=1, max_steps=max_steps) for n in reversed(numbers)][::-1]
print("\\n" + json.dumps(found))
"""


def digests_elsewhere(game: Any, numbers: Sequence[int], max_steps: int, processes: int = 1) -> list[list[str]] | None:
    """The digest of each match as other processes play it, in reverse order.

    Args:
      game: is pickled for them.
      numbers: seeds of the matches.
      max_steps: after how many steps a match is cut off.
      processes: how many, each with another hash seed.

    Returns:
      The digests of each process; None where another process cannot import the game.

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
    seeds = [seed for seed in map(str, range(12345, 12345 + processes + 1)) if seed != os.environ.get("PYTHONHASHSEED")]

    def played(further: int) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-c", _PROGRAM, json.dumps([path, list(numbers), max_steps, further])],
            input=content,
            env={**os.environ, "PYTHONHASHSEED": seeds[further]},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )

    try:
        with ThreadPoolExecutor(processes) as pool:
            finished = list(pool.map(played, range(processes)))
    except subprocess.TimeoutExpired as error:
        name = type(game).__name__
        raise GameError(f"{name} does not end its matches in another process within {_SECONDS:g} s") from error
    if any(one.returncode == _NOT_THERE for one in finished):
        return None
    for one in finished:
        if one.returncode != 0 or not one.stdout.strip():
            said = one.stderr.decode("utf-8", errors="replace").strip().splitlines() or [f"exit {one.returncode}"]
            raise GameError(f"{type(game).__name__} fails in another process: {said[-1]}")
    return [json.loads(one.stdout.splitlines()[-1]) for one in finished]
