"""Long functions and files are looked at again: this fails until they are shorter or have a reason to be long."""

import ast
import functools
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "lapwing"
# Lines of code in a function, its docstring not counted, and lines of a file.
FUNCTION, FILE = 50, 400
# What may be read aloud must fit on a page or two.
READ_ALOUD = {"training/loop.py": 100, "training/stages.py": 100}

# Name: (a round number that the size is below, why). The list may only shrink: an entry that is no longer needed, or
# whose number could be lower by a step, fails too.
FUNCTION_STEP, FILE_STEP = 10, 50
LONG_FUNCTIONS = {
    "build/planning.py:_plan_stage": (70, "one entry for each section of a recipe, in the order in which they act"),
    "testing.py:episodes": (60, "a table of the columns of a batch with their defaults"),
}
LONG_FILES: dict[str, tuple[int, str]] = {}


@functools.cache
def files():
    return {str(path.relative_to(SOURCE)): path.read_text("utf-8") for path in sorted(SOURCE.rglob("*.py"))}


def code_lines(node):
    documentation = node.body[0]
    length = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is None:
        return length
    return length - (documentation.end_lineno - documentation.lineno + 1)


@functools.cache
def function_sizes():
    return {
        f"{name}:{node.name}": code_lines(node)
        for name, text in files().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def file_sizes():
    return {name: text.count("\n") for name, text in files().items()}


def offenders(sizes, limit, allowed):
    return {name: size for name, size in sizes.items() if size > allowed.get(name, (limit,))[0]}


def too_generous(sizes, limit, allowed, step):
    return [
        name
        for name, (most, _) in allowed.items()
        if name not in sizes or sizes[name] <= limit or sizes[name] <= most - step
    ]


def test_no_function_is_too_long():
    assert offenders(function_sizes(), FUNCTION, LONG_FUNCTIONS) == {}


def test_no_file_is_too_long():
    assert offenders(file_sizes(), FILE, LONG_FILES) == {}


@pytest.mark.parametrize(("name", "most"), READ_ALOUD.items())
def test_what_is_read_aloud_stays_short(name, most):
    assert file_sizes()[name] <= most


def test_the_lists_of_exceptions_only_shrink():
    assert too_generous(function_sizes(), FUNCTION, LONG_FUNCTIONS, FUNCTION_STEP) == []
    assert too_generous(file_sizes(), FILE, LONG_FILES, FILE_STEP) == []


def test_every_exception_has_a_reason():
    assert all(len(reason.split()) > 4 for _, reason in (LONG_FUNCTIONS | LONG_FILES).values())
