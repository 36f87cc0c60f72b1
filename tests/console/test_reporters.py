"""What `lapwing train` says in full, hardly at all, or as JSON."""

import json
import math
import shlex
import sys
from pathlib import Path

import pytest
import tomli_w

import lapwing
from lapwing.console.reporters import JsonLines, Quiet, reporter
from lapwing.console.results import show_result
from lapwing.core.errors import UserError
from lapwing.core.storage import read_json_lines
from lapwing.training.run_folder import RunFolder

QUICK = ("iterations=2", "evaluation.episodes=4", "evaluation.transfer=[]", "evaluation.replay_groups=0")
# A row of each: what a program that reads the lines may rely on.
SCHEMA = {
    "begin": {"what", "lapwing"},
    "run": {"path"},
    "cached": {"stage"},
    "stage": {"stage", "iterations", "first"},
    "checkpoint": {"stage", "iteration"},
    "evaluation": {"episodes"},
    "result": {"path", "report", "model", "verdict", "evaluation", "transfer"},
}


def test_only_one_manner_can_be_asked_for():
    with pytest.raises(UserError, match="exclude each other"):
        reporter(quiet=True, as_json=True)


# Fails when a line is no JSON, when something else is printed among them, or when an event lacks a key.
@pytest.mark.slow
def test_every_line_of_json_has_the_documented_schema_and_the_last_is_the_result(small, tmp_path, capfd):
    with reporter(quiet=False, as_json=True) as progress:
        progress.greet("frozen_lake_tiny")
        sys.stdout.write("a library says something\n")
        run = lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=[*small, *QUICK], watch=progress.watch)
    progress.conclude(run)
    said = capfd.readouterr()
    assert "a library says something" in said.err
    rows = [json.loads(line, parse_constant=pytest.fail) for line in said.out.splitlines()]
    assert [rows[0]["event"], rows[-1]["event"]] == ["begin", "result"]
    for row in rows:
        if row["event"] in SCHEMA:
            assert set(row) == {"event", *SCHEMA[row["event"]]}, row
    main = [row for row in rows if row["event"] == "metrics" and row["stage"] == "main"]
    logged = [row for row in read_json_lines(tmp_path / "run" / "metrics.jsonl") if row["stage"] == "main"]
    assert [{name: value for name, value in row.items() if name != "event"} for row in main] == logged
    assert rows[-1]["evaluation"] == json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert {"sentence", "improved", "metric", "difference"} <= set(rows[-1]["verdict"])
    assert rows[-1]["report"] == str(tmp_path / "run" / "report.html")


def test_the_documentation_lists_every_event():
    page = (Path(__file__).parents[2] / "docs" / "run_folder.md").read_text("utf-8")
    table = page.partition("## `lapwing train --json`")[2].partition("Programs should")[0]
    named = {
        name for line in table.splitlines() if line.startswith("| `") for name in line.split("|")[1].split("`")[1::2]
    }
    assert named == {"event", *SCHEMA, "metrics", "fault", "waiting", "warning", "resumed"}


def test_what_json_cannot_hold_is_left_out(capsys):
    lines = JsonLines()
    lines.watch({"stage": "main", "iteration": 0, "a": math.nan, "b": [1.0, math.inf], "c": {"d": math.inf}})
    lines.watch({"event": "stage", "doing": lambda: None, "path": RunFolder})
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "metrics", "stage": "main", "iteration": 0, "b": [1.0, None], "c": {}},
        {"event": "stage"},
    ]


def test_quiet_says_warnings_and_faults_on_stderr_and_the_verdict_and_paths_at_the_end(small_run, capsys):
    from lapwing.api.finishing import read_run

    with Quiet() as progress:
        progress.greet("mine")
        progress.watch({"event": "run", "path": "x"})
        progress.watch({"event": "warning", "text": "a mirror broke"})
        progress.watch({"event": "fault", "stage": "main", "iteration": 0, "kind": "game", "text": "it\x1b[2J broke"})
        progress.watch({"stage": "main", "iteration": 0})
    assert capsys.readouterr() == ("", "lapwing: a mirror broke\nlapwing: main 1: game: it\ufffd[2J broke\n")
    progress.conclude(read_run(RunFolder(small_run)))
    out, err = capsys.readouterr()
    assert err == ""
    verdict, report, model = out.splitlines()
    assert verdict.endswith(".")
    assert report == f"report:  {small_run / 'report.html'}"
    assert model == f"model:   {small_run / 'checkpoints' / '6' / 'model'}"


# Fails when a path with a blank is written as it is: the command would name two files.
def test_the_next_commands_can_be_pasted_into_a_shell(small_run, tmp_path, capsys):
    from dataclasses import replace

    from lapwing.api.finishing import read_run

    run = read_run(RunFolder(small_run))
    (tmp_path / "my run").symlink_to(small_run)
    show_result(replace(run, path=tmp_path / "my run", start_from="an earlier run"))
    lines = capsys.readouterr().out.splitlines()
    pairs = (line.partition(":") for line in lines)
    commands = {label: shlex.split(words) for label, _, words in pairs if "lapwing " in words}
    path = str(tmp_path / "my run")
    assert commands == {
        "watch": ["lapwing", "watch", path],
        "eval": ["lapwing", "eval", path, "--baselines"],
        "audit": ["lapwing", "audit", path],
        "repeat": ["lapwing", "train", f"{path}/recipe.toml", "--from", "an earlier run"],
    }


# Fails when the commands that are printed for a run with own code are refused as they stand.
def test_the_next_commands_allow_the_code_that_the_run_was_allowed(small_run, tmp_path, capsys):
    import shutil
    from dataclasses import replace

    from lapwing.api.finishing import read_run

    copy = shutil.copytree(small_run, tmp_path / "own")
    text = (copy / "recipe.toml").read_text("utf-8")
    (copy / "recipe.toml").write_text(text.replace('name = "grpo"', 'name = "mine.credit:own"'), encoding="utf-8")
    show_result(replace(read_run(RunFolder(small_run)), path=tmp_path / "own"))
    lines = capsys.readouterr().out.splitlines()
    (again,) = (line for line in lines if line.startswith("repeat:"))
    (measured,) = (line for line in lines if line.startswith("eval:"))
    assert again.endswith("/own/recipe.toml --allow-code mine")
    assert measured.endswith("/own --baselines --allow-code mine")


def test_a_run_whose_game_is_not_enumerable_is_not_offered_an_audit(tmp_path):
    from lapwing import build
    from lapwing.console.results import _is_auditable

    for name, expected in (("snake_5x5_tiny", False), ("bandit_tiny", True)):
        recipe = build.read_recipe(name)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.toml").write_text(tomli_w.dumps(build.resolved(recipe, build.plan(recipe))))
        assert _is_auditable(folder / "recipe.toml", ()) is expected
