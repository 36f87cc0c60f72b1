"""Checkpoints: killed while one is written, damaged in every way, beside strangers, on a full disk."""

import os
import resource
import shutil
import signal
import sys

import numpy as np
import pytest
import torch

from lapwing.core.errors import LapwingError
from lapwing.core.storage import leftovers, read_json, temporary_beside, write_json
from lapwing.training.checkpoint import (
    by_age,
    is_whole,
    load_state,
    newest_whole,
    problems,
    prune,
    save_checkpoint,
)

FILES = (
    "manifest.json",
    "model/config.json",
    "model/model.safetensors",
    "state/learner.safetensors",
    "state/state.json",
)


@pytest.fixture
def save(model, tokenizer):
    """Write a checkpoint whose number is in everything that it holds."""

    def write(run, number):
        save_checkpoint(
            run / "checkpoints" / str(number),
            model=model,
            tokenizer=tokenizer,
            max_tokens=4,
            tensors={"optimizer.0.step": torch.tensor(float(number)), "optimizer.0.exp_avg": torch.full((64,), number)},
            state={"iteration": number, "sampler": {}, "totals": {}},
        )

    return write


@pytest.fixture
def run(tmp_path, save):
    """A run with the checkpoints 0, 2 and 4."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for number in (0, 2, 4):
        save(tmp_path / "run", number)
    return tmp_path / "run"


def killed_after(operations, work, below):
    """Do some work in a child that kills itself before its n-th operation on files; whether it got that far."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)
    left = operations
    kinds = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "fsync")

    def count(event, arguments):
        nonlocal left
        if event == "fsync" or (event in kinds and below in str(arguments)):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    fsync = os.fsync
    os.fsync = lambda descriptor: (count("fsync", ()), fsync(descriptor))[1]
    sys.addaudithook(count)
    try:
        work()
    finally:
        os._exit(0)


# Fails when the files are written in place, when the old folder is deleted before the new one is renamed, or when old
# checkpoints are pruned before the new one is there.
@pytest.mark.parametrize(("number", "allowed"), [(6, ("4", "6")), (4, ("2", "4"))], ids=["new", "over the newest"])
def test_f02_a_kill_before_any_operation_of_a_save_leaves_a_whole_checkpoint(run, save, tmp_path, number, allowed):
    def work():
        save(there, number)
        prune(there, 2)

    for operations in range(400):
        there = tmp_path / "again"
        shutil.copytree(run, there)
        was_killed = killed_after(operations, work, str(there))
        newest, skipped = newest_whole(there)
        assert skipped == {}
        assert newest.name in allowed
        tensors, state = load_state(newest)
        assert state["iteration"] == int(newest.name) == float(tensors["optimizer.0.step"])
        assert is_whole(there / "checkpoints" / "0")
        assert len(by_age(there)) >= (3 if number == 6 else 2)
        shutil.rmtree(there)
        if not was_killed:
            break
    assert operations > 40
    assert newest.name == str(number)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("cut", ["empty", "one byte", "half", "one byte short"])
def test_f14_a_file_that_is_cut_is_found_and_named(run, name, cut):
    # Fails when sizes and hashes are not compared.
    path = run / "checkpoints" / "4" / name
    content = path.read_bytes()
    path.write_bytes(content[: {"empty": 0, "one byte": 1, "half": len(content) // 2, "one byte short": -1}[cut]])
    newest, skipped = newest_whole(run)
    assert newest.name == "2"
    assert list(skipped) == ["4"]
    assert any(name in reason for reason in skipped["4"])


def test_f15_every_flipped_bit_is_found(run):
    # Fails when only sizes are compared. `make soak` flips a thousand.
    random = np.random.default_rng(0)
    checkpoint = run / "checkpoints" / "4"
    for _ in range(int(os.environ.get("LAPWING_SOAK_FLIPS", "60"))):
        path = checkpoint / FILES[1 + int(random.integers(len(FILES) - 1))]
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        assert problems(checkpoint) == [f"{path.relative_to(checkpoint)} has changed"]
        path.write_bytes(content)
    assert is_whole(checkpoint)


@pytest.mark.parametrize("name", ["model/model.safetensors", "state/learner.safetensors"])
def test_f16_a_tail_of_zeros_is_found(run, name):
    # Fails when only the header is looked at: such a file loads, with wrong values.
    path = run / "checkpoints" / "4" / name
    content = path.read_bytes()
    path.write_bytes(content[:-32] + bytes(32))
    assert newest_whole(run)[0].name == "2"


@pytest.mark.parametrize("name", FILES)
def test_f17_a_missing_file_is_named(run, name):
    (run / "checkpoints" / "4" / name).unlink()
    newest, skipped = newest_whole(run)
    assert newest.name == "2"
    assert len(skipped["4"]) == 1
    assert name in skipped["4"][0]
    assert "missing" in skipped["4"][0]


def test_f17_a_file_that_does_not_belong_is_named_and_left_alone(run, save):
    # Fails when strangers are overlooked: another index would make a loader read other weights.
    stranger = run / "checkpoints" / "4" / "model" / "model.safetensors.index.json"
    stranger.write_text("{}")
    newest, skipped = newest_whole(run)
    assert newest.name == "2"
    assert skipped["4"] == ["model/model.safetensors.index.json does not belong to it"]
    assert stranger.read_text() == "{}"
    # What an operating system leaves everywhere changes nothing.
    stranger.rename(stranger.with_name(".DS_Store"))
    assert newest_whole(run)[0].name == "4"


def test_f17_what_has_no_manifest_is_never_deleted(run, save):
    # Fails when folders are pruned by their name alone.
    (run / "checkpoints" / "1").mkdir()
    (run / "checkpoints" / "1" / "mine.txt").write_text("mine")
    (run / "checkpoints" / "notes").mkdir()
    save(run, 6)
    prune(run, 2)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"0", "1", "4", "6", "notes"}
    assert (run / "checkpoints" / "1" / "mine.txt").read_text() == "mine"


def test_old_checkpoints_stay_while_the_newest_does_not_verify(run, save):
    # Fails when pruning does not read the new one back.
    save(run, 6)
    (run / "checkpoints" / "6" / "state" / "state.json").write_text("{")
    prune(run, 1)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"0", "2", "4", "6"}


def test_the_checkpoint_to_roll_back_to_outlives_those_that_signals_made(run, save):
    # Fails when only the newest are kept: 5 and 6 are no multiples of 4.
    for number in (5, 6):
        save(run, number)
    prune(run, 2, every=4)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"0", "4", "5", "6"}


def test_f18_what_a_dead_save_left_is_known_by_its_name_and_its_process(tmp_path):
    # Fails when the process is not looked for, or other hidden files are taken for ours.
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    alive = tmp_path / f".6.lapwing-{os.getppid()}-0123abcd.tmp"
    gone = tmp_path / f".6.lapwing-{dead}-0123abcd.tmp"
    other = tmp_path / ".6.0123abcd.tmp"
    for path in (alive, gone, other, tmp_path / ".hidden"):
        path.mkdir()
    assert leftovers(tmp_path) == [gone]
    assert temporary_beside(tmp_path / "6").name.startswith(f".6.lapwing-{os.getpid()}-")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_f20_a_disk_that_is_full_costs_the_new_checkpoint_and_nothing_else(run, save):
    # Fails when the error of a library is not recognised, or half a checkpoint is left.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for size in (10, 2000, 20_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            with pytest.raises(OSError, match=r"."):
                save(run, 6)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert {path.name for path in (run / "checkpoints").iterdir()} == {"0", "2", "4"}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert newest_whole(run)[0].name == "4"


def test_f24_a_folder_of_checkpoints_may_lie_elsewhere_and_links_are_not_deleted(run, save, tmp_path):
    elsewhere = tmp_path / "scratch"
    (run / "checkpoints").rename(elsewhere)
    (run / "checkpoints").symlink_to(elsewhere)
    (elsewhere / "2").rename(tmp_path / "two")
    (elsewhere / "2").symlink_to(tmp_path / "two")
    save(run, 6)
    prune(run, 2)
    assert newest_whole(run)[0] == run / "checkpoints" / "6"
    assert (elsewhere / "2").is_symlink()
    assert is_whole(tmp_path / "two")


def test_f24_a_pointer_to_the_latest_is_never_believed(run):
    (run / "checkpoints" / "latest").symlink_to("2")
    (run / "latest").write_text("2")
    assert newest_whole(run)[0].name == "4"


def test_f10_a_checkpoint_of_an_older_schema_is_read_and_one_of_a_newer_is_named(run):
    checkpoint = run / "checkpoints" / "4"
    manifest, state = read_json(checkpoint / "manifest.json"), read_json(checkpoint / "state" / "state.json")
    write_json(checkpoint / "state" / "state.json", state | {"schema_version": 1})
    old = load_state(checkpoint)[1]
    assert (old["stage"], old["row"], old["iteration"]) == ("main", None, 4)
    write_json(checkpoint / "state" / "state.json", state | {"schema_version": 99})
    with pytest.raises(LapwingError, match="schema version 99"):
        load_state(checkpoint)
    write_json(checkpoint / "manifest.json", manifest | {"schema_version": 99})
    assert newest_whole(run)[1] == {"4": ["it has schema version 99, and this Lapwing reads 2"]}
