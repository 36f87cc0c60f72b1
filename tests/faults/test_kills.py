"""Kill a run at any moment, continue it, and get the run that nothing interrupted, to the last bit."""

import itertools
import os
import shutil
import signal
import time

import pytest
import trials

import lapwing
from lapwing.core.storage import read_json
from lapwing.training.interruption import Interrupted

# `make soak` kills each recipe as often as it says.
KILLS = int(os.environ.get("LAPWING_SOAK_KILLS", "4"))


# F01. Fails when a resume leaves out the optimiser's moments, the average of the weights, the learner's version, the
# critic, the sampler's pool, what methods remember, past versions or the totals, when iterations that are played again
# stay in the log, or when a folder that was begun cannot be begun again.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "think", "ppo", "average", "memory", "past", "lora"])
def test_f01_a_run_that_is_killed_again_and_again_equals_one_that_was_not(name, server, golden, tmp_path):
    finished = golden(name)
    killed = 0
    for seed in itertools.count():
        folder = tmp_path / str(seed)
        folder.mkdir()
        outcome = trials.kill_and_continue(
            server, finished, folder, seed, kills=min(3, KILLS - killed), to_the_end=False
        )
        assert outcome.differs == [], f"seed {seed}, killed in {outcome.places}"
        killed += len(outcome.places)
        shutil.rmtree(folder)
        if killed >= KILLS:
            break
    assert server.left_after(1.0) == []


# F01. Fails when a run counts as finished before its report is there and a resume then does nothing.
@pytest.mark.slow
def test_f01_a_run_that_was_killed_in_its_report_gets_one(server, golden, tmp_path):
    run = shutil.copytree(golden("tiny").run, tmp_path / "run")
    (run / "report.html").unlink(missing_ok=True)
    command = server.start("resume", run)
    assert command.wait() == 0, command.errors
    assert (run / "report.html").stat().st_size > 10_000
    assert trials.differences(run, golden("tiny").run) == []


class Stop:
    """Sends SIGTERM to this process once an iteration is done, and counts those that were."""

    def __init__(self, after=None):
        self.after = after
        self.iterations = []

    def __call__(self, row):
        if row.get("stage") == "main" and "event" not in row:
            self.iterations.append(row["iteration"])
            if self.after == len(self.iterations):
                os.kill(os.getpid(), signal.SIGTERM)


# F8. Fails when a resume begins one iteration late or early, or takes the stage for done at a boundary.
@pytest.mark.parametrize(
    "after",
    [
        pytest.param(1, id="before a checkpoint's turn"),
        pytest.param(2, id="at a checkpoint's turn", marks=pytest.mark.slow),
        pytest.param(3, id="after a checkpoint's turn", marks=pytest.mark.slow),
        pytest.param(6, id="at the end"),
    ],
)
def test_f8_what_is_left_of_a_run_is_really_run(after, tmp_path, small, small_run, what_counts):
    run = tmp_path / "run"
    first, second = Stop(after), Stop()
    with pytest.raises(Interrupted):
        lapwing.train("frozen_lake_tiny", run=run, overrides=small, watch=first)
    lapwing.resume(run, watch=second)
    assert first.iterations == list(range(after))
    assert second.iterations == list(range(after, 6)), "planned minus done"
    assert read_json(run / "manifest.json")["resumed_at"] == [after]
    assert what_counts(run) == what_counts(small_run)


# F13. Fails when a duration is taken from the wall clock, here or in the totals that a resume goes on with.
def test_f13_a_clock_that_goes_back_makes_no_negative_time(tmp_path, small, monkeypatch):
    now = itertools.count(2e9, -1000.0)
    monkeypatch.setattr(time, "time", lambda: next(now))
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    rows = []

    def watch(row):
        rows.append(row)
        monkeypatch.setenv("TZ", "Pacific/Pago_Pago")  # a day earlier
        time.tzset()

    run = lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=[*small, "iterations=2"], watch=watch)
    monkeypatch.undo()
    time.tzset()
    spent = [value for row in rows for name, value in row.items() if name.startswith("time/")]
    assert len(spent) >= 10
    assert min(spent) >= 0.0
    assert all(0.0 <= seconds < 600.0 for seconds in read_json(run.path / "manifest.json")["seconds"].values())
