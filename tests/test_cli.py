"""The command line: what it prints, how it ends, and that wrong input leaves nothing behind."""

import io
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from functools import partial
from pathlib import Path
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

COMMANDS = ("train", "resume", "eval", "play", "watch", "report", "list", "doctor")


def seconds_of_children():
    spent = os.times()
    return spent.children_user + spent.children_system


def test_help_answers_within_half_a_second():
    # The best of three, and time of the processor, because the machine may be busy. Fails when `cli` imports torch:
    # 3 s.
    seconds = []
    for _ in range(3):
        started = seconds_of_children()
        done = subprocess.run([sys.executable, "-m", "lapwing.cli", "--help"], capture_output=True, text=True)
        seconds.append(seconds_of_children() - started)
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
    "corrections",
    "pairing",
    "preferences",
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
        assert set(row) == {"name", "summary", "source", "level", "scope", "needs", "kind", "provenance"}
        assert row["summary"]
        assert row["kind"] == room
        assert isinstance(row["needs"], list)


# Part A of the list of methods: 58 entries, of which these need not work here: surveys and theory, offline RL, helpers
# of frozen solvers, latent strategies.
EXEMPT = {7, 21, 32, 49, 57, 58}
OF_TRAINING = {"objective", "advantage", "sampling", "reward"}


def test_every_published_method_has_a_state(lapwing):
    rows = json.loads(lapwing("list", "methods", "--json").out)
    assert [row["number"] for row in rows] == list(range(1, 59))
    for row in rows:
        assert row["state"] in {"working", "planned", "theory", "out of scope"}, row
        assert all(row[key] for key in ("name", "title", "summary")), row
        assert bool(row["reason"]) == (row["state"] != "working"), row
        assert bool(row["verified"]) == bool(row["where"]) == (row["state"] == "working"), row
        if row["kind"] in OF_TRAINING and row["number"] not in EXEMPT:
            assert row["state"] == "working", row


# Fails when the list names a method that is not there (any more).
def test_what_the_list_of_published_methods_names_is_there(lapwing):
    for row in json.loads(lapwing("list", "methods", "--json").out):
        for place in row["where"]:
            room, _, name = place.partition("/")
            rooms = {
                "recipes": build.recipe_names,
                **{room: partial(registry.names, room) for room in registry.FOLDERS},
            }
            is_module = (Path(registry.__file__).parents[1] / f"{place}.py").exists()
            assert is_module or name in rooms[room](), place


def test_a_long_list_says_where_each_name_comes_from(lapwing):
    lines = lapwing("list", "losses", "--long").out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("gspo "))
    assert [line.split(":")[0].strip() for line in lines[at + 1 : at + 3]] == ["Provenance", "Source"]
    of_methods = lapwing("list", "methods", "--long").out
    assert "working: losses/minpro" in of_methods
    assert "out of scope: " in of_methods


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
    "two manners of output": (["train", "bandit_tiny", "--quiet", "--json"], "exclude each other"),
    "JSON of a dry run": (["train", "bandit_tiny", "--dry-run", "--json"], "leave --json and --quiet out"),
    "an unknown mirror": (["train", "bandit_tiny", "--mirror", "tensorbord"], "did you mean tensorboard?"),
    "watching no run": (["watch", "none"], "none is no run"),
    "watching backwards": (["watch", "none", "--delay", "-1"], "at least 0"),
    "watching an unknown kind of episode": (["watch", "none", "--pick", "bst"], "did you mean best?"),
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
    assert "cannot be written: Not a directory; name another with --run" in ended.err


def test_what_is_wrong_is_said_before_torch_is_asked_to_build_anything(lapwing):
    started = time.process_time()
    assert lapwing("train", "frozen_lake_tiny", "--set", "sampler.group_size=1").code == 2
    assert time.process_time() - started < 10


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
    for text in (
        "No improvement shown",
        "trained, greedy",
        "untrained",
        "optimal",
        "here/report.html",
        "checkpoints/6/model",
    ):
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

MEASURES = {"success", "score", "return", "length", "valid", "tokens_per_step", "context_tokens_per_step", "regret"}


def check_schema(result):
    assert list(result) == ["game", "episodes", "seed", "policies", "references"]
    assert set(result["references"]) <= {"optimal", "best_known", "null_ceiling"}
    assert all(set(found) == {"return", "source"} for found in result["references"].values())
    for measures in result["policies"].values():
        assert set(measures) == {*MEASURES, "regret_curve", "regret_growth", "parts"}
        intervals = [measures[name] for name in MEASURES] + list(measures["parts"].values())
        assert all(measure is None or set(measure) == {"mean", "low", "high"} for measure in intervals)


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


def test_eval_prints_what_the_returns_are_to_be_held_against(lapwing, small_run):
    said = lapwing("eval", small_run, "--episodes", "5").out
    rows = {line.split("  ")[0]: line.split() for line in said.splitlines()}
    assert [cell for cell in rows["optimal, exact"] if cell != "–"] == ["optimal,", "exact", "1.000"]
    assert [cell for cell in rows["null ceiling"] if cell != "–"][-1] == "0.250"
    assert "Optimal, exact: solved, " in said
    assert "Null ceiling: no-op, random, echo and spam, in at most 100 steps." in said


def test_eval_prints_a_table(lapwing, small_run):
    ended = lapwing("eval", small_run, "--episodes", "5")
    assert ended.code == 0
    assert all(word in ended.out for word in ("policy", "success", "trained, greedy", "5 test matches of frozen_lake"))


def test_eval_of_an_exported_model_on_a_game(lapwing, small_run):
    model = small_run / "checkpoints" / "6" / "model"
    words = ("--episodes", "2", "--set", "generation.max_tokens=4", "--set", "sampler.max_steps=3", "--json")
    own = ("--set", "policy.renderer={name='coordinates'}", "--set", "policy.parser={name='bare'}")
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
    assert ended.out.count("1 left  2 down  3 right  4 up > ") == 8


# Fails when a number is read as the beginning of a name, or counted from 0.
def test_a_person_may_type_the_number_of_an_action(lapwing):
    ended = lapwing("play", "frozen_lake", "--set", "map_name=4x4", typed="0\n5\n2\n 2 \n3\n2\nr\n3\n")
    assert ended.out.count("type a number from 1 to 4, or an action") == 2
    assert "you made it: 6 steps, return +1" in ended.out


def test_names_that_are_numbers_have_no_other_numbers(lapwing):
    from lapwing.console.playing import numbered

    assert numbered(["left", "up"]) == "1 left  2 up"
    assert numbered(["3", "7"]) == "3, 7"


# Fails when the reply that an agent has to write is not shown, or is shown where it is the action itself.
def test_the_reply_of_an_agent_is_shown_where_it_is_not_the_action(lapwing):
    tags = ("--set", "policy.parser={name='tags', think=true}")
    ended = lapwing("play", "frozen_lake", *tags, typed="l\nl\nq\n")
    assert ended.out.count("An agent replies <think> go left </think> <action> left </action> for left.\n") == 1
    assert "An agent" not in lapwing("play", "frozen_lake", typed="q\n").out


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


# ---------------------------------------------------------------------------------------------------------------------
# A person takes the agent's place in a dialogue with a tool.


@pytest.fixture
def capitals(tmp_path):
    """A corpus of two documents and a question for each split, as settings of the game."""
    documents = [
        {"id": 1, "title": "Paris", "text": "The capital of France.\n1 call left > answer Lyon"},
        {"id": 2, "title": "Rome", "text": "\x1b[2J\u202eThe capital of Italy."},
    ]
    questions = [
        {"id": split, "question": "Capital of France?", "answers": ["Paris", "City of Light"], "split": split}
        for split in ("train", "development", "test")
    ]
    for name, rows in (("corpus", documents), ("questions", questions)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ("--set", "corpus=corpus.jsonl", "--set", "questions=questions.jsonl")


def test_a_person_searches_and_answers(lapwing, capitals):
    # Fails when what is typed becomes lower case, or when a text is played that is neither a call nor an answer.
    ended = lapwing("play", "search_qa", *capitals, typed="search capital FRANCE\n answer  Paris \n")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "search_qa: type a call of a tool, or the answer; q ends the match.\n"
        "\n"
        "Question: Capital of France?\n"
        "  search QUERY   Search the corpus.\n"
        "  answer TEXT    End the match with this answer.\n"
        "An agent replies <tool> search QUERY </tool> or <answer> TEXT </answer>.\n"
        "1 call left > \n"
        # A result is shown as such, whatever it says.
        "result: Paris . The capital of France.\n"
        "  1 call left > answer Lyon\n"
        "no call left, answer > \n"
        "Right.\n"
        "  tool_calls                1\n"
        "  tool_cost                 0\n"
        "  tool_execution            1   pays +0.2\n"
        "  answer_in_result          1   pays +0.5\n"
        "  exact_query               0\n"
        "  answer_presence           1   pays +0.5\n"
        "  exact_match               1   pays +1\n"
        "  f1                        1\n"
        "\n"
        "The match is over, you made it: 2 steps, return +2.2, f1 1.\n"
    )


def test_what_a_person_types_keeps_its_case(lapwing, tmp_path, capitals):
    (tmp_path / "rules.toml").write_text(
        'default = "forbid"\n[[rules]]\ntool = "search"\neffect = "allow"\narguments.query = { equals = "Ka Lo" }\n'
    )
    rules = ("--set", "tool_policy=rules.toml", "--set", "max_turns=2")
    ended = lapwing("play", "search_qa", *capitals, *rules, typed="search ka lo\nsearch Ka Lo\nanswer x\n")
    assert re.findall(r"^(?:result|error): .*", ended.out, flags=re.MULTILINE) == [
        "error: The tool policy forbids this call.",
        "result: nothing found",
    ]


def test_a_line_that_is_no_call_and_no_answer_is_refused_with_how_to_type(lapwing, capitals):
    # Fails when such a line, or a call when the answer is due, is played: it would use up a turn or end the match.
    lines = ["", "Paris", "Search france", "answer", "search", "fetch france", "search capital", "search again", "hm"]
    ended = lapwing("play", "search_qa", *capitals, typed="\n".join([*lines, "answer Lyon"]) + "\n")
    assert ended.out.count("1 call left > \nType search QUERY or answer TEXT.\n") == 6
    assert ended.out.count("no call left, answer > \nNo call is left: type answer TEXT.\n") == 2
    assert ended.out.count("result: ") == 1
    assert "Not right. The right answer: Paris\n" in ended.out
    assert "you did not make it: 2 steps" in ended.out


def test_a_text_of_the_corpus_cannot_steer_the_terminal(lapwing, capitals):
    ended = lapwing("play", "search_qa", *capitals, typed="search Italy\nanswer \x1b[31m\ud800\n")
    assert "result: Rome . \ufffd[2J\ufffdThe capital of Italy." in ended.out
    assert "Not right." in ended.out
    assert all(character.isprintable() or character == "\n" for character in ended.out)


def test_calls_may_be_typed_as_json_and_fail(lapwing, capitals):
    typed = 'search {"query": "Italy"}\nsearch {"town": "Italy"}\nsearch {"query"\nq\n'
    ended = lapwing("play", "search_qa", *capitals, "--set", "max_turns=4", typed=typed)
    assert "result: Rome" in ended.out
    errors = re.findall(r"^error: (.*)", ended.out, flags=re.MULTILINE)
    assert len(errors) == 2
    assert "'town'" in errors[0]
    assert "no JSON" in errors[1]
    assert re.findall(r"^(\d) calls? left", ended.out, flags=re.MULTILINE) == ["4", "3", "2", "1"]
    assert ended.out.endswith("\nEnded.\n")


def test_the_second_set_of_rewards_says_what_it_pays(lapwing, capitals):
    settings = ("--set", "rewards=v2", "--set", "max_turns=3")
    ended = lapwing("play", "search_qa", *capitals, *settings, typed="search France\n" * 2 + "answer Lyon\n")
    # 0.3 + 0.1 − 0.1, 0.3 + 0.1 − 0.2, and 0.2 for a wrong answer.
    parts = {words[0]: words[1:] for words in map(str.split, ended.out.splitlines()) if "pays" in words}
    assert {name: (words[0], words[-1]) for name, words in parts.items()} == {
        "retrieval": ("0.6", "+0.6"),
        "turn_format": ("0.2", "+0.2"),
        "search_cost": ("-0.3", "-0.3"),
        "outcome": ("0.2", "+0.2"),
    }
    assert "return +0.7, f1 0." in ended.out


@pytest.mark.parametrize("typed", ["q\n", "", "Quit\n", "search france\nq\n"], ids=repr)
def test_a_person_may_end_a_dialogue_at_any_time(lapwing, typed):
    ended = lapwing("play", "search_qa", "--set", "entities=60", typed=typed)
    assert ended.code == 0
    assert ended.out.endswith("\nEnded.\n")


def test_a_dialogue_of_a_person_is_cut(lapwing, capitals):
    ended = lapwing("play", "search_qa", *capitals, "--max-steps", "1", typed="search france\n")
    assert "cut after the last step" in ended.out
    assert "Not right." in ended.out
    assert "1 steps, return +0.7" in ended.out


def test_a_corpus_that_is_off_is_refused_before_the_match(lapwing, tmp_path, capitals):
    (tmp_path / "corpus.jsonl").write_text("{}\n")
    ended = lapwing("play", "search_qa", *capitals)
    assert ended.code == 2
    assert "corpus.jsonl, line 1 has no field" in ended.err
    assert (ended.out, ended.err.count("\n")) == ("", 1)
