"""What methods with memory remember goes on after a resume."""

import shutil

import numpy as np
import pytest
from safetensors.torch import load_file

import lapwing
from lapwing.core.storage import read_json, write_json

SETTINGS = (
    *("iterations=4", "checkpoint_every=2", "warm_start.iterations=2", "evaluation.replay_groups=0"),
    *("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32"),
    *("sampler.groups=4", "sampler.group_size=4", "evaluation.episodes=4", "evaluation.development_episodes=4"),
    "credit={name='riskpo', bundle=2}",
)


def remembered(run):
    tensors = load_file(run / "checkpoints" / "4" / "state" / "learner.safetensors")
    return {name: tensor.numpy() for name, tensor in tensors.items() if name.startswith("remembered.")}


# Fails when the quantiles of riskpo begin again.
@pytest.mark.slow
def test_a_resumed_run_remembers_what_the_whole_one_does(tmp_path):
    whole = lapwing.train("frozen_lake_tiny_pcl", run=tmp_path / "whole", overrides=list(SETTINGS)).path
    cut = shutil.copytree(whole, tmp_path / "cut")
    shutil.rmtree(cut / "checkpoints" / "4")
    for name in ("evaluation.json", "report.html"):
        (cut / name).unlink()
    write_json(cut / "manifest.json", read_json(cut / "manifest.json") | {"status": "running"})
    lapwing.resume(cut)
    expected, found = remembered(whole), remembered(cut)
    assert expected["remembered.0.batches"].tolist() == [4]
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
