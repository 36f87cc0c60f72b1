"""What stands in the README and in docs/ is true: code runs, commands parse, names exist, links and images lead on."""

import doctest
import importlib
import json
import re
import tomllib

import pages
import pytest
import typer
import yaml

from lapwing import __version__, build, cli
from lapwing.console import listing
from lapwing.core import registry
from lapwing.training.metrics import METRICS

APP = typer.main.get_command(cli.app)
# What stands for a name in a usage line, such as RUN, `runs/…`, <recipe> or me/lake.
STANDS_FOR = ("RUN", "MODEL", "RECIPE", "GAME", "FILE", "DIR", "NAME")


def each(pages_of):
    return pytest.mark.parametrize("page", list(pages_of), ids=pages.name_of)


def with_fence(*languages):
    return [page for page in pages.PAGES if any(fence.language in languages for fence in pages.fences(page))]


def test_the_pages_are_found():
    names = {pages.name_of(page) for page in pages.PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/results.md", "docs/tutorial/first_run.md"} <= names


# ---------------------------------------------------------------------------------------------------------------------
# Code. Blocks marked `python` are run, all of a page in one namespace, in an empty folder; those of the tutorial by
# test_tutorial.py. A file that is shown has a title; what is only to be read says before the block why it is not run.


@pytest.mark.slow
@each(page for page in with_fence("python") if page.parent != pages.TUTORIAL)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for fence in pages.fences(page):
        if fence.language == "python" and not fence.title and not fence.remark.startswith("not run:"):
            exec(compile(fence.text, f"{page.name}, line {fence.line}", "exec"), namespace)


@each(with_fence("python", "py"))
def test_python_that_is_not_run_says_why(page):
    for fence in pages.fences(page):
        is_read_only = fence.language == "py" or fence.remark.startswith("not run")
        if is_read_only and not fence.title:
            assert len(fence.remark.removeprefix("not run:").split()) > 2, f"line {fence.line}: a comment says why"


@each(with_fence("toml"))
def test_the_toml_of_a_page_is_toml(page):
    for fence in pages.fences(page):
        if fence.language == "toml":
            tomllib.loads(fence.text)


@each(with_fence("json"))
def test_the_json_of_a_page_is_json(page):
    for fence in pages.fences(page):
        if fence.language == "json":
            json.loads(fence.text)


def examples_of_docstrings():
    for path in sorted((pages.ROOT / "src").rglob("*.py")):
        if ">>> " in path.read_text("utf-8"):
            yield ".".join(path.relative_to(pages.ROOT / "src").with_suffix("").parts)


@pytest.mark.parametrize("module", list(examples_of_docstrings()))
def test_the_examples_of_docstrings_run(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


# ---------------------------------------------------------------------------------------------------------------------
# Commands.


@each(page for page in pages.PAGES if pages.command_lines(page))
def test_the_commands_of_a_page_parse(page):
    for words in pages.command_lines(page):
        command = APP.commands.get(words[0])
        if words[0] == "--version":
            continue
        assert command is not None, f"there is no 'lapwing {words[0]}'"
        given, problem = parsed(words)
        if given is not None:
            problem = names_nothing(words, given)
        assert not problem, f"lapwing {' '.join(words)}: {problem}"


def parsed(words):
    """What a command is given by name, or None; and what is wrong with it, or ""."""
    try:
        with APP.commands[words[0]].make_context(words[0], list(words[1:])) as context:
            return context.params, ""
    except Exception as error:
        # Typer's errors carry their message. Prose speaks of a command, or of an option, without its arguments.
        if not hasattr(error, "format_message"):
            raise
        return None, "" if type(error).__name__ == "MissingParameter" else error.format_message()


def names_nothing(words, given):
    """What a command names that does not exist; files and runs of the reader's own may."""
    recipes = {row["name"] for row in listing("recipes")}
    checked = {
        "train": (recipes, [given.get("recipe")]),
        "compare": (recipes, given.get("recipes") or []),
        "audit": (recipes, [given.get("what")]),
        "play": (set(registry.names("games")), [given.get("game")]),
        "eval": (set(registry.names("games")), [given.get("game")]),
    }
    known, named = checked.get(words[0], (set(), []))
    unknown = [name for name in named if name and is_ours(name) and name not in known]
    if words[0] == "list":
        listing(given["what"])
    for name in (given.get("methods") or "").split(","):
        if name and is_ours(name) and name != "none" and name not in registry.names("credit"):
            unknown.append(name)
    if not unknown and words[0] == "train" and given["recipe"] in recipes:
        # A model folder of the reader's own is not there.
        settings = [setting for setting in given["settings"] or [] if "=./" not in setting]
        build.plan(build.read_recipe(given["recipe"], overrides=settings))
    return f"there is no {', '.join(unknown)}" if unknown else ""


def is_ours(name):
    """A name that must exist here, and not one of the reader's own."""
    return (
        name not in STANDS_FOR and not name.endswith((".toml", ".jsonl")) and not any(sign in name for sign in "/:<…*")
    )


def test_a_command_that_is_wrong_is_seen():
    assert names_nothing(["train", "frozen"], {"recipe": "frozen", "settings": None}) == "there is no frozen"
    assert names_nothing(["audit"], {"what": "RUN", "methods": "grpo,grpu"}) == "there is no grpu"
    assert parsed(["train", "frozen_lake_tiny", "--sed", "1"])[1].startswith("No such option: --sed")
    assert parsed(["compare", "--seeds", "8"]) == (None, "")


# ---------------------------------------------------------------------------------------------------------------------
# Links, images, names.


@each(pages.PAGES)
def test_the_links_of_a_page_lead_somewhere(page):
    for target in pages.links(page):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        if anchor and other.suffix == ".md":
            assert anchor in pages.anchors(other), target


def test_every_image_is_shown_somewhere():
    shown = {(page.parent / target).resolve() for page in pages.PAGES for target in pages.links(page)}
    images = {path for path in pages.DOCS.rglob("*") if path.suffix in (".png", ".svg", ".jpg", ".gif")}
    assert images - shown == set()


@each(pages.PAGES)
def test_a_page_names_no_metric_that_does_not_exist(page):
    for name in re.findall(r"`((?:rollout|selection|policy|update|evaluation)/[a-z_]+)`", page.read_text("utf-8")):
        assert name in METRICS, name


# ---------------------------------------------------------------------------------------------------------------------
# Files that other programs read.


@pytest.mark.parametrize(
    "path", sorted((pages.ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_an_issue_template_is_a_form(path):
    form = yaml.safe_load(path.read_text("utf-8"))
    assert form["name"]
    assert form["description"]
    kinds = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert {item["type"] for item in form["body"]} <= kinds
    ids = [item["id"] for item in form["body"] if item["type"] != "markdown"]
    assert len(set(ids)) == len(ids)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((pages.ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert all(reference["url"].startswith("https://arxiv.org/abs/") for reference in citation["references"])
