"""`lapwing doctor`: everything that a bug report needs, and no secret."""

import importlib.metadata
import json
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from lapwing import __version__
from lapwing.api import doctor
from lapwing.console import show_diagnosis

SECONDS = 0.01
KEYS = {
    *("schema", "lapwing", "python", "platform", "cpu", "memory", "torch", "packages", "extras", "folders", "threads"),
    *("environment", "problems"),
}
CANARY = "hf_canary1234567890abcdef"


@pytest.fixture(scope="module")
def found():
    return doctor.diagnose(seconds=SECONDS)


def test_the_object_has_the_documented_keys_and_is_json(found):
    assert set(found) == KEYS
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["lapwing"] == __version__
    assert found["cpu"]["usable"] >= 1
    assert set(found["memory"]) == {"total", "available", "limit"}
    assert set(found["torch"]) == {
        *("version", "cuda", "devices", "mps", "cpu_capability", "threads", "matmul_gflops"),
    }
    assert found["torch"]["matmul_gflops"]["cpu"] > 0
    for folder in found["folders"].values():
        assert {"path", "writable", "free", "total"} <= set(folder)
    assert {"bytes", "files"} <= set(found["folders"]["cache"])


def test_the_documented_object_has_the_keys_of_the_real_one(found):
    page = (Path(__file__).parents[2] / "docs" / "run_folder.md").read_text("utf-8")
    text = page.partition("## `lapwing doctor --json`")[2].partition("```json\n")[2].partition("```")[0]
    example = json.loads(text)
    assert set(example) == set(found)
    for name in ("python", "platform", "cpu", "memory", "torch"):
        assert set(example[name]) == set(found[name]), name
    assert set(example["folders"]["cache"]) == set(found["folders"]["cache"])


# Fails when a version is guessed, or an absent package is said to be there.
def test_every_extra_is_there_with_its_versions_and_the_command_that_installs_it(monkeypatch):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {**project["optional-dependencies"], "absent": ["no-such-package-at-all>=1"]}
    lines = [*project["dependencies"], *(f'{line}; extra == "{name}"' for name, of in extras.items() for line in of)]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: lines)
    found = doctor.diagnose(seconds=SECONDS)
    assert set(found["extras"]) == set(extras) - {"dev"}
    assert found["extras"]["absent"] == {
        "packages": {"no-such-package-at-all": None},
        "installed": False,
        "install": 'pip install "lapwing[absent]"',
    }
    assert found["extras"]["lora"]["packages"] == {"peft": importlib.metadata.version("peft")}
    assert found["extras"]["lora"]["installed"]
    assert found["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert not any(name in found["packages"] for name in ("peft", "pytest"))


# F66 of the doctor. Fails when a value is shown that nobody can vouch for.
def test_no_secret_is_shown(monkeypatch, capsys):
    hidden = {"HF_TOKEN": CANARY, "WANDB_API_KEY": CANARY, "HTTPS_PROXY": f"http://me:{CANARY}@proxy:1"}
    strange = {"HF_HOME": f"http://me:{CANARY}@host?{CANARY}", "OMP_NUM_THREADS": f"\x1b[2J{CANARY}"}
    for name, value in {**hidden, **strange, "HF_HUB_OFFLINE": "1", "UNKNOWN_KEY": CANARY}.items():
        monkeypatch.setenv(name, value)
    found = doctor.diagnose(seconds=SECONDS)
    show_diagnosis(found)
    said = capsys.readouterr().out
    assert CANARY not in json.dumps(found) + said
    assert found["environment"]["HF_HUB_OFFLINE"] == "1"
    assert {found["environment"][name] for name in (*hidden, "HF_HOME")} == {"set"}
    assert found["threads"]["OMP_NUM_THREADS"] == "set"
    assert "UNKNOWN_KEY" not in found["environment"]
    assert "HF_HUB_OFFLINE=1" in said


def test_the_name_of_the_person_is_not_in_paths_below_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "secretname"))
    monkeypatch.setenv("LAPWING_CACHE", str(tmp_path / "secretname" / "cache"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    found = doctor.diagnose(seconds=SECONDS)
    assert found["folders"]["cache"]["path"] == "~/cache"
    assert found["environment"]["LAPWING_CACHE"] == "~/cache"


def test_the_cache_is_measured_and_one_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "weights").write_bytes(b"12345")
    monkeypatch.setenv("LAPWING_CACHE", str(tmp_path / "cache"))
    cache = doctor.diagnose(seconds=SECONDS)["folders"]["cache"]
    assert (cache["bytes"], cache["files"], cache["writable"]) == (5, 1, True)
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert any("LAPWING_CACHE" in problem for problem in doctor.diagnose(seconds=SECONDS)["problems"])


# Fails when a machine on which nothing works gets a traceback in place of an answer.
def test_a_broken_pytorch_is_a_problem_and_the_rest_is_still_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = doctor.diagnose(seconds=SECONDS)
    assert found["torch"] is None
    assert "PyTorch cannot be imported" in found["problems"][0]
    show_diagnosis(found)
    assert "cannot be imported" in capsys.readouterr().out


def test_it_asks_nothing_of_the_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert doctor.diagnose(seconds=SECONDS)["problems"] is not None


def test_the_text_names_everything(found, capsys):
    show_diagnosis(found)
    out = capsys.readouterr().out
    for word in (
        "lapwing",
        "python",
        "platform",
        "memory",
        "torch",
        "matmul",
        "packages",
        "cache",
        "threads",
        "free of",
    ):
        assert word in out
    assert out.splitlines()[-1] == (found["problems"] or ["No problem was found."])[-1]


def test_the_command_answers_within_ten_seconds():
    # Time of the processor where the machine is busy; importing torch is most of it.
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "lapwing.cli", "doctor", "--json"], capture_output=True, text=True)
    seconds = time.monotonic() - started
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)) == KEYS
    assert seconds < 30
