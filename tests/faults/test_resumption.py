"""What a run goes on from: one writer, the recipe that it began with, whole logs, and room on the disk."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest
import tomli_w

import lapwing
from lapwing import cli
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.storage import read_json, read_json_lines, write_json
from lapwing.training.checkpoint import by_age
from lapwing.training.resumption import differences
from lapwing.training.run_folder import RunFolder
from lapwing.training.run_lock import RunLock


@pytest.fixture
def copied(small_run, tmp_path):
    """A copy of the small run as if it had been killed before its evaluation."""
    run = shutil.copytree(small_run, tmp_path / "copied")
    for name in ("evaluation.json", "evaluation_5x5.json", "report.html"):
        (run / name).unlink()
    write_json(run / "manifest.json", read_json(run / "manifest.json") | {"status": "running"})
    return run


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# F6. Fails when no lock is taken, when it is not let go of, or when one that a dead process left counts.
def test_f6_a_second_writer_is_refused_with_the_name_of_the_first(copied):
    before = contents(copied)
    with RunLock(copied), pytest.raises(UserError, match=f"being written by process {os.getpid()} on .* since 20"):
        lapwing.resume(copied)
    assert contents(copied) == before


def test_f6_what_a_dead_process_left_of_its_lock_does_not_count(copied, small_run, what_counts):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from lapwing.training.run_lock import RunLock\n"
            f"with RunLock(Path({str(copied)!r})): print(1, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"1\n"
    with pytest.raises(UserError, match=f"process {holder.pid} on"):
        lapwing.resume(copied)
    holder.kill()
    holder.communicate()
    assert (copied / ".owner.json").is_file()
    lapwing.resume(copied)
    assert what_counts(copied) == what_counts(small_run)
    assert not (copied / ".owner.json").exists()
    assert not (copied / ".lock").exists()


def test_f6_of_two_that_begin_in_one_folder_one_is_refused(tmp_path, small):
    # Fails when the folder is looked at before it is locked, and not after.
    folder, outcomes = tmp_path / "run", []

    def begin():
        try:
            outcomes.append(lapwing.train("frozen_lake_tiny", run=folder, overrides=(*small, "iterations=0")))
        except UserError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(refused) == 1
    assert "is being written by" in refused[0] or "is not empty" in refused[0]
    assert read_json(folder / "manifest.json")["status"] == "finished"


# F7 is in test_resume.py: resuming a finished run does nothing.


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("learning_rate = 0.00", "learning_rate = 0.10", r"main\.optimizer\.learning_rate: 0\.0.* -> 0\.1"),
        ("size = 4", "size = 5", r"main\.game\.size: 4 -> 5"),
        ("seed = 0", "seed = 1", r"seed: 0 -> 1"),
        ("hidden = 32", "hidden = 64", r"main\.model\.hidden: 32 -> 64"),
        ("iterations = 6", "iterations = 8", r"main\.iterations: 6 -> 8"),
    ],
    ids=["learning rate", "game", "seed", "size of the model", "iterations"],
)
def test_f9_a_recipe_that_was_changed_is_refused_with_every_difference(copied, old, new, change):
    # Fails when the recipe in the folder is read as if the run had begun with it.
    recipe = copied / "recipe.toml"
    text = recipe.read_text("utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new), encoding="utf-8")
    before = contents(copied)
    with pytest.raises(UserError, match=rf"(?s)--accept-changes\n.*  {change}"):
        lapwing.resume(copied)
    assert contents(copied) == before


def test_f9_an_accepted_change_is_kept_and_further_iterations_are_made(copied, small_run):
    # Fails when the finished iterations are made again, or the change is refused once more.
    text = (copied / "recipe.toml").read_text("utf-8")
    assert text.count("iterations = 6") == 1
    (copied / "recipe.toml").write_text(text.replace("iterations = 6", "iterations = 8"), encoding="utf-8")
    lapwing.resume(copied, accept_changes=True)
    rows = read_json_lines(copied / "metrics.jsonl")
    assert [row["iteration"] for row in rows if row["stage"] == "main"] == list(range(8))
    before = read_json_lines(small_run / "metrics.jsonl")
    assert [row["update/loss"] for row in rows[:9]] == [row["update/loss"] for row in before]
    assert read_json(copied / "manifest.json")["resumes"][-1]["changes"] == ["main.iterations: 6 -> 8"]
    assert lapwing.resume(copied).path == copied


def test_f9_a_data_file_that_was_changed_is_refused(tmp_path, small):
    # Fails when only the recipe's text is compared.
    told = [{"role": "user", "content": "up"}, {"role": "assistant", "content": "up"}]
    data = tmp_path / "told.jsonl"
    data.write_text(json.dumps({"messages": told}) + "\n", encoding="utf-8")
    overrides = (
        *small,
        "iterations=0",
        *("warm_start.collector.name=demonstrations", f"warm_start.collector.path='{data}'"),
        *("warm_start.collector.episodes=1", "warm_start.iterations=1"),
    )
    recipe = tmp_path / "cloned.toml"
    text = Path(lapwing.__file__).parent.joinpath("recipes", "frozen_lake_tiny.toml").read_text("utf-8")
    recipe.write_text(re.sub(r"\[stage\.policy\.teacher\][^\[]*|teacher = .*", "", text), encoding="utf-8")
    run = lapwing.train(str(recipe), run=tmp_path / "run", overrides=overrides).path
    with data.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"messages": told}) + "\n")
    write_json(run / "manifest.json", read_json(run / "manifest.json") | {"status": "running"})
    with pytest.raises(UserError, match=r"(?s)--accept-changes\n  the file .*told\.jsonl has changed"):
        lapwing.resume(run)


def test_differences_name_every_setting_once():
    before = {"seed": 0, "stage": [{"name": "main", "game": {"size": 4, "gone": True}, "annotate": [{"name": "a"}]}]}
    now = {"seed": 0, "stage": [{"name": "main", "game": {"size": 5, "new": "x"}, "annotate": [{"name": "b"}]}]}
    assert differences(before, before) == []
    assert differences(before, now) == [
        "main.game.size: 4 -> 5",
        "main.game.gone: True -> nothing",
        "main.annotate.0.name: 'a' -> 'b'",
        "main.game.new: nothing -> 'x'",
    ]


def test_f10_other_versions_are_said_and_kept(copied, small_run, what_counts):
    # Fails when versions are not compared.
    manifest = read_json(copied / "manifest.json")
    manifest["versions"]["torch"] = "1.0"
    manifest["lapwing"] = "0.0.1"
    write_json(copied / "manifest.json", manifest)
    said = []
    lapwing.resume(copied, watch=said.append)
    warnings = [row["text"] for row in said if row.get("event") == "warning"]
    assert [" ".join(text.split()[:6]) for text in warnings] == [
        "the run began with lapwing 0.0.1",
        "the run began with torch 1.0",
    ]
    assert read_json(copied / "manifest.json")["resumes"][-1]["warnings"] == warnings
    assert what_counts(copied) == what_counts(small_run)


def test_f14_what_was_skipped_is_named_and_kept_in_the_manifest(copied, small_run, what_counts):
    (copied / "checkpoints" / "6" / "state" / "state.json").write_text("{")
    said = []
    lapwing.resume(copied, watch=said.append)
    text = next(row["text"] for row in said if row.get("event") == "warning")
    assert text.startswith("checkpoint 6 was skipped: state/state.json has 1 bytes instead of")
    resume = read_json(copied / "manifest.json")["resumes"][-1]
    assert (resume["iteration"], list(resume["skipped"])) == (4, ["6"])
    assert what_counts(copied) == what_counts(small_run)


def test_f18_leftovers_of_dead_saves_are_removed_and_counted(copied):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for folder, name in (("checkpoints", "6"), ("", "manifest.json"), ("episodes", "main-000006.jsonl")):
        (copied / folder / f".{name}.lapwing-{gone.pid}-0123abcd.tmp").mkdir()
    lapwing.resume(copied)
    assert read_json(copied / "manifest.json")["resumes"][-1]["leftovers"] == 3
    assert [path.name for path in copied.rglob(".*")] == []


# F19. Fails when a run without a checkpoint that can be used begins anew unasked.
def test_f19_without_a_checkpoint_that_can_be_used_nothing_is_done_unless_it_is_asked_for(
    copied, small_run, what_counts, monkeypatch, capsys
):
    for path in (copied / "checkpoints").rglob("state.json"):
        path.write_text("{")
    before = contents(copied)
    monkeypatch.setattr(sys, "argv", ["lapwing", "resume", str(copied)])
    assert cli.main() == 2
    error = capsys.readouterr().err
    assert f"lapwing resume {copied} --anew" in error
    assert all(f"  {name}: state/state.json has 1 bytes" in error for name in (6, 4, 0))
    assert contents(copied) == before
    lapwing.resume(copied, anew=True)
    assert what_counts(copied) == what_counts(small_run)


def test_f20_a_log_on_a_full_disk_keeps_no_half_line(tmp_path):
    # Fails when what was written of a line stays.
    folder = RunFolder(tmp_path)
    folder.append_metrics({"a": 1})
    whole = folder.metrics.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 5, limits[1]))
        with pytest.raises(LapwingError, match=r"metrics\.jsonl could not be written: .*make room.*lapwing resume"):
            folder.append_metrics({"b": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert folder.metrics.read_bytes() == whole


def test_f20_a_run_whose_disk_fills_up_stops_with_advice_and_goes_on_later(tmp_path, small, small_run, what_counts):
    run = tmp_path / "run"

    def fill(row):
        if row.get("stage") == "main" and row.get("iteration") == 2:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, ((run / "metrics.jsonl").stat().st_size + 100, limit))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(LapwingError, match=rf"(?i)make room.*lapwing resume {run}"):
            lapwing.train("frozen_lake_tiny", run=run, overrides=small, watch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    lapwing.resume(run)
    assert what_counts(run) == what_counts(small_run)


def test_f21_too_little_room_is_said_before_the_first_iteration(tmp_path, small, monkeypatch):
    # Fails when the room is not looked at, or the folder stays behind.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**5, 10**5))
    with pytest.raises(UserError, match=r"has 97\.7 KiB free, and 4 checkpoints of .* need .*--run"):
        lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=small)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["a file", "below a file", "no rights", "too long", "a dead link"])
def test_f22_a_folder_that_cannot_be_written_is_refused_before_anything_is_loaded(kind, tmp_path):
    # Fails when the model is built first. In a process of its own, because root may write everywhere.
    (tmp_path / "file").write_text("mine")
    (tmp_path / "closed").mkdir(mode=0o555)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deep")
    target = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "run",
        "no rights": Path("/proc/run"),
        "too long": tmp_path / ("x" * 300),
        "a dead link": tmp_path / "link",
    }[kind]
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        lapwing.train("frozen_lake_tiny", run=target)
    assert time.monotonic() - started < 2.0
    assert str(target)[:40] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_that_died_at_its_birth_can_be_begun_again(tmp_path, small):
    # Fails when a folder without a manifest counts as somebody's.
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.toml").write_text("half", encoding="utf-8")
    assert lapwing.train("frozen_lake_tiny", run=run, overrides=(*small, "iterations=0")).path == run


def test_f23_lines_beyond_the_checkpoint_and_half_ones_are_cut_and_counted(copied, small_run, what_counts):
    # Fails when they are kept, or not counted.
    shutil.rmtree(copied / "checkpoints" / "6")
    log = copied / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-30])
    lapwing.resume(copied)
    resume = read_json(copied / "manifest.json")["resumes"][-1]
    assert (resume["iteration"], resume["cut_lines"], resume["cut_half_lines"]) == (4, 1, 1)
    assert what_counts(copied) == what_counts(small_run)


def test_f23_a_checkpoint_that_is_ahead_of_the_log_is_not_used(copied, small_run, what_counts):
    # Fails when the log is not compared with the checkpoint: after a power cut its end may be gone.
    log = copied / "metrics.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:7]))
    said = []
    lapwing.resume(copied, watch=said.append)
    warnings = [row["text"] for row in said if row.get("event") == "warning"]
    assert warnings == ["checkpoint 6 was skipped: the log lacks 2 of the iterations before it"]
    assert what_counts(copied) == what_counts(small_run)


def test_a_run_that_lost_an_iteration_does_not_look_finished(copied):
    # Fails when nobody counts: the worst resume trains nothing and ends with success.
    rows = read_json_lines(copied / "metrics.jsonl")
    rows[5]["iteration"] = 99
    (copied / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for path in by_age(copied)[1:]:
        shutil.rmtree(path)
    rows[5]["iteration"] = 2
    lapwing.resume(copied)
    assert [row["iteration"] for row in read_json_lines(copied / "metrics.jsonl")][3:] == list(range(6))


def test_the_recipe_of_a_run_reads_back_as_it_was_kept(small_run):
    manifest = read_json(small_run / "manifest.json")
    assert manifest["recipe_text"] == (small_run / "recipe.toml").read_text("utf-8")
    assert tomli_w.dumps(tomllib.loads(manifest["recipe_text"])) == manifest["recipe_text"]
