"""`lapwing score`: what it prints and writes, how it ends, and that it needs no PyTorch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lapwing
from lapwing import cli
from lapwing.core.errors import UserError

PAGE = Path(__file__).parents[1] / "docs" / "score.md"
ROWS = [
    {"group": 0, "steps": [{"view": "a", "action": "x", "reward": 0}, {"view": "b", "action": "x", "reward": 1}]},
    {"group": 0, "steps": [{"view": "a", "action": "y", "reward": 0}]},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run `lapwing score …` in this process, in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["lapwing", "score", *map(str, words)])
        code = cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def test_the_example_of_the_page_can_be_read_and_its_schema_is_the_printed_one(command, tmp_path):
    blocks = re.findall(r"^```json\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    example, schema = (json.loads(block) for block in blocks)
    path = tmp_path / "example.jsonl"
    path.write_text(json.dumps(example))
    code, out, err = command(path, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["num_tokens"] == 3
    assert list(found) == list(schema)
    assert list(found["methods"]["grpo"]) == list(schema["methods"]["grpo"])
    assert list(found["episodes"][0]) == list(schema["episodes"][0])


def test_the_table_and_the_reasons_are_printed(command, file, tmp_path):
    code, out, err = command(file)
    assert (code, err) == (0, "")
    assert out.startswith("2 episodes, 3 steps, 1 group (format lapwing)\n")
    assert any(line.split()[:3] == ["grpo", "step", "0.7071"] for line in out.splitlines())
    assert "  gae needs the column 'value', which the file does not have; annotate/value supplies it." in out
    assert list((tmp_path / "here").iterdir()) == []


def test_the_json_is_the_documented_object(command, file):
    code, out, _ = command(file, "--json", "--methods", "dr_grpo,gae", "--modulation", "none")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {
        "schema_version", "source", "format", "views", "num_episodes", "num_steps", "num_tokens", "num_groups", "notes",
        "methods", "not_scored", "episodes",
    }  # fmt: skip
    assert found["methods"] == {
        "dr_grpo": {
            "room": "credit",
            "level": "step",
            "scope": "group",
            "settings": {},
            "mean_absolute": 0.5,
            "zero_share": 0.0,
            "sign_agreement": 1.0,
            "rank_correlation": {"dr_grpo": 1.0},
        }
    }
    assert set(found["not_scored"]) == {"gae"}
    assert found["episodes"][1] == {
        "id": "file.jsonl, line 2",
        "group": "0",
        "return": 0.0,
        "relative_return": -0.5,
        "outcome": 0.0,
        "terminated": True,
        "truncated": False,
        "reward": [0.0],
        "advantage": {"dr_grpo": [-0.5]},
    }


def test_settings_reach_their_methods(command, file):
    words = ("--json", "--methods", "return_to_go,gigpo", "--set", "return_to_go.discount=0.5")
    code, out, err = command(file, *words, "--set", "credit.gigpo.discount=0.9", "--set", "modulation.salt.history=2")
    assert code == 0, err
    found = json.loads(out)
    assert found["episodes"][0]["advantage"]["return_to_go"] == [0.5, 1.0]
    assert found["methods"]["gigpo"]["settings"] == {"discount": 0.9}
    assert found["methods"]["grpo+salt"]["settings"] == {"history": 2}


def test_out_holds_the_numbers_and_the_page(command, file, tmp_path):
    out = tmp_path / "new" / "folder"
    code, printed, _ = command(file, "--out", out)
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == ["score.html", "score.json"]
    assert str(out / "score.html") in printed
    _, text, _ = command(file, "--json")
    assert (out / "score.json").read_text() == text


WRONG = {
    "an unknown method": (("--methods", "grop"), "did you mean"),
    "an unknown modulation": (("--modulation", "slat"), "did you mean salt?"),
    "an unknown format": (("--format", "tlr"), "did you mean trl?"),
    "unknown views": (("--views", "all"), "no setting of views 'all'"),
    "a setting of no method": (("--set", "gigp.discount=1"), "there is no method 'gigp'; did you mean gigpo"),
    "a setting of no room": (("--set", "credits.gigpo.discount=1"), "there is no room 'credits'; did you mean credit?"),
    "an unknown setting": (("--set", "gigpo.discuont=1"), "discuont is unknown; did you mean discount?"),
    "a setting of the wrong type": (("--set", "gigpo.discount=high"), "--set gigpo.discount"),
    "a setting out of range": (("--set", "gigpo.discount=2"), "discount"),
    "no setting": (("--set", "gigpo"), "--set takes METHOD.setting=value"),
    "a map of no field": (("--map", "grup=x"), "did you mean group?"),
    "nothing that can be scored": (("--methods", "gae", "--modulation", "none"), "No method can score"),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_input_ends_with_2_and_one_sentence_and_writes_nothing(command, file, tmp_path, words, sentence):
    code, out, err = command(file, *words, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_files_end_with_2(command, file, tmp_path):
    assert command(tmp_path / "nowhere")[0] == 2
    code, _, err = command(file, "--out", file)
    assert (code, err) == (2, f"lapwing: {file} is a file; name a folder for score.json and score.html.\n")
    file.write_text(json.dumps(ROWS[0]) + '\n{"group": 0, "steps": [{"reward": NaN}]}\n')
    code, _, err = command(file)
    assert code == 2
    assert err.startswith("lapwing: file.jsonl, line 2, step 1: 'reward' is NaN; give a finite number")


def test_the_python_interface_is_the_same(file, tmp_path):
    score = lapwing.score(file, methods=["grpo"], modulations=[], out=tmp_path / "out")
    assert [method.name for method in score.methods] == ["grpo"]
    assert (tmp_path / "out" / "score.json").is_file()
    with pytest.raises(UserError):
        lapwing.score(file, methods=["nothing"])


# Fails when a module on the way to a score imports torch at its top: 3 s, and no score without it.
def test_a_score_and_its_page_need_no_torch(file, tmp_path):
    code = (
        "import sys, lapwing\n"
        f"lapwing.score({str(file)!r}, out={str(tmp_path / 'out')!r})\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'transformers', 'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
