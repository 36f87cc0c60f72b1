"""What a run with actors leaves behind, listens on and prints: nothing, the loopback interface, and its own lines."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lapwing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

SCRIPT = """
import signal, sys, time
from dataclasses import dataclass
from pathlib import Path
import torch
import lapwing
from lapwing.core.types import Match, Transition
from lapwing.distributed.ray_collector import RayCollector
from lapwing.policies.agent import InvalidRule
from lapwing.policies.baselines import Random
from lapwing.rollout.collector import LocalCollector
from lapwing.training.interruption import Interruption


@dataclass(frozen=True)
class Slow:
    steps: int
    num_players: int = 1
    reward_range: tuple = (0.0, 1.0)
    restorable: bool = True

    def initial(self, rng):
        return 0

    def players(self, state):
        return (0,)

    def view(self, state, player):
        return state

    def legal(self, state, player):
        return ("on",)

    def step(self, state, actions, rng):
        time.sleep(0.2)
        Path("imported_from").write_text(lapwing.__file__)
        print("a game speaks", flush=True)
        return Transition(state + 1, {0: 1.0}, terminated=state == self.steps)


def make():
    return LocalCollector(Random(), invalid=InvalidRule()), torch.nn.Linear(1, 1)


collector = RayCollector(make, torch.nn.Linear(1, 1), cpus_per_actor=0.25)
with Interruption() as interruption:
    for iteration in range(1000):
        game = Slow(4 if iteration == 0 else int(sys.argv[1]))
        episodes = collector.play([Match(game, 0, "train", iteration, group, 0, 999) for group in range(4)])
        assert signal.getsignal(signal.SIGTERM) == interruption._receive
        # Asked before the line is printed: the test answers it with a signal, which the next iteration must receive.
        number = interruption.signal_number
        print(f"played {len(episodes)}", flush=True)
        if number:
            collector.close()
            print(f"signal {number}", flush=True)
            break
"""


def processes_of(session):
    """Processes of a session, by /proc: the sixth field of stat is the session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def listening(pids):
    """Local addresses that processes listen on, in hexadecimal, as /proc has them."""
    sockets = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended just now
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(str(link.readlink()))
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    return [line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.fixture
def driver(tmp_path, request):
    """A run in a session of its own, from another path to the sources; nothing of it outlives the test."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "lapwing").symlink_to(Path(lapwing.__file__).parent)
    (tmp_path / "driver.py").write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, "driver.py", str(request.param)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "src"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        line = process.stdout.readline()
        assert line == "played 4\n", line + process.stderr.read()
        yield process
        for pid in processes_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# Ray's own helpers wait a minute for a head that is gone, when that was not their turn to go; they play nothing.
WAITS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def left(session, seconds, *, but=()):
    """What is still there after so many seconds, if anything is."""
    end = time.monotonic() + seconds
    while True:
        found = [name for name in map(title, processes_of(session)) if name and not name.startswith(but)]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)


def title(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:  # it ended just now
        return ""


# F67 on Ray. Fails when its servers are bound to all interfaces.
# Fails when Ray keeps the signals that it takes over, or binds to all interfaces, or prints what workers print.
@pytest.mark.parametrize("driver", [4], indirect=True)
def test_a_signal_waits_for_the_safe_point_and_nothing_is_left(driver, tmp_path):
    session = processes_of(driver.pid)
    assert len(session) > 4
    assert Path((tmp_path / "imported_from").read_text()).is_relative_to(tmp_path)
    addresses = listening(session)
    assert addresses
    assert set(addresses) <= LOOPBACK
    # Ctrl-C goes to the whole group of the terminal.
    os.killpg(driver.pid, signal.SIGINT)
    output, errors = driver.communicate(timeout=120)
    assert driver.returncode == 0
    assert set(output.splitlines()) == {"played 4", "signal 2"}
    assert errors == ""
    assert left(driver.pid, 60) == []


# F71, for SIGKILL. Fails when actors are detached, or when a second signal waits for the safe point as well.
@pytest.mark.parametrize("driver", [900], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_torn_down_leaves_nothing_either(number, driver):
    driver.send_signal(number)
    if number == signal.SIGINT:
        time.sleep(3)
        assert driver.poll() is None
        driver.send_signal(number)  # the second one does not wait for the safe point
    driver.communicate(timeout=120)
    assert driver.returncode != 0
    # Less than the minute that WAITS wait.
    assert left(driver.pid, 50, but=WAITS if number == signal.SIGKILL else ()) == []
