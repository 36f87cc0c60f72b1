"""The files of `examples/`, as a reader has them: imported from their folder, and run from a folder of the reader's."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def example() -> Callable[[str], ModuleType]:
    """Imports an example by its name; another module than the one that `--allow-code` imports."""

    def load(name: str) -> ModuleType:
        module = sys.modules.get(f"examples.{name}")
        if module is None:
            spec = importlib.util.spec_from_file_location(f"examples.{name}", EXAMPLES / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[f"examples.{name}"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository with copies of the examples."""
    return Path(shutil.copytree(EXAMPLES, tmp_path_factory.mktemp("reader") / "examples"))


@pytest.fixture(scope="session")
def run(folder: Path) -> Callable[..., str]:
    """Runs a command there as a shell would, and gives what it printed; `lapwing` is the installed command."""
    installed = Path(sys.executable).parent
    # Where the tests are run must not help to find the modules of the reader.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str, typed: str = "") -> str:
        finished = subprocess.run(
            [str(installed / words[0]), *words[1:]],
            cwd=folder,
            input=typed,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={**clean, "OMP_NUM_THREADS": "1"},
        )
        assert finished.returncode == 0, f"{' '.join(words)}: {finished.stderr or finished.stdout}"
        return finished.stdout

    return run
