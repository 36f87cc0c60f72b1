"""`lapwing compare`: what it says about prepared runs, what it refuses, and that it survives being killed."""

import fcntl
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import lapwing
from lapwing import build, cli
from lapwing.api.paired_runs import Job, is_finished, refuse_foreign, train_all
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.storage import read_json, write_json, write_text
from lapwing.report.comparison import improvement_matrix, token_table, write_comparison

A, B, C = "bandit_tiny", "bandit_tiny_uniform", "bandit_tiny_all"
# Small enough for a run in a few seconds, most of which are imports.
SHORT = (
    *("iterations=6", "checkpoint_every=1", "warm_start.iterations=2"),
    *("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32"),
    *("sampler.groups=2", "sampler.group_size=4", "warm_start.sampler.groups=2"),
    *("evaluation.episodes=40", "evaluation.development_episodes=20", "evaluation.every=2"),
)


def measured(mean):
    found = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}
    measures = {"success": found, "score": None, "return": found, "length": found}
    return {**measures, "valid": found, "tokens_per_step": found, "context_tokens_per_step": found}


def prepare(folder, recipe, seed, value, *, weights="w", episodes=64, overrides=(), **manifest):
    """A finished run as `lapwing train` leaves it, as far as a comparison reads it; two evaluations."""
    run = folder / recipe / str(seed)
    read = build.read_recipe(recipe, seed=seed, overrides=overrides)
    write_text(run / "recipe.toml", tomli_w.dumps(build.resolved(read, build.plan(read))))
    rows = [
        {
            "stage": stage,
            "iteration": i,
            "rollout/episodes": episodes * (i + 1) / 2,
            "rollout/tokens": 3 * episodes * (i + 1) / 2,
            "selection/episodes": 16,
            "time/credit": 0.25,
            "time/learning": 1.5 * (i + 1),
            **({"evaluation/success": value * (i + 1) / 2, "evaluation/return": 0.0} if stage == "main" else {}),
        }
        for stage, i in (("warm_start", 0), ("main", 0), ("main", 1))
    ]
    write_text(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    policies = {"trained": measured(value), "trained_greedy": measured(1.0), "untrained": measured(0.5)}
    write_json(run / "evaluation.json", {"game": "bandit", "episodes": 500, "seed": 1, "policies": policies})
    write_json(run / "checkpoints" / "0" / "manifest.json", {"files": {"model/model.safetensors": f"{weights}{seed}"}})
    given = {
        **{
            "recipe": recipe,
            "seed": seed,
            "status": "finished",
            "lapwing": "0.1.0",
            "commit": "abc",
            "start_from": None,
        },
        **{"versions": {"torch": "2"}, "seconds": {"main": 3.0}, **manifest},
    }
    write_json(run / "manifest.json", given)
    return run


def prepare_all(folder, values, **settings):
    for recipe, found in values.items():
        for seed, value in enumerate(found):
            prepare(folder, recipe, seed, value, **settings)
    return folder


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run `lapwing compare` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["lapwing", "compare", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        code = cli.main()
        return code, *capsys.readouterr()

    return run


# ---------------------------------------------------------------------------------------------------------------------
# What it says.


def test_three_seeds_by_hand(tmp_path):
    prepare_all(tmp_path, {A: [0.9, 0.8, 1.0], B: [0.5, 0.6, 0.4]})
    found = lapwing.compare([A, B], seeds=3, run=tmp_path).result
    assert (found["measure"], found["game"], found["seeds"], found["test_matches"]) == (
        "success",
        "bandit",
        [0, 1, 2],
        500,
    )
    first = found["recipes"][A]
    assert first["mean"] == first["iqm"]["value"] == pytest.approx(0.9)
    assert (first["median"], first["worst"]) == (0.9, 0.8)
    assert (first["iqm"]["low"], first["iqm"]["high"]) == (pytest.approx(0.8), pytest.approx(1.0))
    # The episodes of the warm start count neither as generated nor as trained on.
    assert (first["episodes"], first["trained_episodes"], first["learning_seconds"]) == (64, 32, 3.0)
    assert [run["value"] for run in first["runs"]] == [0.9, 0.8, 1.0]
    assert [(point["iteration"], point["episodes"]) for point in first["curve"]] == [(1, 32), (2, 64)]
    assert first["curve"][0]["value"] == pytest.approx(0.45)
    (pair,) = found["pairs"]
    assert (pair["first"], pair["second"]) == (A, B)
    #   0.4, 0.2, 0.6
    assert pair["difference"]["value"] == pytest.approx(0.4)
    assert (pair["difference"]["low"], pair["difference"]["high"]) == (pytest.approx(0.2), pytest.approx(0.6))
    assert pair["probability_of_improvement"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (pair["p"], pair["p_holm"], found["smallest_p"], pair["separated"]) == (0.25, 0.25, 0.25, False)
    assert found["verdict"] == [pair["sentence"]]
    assert pair["sentence"] == (
        f"{A} and {B} cannot be separated with 3 seeds: the smallest attainable p is 0.25; it takes at least 6 seeds."
    )
    assert (pair["same_initial_weights"], pair["same_episodes"], found["notes"]) == (True, True, [])
    assert read_json(tmp_path / "comparison.json") == found


def test_eight_seeds_can_separate(tmp_path):
    prepare_all(tmp_path, {A: [0.5] * 8, B: [0.6, 0.7, 0.8, 0.9, 0.6, 0.7, 0.8, 0.9]})
    found = lapwing.compare([A, B], seeds=8, run=tmp_path).result
    (pair,) = found["pairs"]
    assert (pair["p"], pair["separated"]) == (2 / 256, True)
    assert pair["sentence"] == f"{B} is better than {A} at 0.05 with 8 seeds: by 0.250 on average, p = 0.00781."


def test_eight_seeds_need_not_separate(tmp_path):
    prepare_all(tmp_path, {A: [0.5, 0.6] * 4, B: [0.6, 0.5] * 4})
    (pair,) = lapwing.compare([A, B], seeds=8, run=tmp_path).result["pairs"]
    assert (pair["p"], pair["separated"]) == (1.0, False)
    assert "are not separated at 0.05 with 8 seeds: p = 1, which does not show that they are equal" in pair["sentence"]


def test_several_pairs_are_adjusted(tmp_path):
    high = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97]
    prepare_all(tmp_path, {A: high, B: [0.5] * 8, C: high[::-1]})
    found = lapwing.compare([A, B, C], seeds=8, run=tmp_path).result
    assert found["comparisons"] == 3
    assert [(p["first"], p["second"]) for p in found["pairs"]] == [(A, B), (A, C), (B, C)]
    #   2/256, 1, 2/256 → ·3, 1, ·3
    assert [pair["p_holm"] for pair in found["pairs"]] == [6 / 256, 1.0, 6 / 256]
    assert [pair["separated"] for pair in found["pairs"]] == [True, False, True]
    assert "p = 0.00781 (0.0234 after Holm's adjustment)" in found["verdict"][0]
    # 7 seeds would do for one pair and not for three.
    found = lapwing.compare([A, B, C], seeds=6, run=tmp_path).result
    assert found["smallest_p"] == 1 / 32
    (said,) = found["verdict"]
    assert said.startswith(
        "No two of these 3 recipes can be separated with 6 seeds: the smallest attainable p is 0.0312"
    )
    assert "0.0938 after Holm's adjustment for 3 comparisons; it takes at least 7 seeds." in said


def test_one_seed_has_no_interval(tmp_path):
    prepare_all(tmp_path, {A: [0.9], B: [0.5]})
    found = lapwing.compare([A, B], seeds=1, run=tmp_path).result
    (pair,) = found["pairs"]
    for estimate in (found["recipes"][A]["iqm"], pair["difference"], found["recipes"][A]["curve"][0]):
        assert (estimate["low"], estimate["high"]) == (None, None)
    assert "cannot be separated with 1 seed: the smallest attainable p is 1" in pair["sentence"]
    assert "0.900" in (tmp_path / "comparison.html").read_text("utf-8")


def test_other_weights_budgets_and_code_are_said(tmp_path):
    prepare_all(tmp_path, {A: [0.9, 0.8]})
    prepare(tmp_path, B, 0, 0.5)
    prepare(tmp_path, B, 1, 0.5, weights="v", episodes=128, commit="def")
    found = lapwing.compare([A, B], seeds=2, run=tmp_path).result
    (pair,) = found["pairs"]
    assert (pair["same_initial_weights"], pair["same_episodes"]) == (False, False)
    weights, budgets, code = found["notes"]
    assert "began with different weights (seeds 1)" in weights
    assert f"{A} 64, {B} 96" in budgets
    assert "different code" in code


def test_other_test_matches_are_said(tmp_path):
    main = {"name": "main", "game": {"arms": [0.1, 0.9]}}
    write_text(tmp_path / "longer.toml", tomli_w.dumps({"name": "longer", "extends": A, "stage": [main]}))
    prepare_all(tmp_path / "runs", {A: [0.9]})
    recipe = build.read_recipe(str(tmp_path / "longer.toml"))
    run = shutil.copytree(tmp_path / "runs" / A / "0", tmp_path / "runs" / "longer" / "0")
    write_text(run / "recipe.toml", tomli_w.dumps(build.resolved(recipe, build.plan(recipe))))
    found = lapwing.compare([A, str(tmp_path / "longer.toml")], seeds=1, run=tmp_path / "runs").result
    assert list(found["recipes"]) == [A, "longer"]
    assert found["notes"] == ["The recipes do not play the game with the same settings or step cap."]


def test_a_folder_may_be_given_fewer_seeds_and_recipes_later_and_another_measure(tmp_path):
    prepare_all(tmp_path, {A: [0.9, 0.8], B: [0.5, 0.6], C: [0.1, 0.2]})
    assert len(lapwing.compare([A, B, C], seeds=2, run=tmp_path).result["pairs"]) == 3
    found = lapwing.compare([C, B], seeds=1, run=tmp_path, measure="return").result
    assert (list(found["recipes"]), found["seeds"], found["measure"]) == ([C, B], [0], "return")
    assert "--measure return" in found["command"]


def test_cost_by_hand(tmp_path):
    #   Two evaluations, after 32 and 64 episodes, of half and of all of the value. From 0.5 to 0.9: 0.5 + 0.8 · 0.4.
    prepare_all(tmp_path, {A: [0.9, 0.9, 0.9], B: [0.6, 0.6, 0.9]})
    found = lapwing.compare([A, B], seeds=3, run=tmp_path).result
    assert found["threshold"] == {
        "value": pytest.approx(0.82),
        "untrained": pytest.approx(0.5),
        "best": pytest.approx(0.9),
    }
    first, second = (found["recipes"][name]["cost"] for name in (A, B))
    assert first["tokens"] == {"value": 192.0, "low": 192.0, "high": 192.0}
    assert (first["learning_seconds"]["value"], first["credit_seconds"]["value"]) == (3.0, 0.5)
    assert (first["reached"], first["episodes_to_threshold"]) == (3, {"value": 64.0, "low": 64.0, "high": 64.0})
    assert first["seconds_to_threshold"]["value"] == 3.0
    # One seed of three got there: the median lies beyond what was spent.
    assert (second["reached"], second["episodes_to_threshold"]) == (1, {"value": None, "low": 64.0, "high": None})
    page = (tmp_path / "comparison.html").read_text("utf-8")
    assert "never [64, never]" in page
    assert "80 % of the way from the untrained policies (0.500) to the best recipe at the end (0.900)" in page


def test_without_progress_there_is_no_threshold(tmp_path):
    prepare_all(tmp_path, {A: [0.5], B: [0.4]})
    found = lapwing.compare([A, B], seeds=1, run=tmp_path).result
    assert found["threshold"] is None
    assert set(found["recipes"][A]["cost"]) == COST - {"reached", "episodes_to_threshold", "seconds_to_threshold"}
    assert "no threshold to reach" in (tmp_path / "comparison.html").read_text("utf-8")


def test_what_was_read_and_written_at_a_step_stands_beside_the_success(tmp_path):
    # Fails when context and reply are exchanged, or a run that did not count them counts as 0.
    prepare_all(tmp_path, {A: [0.9, 0.9], B: [0.5, 0.5]})
    for name, seed, read in ((A, 0, 40.0), (A, 1, 44.0), (B, 0, None), (B, 1, 7.0)):
        path = tmp_path / name / str(seed) / "evaluation.json"
        evaluation = read_json(path)
        trained = evaluation["policies"]["trained"]
        trained["tokens_per_step"] = {"mean": 3.0, "low": 3.0, "high": 3.0}
        if read is None:
            del trained["context_tokens_per_step"]
        else:
            trained["context_tokens_per_step"] = {"mean": read, "low": read, "high": read}
        write_json(path, evaluation)
    found = lapwing.compare([A, B], seeds=2, run=tmp_path).result
    assert found["recipes"][A]["cost"]["context_tokens_per_step"] == {"value": 42.0, "low": 40.0, "high": 44.0}
    assert found["recipes"][A]["cost"]["reply_tokens_per_step"]["value"] == 3.0
    assert found["recipes"][B]["cost"]["context_tokens_per_step"] is None
    assert [row[:3] for row in token_table(found).rows] == [[A, "42.0 [40.0, 44.0]", "3.0"], [B, "–", "3.0"]]
    assert "42.0 [40.0, 44.0]" in (tmp_path / "comparison.html").read_text("utf-8")


def test_seeds_that_did_not_improve_or_had_faults_are_named(tmp_path):
    prepare_all(tmp_path, {A: [0.9, 0.51], B: [0.9, 0.9]})
    (tmp_path / B / "0" / "faults.jsonl").write_text('{"stage": "main", "iteration": 0, "kind": "update"}\n')
    lapwing.compare([A, B], seeds=2, run=tmp_path)
    page = (tmp_path / "comparison.html").read_text("utf-8")
    assert f"<p>{A}: seed 1 did not improve.</p>" in page
    assert f"<p>{B}: faults were logged by seed 0 (1).</p>" in page
    assert "<td>0.510 †</td>" in page
    assert "<td>0.900 ‡</td>" in page


def test_settings_that_differ_and_those_that_only_one_recipe_has(tmp_path):
    prepare_all(tmp_path, {A: [0.9], B: [0.5]})
    found = lapwing.compare([A, B], seeds=1, run=tmp_path).result["differences"]
    assert found["main.selection.name"] == {A: "'aaw'", B: "'uniform'"}
    assert found["main.selection.alpha"] == {A: "1.0", B: None}
    assert not any(key in found for key in ("seed", "name", "main.optimizer.learning_rate"))


def test_players_without_a_model_are_lines_to_compare_with(tmp_path):
    prepare_all(tmp_path, {A: [0.9], B: [0.5]})
    for name, mean in ((A, 0.25), (B, 0.75)):
        path = tmp_path / name / "0" / "evaluation.json"
        evaluation = read_json(path)
        evaluation["policies"]["random"] = measured(mean)
        write_json(path, evaluation)
    found = lapwing.compare([A, B], seeds=1, run=tmp_path).result
    assert found["references"] == {"untrained": 0.5, "random": 0.5}
    assert (tmp_path / "comparison.html").read_text("utf-8").count(">random<") == 3


def test_the_matrix_of_improvements_has_both_directions(tmp_path):
    prepare_all(tmp_path, {A: [0.9, 0.5], B: [0.6, 0.4]})
    #   0.9 beats 0.6 and 0.4, 0.5 beats 0.4: 3 of 4.
    (first, (own, there)), (second, (back, _)) = improvement_matrix(
        lapwing.compare([A, B], seeds=2, run=tmp_path).result
    )
    assert (first, second, own) == (A, B, ("–", 0.0))
    assert (there.lean, back.lean) == (0.5, -0.5)
    assert there.text.startswith("0.75 [")
    assert back.text.startswith("0.25 [")
    low, high = (float(text) for text in there.text[6:-1].split(", "))
    assert back.text == f"0.25 [{1 - high:.2f}, {1 - low:.2f}]"


# ---------------------------------------------------------------------------------------------------------------------
# The command.

SCHEMA = {
    *("schema_version", "game", "measure", "test_matches", "seeds", "command", "confidence", "level", "comparisons"),
    *("smallest_p", "smallest_p_holm", "recipes", "pairs", "verdict", "notes", "threshold", "references"),
    "differences",
}
RECIPE = {"mean", "iqm", "median", "worst", "episodes", "trained_episodes", "learning_seconds", "cost", "curve", "runs"}
COST = {
    *("tokens", "learning_seconds", "credit_seconds", "context_tokens_per_step", "reply_tokens_per_step"),
    *("reached", "episodes_to_threshold", "seconds_to_threshold"),
}
RUN = {
    *("seed", "value", "greedy", "episodes", "trained_episodes", "learning_seconds", "initial_weights"),
    *("tokens", "credit_seconds", "untrained", "improved", "faults", "context_tokens", "reply_tokens"),
}
PAIR = {
    *("first", "second", "difference", "probability_of_improvement", "p", "p_holm", "separated", "sentence"),
    *("same_initial_weights", "same_episodes"),
}


def test_json_has_the_documented_schema_and_stdout_holds_nothing_else(command, tmp_path):
    prepare_all(tmp_path / "here", {A: [0.9, 0.8], B: [0.5, 0.6]})
    code, out, err = command(A, B, "--seeds", 2, "--run", "here", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found) == SCHEMA
    for recipe in found["recipes"].values():
        assert set(recipe) == RECIPE
        assert all(set(run) == RUN for run in recipe["runs"])
        assert set(recipe["cost"]) == COST
        points = {"iteration", "episodes", "seconds", "value", "low", "high"}
        assert all(set(point) == points for point in recipe["curve"])
    assert all(set(pair) == PAIR for pair in found["pairs"])
    assert "here" in err
    documented = (Path(__file__).parents[1] / "docs" / "compare.md").read_text("utf-8")
    assert all(f"`{name}`" in documented for name in SCHEMA | RECIPE | COST | RUN | PAIR)


def test_the_table_the_verdict_and_how_to_go_on(command, tmp_path):
    prepare_all(tmp_path / "here", {A: [0.9, 0.8], B: [0.5, 0.6]})
    code, out, err = command(A, B, "--seeds", 2, "--run", "here", "--workers", 1)
    assert (code, err) == (0, "")
    for text in (
        "4 runs, 1 at once, 4 finished before; folder: here",
        f"goes on: lapwing compare {A} {B} --seeds 2 --measure success --run here --workers 1",
        "success on 500 test matches of bandit at the end, 2 seeds a recipe",
        "0.850 [0.800, 0.900]",
        "+0.300 [0.200, 0.400]",
        "cannot be separated with 2 seeds: the smallest attainable p is 0.5",
        "report:  here/comparison.html",
    ):
        assert text in out, text


WRONG = {
    "no recipe": (["--seeds", 2], "RECIPE"),
    "one recipe": ([A, "--seeds", 2], "at least two recipes"),
    "one recipe twice": ([A, A, "--seeds", 2], f"{A} is named twice"),
    "an unknown recipe": ([A, "bandit_tny", "--seeds", 2], "did you mean bandit_tiny"),
    "a recipe that is no file": ([A, "none.toml", "--seeds", 2], "none.toml"),
    "no seeds": ([A, B], "--seeds"),
    "zero seeds": ([A, B, "--seeds", 0], "--seeds is at least 1, not 0"),
    "zero workers": ([A, B, "--seeds", 1, "--workers", 0], "--workers is at least 1, not 0"),
    "an unknown measure": ([A, B, "--seeds", 1, "--measure", "sucess"], "did you mean success"),
    "a measure that the game has not": (
        [A, B, "--seeds", 1, "--measure", "score"],
        "has no score; valid measures: success, return",
    ),
    "two games": ([A, "snake_5x5_tiny", "--seeds", 1], "one game, not for bandit and snake"),
    "an unknown setting": ([A, B, "--seeds", 1, "--set", "sampler.group=3"], "group is unknown"),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_input_ends_with_2_one_sentence_and_nothing_written(command, tmp_path, words, sentence):
    code, _, err = command(*words)
    assert code == 2
    assert sentence in err
    assert (err.startswith("lapwing: "), err.count("\n")) == (True, 1)
    assert list(tmp_path.iterdir()) == []


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("x", "y"):
        write_text(tmp_path / folder / "mine.toml", f'extends = "{A}"\n')
    with pytest.raises(UserError, match=r"mine is the name of both .*x/mine.toml and .*y/mine.toml"):
        lapwing.compare([str(tmp_path / folder / "mine.toml") for folder in ("x", "y")], seeds=1, run=tmp_path / "r")


@pytest.mark.parametrize(
    ("prepared", "sentence"),
    [
        ({"overrides": ["sampler.groups=5"]}, r"bandit_tiny/0 .*\(main.sampler.groups is 5 there and 4 now\)"),
        ({"overrides": ["regularisers=[]"]}, r"main.regularisers is unset there and \[\{"),
        ({"start_from": "runs/x"}, "it began from runs/x"),
    ],
    ids=["another setting", "a list that is missing", "from an earlier run"],
)
def test_a_run_of_another_recipe_is_refused(tmp_path, prepared, sentence):
    prepare_all(tmp_path, {A: [0.9], B: [0.5]}, **prepared)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=sentence):
        lapwing.compare([A, B], seeds=1, run=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_folder_of_a_comparison_is_refused(tmp_path):
    run = prepare(tmp_path, A, 0, 0.9)
    with pytest.raises(UserError, match="the folder of a single run"):
        lapwing.compare([A, B], seeds=1, run=run)
    with pytest.raises(UserError, match="is a file"):
        lapwing.compare([A, B], seeds=1, run=run / "recipe.toml")
    write_text(tmp_path / "own" / "diary.txt", "mine")
    with pytest.raises(UserError, match="own is not empty and holds no comparison"):
        lapwing.compare([A, B], seeds=1, run=tmp_path / "own")
    write_text(tmp_path / B / "0" / "diary.txt", "mine")
    with pytest.raises(UserError, match=f"{B}/0 is no run and is not empty"):
        lapwing.compare([A, B], seeds=1, run=tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# The page.


def test_the_page_loads_nothing_escapes_everything_and_repeats(tmp_path):
    prepare_all(tmp_path, {A: [0.9, 0.8], B: [0.5, 0.6]})
    found = lapwing.compare([A, B], seeds=2, run=tmp_path)
    page = found.page.read_text("utf-8")
    assert page.count("<svg") == 4
    assert not re.search(r"""(?:src|href)=["'](?!#)|<script|@import|url\((?!#)""", page)
    assert write_comparison(tmp_path).read_text("utf-8") == page
    payload = "<script>alert(1)</script>"
    text = (tmp_path / "comparison.json").read_text("utf-8")
    write_text(tmp_path / "comparison.json", text.replace(B, payload).replace('"bandit"', f'"{payload}"'))
    page = write_comparison(tmp_path).read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_comparison_of_another_version_is_refused(tmp_path):
    write_json(tmp_path / "comparison.json", {"schema_version": 1})
    with pytest.raises(UserError, match="of another version of Lapwing; the same `lapwing compare` makes it anew"):
        write_comparison(tmp_path)


def test_a_folder_without_a_comparison_has_no_page(tmp_path):
    with pytest.raises(UserError, match="no finished comparison"):
        write_comparison(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Processes.


def test_a_run_that_another_process_trains_is_waited_for(tmp_path):
    run = tmp_path / A / "0"
    run.parent.mkdir()
    events = []
    with (tmp_path / A / "0.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        jobs = [Job(recipe=A, seed=0, folder=run, train=("nothing",), iterations=1)]
        thread = threading.Thread(target=train_all, args=(jobs,), kwargs={"workers": 1, "watch": events.append})
        thread.start()
        while not any(event["event"] == "waiting" for event in events):
            time.sleep(0.01)
        prepare(tmp_path, A, 0, 0.9)
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert [event["event"] for event in events if event["event"] != "progress"] == ["waiting", "ended"]


def test_what_a_killed_start_left_is_no_foreign_folder(tmp_path):
    refuse_foreign(tmp_path / "none")
    for name in ("checkpoints", "episodes"):
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / "recipe.toml").write_text("x")
    (tmp_path / "run" / ".manifest.json.lapwing-4194999-0123abcd.tmp").write_text("{")
    refuse_foreign(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "0").mkdir()
    with pytest.raises(UserError, match="is no run"):
        refuse_foreign(tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_fails_ends_the_comparison(tmp_path):
    job = Job(recipe="nothing", seed=3, folder=tmp_path / "nothing" / "3", train=("nothing",), iterations=1)
    with pytest.raises(UserError, match="nothing with seed 3: There is no recipe 'nothing'"):
        train_all([job], workers=1, watch=lambda _: None)
    run = prepare(tmp_path, A, 0, 0.9, status="running")
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()  # nothing that a user does: a fault
    with pytest.raises(LapwingError, match=r"bandit_tiny with seed 0 ended with exit code 1; see .*0.log"):
        train_all([Job(A, 0, run, (), 1)], workers=1, watch=lambda _: None)


def train_here(folder, recipes, seeds, **settings):
    """Runs where a comparison looks for them, trained in this process: its own processes mostly import."""
    for recipe in recipes:
        for seed in range(seeds):
            run = folder / Path(recipe).stem / str(seed)
            lapwing.train(recipe, run=run, seed=seed, **settings)


def begin(folder, *more):
    words = [A, B, "--seeds", "2", "--run", str(folder), *(w for text in SHORT for w in ("--set", text)), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "lapwing.cli", "compare", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def lives(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def logged(folder):
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*/*/metrics.jsonl"))


def without_seconds(found: Any) -> Any:
    """An object without its wall times."""
    if isinstance(found, dict):
        return {key: without_seconds(value) for key, value in found.items() if "seconds" not in key}
    return [without_seconds(value) for value in found] if isinstance(found, list) else found


def what_counts(folder):
    """All of a comparison that must repeat: everything but wall times."""
    return without_seconds(json.loads((folder / "comparison.json").read_text("utf-8")))


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads the children from /proc")


# Fails when a restart trains a run that its killed predecessor's child still trains, or trains a finished one anew.
@pytest.mark.slow
@needs_proc
@pytest.mark.timeout(900)
def test_a_comparison_that_is_killed_and_started_again_equals_one_that_was_not(tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    train_here(calm, (A, B), 2, overrides=SHORT)
    lapwing.compare([A, B], seeds=2, run=calm, overrides=SHORT)
    # The first kill leaves its children, the second one takes them along.
    for goal, with_children in ((3, False), (20, True)):
        with begin(killed) as process:
            wait_until(lambda goal=goal: logged(killed) >= goal)
            left = children(process)
            process.kill()
            for pid in left if with_children else ():
                os.kill(pid, signal.SIGKILL)
            process.communicate()
    finished = {run: (run / "manifest.json").stat().st_mtime_ns for run in killed.glob("*/[0-9]") if is_finished(run)}
    with begin(killed) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert what_counts(killed) == what_counts(calm)
    assert {run: (run / "manifest.json").stat().st_mtime_ns for run in finished} == finished
    assert all(pair["same_initial_weights"] for pair in what_counts(killed)["pairs"])


@pytest.mark.slow
@needs_proc
@pytest.mark.timeout(300)
# Both signals go one way (tests/faults has both for a single run): `make soak` sends the second one here too.
@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 2), *([(signal.SIGINT, 1)] if os.environ.get("LAPWING_SOAK") else [])]
)
def test_a_signal_ends_the_runs_too_and_says_how_to_go_on(tmp_path, number, workers):
    folder = tmp_path / "stopped"
    with begin(folder, "--set", "iterations=50000", "--workers", str(workers)) as process:
        # 2 rows of each warm start come before the first of the main stage.
        wait_until(lambda: logged(folder) >= 4 * workers)
        left = children(process)
        process.send_signal(number)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    assert len(left) >= workers
    assert not any(lives(pid) for pid in left)
    assert "Traceback" not in said
    goes_on = next(line for line in said.splitlines() if "stopped; finished runs are kept" in line)
    assert str(folder) in shlex.split(goes_on.partition("lapwing compare ")[2])
    assert {read_json(path)["status"] for path in folder.glob("*/*/manifest.json")} == {"interrupted"}


@pytest.mark.slow
def test_games_without_random_play_are_compared(tmp_path):
    quick = ["copying.iterations=1", "warm_start.iterations=1", "iterations=1", "evaluation.every=1"]
    quick += ["game.entities=30", "evaluation.episodes=4", "evaluation.development_episodes=2"]
    quick += [f"{stage}sampler.groups=2" for stage in ("", "copying.", "warm_start.")]
    recipes = []
    for name in ("search_qa_grpo", "search_qa_mt_grpo"):
        recipe = build.read_recipe(name, overrides=quick)
        path = tmp_path / f"{name}.toml"
        path.write_text(tomli_w.dumps(build.resolved(recipe, build.plan(recipe))))
        recipes.append(str(path))
    train_here(tmp_path / "comparison", recipes, 1)
    found = lapwing.compare(recipes, seeds=1, run=tmp_path / "comparison").result
    assert found["measure"] == "success"
