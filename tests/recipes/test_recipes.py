"""Every shipped recipe runs from end to end, in small."""

import json

import pytest

import lapwing
from lapwing import build
from lapwing.core.storage import read_json, read_json_lines
from lapwing.training.metrics import METRICS

SHORT = (
    *("iterations=2", "checkpoint_every=1", "warm_start.iterations=2"),
    *("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32"),
    *("sampler.groups=2", "sampler.group_size=4", "warm_start.sampler.groups=2"),
    *("evaluation.episodes=4", "evaluation.development_episodes=4", "evaluation.every=1"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", build.recipe_names())
def test_a_recipe_runs_to_its_report(name, tmp_path):
    run = lapwing.train(name, run=tmp_path / name, overrides=SHORT)
    assert read_json(run.path / "manifest.json")["status"] == "finished"
    rows = read_json_lines(run.path / "metrics.jsonl")
    assert [row["stage"] for row in rows] == ["warm_start"] * 2 + ["main"] * 2
    assert {key for row in rows for key in row} <= set(METRICS) | {"stage", "iteration"}
    assert {"trained", "trained_greedy", "untrained", "random", "heuristic"} <= set(run.evaluation["policies"])
    assert json.loads((run.path / "evaluation.json").read_text("utf-8")) == run.evaluation
    assert name in (run.path / "report.html").read_text("utf-8")
    assert (run.model / "model.safetensors").is_file()
    # Every recipe promises exact on-policy updates: what the sampler and the trainer think of a token is the same.
    assert all(row.get("policy/gap_max", 0.0) < 1e-4 for row in rows if row["stage"] == "main")
