"""The site: every module has its place, the build has no warning, and a reader's browser asks nobody else."""

import html.parser
import os
import runpy
import subprocess
import sys

import pages
import pytest
import yaml

from lapwing.core import registry


class Assets(html.parser.HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio") and values.get("src"):
            self.found.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "preload", "preconnect", "icon", "modulepreload"):
            self.found.append(values["href"])


@pytest.fixture(scope="module")
def hooks():
    return runpy.run_path(str(pages.DOCS / "hooks.py"))


def test_every_public_module_is_on_the_page_of_its_room(hooks):
    reference = hooks["reference_pages"]()
    for name in registry.names("credit"):
        assert f"::: lapwing.credit.{name}\n" in reference["credit"] + "\n"
    assert "::: lapwing.games.tools.dialogue\n" in reference["games"]
    assert not any("._" in text for text in reference.values())


def test_a_new_room_and_a_new_file_appear(hooks, tmp_path):
    room = tmp_path / "new_room"
    room.mkdir()
    for name in ("__init__", "one", "_two"):
        (room / f"{name}.py").touch()
    # The functions look the folder up in the namespace that they were made in.
    names = hooks["rooms"].__globals__
    before, names["PACKAGE"] = names["PACKAGE"], tmp_path
    try:
        assert hooks["rooms"]() == ["new_room"]
        assert hooks["modules"]("new_room") == ["lapwing.new_room", "lapwing.new_room.one"]
    finally:
        names["PACKAGE"] = before


def test_every_page_is_in_the_navigation(hooks):
    named = set()

    def collect(below):
        for entry in below if isinstance(below, list) else [below]:
            if isinstance(entry, dict):
                for inner in entry.values():
                    collect(inner)
            else:
                named.add(entry)

    text = (pages.ROOT / "mkdocs.yml").read_text("utf-8")
    collect(yaml.load(text.replace("!!python/object/apply:", "# "), yaml.SafeLoader)["nav"])
    there = {str(path.relative_to(pages.DOCS)) for path in pages.DOCS.rglob("*.md")}
    assert there | set(hooks["NOTES"]) == named - {hooks["MARK"]}


def test_the_generated_pages_are_as_the_code_says(monkeypatch):
    script = pages.DOCS / "build.py"
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), "--check"])
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing_from_elsewhere(tmp_path):
    # Not with -q: it hides the warnings from --strict too.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=pages.ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    texts = {path: path.read_text("utf-8") for path in (tmp_path / "site").rglob("*.html")}
    assert len(texts) > len(pages.PAGES)
    for path, text in texts.items():
        elsewhere = [asset for asset in Assets(text).found if "//" in asset]
        assert elsewhere == [], path
        assert "mermaid" not in text, "mermaid diagrams are drawn by a script from elsewhere"
    styles = "".join(path.read_text("utf-8") for path in (tmp_path / "site").rglob("*.css"))
    assert "url(http" not in styles
    assert "@import" not in styles
