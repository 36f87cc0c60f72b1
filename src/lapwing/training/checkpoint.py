"""Checkpoints: an ordinary Hugging Face or PEFT folder, and beside it the state for an exact resume."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lapwing.core.errors import LapwingError
from lapwing.core.storage import json_text, read_json, sync_folder, temporary_beside, write_json
from lapwing.models import lora
from lapwing.models.pretrained import quiet
from lapwing.models.weights import check_safetensors

SCHEMA_VERSION = 2
_MANIFEST = "manifest.json"
# What older states lack, by their version.
_MIGRATIONS: dict[int, dict[str, Any]] = {
    1: {"stage": "main", "alarms": {}, "rollbacks": 0, "batch_tokens": None, "row": None}
}


def save_model(folder: Path, model: Any, tokenizer: Any, *, max_tokens: int) -> None:
    """Write a model and its tokenizer as a folder that `from_pretrained` loads; of one with LoRA the PEFT adapter."""
    model.generation_config.max_new_tokens = max_tokens
    with quiet():
        if lora.has_adapter(model):
            lora.save_adapter(folder, model)
        else:
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def save_checkpoint(
    target: Path,
    *,
    model: Any,
    tokenizer: Any,
    max_tokens: int,
    tensors: dict[str, torch.Tensor],
    state: dict[str, Any],
    others: Mapping[str, Any] | None = None,
    also: Callable[[Path], None] | None = None,
) -> None:
    """Write `model/` and `state/` whole or not at all: a temporary folder, hashes last, one rename.

    Every file and every folder is on the disk before the rename, and what stood at `target` is deleted only after it.

    Args:
      target: `checkpoints/<iteration>` of a run.
      model, tokenizer: what is trained.
      max_tokens: the reply budget, for the generation settings of the exported model.
      tensors: moments and averages of the learner.
      state: everything else that a resume needs, as JSON.
      others: models that learn beside it, by the name of the folder of each.
      also: writes further files into the folder of the state, which it is given.

    Raises:
      OSError: something could not be written; what stood at `target` is as it was.
    """
    temporary = temporary_beside(target)
    try:
        models = {"model": model, **(others or {})}
        _write_parts(temporary, models, tokenizer, max_tokens=max_tokens, tensors=tensors, state=state, also=also)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        entries = {str(path.relative_to(temporary)): _entry(path) for path in files}
        write_json(temporary / _MANIFEST, {"schema_version": SCHEMA_VERSION, "files": entries})
        for folder in sorted((path for path in temporary.rglob("*") if path.is_dir()), reverse=True):
            sync_folder(folder)
        sync_folder(temporary)
        before = temporary_beside(target)
        if target.exists():
            target.rename(before)
        temporary.rename(target)
        sync_folder(target.parent)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_parts(
    folder: Path,
    models: Mapping[str, Any],
    tokenizer: Any,
    *,
    max_tokens: int,
    tensors: dict[str, torch.Tensor],
    state: dict[str, Any],
    also: Callable[[Path], None] | None,
) -> None:
    try:
        for name, model in models.items():
            save_model(folder / name, model, tokenizer, max_tokens=max_tokens)
        (folder / "state").mkdir()
        if tensors:
            save_file(tensors, folder / "state" / "learner.safetensors")
        write_json(folder / "state" / "state.json", {"schema_version": SCHEMA_VERSION, **state})
        if also is not None:
            also(folder / "state")
    except Exception as error:
        # The libraries that write weights and tokenizers have errors of their own for a disk that is full.
        if "os error" in str(error).lower():
            raise OSError(str(error)) from error
        raise


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "blake2b").hexdigest()
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "blake2b": digest}


def problems(checkpoint: Path) -> list[str]:
    """What is wrong with the files of a checkpoint, a few words for each; empty for one that is whole.

    Every file of the manifest is read and hashed. Files that are not in it make a checkpoint suspect, because they
    may change what a loader makes of the folder; names that begin with a dot do not.
    """
    try:
        manifest = read_json(checkpoint / _MANIFEST)
        files = dict(manifest["files"])
        # The same numbers in another text are damage too: what else has changed is not known.
        is_as_written = (checkpoint / _MANIFEST).read_text("utf-8") == json_text(manifest)
    except (LapwingError, KeyError, TypeError, ValueError, OSError):
        is_as_written, manifest, files = False, {}, {}
    if not is_as_written:
        return [f"its {_MANIFEST} is missing or damaged"]
    if manifest.get("schema_version") not in (SCHEMA_VERSION, *_MIGRATIONS):
        return [f"it has schema version {manifest.get('schema_version')}, and this Lapwing reads {SCHEMA_VERSION}"]
    found = [f"{name} {wrong}" for name, entry in sorted(files.items()) if (wrong := _wrong(checkpoint / name, entry))]
    present = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    strange = {name for name in present - set(files) - {_MANIFEST} if not Path(name).name.startswith(".")}
    return found + [f"{name} does not belong to it" for name in sorted(strange)]


def _wrong(path: Path, entry: Any) -> str:
    if isinstance(entry, dict) and set(entry) != {"bytes", "blake2b"}:
        return "has another entry in the manifest than Lapwing writes"
    digest, size = (entry.get("blake2b"), entry.get("bytes")) if isinstance(entry, dict) else (entry, None)
    try:
        if size is not None and path.stat().st_size != size:
            return f"has {path.stat().st_size:,} bytes instead of {size:,}"
        with path.open("rb") as file:
            return "" if hashlib.file_digest(file, "blake2b").hexdigest() == digest else "has changed"
    except OSError:
        return "is missing or cannot be read"


def digests(checkpoint: Path) -> dict[str, str]:
    """The hash of every file of a checkpoint, as its manifest has it."""
    files = read_json(checkpoint / _MANIFEST)["files"]
    return {name: entry["blake2b"] if isinstance(entry, dict) else entry for name, entry in files.items()}


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there and has the hash that its manifest says."""
    return not problems(checkpoint)


def by_age(run: Path, stage: str = "main") -> list[Path]:
    """The checkpoints of a stage of a run, whole or not, oldest first."""
    prefix = "" if stage == "main" else f"{stage}-"
    numbers = {path: path.name.removeprefix(prefix) for path in (run / "checkpoints").glob(f"{prefix}*")}
    return sorted((p for p, number in numbers.items() if number.isdecimal()), key=lambda path: int(numbers[path]))


def newest_whole(run: Path, stage: str = "main") -> tuple[Path | None, dict[str, list[str]]]:
    """The newest checkpoint whose files verify, and what is wrong with those that are newer, by name."""
    skipped: dict[str, list[str]] = {}
    for path in reversed(by_age(run, stage)):
        found = problems(path)
        if not found:
            return path, skipped
        skipped[path.name] = found
    return None, skipped


def prune(run: Path, keep: int, *, every: int = 1) -> None:
    """Delete old checkpoints of the main stage once the newest one verifies.

    Number 0 (the untrained model) stays, and so do the newest `keep` and the newest multiple of `every`, to which a
    run rolls back. What has no manifest, and what is a link, is not ours to delete.
    """
    found = [path for path in by_age(run) if path.name != "0"]
    if not found or not is_whole(found[-1]):
        return
    regular = [path for path in found if int(path.name) % every == 0][-1:]
    for path in found[:-keep]:
        if path not in regular:
            delete(path)


def delete(checkpoint: Path) -> None:
    """Delete a checkpoint, if it is one of ours and no link."""
    if (checkpoint / _MANIFEST).is_file() and not checkpoint.is_symlink():
        shutil.rmtree(checkpoint)


def load_state(checkpoint: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The learner's tensors and the rest of the state.

    Raises:
      LapwingError: the checkpoint was written by another schema version.
    """
    state = read_json(checkpoint / "state" / "state.json")
    version = state.get("schema_version")
    if version in _MIGRATIONS:
        state = _MIGRATIONS[version] | state
    elif version != SCHEMA_VERSION:
        raise LapwingError(f"{checkpoint} has schema version {version}; this Lapwing reads {SCHEMA_VERSION}.")
    path = checkpoint / "state" / "learner.safetensors"
    if not path.exists():
        return {}, state
    check_safetensors(path)
    return load_file(path), state


class Alone:
    """The coordinator of a session that one process runs."""

    writes = True
    stops_anywhere = True

    def agreed(self, answer: Any, what: str) -> Any:
        """The answer."""
        return answer

    def largest(self, number: int, what: str) -> int:
        """The number."""
        return number

    def save(self, target: Path, **parts: Any) -> None:
        """Write a checkpoint."""
        save_checkpoint(target, **parts)

    def load(self, checkpoint: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The tensors and the rest of the state of a checkpoint."""
        return load_state(checkpoint)
