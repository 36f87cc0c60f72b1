"""What mkdocs builds besides the pages in docs/: one page of Python reference a room, and the notes of the root folder.

A new file in a room appears on the room's page, and a new room in the navigation, without an edit here.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "lapwing"
# Kept beside the README, where people look for them; on the site they are pages like the others.
NOTES = ("EXPERIMENTS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
# The entry of the navigation in mkdocs.yml under which the rooms are listed.
MARK = "API"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the rooms in the navigation."""
    pages = [{"lapwing": "api/lapwing.md"}, {"lapwing.testing": "api/testing.md"}]
    pages += [{f"lapwing.{room}": f"api/{room}.md"} for room in rooms() if room != "api"]
    config.nav = _replaced(config.nav, pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for name in NOTES:
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, name, content=_within_docs(text)))
    for name, text in reference_pages().items():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """A link from docs/ to one of the notes leads to its page."""
    up = "../" * page.file.src_uri.count("/")
    return re.sub(rf"\]\((?:\.\./)+({'|'.join(map(re.escape, NOTES))})", rf"]({up}\1", markdown)


def rooms() -> list[str]:
    """The packages of Lapwing that hold public modules, by listing the folder."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py") if any(path.parent.glob("[!_]*.py")))


def modules(room: str) -> list[str]:
    """The public modules of a room by their addresses, the room's own first."""
    folder = PACKAGE / room
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not any(part.startswith("_") for part in parts):
            found.append(".".join(("lapwing", room, *parts)))
    return sorted(set(found))


def reference_pages() -> dict[str, str]:
    """The text of every page of Python reference, by its name."""
    pages = {
        "lapwing": "# lapwing\n\nWhat `import lapwing` gives.\n\n" + _block("lapwing.api", root=False),
        "testing": "# lapwing.testing\n\n" + _block("lapwing.testing", root=False),
    }
    for room in rooms():
        if room != "api":
            own, *others = modules(room)
            parts = [f"# lapwing.{room}", _block(own, root=False), *(_block(module) for module in others)]
            pages[room] = "\n\n".join(parts) + "\n"
    return pages


def _block(module: str, *, root: bool = True) -> str:
    if root:
        return f"::: {module}"
    return f"::: {module}\n    options: {{show_root_heading: false, show_root_toc_entry: false}}"


def _replaced(nav: list[Any], pages: list[Any]) -> list[Any]:
    """The navigation with the rooms in the place of the mark."""
    found = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, below),) = entry.items()
            if below == MARK:
                entry = {title: pages}
            elif isinstance(below, list):
                entry = {title: _replaced(below, pages)}
        found.append(entry)
    return found


def _within_docs(text: str) -> str:
    """The links of a page of the root folder as links of a page in docs/; those to code become text."""
    text = re.sub(r"\[([^\]]*)\]\((?:src|examples|tests|benchmarks)/[^)]*\)", r"\1", text)
    return text.replace("](docs/", "](")
