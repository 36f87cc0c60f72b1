"""Games that fail on purpose. They are in a module of their own so that worker processes can import them."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lapwing.core.types import Transition


@dataclass(frozen=True)
class Place:
    """Where a walker is; `who` tells the walkers apart."""

    who: int
    place: int


@dataclass(frozen=True)
class Doom:
    """What happens to a walker in a step: once, if there is a folder to remember it in, else always."""

    who: int
    step: int
    kind: str


@dataclass(frozen=True)
class Walk:
    """Go or wait; going succeeds half of the time; 1 is paid at the `length`, where the walk ends.

    `dooms` say what happens to whom, and `folder` remembers what has happened.
    """

    length: int = 4
    dooms: tuple[Doom, ...] = ()
    folder: str = ""
    payload: Any = None

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True

    def initial(self, rng):
        state = Place(int(rng.integers(2**40)), 0)
        self.suffer(state, "initial")
        return state

    def players(self, state):
        self.suffer(state, "players")
        return (0,)

    def view(self, state, player):
        self.suffer(state, "view")
        return ("walk", state.who % 7, state.place)

    def legal(self, state, player):
        self.suffer(state, "legal")
        return ("wait", "go")

    def step(self, state, actions, rng):
        happened = self.suffer(state, "step")
        place = state.place + int(actions[0] == "go" and rng.random() < 0.5)
        ended = place == self.length
        transition = Transition(
            Place(state.who, place), {0: float(ended)}, terminated=ended, success={0: True} if ended else None
        )
        return happened or transition

    def heuristic(self, state, player):
        return "go" if state.place >= 0 else "wait"

    def suffer(self, state, method):
        """Let happen what is to happen here."""
        for doom in self.dooms:
            name, _, where = doom.kind.partition("@")
            if doom.who == state.who and doom.step == state.place and (where or "step") == method and self.fresh(doom):
                return KINDS[name](self)
        return None

    def fresh(self, doom):
        if not self.folder:
            return True
        try:
            os.close(os.open(Path(self.folder) / f"{doom.who}-{doom.step}-{doom.kind}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


@dataclass(frozen=True)
class Handle(Walk):
    """The same walk, but its state is a handle: it cannot be stepped twice, and cannot leave its process."""

    memory: dict = field(default_factory=dict, compare=False)
    restorable: ClassVar[bool] = False

    def initial(self, rng):
        state = Walk.initial(self, rng)
        handle = Kept(state)
        return handle

    def players(self, state):
        return Walk.players(self, state.inner)

    def view(self, state, player):
        return Walk.view(self, state.inner, player)

    def legal(self, state, player):
        return Walk.legal(self, state.inner, player)

    def heuristic(self, state, player):
        return Walk.heuristic(self, state.inner, player)

    def step(self, state, actions, rng):
        transition = Walk.step(self, state.inner, actions, rng)
        if not isinstance(transition, Transition):
            return transition
        state.inner = transition.state
        return Transition(state, transition.reward, transition.terminated, transition.success)


class Kept:
    """A handle on something; it refuses to be pickled."""

    def __init__(self, inner):
        self.inner = inner

    def __reduce__(self):
        raise TypeError("a handle cannot be sent")


@dataclass(frozen=True)
class Pays(Walk):
    """Pays its `payload` for the first step."""

    def step(self, state, actions, rng):
        transition = Walk.step(self, state, actions, rng)
        reward = np.array([1.0, 0.0]) if self.payload == "array" else self.payload
        return Transition(transition.state, {0: reward}, terminated=transition.terminated)


@dataclass(frozen=True)
class Shows(Walk):
    """Shows its `payload`."""

    def view(self, state, player):
        return ("board", self.payload)


@dataclass(frozen=True)
class ShowsItsProcess(Walk):
    """Shows where it is stepped, and what heavy modules are there."""

    def view(self, state, player):
        return ("process", os.getpid(), *sorted({"torch", "transformers", "scipy"} & set(sys.modules)))


@dataclass(frozen=True)
class Crawls(Walk):
    """Is slow in the first process that plays it, and in no other."""

    slow: ClassVar[list] = []

    def step(self, state, actions, rng):
        if not self.slow:
            self.slow.append(self.fresh(Doom(0, 0, "crawl")))
        time.sleep(0.02 if self.slow[0] else 0.0004)
        return Walk.step(self, state, actions, rng)


@dataclass(frozen=True)
class Forever(Walk):
    """Never ends."""

    def step(self, state, actions, rng):
        return Transition(Place(state.who, state.place + 1), {0: 0.0})


@dataclass(frozen=True)
class Leaks(Walk):
    """Keeps so many MiB more with every step."""

    mebibytes: int = 8
    kept: ClassVar[list] = []

    def step(self, state, actions, rng):
        self.kept.append(b"x" * (self.mebibytes << 20))
        return Walk.step(self, state, actions, rng)


@dataclass(frozen=True)
class ByTheClock(Walk):
    """Goes by the time of day."""

    def step(self, state, actions, rng):
        return Walk.step(self, Place(state.who, state.place), {0: "go" if time.time_ns() % 3 else "wait"}, rng)


@dataclass(frozen=True)
class ByTheHash(Walk):
    """Shows what depends on the hash seed of the process."""

    def view(self, state, player):
        return ("walk", hash("anything") % 1000, state.place)


@dataclass(frozen=True)
class SetsGlobalChance(Walk):
    """Seeds the generator that others draw from."""

    def step(self, state, actions, rng):
        import random

        random.seed(state.place)
        return Walk.step(self, state, actions, rng)


def hang(game):
    time.sleep(1000)


def hang_in_c(game):
    return 7 ** (10**9)  # holds the interpreter for hours


def segfault(game):
    ctypes.string_at(0)


def kill(game):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(game):
    os._exit(0)


def end_the_program(game):
    sys.exit("the game is over")


def fail(game):
    raise ValueError("the dice are gone \x1b[31m")


def fail_without_words(game):
    raise Mute


class Mute(Exception):
    """An error whose text is an error."""

    def __str__(self):
        raise RuntimeError("no words")


def hang_with_children(game):
    child = subprocess.Popen(["sleep", "1000"])
    Path(game.folder, "child").write_text(str(child.pid))
    time.sleep(1000)


def print_a_lot(game):
    for _ in range(3000):
        sys.stdout.write("spam " * 20 + "\n")
    os.write(2, b"\xff raw\n")


def answer_twice(game):
    """Send the last answer once more, as a late one would come."""
    import pickle
    import struct

    from lapwing.rollout._worker_tasks import Done

    pipe = max(int(path.name) for path in Path("/proc/self/fd").iterdir() if is_answer_pipe(int(path.name)))
    for task in (1, 10**9):
        content = pickle.dumps(Done(task, None, 0))
        os.write(pipe, struct.pack("<Q", len(content)) + content)


def is_answer_pipe(number):
    import fcntl
    import stat

    try:
        is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
        return number > 2 and is_pipe and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    except OSError:
        return False


def return_rubbish(game):
    return ("state", 0.0, False)


def take_all_memory(game):
    return bytearray(1 << 38)


def come_back_twice(game):
    """Fork, and let the child go on as if it were the worker."""
    os.fork()


KINDS = {
    function.__name__: function
    for function in (
        *(hang, hang_in_c, segfault, kill, leave, end_the_program, fail, fail_without_words, hang_with_children),
        *(print_a_lot, answer_twice, return_rubbish, take_all_memory, come_back_twice),
    )
}
