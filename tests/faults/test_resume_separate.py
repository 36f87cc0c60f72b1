"""A run whose seats have weights of their own: both are in its checkpoints, and it resumes to the last bit."""

import shutil

import pytest
import torch
import trials
from safetensors.torch import load_file

import lapwing
from lapwing.core.storage import read_json, write_json


# Fails when the second weights, their optimiser, average, version or critic are left out of the checkpoint.
@pytest.mark.slow
def test_a_run_of_two_models_that_was_cut_equals_one_that_was_not(tmp_path, what_counts):
    small = trials.recipes()["separate"]
    finished = lapwing.train(small.recipe, run=tmp_path / "whole", overrides=small.settings).path
    last = max((finished / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    first, second = (load_file(last / name / "model.safetensors") for name in ("model", "seat_1"))
    began = load_file(finished / "checkpoints" / "0" / "seat_1" / "model.safetensors")
    assert any((weight != first[name]).any() for name, weight in second.items())
    assert any((weight != began[name]).any() for name, weight in second.items())
    tensors = load_file(last / "state" / "learner.safetensors")
    of_second = {name.removeprefix("seat_1.") for name in tensors if name.startswith("seat_1.")}
    assert {"version", "average.0", "optimizer.0.exp_avg"} <= of_second
    assert torch.equal(tensors["critic.0.counts"], tensors["critic.0.seat_1.counts"])
    run = shutil.copytree(finished, tmp_path / "cut")
    shutil.rmtree(run / "checkpoints" / last.name)
    for name in ("evaluation.json", "report.html"):
        (run / name).unlink()
    write_json(run / "manifest.json", read_json(run / "manifest.json") | {"status": "running"})
    lapwing.resume(run)
    assert 0 < read_json(run / "manifest.json")["resumed_at"][0] < int(last.name)
    assert what_counts(run) == what_counts(finished)
