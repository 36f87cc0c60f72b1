"""Ctrl-C and SIGTERM: saved soon, the command to go on is printed, nothing is left; a second one ends at once."""

import signal
import time

import harness
import pytest
import trials

from lapwing.core.storage import read_json

pytestmark = pytest.mark.slow


# F3, F4. Fails when a signal is seen only between iterations, when a half iteration is saved as a whole one, when the
# sentence lacks the folder, or when a signal outside of the session (while libraries load, in the report) says that
# nothing had begun.
@pytest.mark.parametrize(
    ("name", "number", "share"),
    [
        ("think", signal.SIGINT, 0.3),
        ("think", signal.SIGTERM, 0.9),
        ("isolated", signal.SIGTERM, 0.5),
        ("isolated", signal.SIGINT, 0.7),
    ],
)
def test_f3_f4_a_signal_saves_the_run_and_leaves_nothing(name, number, share, server, golden, tmp_path):
    finished = golden(name)
    outcome = trials.interrupt_and_continue(server, finished, tmp_path, number, share * finished.learning)
    assert outcome.differs == []
    assert outcome.seconds < 10.0


class Slow:
    """Commands whose game waits in the middle of a step for as long as a file is there."""

    def __init__(self, server, folder):
        self.run = folder / "run"
        self.wait = folder / "wait"
        self._server = server
        self._variables = {"LAPWING_TEST_WAIT": str(self.wait), "LAPWING_CACHE": str(folder.parent / "cache")}

    def start(self, *words):
        return self._server.start(*words, "--allow-code", "slow_game", environment=self._variables)

    def train(self):
        small = trials.recipes()["tiny"]
        return self.start(*small.words(self.run, "game={name='slow_game:SlowLake', map_name='4x4'}"))

    def until_it_waits(self, command):
        self.wait.touch()
        harness.wait_for(self.wait.with_suffix(".waits").exists, command)

    def finish(self, command):
        harness.wait_for(lambda: trials.status_of(self.run) == "finished", command)
        command.kill()


@pytest.fixture
def slow(server, tmp_path):
    """Makes such commands in a folder of their own."""

    def make(name):
        (tmp_path / name).mkdir()
        return Slow(server, tmp_path / name)

    return make


# F3. Fails when half an iteration is saved as a whole one, or as nothing.
def test_f3_half_an_iteration_is_played_again(slow):
    golden, half = slow("golden"), slow("half")
    golden.finish(golden.train())
    command = half.train()
    harness.wait_for(lambda: trials.logged(half.run) >= 2 + 4, command)  # two of them are the warm start
    half.until_it_waits(command)
    made = trials.logged(half.run) - 2
    command.send(signal.SIGTERM)
    half.wait.unlink()
    assert command.wait(10.0) == 143
    assert f"Saved as it was before iteration {made + 1} of 8" in command.errors
    half.finish(half.start("resume", half.run))
    assert read_json(half.run / "manifest.json")["resumed_at"] == [made]
    assert trials.differences(half.run, golden.run) == []


# F4. Fails when the second signal waits for the safe point as the first does.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_f4_a_second_signal_ends_the_run_at_once(number, server, slow):
    run = slow("run")
    command = run.train()
    run.until_it_waits(command)
    command.send(number)
    assert command.wait(1.0) is None, "the first waits for the safe point"
    started = time.monotonic()
    command.send(number)
    assert command.wait(10.0) == 128 + number, command.errors
    assert time.monotonic() - started < 4.0
    assert "stopped at once" in command.errors
    assert "Traceback" not in command.errors
    assert server.left_after(1.0) == []
    run.wait.unlink()
    if trials.status_of(run.run):
        run.finish(run.start("resume", run.run))


# F5. Fails when a worker waits for orders from a process that is gone.
def test_f5_workers_end_when_their_run_is_killed(server, tmp_path):
    run = tmp_path / "run"
    words = trials.recipes()["isolated"].words(run, "iterations=400")
    command = server.start(*words, environment={"LAPWING_CACHE": str(tmp_path / "cache")})
    harness.wait_for(lambda: len(server.left()) >= 3 and trials.logged(run) > 4, command)
    assert len(server.left()) >= 3, command.errors
    command.kill()
    assert server.left_after(5.0) == []
