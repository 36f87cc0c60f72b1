"""What is imported when: the command line answers at once, and mathematics needs no torch."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lapwing"
HEAVY = {"torch", "transformers", "tokenizers", "matplotlib", "scipy", "pydantic", "jinja2"}
MATHEMATICS = (
    "core",
    "credit",
    "modulation",
    "selection",
    "filters",
    "shaping",
    "aggregation",
    "stats",
    "tabular",
    "games",
)


def imported_by(statement):
    """The packages that a fresh process has imported after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


# Fails when one of these modules imports torch at its top: 3 s for every `lapwing --help`.
@pytest.mark.parametrize("statement", ["import lapwing", "import lapwing.cli", "import lapwing.console"])
def test_the_interface_is_imported_without_anything_heavy(statement):
    assert imported_by(statement) & HEAVY == set()


def modules(room):
    return [f"lapwing.{room}.{path.stem}" for path in sorted((SOURCE / room).glob("*.py")) if path.stem != "__init__"]


def test_mathematics_and_games_are_imported_without_torch():
    every = [module for room in MATHEMATICS for module in [f"lapwing.{room}", *modules(room)]]
    assert len(every) > 40
    forbidden = HEAVY - {"scipy"} | {"rich", "typer"}
    assert imported_by("\n".join(f"import {module}" for module in every)) & forbidden == set()


@functools.cache
def imports_of(path):
    """Packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return frozenset(found)


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def package_names(requirements):
    return {re.split(r"[\s<>=!~\[;]", line, maxsplit=1)[0].replace("-", "_") for line in requirements}


def test_only_what_is_declared_is_imported():
    declared = package_names(project()["dependencies"]) | {"lapwing"}
    optional = {name for lines in project()["optional-dependencies"].values() for name in package_names(lines)}
    found = {name for path in SOURCE.rglob("*.py") for name in imports_of(path)} - set(sys.stdlib_module_names)
    assert found - declared - optional == set()


def test_a_package_behind_an_extra_appears_in_one_file():
    for extra, lines in project()["optional-dependencies"].items():
        if extra == "dev":
            continue
        for package in package_names(lines):
            users = [str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if package in imports_of(path)]
            assert len(users) <= 1, f"{package} is imported by {users}"


def test_nothing_imports_the_tests_or_pytest():
    for path in SOURCE.rglob("*.py"):
        assert not {"pytest", "hypothesis", "tests"} & imports_of(path), path
