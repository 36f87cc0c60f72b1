"""Where the files of a model are: a folder, the hub, or the copy of the hub that is on this machine."""

import queue
import threading
from pathlib import Path

from lapwing.core.errors import UserError

_DEADLINE_SECONDS = 3.0
_ADAPTER_FILES = ["adapter_*", "tokenizer*", "*.jinja", "vocab.json", "merges.txt", "special_tokens_map.json"]


def find_model(path: str, revision: str | None = None) -> str:
    """Find what `from_pretrained` can load without waiting for a network that is not there.

    A hub id is asked for once, for at most three seconds. If the hub does not answer, the copy that an earlier download
    left in the Hugging Face cache is used.

    Args:
      path: a local folder, or a hub id such as "org/model".
      revision: branch, tag or commit on the hub.

    Returns:
      A local folder, or the hub id if the hub has the model.

    Raises:
      UserError: neither the hub nor the cache has it.
    """
    if Path(path).is_dir():
        return path
    if path.startswith(("/", "./", "../", "~")) or path.count("/") > 1:
        raise UserError(f"There is no folder '{path}'; give that of a model, or a hub id such as 'org/model'.")
    answer = _ask(path, revision)
    if isinstance(answer, list):
        if "adapter_config.json" not in answer or "config.json" in answer:
            return path
        # Transformers would load an adapter's base by itself, with settings of its own.
        return _snapshot(path, revision, local=False)
    try:
        return _snapshot(path, revision, local=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The model '{path}' is not on this machine, and {answer}; name a local Hugging Face folder, or download "
            f"it where there is a network with `hf download {path}` and copy the Hugging Face cache here."
        ) from error


def _snapshot(path: str, revision: str | None, *, local: bool) -> str:
    from huggingface_hub import snapshot_download

    # A copy is whole if it has what transformers wanted then; the hub's list of files has more.
    wanted = ["*config.json"] if local else _ADAPTER_FILES
    return snapshot_download(path, revision=revision, local_files_only=local, allow_patterns=wanted)


def _ask(path: str, revision: str | None) -> list[str] | str:
    """The names of a model's files on the hub, or why there are none, as half a sentence."""
    found: queue.SimpleQueue[list[str] | str] = queue.SimpleQueue()
    # Looking a name up can hang for longer than any timeout of a request, so that a thread waits for it.
    threading.Thread(target=lambda: found.put(_file_names(path, revision)), daemon=True).start()
    try:
        return found.get(timeout=_DEADLINE_SECONDS)
    except queue.Empty:
        return "the hub does not answer"


def _file_names(path: str, revision: str | None) -> list[str] | str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return [
            file.rfilename
            for file in HfApi().model_info(path, revision=revision, timeout=_DEADLINE_SECONDS).siblings or []
        ]
    except GatedRepoError:
        return "its owner must let you use it first (accept its licence on the hub, then `hf auth login`)"
    except RevisionNotFoundError:
        return f"the hub has no revision '{revision}' of it"
    except (RepositoryNotFoundError, HFValidationError):
        return "the hub has no such model, or it is private (`hf auth login`)"
    except Exception:  # whatever the network does, the cache is asked next
        return "the hub cannot be reached"
