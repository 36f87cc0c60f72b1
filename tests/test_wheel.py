"""The built wheel holds everything that the package needs, and nothing that it does not."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lapwing import __version__

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lapwing"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a folder of its own; with the installed hatchling where there is one, else with a downloaded one."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), *isolation, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel):
    assert f"lapwing-{__version__}" in wheel.filename
    wanted = {
        f"lapwing/{path.relative_to(SOURCE)}"
        for path in SOURCE.rglob("*")
        if path.suffix in {".py", ".toml", ".jinja", ".css", ".js"}
    }
    assert any(name.startswith("lapwing/recipes/") and name.endswith(".toml") for name in wanted)
    assert any(name.startswith("lapwing/report/") and name.endswith(".jinja") for name in wanted)
    assert wanted <= set(wheel.namelist())


@pytest.mark.slow
def test_the_wheel_holds_nothing_else(wheel):
    others = [
        name for name in wheel.namelist() if not name.startswith(("lapwing/", f"lapwing-{__version__}.dist-info/"))
    ]
    assert others == []
    assert not [name for name in wheel.namelist() if name.endswith((".pyc", ".npz", ".safetensors"))]


@pytest.mark.slow
def test_the_wheel_brings_the_command_and_the_licence(wheel):
    information = f"lapwing-{__version__}.dist-info"
    assert "lapwing = lapwing.cli:main" in wheel.read(f"{information}/entry_points.txt").decode()
    assert any(name.endswith("LICENSE") for name in wheel.namelist())


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(wheel, tmp_path):
    wheel.extractall(tmp_path / "installed")
    code = "import lapwing, sys; from lapwing import build; print(lapwing.__file__); print(*build.recipe_names())"
    done = subprocess.run(
        # -S -I would hide the dependencies as well; the extracted wheel comes first on the path.
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    file, names = done.stdout.splitlines()
    assert file.startswith(str(tmp_path))
    assert "frozen_lake_tiny" in names.split()
