"""Lines of keys: the same keys as `tomllib` finds, each on the line where it was written."""

import os
import random
import string
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing import build
from lapwing.build.key_lines import DEEPEST, TooDeep, key_lines
from lapwing.build.recipe import _read_file


def paths(value, path=()):
    """The path of everything inside parsed TOML."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def check(text):
    found = key_lines(text)
    assert set(found.lines) == set(paths(tomllib.loads(text)))
    assert found.twice == []
    return found.lines


def test_by_hand():
    text = """\
# a comment
name = "x"
a.b.c = 1
list = [
  1,  # one
  [2, 3], {x = 4, 'y z' = 5},
]

[[stage]]
name = "main"
text = \"\"\"
[no.table]
key = "no key" \\\""" \"\"\"\"\"
raw = '''
[[stage]]'''''
"quoted \\u0041.b" = 1979-05-27 07:32:00
[stage.sampler]
groups = 0x10 # = 16
[stage."mod el".lora]
rank = 8
[[stage]]
[[stage.annotate]]
name = "value"
[[stage.annotate]]
[stage.annotate.deep]
x = nan
"""
    lines = check(text)
    assert lines == {
        ("name",): 2,
        ("a",): 3,
        ("a", "b"): 3,
        ("a", "b", "c"): 3,
        ("list",): 4,
        ("list", 0): 5,
        ("list", 1): 6,
        ("list", 1, 0): 6,
        ("list", 1, 1): 6,
        ("list", 2): 6,
        ("list", 2, "x"): 6,
        ("list", 2, "y z"): 6,
        ("stage",): 9,
        ("stage", 0): 9,
        ("stage", 0, "name"): 10,
        ("stage", 0, "text"): 11,
        ("stage", 0, "raw"): 14,
        ("stage", 0, "quoted A.b"): 16,
        ("stage", 0, "sampler"): 17,
        ("stage", 0, "sampler", "groups"): 18,
        ("stage", 0, "mod el"): 19,
        ("stage", 0, "mod el", "lora"): 19,
        ("stage", 0, "mod el", "lora", "rank"): 20,
        ("stage", 1): 21,
        ("stage", 1, "annotate"): 22,
        ("stage", 1, "annotate", 0): 22,
        ("stage", 1, "annotate", 0, "name"): 23,
        ("stage", 1, "annotate", 1): 24,
        ("stage", 1, "annotate", 1, "deep"): 25,
        ("stage", 1, "annotate", 1, "deep", "x"): 26,
    }


@pytest.mark.parametrize("name", build.recipe_names())
def test_every_shipped_recipe_is_read_as_tomllib_reads_it(name):
    import importlib.resources

    with importlib.resources.as_file(importlib.resources.files("lapwing.recipes") / f"{name}.toml") as path:
        text = _read_file(str(path))
    rows = text.splitlines()
    for path, line in check(text).items():
        # A key stands on its line; an item of a list stands on that of its list or on one of its own.
        assert isinstance(path[-1], int) or path[-1] in rows[line - 1]


# ---------------------------------------------------------------------------------------------------------------------
# Any TOML.

NASTY = [
    "",
    "a.b",
    "[x]",
    "# no",
    '"',
    "'",
    "\\",
    "\n[[x]]\n",
    "a = 1",
    '"""',
    "'''",
    "{",
    "é",
    "\t",
    "=,]}",
    "\0",
    "日本",
]
NUMBERS = [
    "1",
    "-0.5",
    "+1e3",
    "inf",
    "-nan",
    "true",
    "0xFF",
    "1_000",
    "07:32:00",
    "1979-05-27",
    "1979-05-27 07:32:00Z",
]
LETTERS = string.ascii_letters + string.digits + "_-"


def escaped(text, *, long=False):
    return "".join(
        c if (c.isprintable() and c not in '"\\') or (long and c == "\n") else f"\\U{ord(c):08X}" for c in text
    )


class Writer:
    """Writes a random document in all forms that TOML has, and notes the line of each key."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.text = ""
        self.lines = {}

    @property
    def line(self):
        return self.text.count("\n") + 1

    def put(self, text):
        self.text += text

    def one(self, *options):
        return self.random.choice(options)

    def keys(self, most, used=()):
        """Different keys, none of which is used."""
        found = {
            self.one(*NASTY)
            if self.one(True, False, False)
            else "".join(self.random.choices(LETTERS, k=self.one(1, 2, 4)))
            for _ in range(self.random.randint(0, most))
        }
        return sorted(found - set(used))

    def key(self, key):
        forms = ["basic"] + ["bare"] * 3 * bool(key and set(key) <= set(LETTERS))
        if "'" not in key and (key.isprintable() or key == "\t"):
            forms.append("literal")
        form = self.one(*forms)
        self.put(key if form == "bare" else f"'{key}'" if form == "literal" else f'"{escaped(key)}"')

    def value(self, path, depth=0):
        kind = self.one("number", "number", "text", "text", *(["list", "table"] if depth < 3 else []))
        if kind == "number":
            self.put(self.one(*NUMBERS))
        elif kind == "text":
            self.string("".join(self.random.choices([*NASTY, *"abc"], k=self.one(0, 1, 3))))
        elif kind == "list":
            self.list(path, depth)
        else:
            self.table(path, depth)

    def string(self, text):
        forms = ["basic", "long"]
        if "'''" not in text and not text.endswith("'") and all(c.isprintable() or c in "\n\t" for c in text):
            forms += ["long literal"] + ["literal"] * ("'" not in text and "\n" not in text)
        form = self.one(*forms)
        if form == "basic":
            self.put(f'"{escaped(text)}"')
        elif form == "literal":
            self.put(f"'{text}'")
        elif form == "long literal":
            self.put("'''" + self.one("", "\n", "''\n") + text + self.one("'''", "'''''"))
        else:
            start = self.one("", "\n", "\\\n  ", '""\n', "\\\\", '\\"""x')
            self.put('"""' + start + escaped(text, long=True) + self.one('"""', '""""', '"""""'))

    def list(self, path, depth):
        self.put("[")
        size = self.random.randint(0, 3)
        blank = ("", "\n", " # ] , }\n", "  ")
        for number in range(size):
            self.put(self.one(*blank))
            self.lines[(*path, number)] = self.line
            self.value((*path, number), depth + 1)
            self.put(self.one(*blank))
            self.put("," if number < size - 1 else self.one("", ","))
        self.put(self.one(*blank) + "]")

    def table(self, path, depth):
        self.put("{")
        keys = self.keys(3)
        for number, key in enumerate(keys):
            self.put(self.one("", " ", "\t"))
            self.pair(path, key, depth + 1)
            self.put(self.one("", " ") + ("," if number < len(keys) - 1 else ""))
        self.put("}")

    def pair(self, path, key, depth=0):
        # Dotted keys lead into tables that nobody else defines.
        for number, part in enumerate([key, *(self.keys(2) if self.one(True, False, False) else [])]):
            path = (*path, part)
            self.lines[path] = self.line
            self.put("" if number == 0 else self.one(".", " . "))
            self.key(part)
        self.put(self.one("=", " = "))
        self.value(path, depth)

    def body(self, path, used):
        for key in self.keys(4, used):
            used.add(key)
            self.put(self.one("", "\n", "  ", "# a = 1\n"))
            self.pair(path, key)
            self.put(self.one("\n", " # [x]\n", "\n\n"))

    def header(self, parts, double):
        self.put("[[" if double else self.one("[", "[ "))
        for number, part in enumerate(parts):
            self.put("." if number else "")
            self.key(part)
        self.put("]]\n" if double else "] # ]\n")

    def table_of(self, path):
        inner = self.keys(1)
        for length in range(1 + len(inner)):
            self.lines[(*path, *inner[:length])] = self.line
        self.header([part for part in (*path, *inner) if isinstance(part, str)], double=False)
        self.body((*path, *inner), set())

    def document(self):
        used = set()
        self.body((), used)
        for name in self.keys(4, used):
            if self.one(True, False):
                self.table_of((name,))
                continue
            for number in range(self.random.randint(1, 3)):
                self.lines.setdefault((name,), self.line)
                self.lines[(name, number)] = self.line
                self.header([name], double=True)
                mine = set()
                self.body((name, number), mine)
                for key in self.keys(2, mine):
                    self.table_of((name, number, key))
        return self


# Fails when three quotes inside a longer run end a text early (`closing` left out), when a list of tables counts from
# its last header only, or when a comment between the items of a list is not skipped.
def test_the_keys_are_those_of_tomllib_on_the_lines_where_they_were_written():
    for seed in range(300 * int(os.environ.get("LAPWING_SOAK", "1"))):
        writer = Writer(seed).document()
        assert check(writer.text) == writer.lines, writer.text


# Fails when the scan raises on text that is no TOML, instead of leaving that to `tomllib`.
@given(text=st.text(st.sampled_from("[]{}=.,\"'#\\\n ab1\t"), max_size=40))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_text_is_scanned_and_what_is_toml_agrees(text):
    found = key_lines(text)
    try:
        expected = set(paths(tomllib.loads(text)))
    except ValueError:
        return
    assert set(found.lines) == expected
    assert found.twice == []


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ("a = 1\nb = 2\na = 3", [(("a",), 1, 3)]),
        ("[x]\n[y]\n[x]", [(("x",), 1, 3)]),
        ("x.a = 1\nx.b = 1\nx.a = 2", [(("x", "a"), 1, 3)]),
        ("x = {a = 1,\ta = 2}", [(("x", "a"), 1, 1)]),
        ("[[s]]\na = 1\n[[s]]\na = 2\n[s.t]\n[s.t]", [(("s", 1, "t"), 5, 6)]),
    ],
)
def test_what_is_there_twice_is_found(text, twice):
    assert key_lines(text).twice == twice
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 100_000, "x = " + "{a = " * 50_000, "a." * 60_000 + "b = 1", "[" + "a." * 60_000 + "b]"]
)
def test_what_is_nested_too_deeply_ends_at_once(text):
    with pytest.raises(TooDeep) as raised:
        key_lines("\n\n" + text)
    assert raised.value.line == 3


def test_as_deep_as_allowed():
    check("x = " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1))
    check(".".join("a" * DEEPEST) + " = 1")
