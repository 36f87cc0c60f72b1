"""The command line: what it prints, how it ends, and that wrong input leaves nothing behind."""

import io
import json
import re
import subprocess
import sys
import time
import tomllib
from typing import NamedTuple

import pytest
import tomli_w

from lapwing import __version__, build, cli
from lapwing.core import registry
from lapwing.core.errors import UserError


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def lapwing(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words, typed=""):
        monkeypatch.setattr(sys, "argv", ["lapwing", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = cli.main()
        return Ended(code, *capsys.readouterr())

    return run


def sets(overrides):
    return [word for override in overrides for word in ("--set", override)]


# ---------------------------------------------------------------------------------------------------------------------
# Help, version, lists.

COMMANDS = ("train", "resume", "eval", "play", "report", "list")


def test_help_answers_within_half_a_second():
    # The best of three, because the machine may be busy. Fails when `cli.py` imports torch: 3 s.
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "lapwing.cli", "--help"], capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
        assert done.returncode == 0
        assert all(command in done.stdout for command in COMMANDS)
        if seconds[-1] < 0.5:
            break
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(lapwing, command):
    ended = lapwing(command, "--help")
    assert ended.code == 0
    assert "Usage" in ended.out


def test_the_version_is_shown(lapwing):
    assert lapwing("--version") == Ended(0, f"lapwing {__version__}\n", "")


ROOMS = [
    "games",
    "credit",
    "modulation",
    "selection",
    "filters",
    "shaping",
    "aggregation",
    "losses",
    "samplers",
]


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_listed(lapwing, room):
    ended = lapwing("list", room)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines] == registry.names(room)
    assert all(len(line.split()) > 1 for line in lines)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_listed_as_json(lapwing, room):
    rows = json.loads(lapwing("list", room, "--json").out)
    assert [row["name"] for row in rows] == registry.names(room)
    for row in rows:
        assert set(row) == {"name", "summary", "source", "level", "scope", "needs"}
        assert row["summary"]
        assert isinstance(row["needs"], list)


def test_the_recipes_are_listed(lapwing):
    rows = json.loads(lapwing("list", "recipes", "--json").out)
    assert [row["name"] for row in rows] == build.recipe_names()
    assert all(set(row) == {"name", "summary"} and row["summary"] for row in rows)
    assert all(name in lapwing("list", "recipes").out for name in build.recipe_names())


# ---------------------------------------------------------------------------------------------------------------------
# Wrong input: one clear sentence, exit code 2, nothing written.

WRONG = {
    "unknown command": (["trian"], "trian"),
    "unknown option": (["train", "bandit_tiny", "--sed", "3"], "--sed"),
    "no recipe": (["train"], "recipe"),
    "unknown recipe": (["train", "frozen_lake_tny"], "did you mean frozen_lake_tiny"),
    "unknown recipe file": (["train", "none.toml"], "none.toml"),
    "unknown key": (["train", "bandit_tiny", "--set", "sampler.group=3"], "group is unknown"),
    "unknown section": (["train", "bandit_tiny", "--set", "samplr.groups=3"], "did you mean sampler?"),
    "unknown game": (["train", "bandit_tiny", "--set", "game={name='bandt'}"], "did you mean bandit?"),
    "unknown model folder": (["train", "bandit_tiny", "--set", "model={name='none'}"], "existing folder"),
    "impossible size of the game": (["train", "frozen_lake_tiny", "--set", "game.size=1"], "2 to 64 cells"),
    "impossible size of the model": (["train", "frozen_lake_tiny", "--set", "model.hidden=31"], "model.hidden (31)"),
    "a group of one": (["train", "bandit_tiny", "--set", "sampler.group_size=1"], "group of one"),
    "a reply budget of zero": (["train", "bandit_tiny", "--set", "generation.max_tokens=0"], "at least 1 token"),
    "a temperature of zero": (["train", "bandit_tiny", "--set", "generation.temperature=0"], "above 0"),
    "an impossible transfer": (["train", "frozen_lake_tiny", "--set", "evaluation.transfer=[{size=1}]"], "transfer.0"),
    "a seed below zero": (["train", "bandit_tiny", "--seed", "-1"], "seed"),
    "a seed that is a word": (["train", "bandit_tiny", "--seed", "x"], "--seed"),
    "from what is no run": (["train", "bandit_tiny", "--from", "none"], "none is no run"),
    "resume of no run": (["resume", "none"], "none is no run"),
    "report of no run": (["report", "none"], "none is no run"),
    "eval of a name that is nothing": (["eval", "none", "--game", "bandit"], "existing folder"),
    "eval without a game": (["eval", "none"], "--game"),
    "eval of no matches": (["eval", "none", "--game", "bandit", "--episodes", "0"], "at least 1"),
    "play of an unknown game": (["play", "frozen_lak"], "did you mean frozen_lake?"),
    "play of an unknown setting": (["play", "snake", "--set", "widht=5"], "did you mean width"),
    "play of an impossible size": (["play", "snake", "--set", "width=1"], "2 to 64"),
    "play of a seed below zero": (["play", "snake", "--seed", "-1"], "seed"),
    "play of no steps": (["play", "snake", "--max-steps", "0"], "at least 1"),
    "an unknown list": (["list", "gmaes"], "did you mean games?"),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_input_ends_with_2_one_sentence_and_nothing_written(lapwing, tmp_path, words, sentence):
    ended = lapwing(*words)
    assert ended.code == 2
    assert sentence in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.startswith("lapwing: ")
    assert ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_refused(lapwing, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("mine")
    ended = lapwing("train", "bandit_tiny", "--run", "mine")
    assert ended.code == 2
    assert "not empty" in ended.err
    assert "lapwing resume mine" in ended.err
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "diary.txt"]


def test_a_folder_that_cannot_be_made_is_refused(lapwing, tmp_path):
    (tmp_path / "file").write_text("mine")
    ended = lapwing("train", "bandit_tiny", "--run", "file/run")
    assert ended.code == 2
    assert "could not be made" in ended.err


def test_what_is_wrong_is_said_before_torch_is_asked_to_build_anything(lapwing):
    started = time.perf_counter()
    assert lapwing("train", "frozen_lake_tiny", "--set", "sampler.group_size=1").code == 2
    assert time.perf_counter() - started < 10


# ---------------------------------------------------------------------------------------------------------------------
# Training, in small.


@pytest.mark.parametrize("name", ["bandit_tiny", "snake_5x5_tiny"])
def test_a_dry_run_shows_the_recipe_with_every_default_and_writes_nothing(lapwing, tmp_path, name):
    ended = lapwing("train", name, "--dry-run", "--seed", "3")
    assert ended.code == 0
    recipe = build.read_recipe(name, seed=3)
    assert tomllib.loads(ended.out) == build.resolved(recipe, build.plan(recipe))
    assert list(tmp_path.iterdir()) == []


# A good change and a wrong one of everything that is checked late: in the middle of a run, or at its end.
@pytest.mark.parametrize(
    "override",
    [
        "model.hidden=32",
        "model.hidden=31",
        "model.initializer_range=-1.0",
        "evaluation.transfer=[{size=3}]",
        "evaluation.transfer=[{size=1}]",
        "policy.default_action=up",
        "policy.default_action=fly",
        "warm_start.policy.teacher={name='optimal'}",
        "warm_start.policy.teacher={name='scripted'}",
        "aggregation={name='constant', budget=10}",
        "aggregation={name='constant', budget=-1}",
        "regularisers=[{name='entropy', coefficient=0.1, over='all'}]",
        "policy.renderer.nearby=3",
        "optimizer.eps=-1.0",
    ],
)
def test_a_dry_run_passes_if_and_only_if_the_run_can_start(lapwing, tmp_path, small, override):
    words = ["train", "frozen_lake_tiny", *sets(small), "--set", override]
    dry = lapwing(*words, "--dry-run")
    recipe = build.read_recipe("frozen_lake_tiny", overrides=[*small, override])
    try:
        plans = build.plan(recipe)
    except UserError as error:
        assert dry == Ended(2, "", f"lapwing: {error}\n")
        return
    assert dry.code == 0
    shop = build.make_workshop(plans[-1], recipe.seed)
    for stage in [build.make_stage(plan, shop) for plan in plans]:
        episodes = stage.collector.play(stage.sampler.draw(0))
        assert len(episodes) > 0


@pytest.mark.slow
def test_train_ends_with_the_verdict_the_table_and_where_everything_is(lapwing, tmp_path, small):
    ended = lapwing("train", "frozen_lake_tiny", "--run", "here", *sets(small))
    assert ended.code == 0
    for text in ("overlap", "trained, greedy", "untrained", "optimal", "here/report.html", "checkpoints/6/model"):
        assert text in ended.out, text
    assert "Transfer" in ended.out
    assert "lapwing train here/recipe.toml" in ended.out
    assert (tmp_path / "here" / "report.html").is_file()


@pytest.mark.slow
def test_a_run_without_a_name_goes_to_runs(lapwing, tmp_path, small):
    (tmp_path / "mine.toml").write_text(tomli_w.dumps({"extends": "bandit_tiny"}))
    ended = lapwing("train", "mine.toml", *sets(small))
    assert ended.code == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"mine-\d{8}-\d{6}", run.name)


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation and report.

MEASURES = {"success", "score", "return", "length", "valid", "tokens_per_step"}


def check_schema(result):
    assert list(result) == ["game", "episodes", "seed", "policies"]
    for measures in result["policies"].values():
        assert set(measures) == MEASURES
        assert all(measure is None or set(measure) == {"mean", "low", "high"} for measure in measures.values())


def test_eval_of_a_run_as_json_has_the_documented_schema(lapwing, small_run):
    ended = lapwing("eval", small_run, "--episodes", "5", "--json")
    assert (ended.code, ended.err) == (0, "")
    result = json.loads(ended.out)
    check_schema(result)
    assert (result["game"], result["episodes"]) == ("frozen_lake", 5)
    assert list(result["policies"]) == ["trained", "trained_greedy", "untrained"]


def test_eval_with_baselines_adds_random_heuristic_and_optimal(lapwing, small_run):
    result = json.loads(lapwing("eval", small_run, "--episodes", "5", "--baselines", "--json").out)
    assert {"random", "heuristic", "optimal"} <= set(result["policies"])
    assert result["policies"]["optimal"]["success"]["mean"] == 1.0


def test_eval_repeats_the_evaluation_of_the_run(lapwing, small_run):
    result = json.loads(lapwing("eval", small_run, "--episodes", "12", "--json").out)
    saved = json.loads((small_run / "evaluation.json").read_text())
    assert result["policies"] == {name: saved["policies"][name] for name in result["policies"]}


def test_eval_with_another_seed_plays_other_matches(lapwing, small_run):
    first, second = (
        json.loads(lapwing("eval", small_run, "--episodes", "12", "--seed", seed, "--json").out) for seed in (1, 2)
    )
    assert (first["seed"], second["seed"]) == (1, 2)
    assert first["policies"] != second["policies"]


def test_eval_on_other_settings_of_the_game(lapwing, small_run):
    words = ("eval", small_run, "--episodes", "3", "--set", "game.size=5", "--set", "sampler.max_steps=7", "--json")
    result = json.loads(lapwing(*words).out)
    assert result["policies"]["trained"]["length"]["high"] <= 7


def test_eval_on_another_game(lapwing, small_run):
    ended = lapwing("eval", small_run, "--episodes", "3", "--set", "game.size=6", "--json")
    check_schema(json.loads(ended.out))
    # A tiny model has the words of one game; it must not read the others as unknown.
    ended = lapwing("eval", small_run, "--episodes", "3", "--game", "bandit")
    assert ended.code == 2
    assert "vocabulary lacks the words a, arms" in ended.err


def test_eval_prints_a_table(lapwing, small_run):
    ended = lapwing("eval", small_run, "--episodes", "5")
    assert ended.code == 0
    assert all(word in ended.out for word in ("policy", "success", "trained, greedy", "5 test matches of frozen_lake"))


def test_eval_of_an_exported_model_on_a_game(lapwing, small_run):
    model = small_run / "checkpoints" / "6" / "model"
    words = ("--episodes", "2", "--set", "generation.max_tokens=4", "--set", "sampler.max_steps=3", "--json")
    own = ("--set", "policy.renderer.instructions=false", "--set", "policy.parser={name='bare'}")
    ended = lapwing("eval", model, "--game", "frozen_lake", *own, *words)
    assert ended.code == 0
    result = json.loads(ended.out)
    check_schema(result)
    # It comes from no run, so that nobody knows what it was before.
    assert set(result["policies"]) == {"trained", "trained_greedy"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "game.size=1"], "2 to 64 cells"),
        (["--game", "bandt"], "did you mean bandit?"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_eval_refuses_what_is_wrong(lapwing, small_run, words, sentence):
    ended = lapwing("eval", small_run, *words)
    assert ended.code == 2
    assert sentence in ended.err
    assert "Traceback" not in ended.err


def test_report_writes_the_page_and_says_where(lapwing, small_run):
    ended = lapwing("report", small_run)
    assert ended == Ended(0, f"{small_run / 'report.html'}\n", "")


# ---------------------------------------------------------------------------------------------------------------------
# A person plays.


def test_a_person_crosses_the_lake(lapwing):
    # SFFF / FHFH / FFFH / HFFG, with beginnings of the names; nonsense and empty lines are asked again.
    typed = "jump\n\nd\nDOWN\nr\nd\n right \nr\n"
    ended = lapwing("play", "frozen_lake", "--set", "map_name=4x4", typed=typed)
    assert ended.code == 0
    assert "you made it: 6 steps, return +1" in ended.out
    assert ended.out.count("left, down, right, up > ") == 8


def test_a_person_falls_into_a_hole(lapwing):
    ended = lapwing("play", "frozen_lake", "--set", "game.map_name=4x4", typed="r\nd\n")
    assert "you did not make it: 2 steps, return +0" in ended.out


def test_a_match_of_a_person_is_cut(lapwing):
    ended = lapwing("play", "frozen_lake", "--max-steps", "3", typed="l\n" * 9)
    assert "cut after the last step" in ended.out
    assert "3 steps" in ended.out


def test_a_person_steers_a_snake_into_the_wall(lapwing):
    ended = lapwing("play", "snake", "--set", "death_reward=-2.5", typed="u\n" * 9)
    assert ended.code == 0
    assert "The match is over" in ended.out
    assert re.search(
        r"The match is over: [1-5] steps, return -(2|1)\.5, apples [01]", ended.out
    )  # an apple may lie in the way
    assert "board" in ended.out
    assert "P" in ended.out


def test_a_person_plays_against_a_second_snake(lapwing):
    ended = lapwing("play", "snake", "--set", "num_snakes=2", typed="l\n" * 20)
    assert ended.code == 0
    assert "E" in ended.out
    assert "The match is over" in ended.out


@pytest.mark.parametrize("typed", ["q\n", "QUIT\n", "", "nonsense\nq\n", "l"], ids=repr)
def test_a_person_may_end_the_match_at_any_time(lapwing, typed):
    ended = lapwing("play", "frozen_lake", typed=typed)
    assert ended.code == 0
    assert ended.out.endswith("\nEnded.\n")


def test_the_seed_decides_the_lake_that_a_person_sees(lapwing):
    boards = {seed: lapwing("play", "frozen_lake", "--seed", seed, typed="q\n").out for seed in (0, 1, 2)}
    assert len(set(boards.values())) > 1
    assert lapwing("play", "frozen_lake", "--seed", 1, typed="q\n").out == boards[1]
