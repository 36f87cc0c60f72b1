"""`lapwing watch`: an episode of a run, board by board."""

import io
import json
import shutil
import sys

import pytest

from lapwing import cli
from lapwing.api.watching import PICKS, WatchedEpisode, WatchedStep, episodes_to_watch, pick
from lapwing.console import watching
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.storage import to_plain
from lapwing.core.types import Answer, ToolCall, ToolResult
from lapwing.games.frozen_lake import FrozenLakeView
from lapwing.games.snake import SnakeView
from lapwing.games.tic_tac_toe import TicTacToeView
from lapwing.games.tools.dialogue import ToolView, Turn
from lapwing.report.boards import board, pictured_board, recorded_board
from lapwing.report.pictures import picture

HOSTILE = "\x1b[2J\u202e\x9b\0</script>"


def step(**more):
    """A step of the first recorded episode."""
    view = {"rows": ["SF", "HG"], "row": 0, "column": 0, "slippery": False}
    given = {"view": view, "reply": "right", "action": "right", "valid": True, "reason": "", "reward": 0.0}
    given |= {"domain_reward": 0.0, "parts": {}, "advantage": 0.5, "credit": 0.5}
    return {**given, **more}


def episode(steps, **more):
    given = {"match": "train/9/0/0", "return": 1.0, "outcome": 0.0, "success": True, "truncated": False}
    end = {"rows": ["SF", "HG"], "row": 1, "column": 1, "slippery": False}
    return {**given, "final_view": end, "steps": steps, **more}


@pytest.fixture
def run(tmp_path):
    """A run with recorded episodes and nothing else; a function that writes them."""
    folder = tmp_path / "run"
    (folder / "episodes").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "recipe.toml").write_text('[[stage]]\nname = "main"\n[stage.credit]\nname = "grpo"\n')

    def write(episodes, iteration=10):
        lines = "".join(json.dumps(one) + "\n" for one in episodes)
        (folder / "episodes" / f"main-{iteration:06d}.jsonl").write_text(lines)
        return folder

    return write


@pytest.fixture
def watch(monkeypatch, capsys):
    """Run the command in this process."""

    def watch(*words, typed=""):
        monkeypatch.setattr(sys, "argv", ["lapwing", "watch", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        return cli.main(), *capsys.readouterr()

    return watch


# Fails when a number, the reason or the last board is left out, or when a line of a reply looks like one of ours.
def test_without_a_terminal_the_whole_episode_is_written(run, watch):
    first = step(reply="fly\nreward     +9", action=None, valid=False, reason="no legal action", advantage=None)
    second = step(reply="<action> right </action>", reward=1.0, domain_reward=2.0, parts={"apples": 1.0, "hm": 0.0})
    code, out, err = watch(run([episode([first, second], **{"return": 1.5, "outcome": 0.5})]))
    assert (code, err) == (0, "")
    assert out == (
        "training episodes of iteration 10, played before its update; match train/9/0/0, one of 1.\n"
        "advantage: of grpo, as the loss saw it; above 0 it makes the reply more probable.\n"
        "\n"
        "step 1 of 2\n"
        "dry lake\n  P F\n  H G\n"
        "reply      fly\n           reward     +9\n"
        "action     nothing\n"
        "not valid  no legal action\n"
        "reward     +0\n"
        "advantage  none: not learnt from\n"
        "\n"
        "step 2 of 2\n"
        "dry lake\n  P F\n  H G\n"
        "reply      <action> right </action>\n"
        "action     right\n"
        "reward     +1 (+2 by the game alone)\n"
        "  apples: +1\n"
        "advantage  +0.5\n"
        "\n"
        "end\n"
        "dry lake\n  S F\n  H P\n"
        "\n"
        "ended by the rules, success: 2 steps, return +1.5, outcome +0.5 included.\n"
    )


def test_the_newest_iteration_is_shown_unless_another_is_named(run, watch):
    run([episode([step()])], 9)
    folder = run([episode([step()])], 100)
    assert "iteration 100," in watch(folder)[1]
    assert "iteration 9," in watch(folder, "--iteration", "9")[1]
    code, _, err = watch(folder, "--iteration", "10")
    assert (code, err) == (2, "lapwing: No episodes of iteration 10 were recorded; there are those of 9, 100.\n")


def test_a_text_of_a_run_cannot_steer_the_terminal(run, watch):
    hostile = step(reply=HOSTILE, reason=HOSTILE, valid=False, action=HOSTILE, parts={HOSTILE: 1.0})
    _, out, _ = watch(run([episode([{**hostile, "view": {"own": HOSTILE}}], match=HOSTILE)]))
    assert "</script>" in out
    assert all(character.isprintable() or character == "\n" for character in out)


WRONG = {
    "another credit method": (["--credit", "gae"], "hold the credit of grpo alone"),
    "an unknown policy": (["--policy", "untrainde"], "did you mean untrained"),
    "a policy without a replay": (["--policy", "untrained"], "has no replay"),
    "a policy and an iteration": (["--policy", "trained", "--iteration", "10"], "leave one out"),
    "an unknown pick": (["--pick", "fials"], "did you mean"),
    "nothing that failed": (["--pick", "failed"], "--pick worst"),
    "a delay that is no number": (["--delay", "nan"], "at least 0"),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_shown_is_said(run, watch, words, sentence):
    code, out, err = watch(run([episode([step()])]), *words)
    assert (code, out) == (2, "")
    assert sentence in err


@pytest.mark.parametrize(
    "text", ["{}\n", '{"steps": []}\n', "[1]\n", ""], ids=["empty object", "no steps", "a list", "no line"]
)
def test_a_file_of_something_else_is_an_error_with_its_name(run, watch, text):
    folder = run([])
    (folder / "episodes" / "main-000010.jsonl").write_text(text)
    code, _, err = watch(folder)
    assert code == 1
    assert "main-000010.jsonl" in err


def test_a_run_that_recorded_nothing_says_when_it_does(run, watch):
    folder = run([])
    (folder / "episodes" / "main-000010.jsonl").unlink()
    assert "evaluation.every" in watch(folder)[2]


# ---------------------------------------------------------------------------------------------------------------------
# Picking.


def one(episode_return, *, length=1, success=None, advantage=0.0):
    steps = [WatchedStep("", "", "", "", 0.0, 0.0, {}, advantage)] * length
    return WatchedEpisode(str(episode_return), steps, "", episode_return, 0.0, success, False)


def test_episodes_are_picked_by_return_length_and_success():
    worst, failed = one(-1.0), one(0.5, success=False)
    longest, best = one(0.25, length=3, success=True), one(2.0, success=True)
    episodes = [longest, worst, best, failed]
    assert pick(episodes, "best") is best
    assert pick(episodes, "worst") is worst
    assert pick(episodes, "longest") is longest
    assert pick(episodes, "failed") is failed
    assert [pick(episodes, "random", number=number) for number in range(5)] == [*episodes, longest]


# Fails when ties fall to the first: in most groups all solved episodes have one return.
@pytest.mark.parametrize("how", [how for how in PICKS if how not in ("random", "failed")])
def test_of_equal_episodes_that_with_the_most_credit_is_shown(how):
    much = one(1.0, advantage=-2.0)
    assert pick([one(1.0, advantage=0.5), much, one(1.0, advantage=1.0)], how) is much


# ---------------------------------------------------------------------------------------------------------------------
# At a terminal.


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(watching, "is_terminal", lambda: True)


def test_at_a_terminal_there_is_time_between_two_boards(run, watch, terminal, monkeypatch):
    slept = []
    monkeypatch.setattr(watching.time, "sleep", slept.append)
    folder = run([episode([step(), step()])])
    assert watch(folder, "--delay", "0.25")[0] == 0
    assert slept == [0.25, 0.25]


@pytest.mark.parametrize(("typed", "seen"), [("\n\n", 2), ("q\n", 1), ("", 1)], ids=["to the end", "q", "end of input"])
def test_a_person_steps_through_the_boards(run, watch, terminal, typed, seen):
    _, out, _ = watch(run([episode([step(), step()])]), "--step", typed=typed)
    assert out.count("step ") == seen
    assert ("Ended." in out) == (seen == 1)


# ---------------------------------------------------------------------------------------------------------------------
# Boards of views that were written and read again.

VIEWS = [
    FrozenLakeView(("SF", "HG"), 0, 1, True),
    SnakeView(3, 3, ((1, 1), (1, 2)), (((0, 0),),), ((2, 2),)),
    TicTacToeView("P_E______"),
    ToolView("Who?\nstep 9", (), (), 1),
    ToolView("Who?", (), (Turn(ToolCall("search"), ToolResult("ok", "He\nsaid")), Turn(Answer("x"), None)), 0),
    ToolView("Who?", (), (Turn(ToolCall("search"), ToolResult("error", "no")),), 0),
]


@pytest.mark.parametrize(
    "view", [view for view in VIEWS if not isinstance(view, ToolView)], ids=lambda v: type(v).__name__
)
def test_a_recorded_board_is_that_of_the_view(view):
    assert recorded_board(json.loads(json.dumps(to_plain(view)))) == board(view)


@pytest.mark.parametrize(
    ("view", "text"),
    [(VIEWS[3], "Question: Who?\n  step 9"), (VIEWS[4], ""), (VIEWS[5], "error: no")],
    ids=["question", "answer", "error"],
)
def test_recorded_and_pictured_dialogues(view, text):
    assert recorded_board(to_plain(view)) == text
    assert pictured_board(picture(view)) == text


def test_a_pictured_board_has_the_letters_of_the_boards():
    assert pictured_board(picture(VIEWS[0])).splitlines()[1:] == ["  S P", "  H G"]
    assert pictured_board(picture(VIEWS[2])).splitlines()[1:] == board(VIEWS[2]).splitlines()[1:]


@pytest.mark.parametrize(
    ("view", "text"),
    [
        ({"cards": ["a", 2]}, 'cards: ["a", 2]'),
        ({"rows": 3, "row": 0, "column": 0, "slippery": False}, "rows: 3\nrow: 0\ncolumn: 0\nslippery: false"),
        ("text", "text"),
        (None, "null"),
    ],
    ids=["of a game of one's own", "a known name with something else in it", "text", "nothing"],
)
def test_any_other_view_is_shown_field_by_field(view, text):
    assert recorded_board(view) == text


# ---------------------------------------------------------------------------------------------------------------------
# The replay of a finished run.


# Fails when the credit of another method is read, or of another policy.
def test_a_finished_run_shows_its_replay_with_any_credit_method(small_run):
    replay = json.loads((small_run / "replay.json").read_text())
    names = [method["name"] for method in replay["methods"]]
    for policy in ("trained", "untrained"):
        recorded = replay["policies"][policy]["episodes"]
        for credit in (None, "return_to_go"):
            watched = episodes_to_watch(small_run, policy=policy, credit=credit)
            column = names.index(credit or "grpo")
            assert f"the {policy} policy" in watched.where
            assert [found.episode_return for found in watched.episodes] == [one["return"] for one in recorded]
            shown = [[step.advantage for step in found.steps] for found in watched.episodes]
            assert shown == [[step["credit"][column] for step in one["steps"]] for one in recorded]
    first = episodes_to_watch(small_run).episodes[0]
    assert first.steps[0].board.splitlines()[1].startswith("  P ")
    assert sum(first.steps[0].choices.values()) == pytest.approx(1.0, abs=1e-3)
    assert first.steps[0].exact is not None


def test_a_replay_without_what_was_asked_for(small_run, tmp_path):
    with pytest.raises(UserError, match="did you mean rtmc"):
        episodes_to_watch(small_run, credit="rtm")
    with pytest.raises(UserError, match="no credit of gae: needs value"):
        episodes_to_watch(small_run, credit="gae")
    folder = shutil.copytree(small_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    (folder / "replay.json").write_text('{"policies": {"trained": {}}, "methods": []}')
    with pytest.raises(UserError, match="has no untrained policy"):
        episodes_to_watch(folder, policy="untrained")
    with pytest.raises(LapwingError, match="holds no replay as Lapwing writes it"):
        episodes_to_watch(folder)
