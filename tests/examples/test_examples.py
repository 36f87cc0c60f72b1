"""Every file of `examples/` does what its docstring says, in a folder outside the repository."""

import ast
import importlib
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import lapwing
from lapwing import build
from lapwing.cli import main
from lapwing.core.errors import UserError
from lapwing.credit.group_return_to_go import group_return_to_go
from lapwing.games.contract import check_game
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.value_iteration import optimal_values
from lapwing.testing import episodes

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
# A docstring says what is worth waiting for; here every command does a little of it.
_MODEL = [
    word for size in ("hidden=16", "layers=1", "heads=2", "intermediate=16") for word in ("--set", f"model.{size}")
]
_TRAINING = [*_MODEL, "--set", "iterations=2", "--set", "evaluation.episodes=10", "--set", "sampler.group_size=8"]
_WARM_START = ["--set", "warm_start.iterations=2", "--set", "warm_start.sampler.groups=2"]
# One recipe is trained as a reader trains it, below; of the others the comparisons train (`make test-long`).
REAL = ["lapwing", "train", "my_game.toml", "--allow-code", "my_game"]
SHORT = {
    "train": ["--dry-run"],
    "compare": [*_TRAINING, *_WARM_START],
    "audit": [*_MODEL, *_WARM_START, "--episodes", "64", "--groups", "8"],
    "play": [],
}


def commands(path):
    """The commands of a docstring: its first indented block, one command a line, or more with a backslash."""
    said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    block = said.partition("\n\n    ")[2].partition("\n\n")[0].replace("\\\n", " ")
    return [shlex.split(line) for line in block.splitlines()]


COMMANDS = [(path, words) for path in FILES for words in commands(path) if words != REAL]


@pytest.fixture
def reader(folder, monkeypatch):
    """This process as one that was started in the folder of a reader, where no path leads to the examples."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry or ".").resolve() != folder.resolve()])
    yield folder
    for path in FILES:
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_docstring_begins_with_how_to_run_the_file(path):
    said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    first, _, rest = said.partition("\n\n")
    assert first.endswith(".")
    assert "\n" not in first
    assert rest.startswith("Run it")
    assert ["python", path.name] in commands(path)
    assert {words[0] for words in commands(path)} <= {"python", "lapwing"}


@pytest.mark.parametrize(("path", "words"), COMMANDS, ids=[" ".join(words) for _, words in COMMANDS])
def test_a_command_of_a_docstring_does_it(reader, monkeypatch, capsys, path, words):
    if words[0] == "python":
        short = ["--iterations", "1"] if path.name == "whole_idea.py" else []
        monkeypatch.setattr(sys, "argv", [*words[1:], *short])
        runpy.run_path(words[1], run_name="__main__")
        assert capsys.readouterr().out
        return
    monkeypatch.setattr(sys, "argv", [*words, *SHORT[words[1]]])
    with (reader / "typed.txt").open("w+") as typed:
        typed.write("goat\nalone\nq\n")
        typed.seek(0)
        monkeypatch.setattr(sys, "stdin", typed)
        code = main()
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.out


@pytest.fixture(scope="module")
def finished(run):
    """What the command printed in a process of its own, whose path is that of the installed command."""
    return run(*REAL, "--run", "runs/mine", *_TRAINING, *_WARM_START)


@pytest.mark.slow
def test_a_reader_needs_nothing_but_the_command(finished):
    # Fails when the current folder, which is not on the path of an installed command, is not looked into.
    assert REAL in commands(EXAMPLES / "my_game.py")
    assert "matches of my_game:RiverCrossing" in finished


@pytest.mark.slow
@pytest.mark.usefixtures("finished")
def test_a_run_of_an_own_game_can_be_loaded_and_played_in_python(reader):
    with pytest.raises(UserError, match="allow it with --allow-code my_game"):
        lapwing.load("runs/mine")
    policy = lapwing.load("runs/mine", allow_code=["my_game"])
    (episode,) = lapwing.play(policy.game, policy, seed=1, max_steps=3)
    assert episode.steps[0].view.farmer == "near"
    measured = lapwing.evaluate("runs/mine", episodes=5, baselines=True, allow_code=["my_game"])
    assert {"trained", "untrained", "random", "heuristic", "optimal"} <= set(measured["policies"])


@pytest.mark.slow
@pytest.mark.usefixtures("finished", "reader")
@pytest.mark.parametrize(
    "words",
    [
        ["eval", "runs/mine", "--episodes", "5", "--json"],
        ["audit", "runs/mine", "--episodes", "16", "--methods", "grpo", "--json"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_on_a_run_of_an_own_game_asks_for_leave(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["lapwing", *words])
    assert main() == 2
    assert "allow it with --allow-code my_game" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["lapwing", *words, "--allow-code", "my_game"])
    assert main() == 0
    assert "my_game:RiverCrossing" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------------------
# my_game


def states_of(game):
    return enumerate_game(game).states


def test_the_river_crossing_keeps_its_promises_in_another_process_too(reader, monkeypatch):
    monkeypatch.syspath_prepend(reader)
    check_game(importlib.import_module("my_game").RiverCrossing(), matches=5)


@pytest.mark.parametrize(("steps", "value"), [(6, 0.0), (7, 1.0)])
def test_the_river_takes_seven_crossings(example, steps, value):
    table = enumerate_game(example("my_game").RiverCrossing(current=0.0))
    assert float(table.start @ optimal_values(table, steps)[steps]) == pytest.approx(value)


def test_with_a_current_seven_steps_are_enough_if_none_fails(example):
    table = enumerate_game(example("my_game").RiverCrossing(current=0.5))
    # 8 steps: all seven crossings succeed among them: (8 · ½⁸) with one failure, and ½⁷ with none among the first 7.
    expected = {7: 0.5**7, 8: 0.5**7 + 7 * 0.5**8}
    for steps, value in expected.items():
        assert float(table.start @ optimal_values(table, steps)[steps]) == pytest.approx(value)


def test_nobody_is_ever_eaten(example):
    states = states_of(example("my_game").RiverCrossing())
    # Of 16 arrangements 10 are safe, and all of them can be reached.
    assert len(states) == 10
    for state in states:
        assert state.goat == state.farmer or state.goat not in (state.wolf, state.cabbage)


def test_a_current_that_is_no_probability_is_refused(example):
    with pytest.raises(UserError, match=r"set game\.current"):
        example("my_game").RiverCrossing(current=1.0)


@pytest.mark.parametrize("renderer", ["grid", "my_game:Prose"])
def test_a_tiny_model_knows_every_word_of_every_view_and_action(reader, renderer):
    # Fails when the vocabulary is that of the start alone, where everybody is on the near bank.
    read = build.read_recipe("my_game.toml", overrides=[f"policy.renderer={{name='{renderer}'}}"])
    plan = build.plan(read, allow_code=("my_game",))[-1]
    tokenizer = build.make_workshop(plan, 0).tokenizer
    game, shown = build.make_game(plan.game), plan.renderer.make(**plan.renderer.settings)
    for state in states_of(game):
        (message,) = shown.messages(game.view(state, 0))
        for text in (message["content"], *game.legal(state, 0)):
            assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text


# ---------------------------------------------------------------------------------------------------------------------
# my_credit and my_reward


def test_peers_to_go_is_the_group_s_without_oneself(example):
    # A mean that contains oneself shrinks the advantage by (m − 1)/m, where m episodes are alive.
    random = np.random.default_rng(0)
    rewards = [random.integers(-1, 2, size=length).astype(float).tolist() for length in (1, 3, 2, 3, 4, 2)]
    batch = episodes(rewards, group=[0, 0, 0, 1, 1, 1], outcome=random.normal(size=6).tolist())
    index = np.arange(batch.num_steps) - batch.step_splits[batch.episode_of_step]
    group = batch.group[batch.episode_of_step]
    alive = np.array([np.sum((index == i) & (group == g)) for i, g in zip(index, group, strict=True)])
    found = example("my_credit").peers_to_go(batch, discount=0.9)
    np.testing.assert_allclose(found * (alive - 1) / alive, group_return_to_go(batch, discount=0.9), atol=1e-12)


def test_peers_to_go_refuses_a_discount_that_is_none(example):
    with pytest.raises(UserError, match="discount must be in"):
        example("my_credit").peers_to_go(episodes([[1.0]]), discount=1.5)


@pytest.mark.parametrize("name", ["my_credit", "my_reward"])
def test_the_cases_by_hand_can_fail(example, monkeypatch, name):
    module = example(name)
    module.by_hand()
    method = {"my_credit": "peers_to_go", "my_reward": "progress"}[name]
    monkeypatch.setattr(module, method, lambda batch, **_: batch if name == "my_reward" else batch.reward)
    with pytest.raises(AssertionError):
        module.by_hand()


def test_progress_is_paid_for_the_passengers_who_are_over_at_the_end(reader):
    read = build.read_recipe("my_reward.toml")
    (part,) = build.plan(read, allow_code=("my_reward", "my_game"))[-1].shaping
    batch = episodes([[0.0, 0.0, 1.0]]).with_columns(**{"part:across": np.array([1.0, -1.0, 1.0])})
    shaped = part.make(batch, **part.settings)
    assert shaped.episode_return[0] == pytest.approx(1.0 + 0.1)


# ---------------------------------------------------------------------------------------------------------------------
# What they claim: minutes of training, so that `make test-long` alone runs it.


@pytest.mark.parametrize("recipe", ["my_game.toml", "my_reward.toml"])
def test_the_crossing_is_learnt(reader, recipe):
    run = lapwing.train(recipe, run=f"runs/learnt_{recipe}", allow_code=["my_game", "my_reward"])
    assert run.evaluation["policies"]["untrained"]["success"]["mean"] < 0.1
    assert run.evaluation["policies"]["trained"]["success"]["mean"] >= 0.9


def test_the_whole_idea_learns_to_cross(example, capsys):
    idea = example("whole_idea")
    assert idea.main(iterations=60) >= 0.9
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 60
    assert "success 0.0" in lines[0]
