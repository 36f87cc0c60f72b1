"""Whatever is written behind `lapwing`: exit code 0 or 2, one sentence, nothing written but where it was asked for."""

import io
import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from lapwing import cli

SOAK = int(os.environ.get("LAPWING_SOAK", "1"))


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["lapwing", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO("q\n"))
        try:
            code = cli.main()
        except BaseException as error:
            raise AssertionError(f"{words}: {error!r}") from error
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def root(tmp_path, monkeypatch, small_run):
    """A folder to work in, with a run and a few traps, inside one that must stay as it is."""
    inside = tmp_path / "outside" / "root"
    (inside / "taken").mkdir(parents=True)
    (inside / "taken" / "diary.txt").write_text("mine")
    (inside / "file").write_text("mine")
    (inside / "rows.jsonl").write_text("{}\nnot json\n")
    (tmp_path / "outside" / "secret").mkdir()
    (tmp_path / "outside" / "secret" / "key.txt").write_text("mine")
    (inside / "link").symlink_to("../secret", target_is_directory=True)
    (inside / "dangling").symlink_to("../nowhere")
    (inside / "loop").symlink_to("loop")
    shutil.copytree(small_run, inside / "run")
    monkeypatch.chdir(inside)
    return inside


def tree(folder):
    """Everything in a folder, links not followed, with sizes and times of files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (
            status.st_mode,
            status.st_size if path.is_file() else 0,
            status.st_mtime_ns,
        )
    return found


NAMES = {
    "up": "../evil",
    "far up": "../../../../../../tmp/evil/../evil",
    "absolute": "/nowhere/evil",
    "NUL": "a\0b",
    "line feed": "a\nb",
    "escape": "a\x1b[31mb",
    "300 characters": "n" * 300,
    "300 characters in a folder": "n" * 300 + "/x",
    "5,000 characters": "n/" * 2500,
    "emoji": "🦢",
    "half of a character": "a\udc80b",
    "turned around": "a\u202eb",
    "nothing": "",
    "a blank": " ",
    "an option": "--",
    "a home": "~/evil",
    "a variable": "$HOME/evil",
    "a dangling link": "dangling",
    "a link to itself": "loop",
    "a file": "file",
    "a folder": "taken",
    "a link out": "link",
}

# Where a command takes a name that nothing is called; what it may not do is follow it.
PLACES = {
    "train": lambda name: ["train", name],
    "train a file": lambda name: ["train", f"{name}.toml"],
    "train from": lambda name: ["train", "bandit_tiny", "--from", name, "--dry-run"],
    "train --set": lambda name: ["train", "bandit_tiny", "--dry-run", "--set", f"game.{name}=1"],
    "train --set a game": lambda name: ["train", "bandit_tiny", "--dry-run", "--set", f"game.name='{name}'"],
    "train --set a model": lambda name: ["train", "bandit_tiny", "--dry-run", "--set", f"model='{name}/none/none'"],
    "train --set a file": lambda name: [
        *("train", "bandit_tiny", "--dry-run"),
        *("--set", f"warm_start.collector={{name='demonstrations', path='{name}'}}"),
    ],
    "train --allow-code": lambda name: [
        *("train", "bandit_tiny", "--dry-run", "--allow-code", name, "--set", f"credit.name='{name}:{name}'")
    ],
    "resume": lambda name: ["resume", name],
    "eval": lambda name: ["eval", name, "--game", "bandit", "--episodes", "1"],
    "eval a game": lambda name: ["eval", "run", "--game", name, "--episodes", "1"],
    "compare": lambda name: ["compare", "bandit_tiny", name, "--seeds", "1"],
    "compare a measure": lambda name: ["compare", "bandit_tiny", "bandit_tiny_all", "--seeds", "1", "--measure", name],
    "audit": lambda name: ["audit", name],
    "audit methods": lambda name: ["audit", "bandit_tiny", "--methods", name],
    "score": lambda name: ["score", name],
    "score a format": lambda name: ["score", "rows.jsonl", "--format", name],
    "score methods": lambda name: ["score", "run", "--methods", name],
    "score modulations": lambda name: ["score", "run", "--modulation", f"x{name}"],
    "score --map": lambda name: ["score", "rows.jsonl", "--map", f"{name}={name}"],
    "play": lambda name: ["play", name],
    "serve": lambda name: ["serve", name],
    "export": lambda name: ["export", name, "new"],
    "report": lambda name: ["report", name],
    "list": lambda name: ["list", name],
}


# Fails when a path is asked of the file system as it is: 300 characters raise OSError, a NUL ValueError.
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_f52_no_name_leads_out_or_raises(root, command, place):
    before = tree(root.parent)
    for label, name in NAMES.items():
        code, _, error = command(*place(name))
        assert code == 2, (label, error)
        assert error.startswith("lapwing: "), (label, error)
        assert "Traceback" not in error
        assert "\x1b" not in error
        assert len(error) < 7000
    assert tree(root.parent) == before


# Fails when a name is not looked at before something is made: what is written lies in the folder that was named, or
# nowhere.
@pytest.mark.parametrize(
    "name", [name for label, name in NAMES.items() if label not in ("a blank", "emoji", "an option")]
)
@pytest.mark.parametrize("option", ["--run", "--out", "export"])
def test_f52_a_folder_to_write_in_is_refused_or_the_one_that_was_named(root, command, option, name):
    if name in ("~/evil", "$HOME/evil", "../evil") or not name or (option == "--out" and name in ("taken", "link")):
        pytest.skip("a folder like any other")
    words = {
        "--run": ["train", "bandit_tiny", "--dry-run", "--run", name],
        "--out": ["score", "run", "--methods", "grpo", "--modulation", "none", "--out", name],
        "export": ["export", "run", name],
    }[option]
    before = tree(root.parent)
    code, _, error = command(*words)
    if name == "/nowhere/evil" and code == 0:  # a folder that can be made, if one may
        shutil.rmtree("/nowhere", ignore_errors=True)
    elif name.startswith("../../") and code == 0:
        shutil.rmtree(Path(name).resolve(), ignore_errors=True)
    else:
        assert code == 2, error
        assert error.startswith("lapwing: ")
        assert error.count("\n") == 1
    assert tree(root.parent) == before


# Fails when `--run` follows its own idea of where to write.
def test_f52_a_folder_that_is_named_by_a_link_gets_the_files_and_nothing_else_changes(root, command):
    (root.parent / "disk").mkdir()
    (root / "runs").symlink_to("../disk", target_is_directory=True)
    before = tree(root.parent)
    code, _, error = command("score", "run", "--methods", "grpo", "--modulation", "none", "--out", "runs/mine")
    assert code == 0, error
    new = set(tree(root.parent)) - set(before)
    assert new == {"disk/mine", "disk/mine/score.json", "disk/mine/score.html"}


# ---------------------------------------------------------------------------------------------------------------------
# Anything at all.

WORDS = [
    *(
        "--set",
        "--run",
        "--seed",
        "--from",
        "--dry-run",
        "--allow-code",
        "--game",
        "--episodes",
        "--json",
        "--baselines",
    ),
    *("--methods", "--groups", "--vary", "--format", "--map", "--views", "--out", "--max-steps", "--host", "--adapter"),
    *(
        "--seeds",
        "--workers",
        "--measure",
        "--no-token",
        "--greedy",
        "--public",
        "--help",
        "--version",
        "-h",
        "-x",
        "--",
    ),
    *(
        "0",
        "-1",
        "1",
        "2.5",
        "9" * 30,
        "9" * 5000,
        "nan",
        "true",
        "",
        " ",
        "a=b",
        "=",
        "a=",
        "=b",
        "game.size=3",
        "x.y.z=1",
    ),
    *("bandit_tiny", "frozen_lake_tny", "none.toml", "rows.jsonl", "run", "taken", "file", "link", "dangling", "loop"),
    *(
        "games",
        "recipes",
        "credit",
        "gmaes",
        "bandit",
        "snake",
        "success",
        "grpo",
        "gae,grpo",
        ",",
        "none",
        "auto",
        "trl",
    ),
    *(
        "a\0b",
        "a\nb",
        "n" * 300,
        "../x",
        "é",
        "🦢",
        "a\udc80b",
        "\x1b[2J",
        "%s%n",
        "{}",
        "{0}",
        "${HOME}",
        "`id`",
        "$(id)",
    ),
    *(
        "sampler.groups=2",
        "iterations=9999999999999999999999",
        "credit.name=gae",
        "model.hidden=31",
        "0.0.0.0",
        "65536",
    ),
]
COMMANDS = [
    "train",
    "resume",
    "eval",
    "compare",
    "audit",
    "score",
    "play",
    "serve",
    "export",
    "report",
    "list",
    "trian",
    "",
]


GOOD = [
    ["list", "games"],
    ["list", "recipes", "--json"],
    ["train", "bandit_tiny", "--dry-run"],
    ["play", "bandit"],
    ["score", "run", "--methods", "grpo", "--modulation", "none"],
    ["report", "run"],
    ["resume", "run"],
]


def arguments(draw):
    """A command with words behind it, and such that nothing long begins: it is broken, dry or short."""
    if draw.randrange(5) == 0:
        return [*draw.choice(GOOD), *draw.choices(WORDS, k=draw.randrange(2))]
    name = draw.choice(COMMANDS)
    words = [draw.choice(WORDS) for _ in range(draw.randrange(6))]
    if name == "train" and not {"--help", "--version"} & set(words):
        words.insert(draw.randrange(len(words) + 1), "--dry-run")
    if name in ("audit", "compare") and "bandit_tiny" in words:
        words = [word for word in words if word != "bandit_tiny"]
    if name in ("serve", "audit"):  # a server runs until it is stopped, an audit for minutes
        words = [word for word in words if word != "run"]
    if name == "eval":
        words += ["--episodes", "1"]
    return [name, *words]


# Fails when any command lets an exception through: `play snake --seed 9…9` and paths of 300 characters did.
@pytest.mark.slow
def test_f52_any_words_end_with_0_or_2_and_without_a_traceback(root, command, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    outside = tree(root.parent / "secret")
    ended = {0: 0, 2: 0}
    for seed in range(400 * SOAK):
        words = arguments(random.Random(seed))
        code, _, error = command(*words)
        assert code in ended, (words, error)
        ended[code] += 1
        assert "Traceback" not in error, words
        if code == 2:
            assert error.startswith(("lapwing: ", "Usage")), (words, error)
    assert tree(root.parent / "secret") == outside
    assert not (root.parent / "nowhere").exists()
    assert min(ended.values()) > 10
