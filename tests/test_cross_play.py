"""The command `lapwing cross-play`, and runs and checkpoints as its players."""

import json
from pathlib import Path

import pytest

import lapwing
from lapwing import cli
from lapwing.core.errors import UserError

RESULT = {"schema_version", "game", "matches", "seed", "max_steps", "players", "pairs", "elo"}
PAIR = {
    *("first", "second", "wins", "draws", "losses", "win", "draw", "loss", "return", "opponent_return", "seatings"),
    *("different", "repeats"),
}
SEATING = {"seats", "wins", "draws", "losses", "return"}
ELO = {"anchor", "anchor_rating", "virtual_draws", "ratings"}
INTERVAL = {"mean", "low", "high"}
SMALL = [
    *("iterations=2", "checkpoint_every=1", "warm_start.iterations=1", "game={name='tic_tac_toe'}"),
    *("opponents.1.name=random", "policy.renderer={name='grid'}", "policy.teacher={name='random'}", "sampler.groups=2"),
    *("sampler.group_size=2", "warm_start.sampler.groups=2", "evaluation.episodes=4", "evaluation.every=0"),
    *("evaluation.transfer=[]", "evaluation.replay_groups=0", "model.hidden=32", "model.layers=1"),
    *("model.heads=2", "model.intermediate=32", "credit.name=rloo", "selection={name='all_episodes'}"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of tic-tac-toe that has learnt nothing."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    overrides = [text.replace("policy.teacher", "warm_start.policy.teacher") for text in SMALL]
    lapwing.train("frozen_lake_fixed_tiny", run=folder, overrides=overrides)
    return folder


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run a command line; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr("sys.argv", ["lapwing", "cross-play", *map(str, words)])
        code = cli.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_runs_checkpoints_and_players_without_a_model_meet(run, command):
    first = run / "checkpoints" / "0"
    players = (run, first, "random", "heuristic")
    code, out, err = command(*players, "--game", "tic_tac_toe", "--matches", 3, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found) == RESULT
    assert found["players"] == [str(run), str(first), "random", "heuristic"]
    assert len(found["pairs"]) == 6
    for pair in found["pairs"]:
        assert set(pair) == PAIR
        assert all(set(pair[name]) == INTERVAL for name in ("win", "draw", "loss", "return", "opponent_return"))
        assert all(set(row) == SEATING and set(row["return"]) == INTERVAL for row in pair["seatings"])
        assert pair["wins"] + pair["draws"] + pair["losses"] == 6
    assert set(found["elo"]) == ELO
    assert found["elo"]["anchor"] == "random"
    assert all(set(row) == {"rating", "low", "high"} for row in found["elo"]["ratings"].values())
    documented = (Path(__file__).parents[1] / "docs" / "howto" / "cross_play.md").read_text("utf-8")
    assert all(f"`{name}`" in documented for name in RESULT | PAIR | SEATING | ELO)


def test_a_match_that_is_repeated_is_said_and_has_no_interval(command):
    words = ("optimal", "heuristic", "--game", "tic_tac_toe", "--set", "first=0", "--matches", "5")
    code, out, _ = command(*words)
    assert code == 0
    assert "optimal and heuristic: of 10 matches 2 are different; the start settles the rest" in out
    assert "so that there is no interval." in out
    assert "1.000 [–]" in out
    assert json.loads(command(*words, "--json")[1])["pairs"][0]["draw"] == {"mean": 1.0, "low": None, "high": None}


def test_the_table_names_everybody_and_how_it_was_rated(command):
    code, out, _ = command(
        "random", "optimal", "scripted", "--game", "tic_tac_toe", "--matches", "4", "--anchor", "scripted"
    )
    assert code == 0
    assert "4 matches of tic_tac_toe a pair and seating" in out
    assert "scripted at 1,000" in out
    assert "random    optimal" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("random", "random", "--game", "tic_tac_toe"), "named twice"),
        (("random", "nobody", "--game", "tic_tac_toe"), "There is no player 'nobody'"),
        (("random", "guess", "--game", "tic_tac_toe"), "There is no player 'guess'"),
        (("random", "optimal", "--game", "chain"), "games of two players"),
        (("random", "heuristic", "--game", "chess"), "chess"),
        (("random", "--game", "tic_tac_toe"), "at least two"),
        (("random", "optimal", "--game", "tic_tac_toe", "--anchor", "me"), "anchor is one of the players"),
    ],
)
def test_what_is_wrong_is_one_sentence(command, words, message):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert err.startswith("lapwing: ")
    assert message in err
    assert "Traceback" not in err


def test_a_checkpoint_without_a_model_is_refused(run):
    (run / "checkpoints" / "99").mkdir()
    with pytest.raises(UserError, match="holds no model"):
        lapwing.cross_play([str(run / "checkpoints" / "99"), "random"], game="tic_tac_toe")
