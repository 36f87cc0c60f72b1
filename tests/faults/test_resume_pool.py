"""A run against past versions of itself: the pool is in its checkpoints, and it resumes to the last bit."""

import shutil

import pytest
import trials
from safetensors.torch import load_file

import lapwing
from lapwing.core.storage import read_json, read_json_lines, write_json


def settings(toy=None):
    small = trials.recipes()["past"].settings
    if toy is None:
        return small
    own = trials.recipes(toy)["lora"].settings
    kept = [text for text in small if not text.startswith(("model.", "sampler.groups", "sampler.group_size"))]
    return (*kept, *[text for text in own if text.startswith(("model.", "credit", "selection", "sampler.group"))])


# Fails when the pool, or one of its versions, is left out of the checkpoint, and when a version that played before the
# checkpoint goes on with what its generator remembers.
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole", "lora"])
def test_a_run_with_a_pool_that_was_cut_equals_one_that_was_not(kind, tmp_path, toy_folder, what_counts):
    toy = toy_folder("qwen2") if kind == "lora" else None
    finished = lapwing.train("frozen_lake_tiny", run=tmp_path / "whole", overrides=settings(toy)).path
    rows = [row for row in read_json_lines(finished / "metrics.jsonl") if row["stage"] == "main"]
    met = [{name.partition(":")[2] for name in row if name.startswith("rollout/past_episodes:")} for row in rows]
    # Every second iteration one joins, and two are kept.
    allowed = [{"now", str(i - i % 2), str(i - i % 2 - 2)} - {"-2"} for i in range(len(rows))]
    assert all(some <= able for some, able in zip(met, allowed, strict=True))
    assert any(some - {"now"} for some in met)
    last = max((finished / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    tensors = load_file(last / "state" / "learner.safetensors")
    versions = {name.split(".")[1] for name in tensors if name.startswith("past.")}
    newest = (int(last.name) - 1) // 2 * 2
    assert versions == {str(newest - 2), str(newest)}
    assert kind == "whole" or all(".lora_" in name for name in tensors if name.startswith("past."))
    run = shutil.copytree(finished, tmp_path / "cut")
    shutil.rmtree(run / "checkpoints" / last.name)
    for name in ("evaluation.json", "report.html"):
        (run / name).unlink()
    write_json(run / "manifest.json", read_json(run / "manifest.json") | {"status": "running"})
    lapwing.resume(run)
    assert 0 < read_json(run / "manifest.json")["resumed_at"][0] < int(last.name)
    assert what_counts(run) == what_counts(finished)
