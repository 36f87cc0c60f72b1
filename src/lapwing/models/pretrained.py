"""Models from local folders and the Hugging Face hub."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lapwing.core.errors import UserError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars of transformers out of our own display."""
    from transformers.utils import logging

    had_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had_bar:
            logging.enable_progress_bar()


def pretrained_model(*, path: str, revision: str | None = None) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer.

    Args:
      path: a local folder, or a hub id such as "org/model".
      revision: branch, tag or commit on the hub.

    Returns:
      The model in float32 and its tokenizer.

    Raises:
      UserError: there is no such model, it cannot be reached, or its tokenizer has no chat template.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(path, revision=revision)
            model: Any = AutoModelForCausalLM.from_pretrained(path, revision=revision, dtype="float32")
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"The model '{path}' could not be loaded ({first}); give a local Hugging Face folder, or a hub id "
            "while the network is there."
        ) from error
    if not tokenizer.chat_template:
        raise UserError(f"The tokenizer of '{path}' has no chat template; choose an instruction-tuned model.")
    return model, tokenizer


def load_folder(folder: Path) -> tuple[Any, Any]:
    """Load a model that Lapwing saved.

    Raises:
      UserError: the folder holds no model.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no model: it has no config.json.")
    return pretrained_model(path=str(folder))
