import sys
from pathlib import Path

import pytest

import lapwing
from lapwing.core.errors import UserError
from lapwing.core.registry import FOLDERS, class_name, describe, names, resolve

PACKAGE = Path(lapwing.__file__).parent


def test_a_room_lists_its_files_but_not_its_helpers():
    listed = names("credit")
    assert listed == sorted(listed)
    assert "grpo" in listed
    assert not [name for name in listed if name.startswith("_")]
    assert not {"game", "contract"} & set(names("games"))


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if (PACKAGE / folder).is_dir()])
def test_everything_listed_can_be_resolved_and_described(folder):
    for name in names(folder):
        found = resolve(folder, name)
        assert callable(found)
        assert found.__name__ in (name, class_name(name))
        assert describe(folder, name).name == name
        assert describe(folder, name).summary.endswith("."), f"{folder}/{name} has no first sentence"


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"There is no 'grop' in credit; did you mean .*grpo.*\?"):
        resolve("credit", "grop")


def test_code_from_outside_runs_only_when_its_package_is_allowed(tmp_path, monkeypatch):
    # Fails when the import comes before the question.
    (tmp_path / "outside_pkg").mkdir()
    (tmp_path / "outside_pkg" / "__init__.py").write_text("")
    (tmp_path / "outside_pkg" / "mine.py").write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="allow it with --allow-code outside_pkg"):
        resolve("credit", "outside_pkg.mine:twice")
    with pytest.raises(UserError, match="allow it with --allow-code outside_pkg"):
        resolve("credit", "outside_pkg.mine:twice", allow_code=("outside", "outside_pkg.mine"))
    assert "outside_pkg.mine" not in sys.modules
    assert resolve("credit", "outside_pkg.mine:twice", allow_code=("outside_pkg",))(4) == 8


def test_code_from_outside_may_lie_in_the_current_folder_but_replaces_nothing_that_is_installed(tmp_path, monkeypatch):
    # An installed command does not look there by itself. Fails when the folder comes before the standard library.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = list(sys.path)
    (tmp_path / "lying_here.py").write_text("def thrice(x):\n    return 3 * x\n")
    (tmp_path / "colorsys.py").write_text("raise SystemExit('this is not the one')\n")
    assert resolve("credit", "lying_here:thrice", allow_code=("lying_here",))(2) == 6
    assert sys.path == [*before, str(tmp_path)]
    sys.modules.pop("colorsys", None)
    assert resolve("credit", "colorsys:rgb_to_hsv", allow_code=("colorsys",))(0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)
    assert sys.path == [*before, str(tmp_path)]


def test_without_leave_the_current_folder_is_not_looked_into(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--allow-code lying_there"):
        resolve("credit", "lying_there:thrice")
    assert str(tmp_path) not in sys.path


def test_code_that_is_nowhere_is_told_from_code_that_needs_what_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "needy.py").write_text("import nowhere_at_all\n")
    for name, reason in (
        ("nowhere_at_all", r"no nowhere_at_all\.py in the current folder"),
        ("needy", "No module named"),
    ):
        with pytest.raises(UserError, match=reason):
            resolve("credit", f"{name}:method", allow_code=(name,))


@pytest.mark.parametrize("name", ["json:no_such_thing", "json.no_such_file:x"])
def test_code_from_outside_that_is_not_there_is_named(name):
    with pytest.raises(UserError, match="could not be imported"):
        resolve("credit", name, allow_code=("json",))


def test_a_method_is_described_from_its_file():
    entry = describe("credit", "grpo")
    assert entry.summary.endswith(".")
    assert (entry.level, entry.scope, entry.needs) == ("step", "group", ())
    assert "arxiv.org/abs/2402.03300" in entry.source
    assert "Args:" not in entry.source
    assert describe("losses", "kl_k3").needs == ("reference_logprob",)


def test_class_names_are_keys_in_capitals():
    assert class_name("frozen_lake") == "FrozenLake"
