"""`lapwing new-game`: what it writes is a game that passes its check and its own tests, is played, and trains."""

import io
import json
import shlex
import subprocess
import sys
import tomllib

import pytest

from lapwing import cli
from lapwing.api.new_game import new_game
from lapwing.core.errors import UserError


@pytest.fixture
def lapwing(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*words, typed=""):
        monkeypatch.setattr(sys, "argv", ["lapwing", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = cli.main()
        return code, *capsys.readouterr()

    return run


def next_commands(out):
    return [shlex.split(line)[1:] for line in out.splitlines() if line.startswith("  lapwing ")]


@pytest.mark.parametrize(("name", "players"), [("quest_of_one", 1), ("stones_of_two", 2), ("stones_of_four", 4)])
def test_what_it_writes_passes_its_check_and_its_tests_and_is_played(lapwing, tmp_path, name, players):
    code, out, err = lapwing("new-game", name, "--players", players)
    assert (code, err) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.py", f"{name}.toml", f"test_{name}.py"]
    check, play, train = next_commands(out)
    assert [check[0], play[0], train[0]] == ["check-game", "play", "train"]
    code, found, _ = lapwing(*check, "--json", "--matches", "5")
    assert code == 0
    assert all(row["kept"] for row in json.loads(found)["promises"])
    code, shown, _ = lapwing(*play, "--seed", "1", typed="1\nq\n")
    assert code == 0
    assert "1, 2, 3" in shown
    # Also with a prompt of its own words: the plan is whole.
    code, planned, _ = lapwing(*train, "--dry-run")
    assert code == 0
    stage = tomllib.loads(planned)["stage"][-1]
    assert stage["policy"]["renderer"]["name"].startswith(f"{name}:")
    assert len(stage.get("opponents", {})) == players - 1
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout
    assert "6 passed" in tested.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "players"), [("trained_quest", 1), ("trained_stones", 3)])
def test_what_it_writes_trains_with_its_own_renderer(lapwing, tmp_path, name, players):
    _, out, _ = lapwing("new-game", name, "--players", players)
    train = next_commands(out)[2]
    few = ["iterations=2", "warm_start.iterations=2", "evaluation.episodes=4", "evaluation.development_episodes=4"]
    sets = [word for override in [*few, "evaluation.every=0"] for word in ("--set", override)]
    code, out, err = lapwing(*train, *sets, "--run", "run", "--quiet")
    assert code == 0, err
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert {"trained", "untrained", "random", "heuristic"} <= set(evaluation["policies"])
    assert {"optimal", "null_ceiling"} <= set(evaluation["references"])
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 4
    prompts = json.loads((tmp_path / "run" / "replay.json").read_text())["policies"]["trained"]["prompts"]
    said = "The number lies between" if players == 1 else "Stones on the pile :"
    assert all(said in prompt for prompt in prompts)


def test_nothing_is_overwritten(lapwing, tmp_path):
    (tmp_path / "quest.toml").write_text("mine")
    code, out, err = lapwing("new-game", "quest")
    assert (code, out) == (2, "")
    assert err == "lapwing: quest.toml is in . already; choose another name or --folder.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["quest.toml"]
    assert (tmp_path / "quest.toml").read_text() == "mine"


def test_a_folder_is_made(tmp_path):
    written = new_game("far_quest", folder=tmp_path / "a" / "b")
    assert all(path.is_file() for path in written.files)
    assert written.files[0] == tmp_path / "a" / "b" / "far_quest.py"


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("MyQuest", {}, "my_quest would be"),
        ("my-quest", {}, "my_quest would be"),
        ("class", {}, "no name of a module"),
        ("7up", {}, "no name of a module"),
        ("random", {}, "is installed already"),
        ("lapwing", {}, "is installed already"),
        ("quest", {"players": 0}, "1 to 8 players, not 0"),
        ("quest", {"players": 9}, "1 to 8 players, not 9"),
    ],
)
def test_a_name_or_a_number_that_is_off_is_refused(tmp_path, name, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        new_game(name, folder=tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to"):
        new_game("quest", folder=tmp_path / "file" / "below")
