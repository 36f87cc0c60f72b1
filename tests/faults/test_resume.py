"""Stop a run at any moment, continue it, and get the run that nothing stopped, to the last bit."""

import json
import shutil
import signal
import sys

import harness
import pytest

import lapwing
from lapwing import build
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.storage import read_json, write_json


@pytest.fixture
def copied(small_run, tmp_path):
    """A copy of the small run as if it had been killed before its evaluation."""
    run = shutil.copytree(small_run, tmp_path / "copied")
    for name in ("evaluation.json", "evaluation_5x5.json", "report.html"):
        (run / name).unlink()
    write_json(run / "manifest.json", read_json(run / "manifest.json") | {"status": "running"})
    return run


# All tests here fail when a resume leaves out the optimiser's moments, the learner's version or the totals, or when the
# metrics of iterations that are played again are not cut; those of cut checkpoints when hashes are not compared. Runs
# that are killed are in test_kills.py, and those that are sent signals in test_signals.py.


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_f3_a_signal_during_the_evaluation_ends_without_a_traceback(number, server, copied, small_run, what_counts):
    command = server.start("resume", copied)
    harness.wait_for(lambda: "evaluating" in command.output, command)
    command.send(number)
    assert command.wait(60.0) == 128 + number
    assert "Traceback" not in command.errors
    assert f"lapwing resume {copied}" in command.errors
    lapwing.resume(copied)
    assert what_counts(copied) == what_counts(small_run)


def test_a_run_that_was_killed_in_its_evaluation_is_only_evaluated(copied, small_run, what_counts):
    rows = (copied / "metrics.jsonl").read_bytes()
    lapwing.resume(copied)
    assert (copied / "metrics.jsonl").read_bytes() == rows
    assert what_counts(copied) == what_counts(small_run)


# The newest checkpoint is cut, then also the one before it: play begins at iteration 4, then at 0.
@pytest.mark.parametrize(
    "broken",
    [pytest.param(["6"], id="the newest"), pytest.param(["6", "4"], id="the newest two", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("size", [0, 1000, -1], ids=["empty", "cut in the middle", "one byte short"])
def test_checkpoints_that_are_cut_are_skipped(copied, broken, size, small_run, what_counts):
    for name in broken:
        weights = copied / "checkpoints" / name / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:size])
    lapwing.resume(copied)
    assert what_counts(copied) == what_counts(small_run)
    assert read_json(copied / "manifest.json")["resumed_at"] == [4 if broken == ["6"] else 0]


@pytest.mark.parametrize(
    "name", ["state/state.json", "state/learner.safetensors", "manifest.json", "model/config.json"]
)
def test_a_checkpoint_that_lacks_a_file_is_skipped(copied, name, small_run, what_counts):
    (copied / "checkpoints" / "6" / name).unlink()
    lapwing.resume(copied)
    assert what_counts(copied) == what_counts(small_run)
    assert read_json(copied / "manifest.json")["resumed_at"] == [4]


@pytest.mark.parametrize("cut", [1, 40], ids=["the line's end is missing", "half a line"])
def test_a_half_written_line_of_metrics_is_played_again(copied, cut, small_run, what_counts):
    shutil.rmtree(copied / "checkpoints" / "6")
    log = copied / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-cut])
    lapwing.resume(copied)
    assert what_counts(copied) == what_counts(small_run)


# F7. Fails when a finished run is evaluated, or written, once more.
def test_resuming_a_finished_run_does_nothing(small_run, capsys, monkeypatch):
    from lapwing import cli

    before = {path: path.stat().st_mtime_ns for path in small_run.rglob("*")}
    monkeypatch.setattr(sys, "argv", ["lapwing", "resume", str(small_run)])
    assert cli.main() == 0
    assert "has finished already; nothing was done" in capsys.readouterr().out
    assert lapwing.resume(small_run).evaluation == read_json(small_run / "evaluation.json")
    assert {path: path.stat().st_mtime_ns for path in small_run.rglob("*")} == before


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no run"):
        lapwing.resume(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_began_from_another_goes_on_after_that_one_is_gone(tmp_path, small_run, small, monkeypatch):
    other = shutil.copytree(small_run, tmp_path / "other")
    run = lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=small, start_from=other).path
    shutil.rmtree(other)
    finished = (run / "evaluation.json").read_bytes()
    write_json(run / "manifest.json", read_json(run / "manifest.json") | {"status": "running"})
    origins, make = [], build.make_stage
    monkeypatch.setattr(build, "make_stage", lambda plan, shop: origins.append(shop.origin) or make(plan, shop))
    lapwing.resume(run)
    assert (run / "evaluation.json").read_bytes() == finished
    # Whoever builds the model again later on finds it: newer checkpoints are deleted as the run goes on.
    assert {origin.weights for origin in origins if origin is not None} == {run / "checkpoints" / "0" / "model"}


def test_a_recipe_of_a_run_that_no_longer_fits_the_weights_is_refused(copied):
    recipe = (copied / "recipe.toml").read_text("utf-8")
    (copied / "recipe.toml").write_text(recipe.replace("hidden = 32", "hidden = 64"), encoding="utf-8")
    with pytest.raises(LapwingError, match="do not fit"):
        lapwing.resume(copied, accept_changes=True)
    assert json.loads((copied / "manifest.json").read_text())["status"] != "finished"
