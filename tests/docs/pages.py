"""The pages of the documentation and what is in them: fences, commands, headings, links."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / ".github").glob("*.md")])

_FENCE = re.compile(r"^(?P<indent> *)```(?P<mark>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL)
_SNIPPET = re.compile(r'^[ ]*--8<-- "([^"]+)"$', re.MULTILINE)
_REMARK = re.compile(r"<!--((?:(?!-->).)*)-->\s*\Z", re.DOTALL)


class Fence(NamedTuple):
    """A block between ``` and ```.

    Attributes:
      mark: what stands behind the opening ```.
      text: what is in the block, with snippets put in and without the block's indentation.
      remark: the comment of HTML directly before the block, or "".
      line: where it begins.
    """

    mark: str
    text: str
    remark: str
    line: int

    @property
    def language(self):
        return self.mark.strip("{ }").split()[0].removeprefix(".") if self.mark else ""

    @property
    def title(self):
        found = re.search(r'title="([^"]+)"', self.mark)
        return found.group(1) if found else ""


def name_of(page):
    return str(page.relative_to(ROOT))


def fences(page):
    """The blocks of a page in order."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = _REMARK.search(text[: match.start()])
        indent = len(match["indent"])
        body = "".join(line[indent:] if line.strip() else line for line in match["text"].splitlines(keepends=True))
        found.append(
            Fence(
                match["mark"].strip(),
                _SNIPPET.sub(_included, body),
                before.group(1).strip() if before else "",
                text.count("\n", 0, match.start()) + 1,
            )
        )
    return found


def _included(match):
    return (ROOT / match.group(1)).read_text("utf-8").rstrip("\n")


def prose(page):
    """The text of a page without its blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def command_lines(page):
    """Every `lapwing …` of a page, in blocks and between backticks, as words."""
    shells = ("", "sh", "bash", "console", "shell", "text")
    # Those that are shown to be wrong are not meant to parse.
    shown = [fence for fence in fences(page) if fence.language in shells and fence.remark != "exit 2"]
    text = re.sub(r"\\\n(> )?", " ", "".join(fence.text for fence in shown))
    in_blocks = re.findall(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:.* -m -- )?(lapwing \S.*)$", text, flags=re.MULTILINE)
    in_prose = re.findall(r"`(?:[A-Z_]+=\S+ )*(lapwing(?:\s+[^`]+?))`", prose(page))
    lines = [line for line in in_blocks if not line.startswith("lapwing:")] + in_prose
    # An ellipsis stands for more of the kind, or for a name that is not known yet.
    return [[word for word in shlex.split(line, comments=True)[1:] if word != "…"] for line in lines]


def anchors(page):
    """The anchors of a page's headings, as the site and GitHub make them."""
    text = prose(page)
    found = []
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.append(slug)
    return {slug if not found[:at].count(slug) else f"{slug}-{found[:at].count(slug)}" for at, slug in enumerate(found)}


def links(page):
    """The targets of a page's links and images, as they are written."""
    return re.findall(r"\]\(([^)\s]+)(?:\s[^)]*)?\)", prose(page))
