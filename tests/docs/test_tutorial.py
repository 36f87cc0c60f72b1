"""The tutorial is followed from its first page to its last, in a fresh folder, and its outputs are compared.

What is compared: every line that a page shows stands in the real output, in this order, and where the block has no
line "…", the output has no others. Numbers are masked first (a run of digits with its sign, points and commas is one
"#"), and blanks count as one, because widths follow the numbers; after `<!-- exact -->` nothing is masked. Commands end
with exit code 0, after `<!-- exit 2 -->` with 2.

`make test` follows a short form: two iterations and few matches for each `lapwing train`, and blocks after
`<!-- long -->` are left out. Then each line must be somewhere in the output; not looked for are those of the verdict
and of blocks after `<!-- learnt -->`, which show what a run has learnt. `make test-long` does what a reader does.
"""

import io
import re
import runpy
import shlex
import subprocess
import sys

import pages
import pytest

from lapwing import cli

# In the order of the navigation.
CHAPTERS = ("index", "first_run", "report", "own_reward", "own_game", "own_credit", "real_model")
SHORT = (
    *("iterations=2", "warm_start.iterations=2", "checkpoint_every=2"),
    *(
        "evaluation.episodes=20",
        "evaluation.development_episodes=10",
        "evaluation.every=1",
        "evaluation.replay_groups=1",
    ),
)
VERDICTS = ("Improved:", "No improvement shown:", "Worse:")
# Also a bound of the audit's, which is a number where it was told from 0.
NUMBER = re.compile(r"(< )?[+−-]?\d[\d,.]*(e[+-]?\d+)?")


def masked(text):
    """The lines of a text with one "#" for every number and one blank between words."""
    return [" ".join(NUMBER.sub("#", line).split()) for line in text.splitlines()]


def plain(text):
    return [line.rstrip() for line in text.splitlines()]


def first_that_is_missing(shown, actual, *, exact=False):
    """The first line that is shown and not in the output after the one before it; "" if all are there.

    Without a line "…" among those shown, also the first line of the output that is not shown.
    """
    lines = plain if exact else masked
    found = [line for line in lines(actual) if line]
    wanted = [line for line in lines(shown) if line]
    left = iter(found)
    for line in wanted:
        if line != "…" and line not in left:
            return line
    if "…" not in wanted and wanted and len(found) != len(wanted):
        return next((f"not shown: {line}" for line in found if line not in wanted), "a line that is shown once")
    return ""


def kinds_that_are_missing(shown, actual):
    """The lines that are shown and nowhere in the output, without those of verdicts."""
    paragraphs = [text for text in shown.split("\n\n") if not text.lstrip().startswith(VERDICTS)]
    return set(masked("\n\n".join(paragraphs))) - set(masked(actual)) - {"", "…"}


def parts(text):
    """The commands of a console block with what they print."""
    commands = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    for part in commands:
        line, _, shown = part.partition("\n")
        while line.endswith("\\"):
            more, _, shown = shown.partition("\n")
            line = line[:-1] + more.lstrip("> ")
        yield line, shown


class Reader:
    """Follows pages: types commands, runs Python, reads what comes."""

    def __init__(self, monkeypatch, capsys, folder, *, short):
        self._monkeypatch, self._capsys, self._short = monkeypatch, capsys, short
        monkeypatch.chdir(folder)

    def follow(self, page):
        namespace, printed, wants_output = {"__name__": "tutorial"}, "", False
        for fence in pages.fences(page):
            where = f"{page.name}, line {fence.line}"
            if fence.remark == "long" and self._short:
                wants_output = False
            elif fence.title:
                assert pages.Path(fence.title).read_text("utf-8").rstrip() == fence.text.rstrip(), where
            elif fence.language == "console":
                for line, shown in parts(fence.text):
                    code = 2 if fence.remark == "exit 2" else 0
                    self.check(shown, self.type(line, where, code), fence, f"{where}: {line}")
            elif fence.language == "python":
                self._capsys.readouterr()
                exec(compile(fence.text, where, "exec"), namespace)
                printed, wants_output = self._capsys.readouterr().out, True
            elif fence.language == "text" and wants_output:
                self.check(fence.text, printed, fence, where)
                wants_output = False

    def check(self, shown, actual, fence, where):
        if self._short and fence.remark == "learnt":
            return
        if not self._short:
            missing = first_that_is_missing(shown, actual, exact=fence.remark == "exact")
        else:
            missing = kinds_that_are_missing(shown, actual)
        assert not missing, f"{where}: {missing}\n\nthe output is\n{actual}"

    def type(self, line, where, expected):
        """Run one line of a terminal that ends with this exit code, and return what it prints."""
        typed, words = "", shlex.split(line)
        if "|" in words:
            at = words.index("|")
            typed = subprocess.run(words[:at], capture_output=True, text=True, check=True).stdout
            words = words[at + 1 :]
        self._capsys.readouterr()
        if words[0] == "cd":
            self._monkeypatch.chdir(words[1])
        elif words[0] == "python":
            self._monkeypatch.setattr(sys, "argv", words[1:])
            runpy.run_path(words[1], run_name="__main__")
        elif words[0] == "lapwing":
            self._monkeypatch.setattr(sys, "argv", [*words, *self._shorter(words)])
            self._monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
            code = cli.main()
            printed = "".join(self._capsys.readouterr())
            assert code == expected, f"{where}: {line}\n{printed}"
            return printed
        else:
            return subprocess.run(["bash", "-c", line], check=True, capture_output=True, text=True).stdout
        return "".join(self._capsys.readouterr())

    def _shorter(self, words):
        if not self._short or words[1] != "train" or "--dry-run" in words:
            return []
        return [word for setting in SHORT for word in ("--set", setting)]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """What a reader has after the installation, and no warm start of an earlier run."""
    monkeypatch.setenv("LAPWING_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "lapwing"
    folder.mkdir()
    for name in ("examples", "docs"):
        (folder / name).symlink_to(pages.ROOT / name)
    before = set(sys.modules), list(sys.path)
    yield folder
    sys.path[:] = before[1]
    for name in set(sys.modules) - before[0]:
        if name.startswith("my_"):
            del sys.modules[name]


def follow_all(monkeypatch, capsys, folder, *, short):
    reader = Reader(monkeypatch, capsys, folder, short=short)
    for chapter in CHAPTERS:
        reader.follow(pages.TUTORIAL / f"{chapter}.md")


@pytest.mark.slow
def test_the_short_form_of_the_tutorial_prints_what_it_shows(home, monkeypatch, capsys):
    follow_all(monkeypatch, capsys, home, short=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_who_follows_the_tutorial_sees_what_it_shows(home, monkeypatch, capsys):
    follow_all(monkeypatch, capsys, home, short=False)


def test_every_chapter_is_followed():
    assert {page.stem for page in pages.TUTORIAL.glob("*.md")} == set(CHAPTERS)


def test_a_chapter_shows_commands_only_where_they_are_run():
    for page in pages.TUTORIAL.glob("*.md"):
        for fence in pages.fences(page):
            if fence.language in ("", "text", "sh", "bash", "shell"):
                assert not re.search(r"^(\$ )?lapwing ", fence.text, flags=re.MULTILINE), f"{page.name} {fence.line}"


# ---------------------------------------------------------------------------------------------------------------------
# The comparison itself.


def test_numbers_and_blanks_do_not_matter_and_words_do():
    assert first_that_is_missing("main 1/90  success 0.01", "main 3/90 success +1,000.5") == ""
    assert first_that_is_missing("main 1/90  success 0.01", "main 3/90 return 0.5") == "main #/# success #"


def test_a_line_that_is_no_longer_printed_is_found():
    assert first_that_is_missing("a\n…\nc", "a\nb\nd") == "c"
    assert first_that_is_missing("a\nb", "b\na") == "b"


def test_a_line_that_is_not_shown_is_found_unless_lines_are_left_out():
    assert first_that_is_missing("a\nc", "a\nb\nc") == "not shown: b"
    assert first_that_is_missing("a\n…\nc", "a\nb\nc") == ""


def test_exact_output_is_compared_to_the_digit():
    assert first_that_is_missing("0.5", "0.6") == ""
    assert first_that_is_missing("0.5", "0.6", exact=True) == "0.5"


def test_the_short_form_leaves_out_verdicts_only():
    assert kinds_that_are_missing("Improved: so\nmuch\n\nrow 1\nrest 2", "row 5") == {"rest #"}


def test_commands_are_told_from_what_they_print():
    text = "$ one \\\n>     two\nout\n$ three\n"
    assert list(parts(text)) == [("one two", "out\n"), ("three", "")]
