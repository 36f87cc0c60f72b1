"""Whether a run that is resumed is still the run that began: its recipe, its files, its libraries, its room."""

import datetime
import hashlib
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lapwing import __version__, build
from lapwing.core.errors import UserError
from lapwing.training.run_folder import RunFolder

# Number 0, the newest two, and the one that is being written.
_CHECKPOINTS_AT_ONCE = 4
# Of larger files the ends and the length are enough to know them again.
_WHOLE_FILE = 64 * 2**20
_END = 2**20


def versions() -> dict[str, str]:
    """The libraries on which the bits of a run depend."""
    import torch
    import transformers

    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}


def new_manifest(
    recipe: build.Recipe, resolved: Mapping[str, Any], shop: build.Workshop, start_from: str | Path | None, ranks: int
) -> dict[str, Any]:
    """The manifest of a run that begins.

    Args:
      recipe, resolved: as read, and with every default.
      shop: the model.
      start_from: the run whose weights it begins with, if any.
      ranks: processes that train it.
    """
    import tomli_w
    import torch

    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "status": "running",
        "lapwing": __version__,
        "versions": versions(),
        **described(resolved, tomli_w.dumps(resolved)),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "device": str(next(shop.model.parameters()).device),
        "processor": processor(),
        "start_from": None if start_from is None else str(start_from),
        "resumed_at": [],
        "resumes": [],
        "ranks": [ranks],
        "parameters": sum(p.numel() for p in shop.model.parameters()),
        "seconds": {},
        "warm_start_cached": False,
    }


def processor() -> str:
    """What kind of processor this is, on which the order of sums in torch's kernels depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout that Lapwing runs from, if it runs from one."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def other_versions(manifest: Mapping[str, Any]) -> list[str]:
    """What is not as it was when a run began, so that it may not go on to the last bit."""
    import torch

    before = {"lapwing": manifest.get("lapwing"), **manifest.get("versions", {})}
    before |= {name: manifest.get(name) for name in ("threads", "processor")}
    now = {"lapwing": __version__, **versions(), "threads": torch.get_num_threads(), "processor": processor()}
    return [
        f"the run began with {name} {before[name]} and goes on with {now[name]}; "
        "it will not be equal to an uninterrupted one to the last bit"
        for name in now
        if before.get(name) is not None and before[name] != now[name]
    ]


def described(resolved: Mapping[str, Any], text: str) -> dict[str, Any]:
    """What a manifest keeps of a recipe: its text, and the hashes of the files that it names."""
    return {"recipe_text": text, "inputs": _inputs(resolved)}


def changed(folder: RunFolder, resolved: Mapping[str, Any]) -> list[str]:
    """How the recipe in a run's folder, and the files that it names, differ from those that the run began with."""
    from lapwing.training.resumption import differences

    manifest = folder.read_manifest()
    before = manifest.get("recipe_text")
    if before is None:  # of a version that did not keep it
        return []
    found = differences(tomllib.loads(before), tomllib.loads(folder.recipe.read_text("utf-8")))
    then, now = manifest.get("inputs", {}), _inputs(resolved)
    return found + [f"the file {name} has changed" for name in then if name in now and now[name] != then[name]]


def _inputs(resolved: Mapping[str, Any]) -> dict[str, str]:
    """The files that a recipe names, by path, with a hash of each; for a folder, of the files in it."""
    found = {}
    for text in dict.fromkeys(_strings(resolved.get("stage", []))):
        path = Path(text)
        try:
            files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
        except (OSError, ValueError):  # no path at all
            continue
        # A bare word is a path only by accident, as a folder "up" beside an action "up".
        if "/" in text or path.suffix:
            found[text] = hashlib.blake2b("".join(map(_hash, files)).encode(), digest_size=16).hexdigest()
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def _hash(path: Path) -> str:
    digest = hashlib.blake2b(f"{path.name} {path.stat().st_size}".encode(), digest_size=16)
    with path.open("rb") as file:
        if path.stat().st_size <= _WHOLE_FILE:
            digest.update(file.read())
        else:
            digest.update(file.read(_END))
            file.seek(-_END, 2)
            digest.update(file.read())
    return digest.hexdigest()


def check_room(path: Path, model: Any, models: int) -> None:
    """See that the disk has room for the checkpoints of a run.

    Args:
      path: of the run.
      model: that is trained.
      models: how many of its kind are trained beside each other.

    Raises:
      UserError: it has not.
    """
    from lapwing.api.dry_run import size_text
    from lapwing.models import lora

    trained = [p for p in model.parameters() if p.requires_grad]
    written = trained if lora.has_adapter(model) else list(model.parameters())
    # Two moments in float32, and a float32 copy of weights of lower precision.
    state = sum(p.numel() * (8 if p.element_size() == 4 else 12) for p in trained)
    one = models * (sum(p.numel() * p.element_size() for p in written) + state)
    free = shutil.disk_usage(path).free
    if free < _CHECKPOINTS_AT_ONCE * one:
        raise UserError(
            f"The disk of {path} has {size_text(free)} free, and {_CHECKPOINTS_AT_ONCE} checkpoints of "
            f"{size_text(one)} need {size_text(_CHECKPOINTS_AT_ONCE * one)}; make room, or name a folder on another "
            "disk with --run."
        )
