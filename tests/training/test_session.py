"""A whole run: what its folder holds, what is logged, and that it repeats."""

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w

import lapwing
from lapwing import build
from lapwing.core.errors import UserError
from lapwing.core.storage import read_json, read_json_lines
from lapwing.training.metrics import METRICS, as_described
from lapwing.training.run_folder import RunFolder

QUICK = ("iterations=2", "warm_start.iterations=1", "evaluation.episodes=4", "evaluation.development_episodes=2")


@pytest.fixture
def train(tmp_path, small):
    def run(name="run", recipe="frozen_lake_tiny", overrides=(), **settings):
        changes = [*small, *QUICK, *overrides]
        return lapwing.train(recipe, run=tmp_path / name, overrides=changes, **settings).path

    return run


def test_a_run_folder_holds_what_the_documentation_says(small_run):
    assert {path.name for path in small_run.iterdir()} == {
        "recipe.toml",
        "manifest.json",
        "metrics.jsonl",
        "episodes",
        "checkpoints",
        "evaluation.json",
        "evaluation_5x5.json",
        "replay.json",
        "report.html",
    }
    # The first checkpoint is the untrained model; of the others the newest two are kept.
    assert {path.name for path in (small_run / "checkpoints").iterdir()} == {"0", "4", "6"}
    last = small_run / "checkpoints" / "6"
    assert {path.name for path in last.iterdir()} == {"manifest.json", "model", "state"}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in (last / "model").iterdir()}


def test_the_manifest_says_what_made_the_run(small_run):
    manifest = read_json(small_run / "manifest.json")
    assert manifest["recipe"] == "frozen_lake_tiny"
    assert manifest["status"] == "finished"
    assert manifest["seed"] == 0
    assert manifest["lapwing"] == lapwing.__version__
    assert {"python", "torch", "transformers"} <= set(manifest["versions"])
    assert manifest["parameters"] > 0
    assert {"warm_start", "main", "evaluation", "total"} <= set(manifest["seconds"])
    assert all(seconds >= 0 for seconds in manifest["seconds"].values())


def test_only_registered_metrics_are_logged(small_run):
    rows = read_json_lines(small_run / "metrics.jsonl")
    named = {as_described(name) for row in rows for name in row}
    assert named - {"stage", "iteration"} <= set(METRICS)
    assert [(row["stage"], row["iteration"]) for row in rows] == [
        *(("warm_start", i) for i in range(3)),
        *(("main", i) for i in range(6)),
    ]
    assert [row["iteration"] for row in rows if "evaluation/success" in row] == [1, 3, 5]


def test_every_number_that_is_logged_is_finite(small_run):
    rows = read_json_lines(small_run / "metrics.jsonl")
    assert all(np.isfinite(value) for row in rows for value in row.values() if not isinstance(value, str))


def test_totals_only_grow_and_count_what_was_played(small_run):
    rows = [row for row in read_json_lines(small_run / "metrics.jsonl") if row["stage"] == "main"]
    assert [row["rollout/episodes"] for row in rows] == [18 * (i + 1) for i in range(6)]  # 3 groups of 6
    for name in ("rollout/steps", "rollout/tokens", "time/learning"):
        totals = [row[name] for row in rows]
        assert totals == sorted(totals)
        assert totals[0] > 0


PAGE = Path(__file__).parents[2] / "docs" / "run_folder.md"


def documented(number):
    """The n-th example object of the page on run folders."""
    return json.loads(re.findall(r"^```json\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)[number])


def test_recorded_episodes_have_the_documented_keys_and_add_up(small_run):
    files = sorted((small_run / "episodes").iterdir())
    assert [path.name for path in files] == ["main-000002.jsonl", "main-000004.jsonl", "main-000006.jsonl"]
    example = documented(0)
    for line in files[-1].read_text("utf-8").splitlines():
        episode = json.loads(line)
        assert set(episode) == set(example)
        assert episode["terminated"] != episode["truncated"]
        assert all(set(step) == set(example["steps"][0]) for step in episode["steps"])
        assert set(episode["final_view"]) == set(episode["steps"][0]["view"]) == set(example["final_view"])
        assert all(len(step["token"]) == len(step["sampler_logprob"]) >= 1 for step in episode["steps"])
        assert all(logprob <= 0 for step in episode["steps"] for logprob in step["sampler_logprob"])
        # The credit of this recipe is one number for an episode, and nothing modulates it.
        assert len({(step["advantage"], step["credit"]) for step in episode["steps"]}) == 1
        assert all(step["advantage"] == step["credit"] for step in episode["steps"])
        assert all(step["token_advantage"] is step["token_credit"] is None for step in episode["steps"])
        # Format penalties are part of what is trained on, never of what is reported.
        assert episode["return"] == pytest.approx(sum(step["reward"] for step in episode["steps"]))
        assert episode["domain_return"] == sum(step["domain_reward"] for step in episode["steps"])
        assert episode["domain_return"] == float(episode["success"])


def test_the_replay_has_the_documented_keys(small_run):
    replay, example = read_json(small_run / "replay.json"), documented(2)
    assert set(replay) == set(example)
    assert set(replay["policies"]) == {"trained", "untrained"}
    assert all(set(method) == set(example["methods"][0]) for method in replay["methods"])
    shown = example["policies"]["trained"]
    for policy in replay["policies"].values():
        assert set(policy) == set(shown)
        assert all(set(picture) == set(shown["pictures"][0]) for picture in policy["pictures"])
        assert all(set(choice) == set(shown["choices"][0]) for choice in policy["choices"])
        for episode in policy["episodes"]:
            assert set(episode) == set(shown["episodes"][0])
            assert all(set(step) == set(shown["episodes"][0]["steps"][0]) for step in episode["steps"])
            assert all(len(step["credit"]) == len(replay["methods"]) for step in episode["steps"])


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation_5x5.json"])
def test_the_evaluation_has_the_documented_keys(small_run, name):
    evaluation = read_json(small_run / name)
    example = documented(1)
    assert set(evaluation) == set(example)
    assert (evaluation["game"], evaluation["episodes"]) == ("frozen_lake", 12)
    assert {"trained", "trained_greedy", "random", "heuristic", "optimal"} <= set(evaluation["policies"])
    for measures in evaluation["policies"].values():
        assert set(measures) == set(example["policies"]["trained"])
        assert measures["score"] is None
        # A lake has no named parts of the reward.
        assert measures["parts"] == {}
        for measure in filter(None, measures.values()):
            assert set(measure) == {"mean", "low", "high"}
            assert measure["low"] <= measure["mean"] <= measure["high"]
    assert evaluation["policies"]["optimal"]["success"]["mean"] == 1.0


def test_the_resolved_recipe_repeats_the_run(small_run, tmp_path, what_counts):
    repeated = lapwing.train(str(small_run / "recipe.toml"), run=tmp_path / "again").path
    assert what_counts(repeated) == what_counts(small_run)


def test_a_cold_and_a_cached_warm_start_give_the_same_bits(small_run, tmp_path, small, what_counts, monkeypatch):
    monkeypatch.setenv("LAPWING_CACHE", str(tmp_path / "cold"))
    for name in ("cold", "cached"):
        lapwing.train("frozen_lake_tiny", run=tmp_path / "runs" / name, overrides=small)
        manifest = read_json(tmp_path / "runs" / name / "manifest.json")
        assert manifest["warm_start_cached"] == (name == "cached")
        assert what_counts(tmp_path / "runs" / name) == what_counts(small_run)


@pytest.mark.slow
def test_another_warm_start_is_not_taken_from_the_cache(train):
    train("first")
    shorter = train("second", overrides=["warm_start.optimizer.learning_rate=1e-3"])
    assert not read_json(shorter / "manifest.json")["warm_start_cached"]


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_does_not_stop_a_run(train, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("LAPWING_CACHE", str(tmp_path / "file"))
    assert read_json(train() / "manifest.json")["status"] == "finished"


@pytest.mark.slow
def test_a_broken_cache_is_made_anew(train, tmp_path, monkeypatch, what_counts):
    monkeypatch.setenv("LAPWING_CACHE", str(tmp_path / "cache"))
    first = train("first")
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    again = train("again")
    assert not read_json(again / "manifest.json")["warm_start_cached"]
    assert what_counts(again) == what_counts(first)


@pytest.mark.slow
def test_another_seed_gives_other_weights(train):
    weights = [
        (train(f"seed-{seed}", seed=seed) / "checkpoints" / "2" / "model" / "model.safetensors").read_bytes()
        for seed in (0, 1)
    ]
    assert weights[0] != weights[1]


# F12. Fails when the evaluation or the report wants a row of metrics.
def test_a_run_of_no_iterations_is_a_run(train):
    run = train(overrides=["iterations=0", "warm_start.iterations=0"])
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["0"]
    policies = read_json(run / "evaluation.json")["policies"]
    assert policies["trained"] == policies["untrained"]
    assert (run / "report.html").stat().st_size > 1000
    assert read_json(run / "manifest.json")["status"] == "finished"


@pytest.mark.slow
def test_a_run_without_a_warm_start_is_a_run(tmp_path, small):
    recipe = build.read_recipe("frozen_lake_tiny", overrides=[*small, *QUICK])
    (_, main) = build.plan(recipe)
    (tmp_path / "alone.toml").write_text(tomli_w.dumps(build.resolved(recipe, [main])), encoding="utf-8")
    run = lapwing.train(str(tmp_path / "alone.toml"), run=tmp_path / "run").path
    assert {row["stage"] for row in read_json_lines(run / "metrics.jsonl")} == {"main"}


def test_from_a_run_begins_with_that_runs_last_weights(small_run, train):
    run = train(start_from=small_run)
    before = (small_run / "checkpoints" / "6" / "model" / "model.safetensors").read_bytes()
    assert (run / "checkpoints" / "0" / "model" / "model.safetensors").read_bytes() == before
    assert {row["stage"] for row in read_json_lines(run / "metrics.jsonl")} == {"main"}


def test_from_what_is_no_run_is_refused_before_anything_is_written(train, tmp_path):
    with pytest.raises(UserError, match="is no run"):
        train(start_from=tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_before_the_first_iteration_leaves_no_folder(toy_folder, tmp_path):
    demonstrations = tmp_path / "demos.jsonl"
    demonstrations.write_text("not json\n")
    main = {
        "name": "main",
        "iterations": 1,
        "game": {"name": "bandit"},
        "model": {"name": str(toy_folder("qwen2"))},
        "collector": {"name": "demonstrations", "path": str(demonstrations), "episodes": 1},
        "loss": {"name": "negative_log_likelihood"},
    }
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(tomli_w.dumps({"stage": [main]}))
    with pytest.raises(UserError, match="no demonstrations"):
        lapwing.train(str(recipe), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_learnt_is_never_discarded(small_run):
    RunFolder(small_run).discard_unlearnt()
    assert (small_run / "manifest.json").is_file()
    assert (small_run / "checkpoints" / "6").is_dir()


def test_a_folder_that_holds_something_is_left_alone(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        train()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["diary.txt"]


def test_a_file_in_place_of_the_folder_is_left_alone(train, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        train()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        train("run/inside")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("value", [None, object(), {1: 2}], ids=["None", "an object", "a table keyed by a number"])
def test_python_settings_that_no_recipe_can_hold_are_refused(value, tmp_path):
    with pytest.raises(UserError):
        lapwing.train("bandit_tiny", run=tmp_path / "run", game__arms=value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_python_settings_are_written_into_the_recipe(tmp_path, small):
    run = lapwing.train(
        "bandit_tiny",
        run=tmp_path / "run",
        overrides=[*small, *QUICK],
        game__arms=(0.25, 0.5),
        sampler={"name": "grouped", "groups": 2, "group_size": 4, "max_steps": 1},
    )
    main = tomllib.loads((run.path / "recipe.toml").read_text("utf-8"))["stage"][-1]
    assert main["game"] == {"name": "bandit", "arms": [0.25, 0.5]}
    assert main["sampler"]["groups"] == 2


def test_the_watcher_sees_every_row_that_is_logged(tmp_path, small):
    seen = []
    run = lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=[*small, *QUICK], watch=seen.append)
    rows = [row for row in seen if "event" not in row]
    assert [row for row in rows if row["stage"] == "main"] == [
        row for row in read_json_lines(run.path / "metrics.jsonl") if row["stage"] == "main"
    ]
    assert [row["event"] for row in seen if "event" in row][0] == "run"


def test_a_loaded_run_decides_from_a_view_alone(small_run):
    policy = lapwing.load(small_run, greedy=True)
    start = policy.game.initial(np.random.default_rng(0))
    decision = policy.act(policy.game.view(start, 0))
    assert decision.text == policy.act(policy.game.view(start, 0)).text
    assert decision.valid == (decision.action in policy.game.legal(start, 0))


def test_a_loaded_run_plays_a_match(small_run):
    policy = lapwing.load(small_run)
    (episode,) = lapwing.play(policy.game, policy, seed=3, max_steps=5)
    assert 1 <= len(episode.steps) <= 5
    assert [step.action for step in episode.steps] == [
        step.action for step in lapwing.play(policy.game, policy, seed=3, max_steps=5)[0].steps
    ]


LOGITS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="float32")
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
messages = [{"role": "user", "content": "dry lake : row 0 column 0"}]
text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
with torch.no_grad():
    torch.save(model(ids).logits, sys.argv[2])
"""


# F27. Fails when a checkpoint lacks a file, or its weights are not those that played.
@pytest.mark.slow
def test_the_exported_model_loads_offline_in_a_new_process_with_the_same_logits(small_run, tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = small_run / "checkpoints" / "6" / "model"
    subprocess.run([sys.executable, "-c", LOGITS, str(folder), str(tmp_path / "logits.pt")], check=True)
    there = torch.load(tmp_path / "logits.pt", weights_only=True)
    policy = lapwing.load(small_run).policy
    ids = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": "dry lake : row 0 column 0"}], tokenize=False, add_generation_prompt=True
    )
    with torch.no_grad():
        here = policy.generator.model(torch.tensor([policy.tokenizer.encode(ids, add_special_tokens=False)])).logits
    assert torch.equal(here, there)
    assert policy.tokenizer.unk_token_id not in policy.tokenizer.encode(ids, add_special_tokens=False)


# Interpreters that begin anew train the runs of test_compare.py too.
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("LAPWING_SOAK"), reason="`make soak` runs it")
def test_a_run_can_be_trained_from_a_process_that_was_spawned(small_run, tmp_path, small, what_counts):
    # As every process is on macOS and Windows.
    settings = {"run": tmp_path / "run", "overrides": small}
    process = multiprocessing.get_context("spawn").Process(
        target=lapwing.train, args=("frozen_lake_tiny",), kwargs=settings
    )
    process.start()
    process.join(timeout=280)
    assert process.exitcode == 0
    assert what_counts(tmp_path / "run") == what_counts(small_run)


def test_the_report_can_be_written_again_and_is_the_same(small_run, tmp_path):
    from lapwing.report.page import write_report

    copy = shutil.copytree(small_run, tmp_path / "small")
    before = (copy / "report.html").read_bytes()
    assert write_report(copy).read_bytes() == before


@pytest.mark.slow
def test_a_warm_start_on_an_edited_corpus_is_not_taken_from_the_cache(tmp_path):
    def train(name, answer):
        facts = {f"place {n}": f"{answer} {n}" for n in range(6)}
        rows = {
            "corpus": [{"id": place, "title": place, "text": f"{place} is {value}"} for place, value in facts.items()],
            "questions": [
                {"id": f"{place} {split}", "question": place, "answers": [value], "query": place, "split": split}
                for place, value in facts.items()
                for split in ("train", "development", "test")
            ],
        }
        for file, lines in rows.items():
            (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        files = [f"game.{file}={tmp_path / f'{file}.jsonl'}" for file in rows]
        quick = ["copying.iterations=1", "warm_start.iterations=1", "iterations=1", "evaluation.episodes=2"]
        run = lapwing.train("search_qa_mt_grpo", run=tmp_path / name, overrides=[*files, *quick, "evaluation.every=0"])
        return read_json(run.path / "manifest.json")["warm_start_cached"]

    assert [train("first", "red"), train("again", "red"), train("edited", "rad")] == [False, True, False]
