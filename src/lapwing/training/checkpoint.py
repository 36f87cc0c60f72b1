"""Checkpoints: an ordinary Hugging Face or PEFT folder, and beside it the state for an exact resume."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lapwing.core.errors import LapwingError
from lapwing.core.storage import read_json, write_json
from lapwing.models import lora
from lapwing.models.pretrained import quiet

SCHEMA_VERSION = 1
_MANIFEST = "manifest.json"


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
    also: Callable[[Path], None] | None = None,
) -> None:
    """Write `model/` and `state/` whole or not at all: a temporary folder, hashes last, one rename.

    Args:
      target: `checkpoints/<iteration>` of a run.
      model, tokenizer: what is trained.
      max_tokens: the reply budget, for the generation settings of the exported model.
      tensors: moments and averages of the learner.
      state: everything else that a resume needs, as JSON.
      also: writes further files into the folder of the state, which it is given.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        save_model(temporary / "model", model, tokenizer, max_tokens=max_tokens)
        (temporary / "state").mkdir()
        if tensors:
            save_file(tensors, temporary / "state" / "learner.safetensors")
        write_json(temporary / "state" / "state.json", {"schema_version": SCHEMA_VERSION, **state})
        if also is not None:
            also(temporary / "state")
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        hashes = {str(path.relative_to(temporary)): _hash_and_sync(path) for path in files}
        write_json(temporary / _MANIFEST, {"schema_version": SCHEMA_VERSION, "files": hashes})
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _hash_and_sync(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "blake2b").hexdigest()
        os.fsync(file.fileno())
    return digest


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there and has the hash that its manifest says."""
    try:
        files = read_json(checkpoint / _MANIFEST)["files"]
        return all(_digest(checkpoint / name) == digest for name, digest in files.items())
    except (LapwingError, KeyError, OSError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run that are whole, oldest first."""
    return [path for path in _by_age(run) if is_whole(path)]


def _by_age(run: Path) -> list[Path]:
    found = [path for path in (run / "checkpoints").glob("*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name))


def prune(run: Path, keep: int) -> None:
    """Delete old checkpoints but number 0 (the untrained model) and the newest `keep`."""
    for path in [path for path in _by_age(run) if path.name != "0"][:-keep]:
        shutil.rmtree(path)


def load_state(checkpoint: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The learner's tensors and the rest of the state.

    Raises:
      LapwingError: the checkpoint was written by another schema version.
    """
    state = read_json(checkpoint / "state" / "state.json")
    if state.get("schema_version") != SCHEMA_VERSION:
        raise LapwingError(
            f"{checkpoint} has schema version {state.get('schema_version')}; this Lapwing reads {SCHEMA_VERSION}."
        )
    path = checkpoint / "state" / "learner.safetensors"
    return (load_file(path) if path.exists() else {}), state


class Alone:
    """The coordinator of a session that one process runs."""

    writes = True

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
