"""Documentation that cannot rot: docstrings, registered metrics, code and commands that run, links that lead on."""

import ast
import functools
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from lapwing import build
from lapwing.core.storage import read_json_lines
from lapwing.training.metrics import METRICS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lapwing"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if page.exists()]


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text("utf-8"))


def public(body, prefix):
    """Public functions, classes and their methods with their address."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield f"{prefix}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}.{node.name}")


def test_everything_public_has_a_docstring():
    missing = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = tree_of(path)
        name = str(path.relative_to(SOURCE))
        found = [(name, tree), *public(tree.body, name)]
        missing += [address for address, node in found if not ast.get_docstring(node)]
    assert missing == []


def test_every_docstring_begins_with_a_sentence():
    for path in sorted(SOURCE.rglob("*.py")):
        for address, node in public(tree_of(path).body, str(path.relative_to(SOURCE))):
            first = (ast.get_docstring(node) or "").partition("\n\n")[0].rstrip()
            assert first.endswith((".", "?", ":")), f"{address}: {first!r}"


# ---------------------------------------------------------------------------------------------------------------------
# Metrics.

METRIC = re.compile(r"(rollout|collector|selection|policy|update|critic|evaluation|time)/([a-z_]+|part:<name>)")
# Amounts of one iteration, which become totals before they are logged.
INTERNAL = re.compile(r"rollout/new_[a-z]+")
# What `columns.py` names are rooms and files.
ROOMS = {f"{path.parent.name}/{path.stem}" for path in SOURCE.rglob("*.py")}


def test_every_metric_that_the_code_names_is_registered():
    named = {
        node.value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if METRIC.fullmatch(node.value) and not INTERNAL.fullmatch(node.value)
    }
    assert named - set(METRICS) - ROOMS == set()


def test_every_registered_metric_has_a_unit_and_a_meaning():
    for name, metric in METRICS.items():
        assert METRIC.fullmatch(name)
        assert metric.unit
        assert len(metric.meaning.split()) >= 3, name


def test_every_registered_metric_is_logged_by_some_run(small_run):
    logged = {name for row in read_json_lines(small_run / "metrics.jsonl") for name in row}
    # Games without a notion of success have a score instead, and no lake has, nor has it named parts of the reward;
    # tests/training/test_critic.py has those of critics,
    # and tests/distributed/test_ray_collector.py those of actors.
    elsewhere = {"evaluation/score", "evaluation/part:<name>", "rollout/part:<name>", "rollout/stale"}
    assert {name for name in set(METRICS) - logged if not name.startswith(("critic/", "collector/"))} <= elsewhere


# ---------------------------------------------------------------------------------------------------------------------
# Pages.


def blocks(page, *languages):
    """Fenced blocks of a page whose mark is exactly one of these."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [text for mark, text in found if mark.strip() in languages]


def ids(page):
    return str(page.relative_to(ROOT))


# A block marked `python` is run, all of a page in one namespace, in an empty folder. One that is
# only to be read is marked `py`.
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=ids)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for number, text in enumerate(blocks(page, "python"), 1):
        exec(compile(text, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=ids)
def test_the_toml_of_a_page_is_toml(page):
    import tomllib

    for text in blocks(page, "toml"):
        tomllib.loads(text)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "json")], ids=ids)
def test_the_json_of_a_page_is_json(page):
    for text in blocks(page, "json"):
        json.loads(text)


def commands(page):
    """The `lapwing …` commands in the shell blocks of a page."""
    text = "".join(blocks(page, "", "sh", "bash", "console", "shell")).replace("\\\n", " ")
    return re.findall(r"^(?:\$ )?lapwing (\w.*)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=ids)
def test_the_commands_of_a_page_exist_and_their_recipes_plan(page):
    import shlex

    from lapwing import cli

    known = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    for line in commands(page):
        words = shlex.split(line, comments=True)
        assert words[0] in known, line
        if words[0] == "train" and words[1].islower() and "." not in words[1]:
            overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            build.plan(build.read_recipe(words[1], overrides=overrides))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_a_page_names_no_metric_that_does_not_exist(page):
    for name in re.findall(r"`((?:rollout|selection|policy|update|evaluation)/[a-z_]+)`", page.read_text("utf-8")):
        assert name in METRICS, name


def test_the_reference_is_as_the_code_says(monkeypatch):
    script = ROOT / "docs" / "build.py"
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), "--check"])
    runpy.run_path(str(script), run_name="__main__")
