"""Getting new weights to a vLLM server, and knowing which ones it has.

Every push has a label, the version and a hash of a sample of the weights. A push that fails is closed and marked as
failed at the server, so that nothing is taken for what it is not.
"""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from lapwing.core.errors import LapwingError
from lapwing.generation._http import JSONServer

_SAMPLE = 64


def weights_hash(model: torch.nn.Module) -> str:
    """A hash of the names of a model's parameters and of 64 numbers of each, spread evenly; 16 hexadecimal digits.

    An optimizer step changes every parameter that is trained nearly everywhere, so that the sample tells steps apart.
    """
    found = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().reshape(-1)
        at = sorted({i * (len(flat) - 1) // (_SAMPLE - 1) for i in range(_SAMPLE)}) if len(flat) else []
        found.update(name.encode() + str(tuple(parameter.shape)).encode())
        found.update(flat[at].float().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


class Push(Protocol):
    """A way to get weights to a server."""

    @property
    def model(self) -> str:
        """What requests name as their model."""
        ...

    def push(self, label: str) -> None:
        """Send the weights.

        Raises:
          LapwingError, UserError: it failed; the server is left marked and not paused.
        """
        ...

    def current(self) -> str:
        """The label that the server has."""
        ...


class DiskPush:
    """The whole model through a folder that the server sees at the same path.

    Begin, send, finish: /pause, /start_weight_update, /update_weights, /finish_weight_update with the label, /resume;
    /weight_info then tells the label. A failed update is finished with the label "failed-…", for vLLM does not undo
    what was loaded.

    Reference: https://docs.vllm.ai/en/latest/training/weight_transfer/disk/ and
      https://docs.vllm.ai/en/latest/training/async_rl/
    """

    def __init__(self, server: JSONServer, folder: Path, served: str, save: Callable[[Path], None]) -> None:
        """Remember where, and what the server calls the model; `save` writes it as safetensors."""
        self._server = server
        self._folder = folder
        self._save = save
        self._is_ready = False
        self.model = served

    def current(self) -> str:
        """The label that was finished last."""
        return str((self._server.get("/weight_info") or {}).get("weight_version"))

    def push(self, label: str) -> None:
        """Write the model and have the server load it."""
        server = self._server
        path = _written(self._folder, label, self._save)
        try:
            if not self._is_ready:
                server.post("/init_weight_transfer_engine", {"init_info": {}})
                self._is_ready = True
            server.post("/pause?mode=wait", {})
            try:
                self._update(path, label)
            finally:
                server.post("/resume", {})
        finally:
            shutil.rmtree(path, ignore_errors=True)
        if (found := self.current()) != label:
            raise LapwingError(f"The server has the weights '{found}' after '{label}' were pushed.")

    def _update(self, path: Path, label: str) -> None:
        server = self._server
        # None of these is sent twice: whether the first one had an effect is not known.
        try:
            server.post("/start_weight_update", {}, retries=0)
            server.post("/update_weights", {"update_info": {"path": str(path)}}, retries=0)
            server.post("/finish_weight_update", {"weight_version": label}, retries=0)
        except Exception:
            with contextlib.suppress(LapwingError):
                server.post("/finish_weight_update", {"weight_version": f"failed-{label}"})
            raise


class AdapterPush:
    """The adapter alone, each version under a name of its own: a reply can come from no other weights than it says.

    Needs a server started with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.

    Reference: https://docs.vllm.ai/en/latest/features/lora/#dynamically-serving-lora-adapters
    """

    def __init__(self, server: JSONServer, folder: Path, save: Callable[[Path], None]) -> None:
        """Remember where; `save` writes the adapter as PEFT does."""
        self._server = server
        self._folder = folder
        self._save = save
        self._label = ""
        self._path: Path | None = None

    @property
    def model(self) -> str:
        """The adapter that was loaded last."""
        return f"lapwing-{self._label}"

    def current(self) -> str:
        """The label of the adapter, if the server lists it."""
        listed = {entry["id"] for entry in self._server.get("/v1/models")["data"]}
        return self._label if self.model in listed else "none"

    def push(self, label: str) -> None:
        """Write the adapter, have the server load it, and take the one before out."""
        before = (self.model, self._path)
        self._label, self._path = label, _written(self._folder, label, self._save)
        try:
            loaded = {"lora_name": self.model, "lora_path": str(self._path)}
            self._server.post("/v1/load_lora_adapter", loaded, retries=0)
            if self.current() != label:
                raise LapwingError(f"The server does not list the adapter '{self.model}' after it was loaded.")
        except Exception:
            self._take_out(self.model, self._path)
            self._label, self._path = "", None
            raise
        finally:
            self._take_out(*before)

    def _take_out(self, name: str, path: Path | None) -> None:
        # The server may read an adapter again for as long as it lists it.
        if path is not None:
            with contextlib.suppress(LapwingError):  # it takes room there, and nothing else
                self._server.post("/v1/unload_lora_adapter", {"lora_name": name})
            shutil.rmtree(path, ignore_errors=True)


def _written(folder: Path, label: str, save: Callable[[Path], None]) -> Path:
    """A new folder with the weights; under its final name it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        save(begun)
        begun.chmod(0o755)  # the server may be another user
        return begun.rename(folder.resolve() / f"{label}-{begun.name[-8:]}")
    except BaseException:
        shutil.rmtree(begun, ignore_errors=True)
        raise
