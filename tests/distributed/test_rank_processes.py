"""Two ranks: the same update as one, and what happens when one of them stalls, or dies under torchrun."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lapwing import cli
from lapwing.distributed.accelerate_learner import Team
from lapwing.distributed.ranks import join

sys.path.insert(0, str(Path(__file__).parent))
import rank_worker

# Half a dozen interpreters begin here, and the machine may be busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WORKER = Path(rank_worker.__file__)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}


def environment():
    return {name: value for name, value in os.environ.items() if name not in LAUNCHED} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, toy_folder):
    """What two ranks learnt, in all ways, as files of their weights; and what two said of which one stalled."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder), str(toy_folder("qwen2"))],
        capture_output=True, text=True, timeout=400, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads((folder / "codes.json").read_text())["learn"] == [0, 0], done.stderr[-4000:]
    return folder


@pytest.mark.parametrize(("what", "loss"), rank_worker.CASES)
def test_two_ranks_make_the_update_of_one(learnt, toy_folder, what, loss):
    # Fails when a rank plays another match, when gradients are averaged, or when a clipped norm is that of one rank.
    model, _, _ = rank_worker.learn(what, loss, None, str(toy_folder("qwen2")))
    alone = rank_worker.weights(model)
    for strategy in rank_worker.STRATEGIES:
        first, second = (load_file(learnt / f"{what} {loss} {strategy} {rank}.safetensors") for rank in (0, 1))
        for name, weight in alone.items():
            torch.testing.assert_close(first[name], weight, atol=1e-5, rtol=0)
            assert torch.equal(first[name], second[name]), "both ranks have the same bits"


# F11. Fails when shards are read as if each rank had the whole.
def test_one_rank_reads_the_shards_of_two(learnt, toy_folder):
    # The state of the optimiser is that of replicated ranks, cut otherwise: what one rank goes on with is the same.
    from accelerate import PartialState

    rows = json.loads((learnt / "ddp" / "state" / "state.json").read_text("utf-8"))["rows"]
    ranks = join(5.0)
    try:
        shards, state = Team(ranks, "fsdp").coordinator().load(learnt / "fsdp")
        whole = load_file(learnt / "ddp" / "state" / "learner.safetensors")
        assert shards.keys() == whole.keys()
        for name, tensor in whole.items():
            found = shards[name].full_tensor() if tensor.ndim else shards[name]
            torch.testing.assert_close(found, tensor, atol=1e-5, rtol=0)
    finally:
        ranks.leave()
        PartialState._reset_state()
    assert state["ranks"] == 2
    assert len(list((learnt / "fsdp" / "state" / "shards").iterdir())) == 2
    for one, other in zip(state["rows"], rows, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


# F74. Fails when the collective has no timeout, or its error does not say who is behind.
def test_a_rank_that_stalls_is_named(learnt):
    assert json.loads((learnt / "codes.json").read_text())["stall"] == [1, -signal.SIGTERM]
    said = (learnt / "stall 0.txt").read_text()
    # On a busy machine the time is up later than it should be.
    assert re.search(r"Rank 0 waited \d+ s for rank 1, which last took part in whether to stop \(iteration 6\)", said)
    assert "at the sums of an update (iteration 7)" in said


RUN = (
    *("iterations=400", "checkpoint_every=1", "warm_start.iterations=1", "evaluation.every=0", "evaluation.episodes=4"),
    *("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32", "sampler.group_size=4"),
    *("learner.ranks=2", "learner.timeout_seconds=60"),
)


def train(folder, *options, settings=RUN):
    overrides = [part for setting in settings for part in ("--set", setting)]
    command = [*TORCHRUN, "2", *options, "-m", "--", "lapwing", "train", "frozen_lake_tiny", "--run", str(folder)]
    return subprocess.Popen(
        [*command, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        start_new_session=True,
    )  # fmt: skip


def rows(folder):
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def wait_for_rows(folder, process, count):
    deadline = time.monotonic() + 240.0
    while len(rows(folder)) < count:
        assert process.poll() is None, process.communicate()[1][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def rank_processes(launcher):
    """The processes of the ranks by number: children of the launcher, told apart by their environment."""
    found = {}
    for number in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            variables = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
            found |= {int(v[5:]): int(number) for v in variables if v.startswith(b"RANK=")}
    return found


@pytest.fixture
def ended():
    """Launchers that are ended with all their ranks, whatever became of the test."""
    launchers = []
    yield launchers.append
    for launcher in launchers:
        if launcher.poll() is None:
            launcher.terminate()
            launcher.communicate(timeout=120)


# F72. Fails when ranks that were started again begin anew, or when a save that died is gone on from.
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to find the ranks")
def test_a_rank_that_dies_ends_the_others_and_the_run_goes_on(tmp_path, ended):
    # The survivor must end at once with a sentence, and torchrun's second start must go on and not begin anew.
    folder = tmp_path / "run"
    launcher = train(folder, "--max-restarts", "1")
    ended(launcher)
    wait_for_rows(folder, launcher, 4)
    os.kill(rank_processes(launcher)[1], signal.SIGKILL)
    manifest = folder / "manifest.json"
    deadline = time.monotonic() + 240.0
    while not (history := json.loads(manifest.read_text("utf-8")))["resumed_at"]:
        assert launcher.poll() is None, launcher.communicate()[1][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert history["resumed_at"][0] >= 1
    assert history["ranks"] == [2, 2]
    count = len(rows(folder))
    wait_for_rows(folder, launcher, count + 2)
    # SIGTERM to the launcher reaches all ranks; they save at the same point.
    launcher.terminate()
    _, errors = launcher.communicate(timeout=120)
    # Who was lost is known unless the launcher's store was gone first.
    assert re.search(r"Rank 0 lost (rank 1, which last took part in|another rank)", errors)
    assert json.loads(manifest.read_text("utf-8"))["status"] == "interrupted"
    numbered = [row["iteration"] for row in rows(folder) if row["stage"] == "main"]
    assert numbered == list(range(len(numbered))), "no iteration is missing or there twice"


# F73. Fails when one process begins what two were asked for.
def test_a_run_is_not_begun_by_fewer_processes(tmp_path, monkeypatch, capsys):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    command = ["lapwing", "train", "frozen_lake_tiny", "--run", str(tmp_path / "run"), "--set", "learner.ranks=2"]
    monkeypatch.setattr(sys, "argv", command)
    assert cli.main() == 2
    assert "torchrun --standalone --nproc-per-node 2 -m -- lapwing train frozen_lake_tiny" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (tmp_path / "run").exists()
