"""Keys and passwords have no place in recipes, which are copied into every run folder and every export."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lapwing.core.errors import UserError

_KEY_NAME = re.compile(r"(?:^|[_.-])(?:api)?_?(?:key|token|secret|credentials?|authorization|bearer)$", re.IGNORECASE)
_PASSWORD_NAME = re.compile(r"(?:^|[_.-])(?:password|passwd|passphrase)$", re.IGNORECASE)
# Long, in one piece and with a digit: what people call a key otherwise is a word, such as the name of a field.
_KEY_VALUE = re.compile(r"(?:bearer )?(?=\S*\d)\S{12,}", re.IGNORECASE)
# What OpenAI, Hugging Face, GitHub, Google, Groq, AWS, Slack and W&B hand out, wherever it stands.
_KNOWN = re.compile(
    r"\b(?:sk-[\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|AIza[\w-]{16,}|gsk_\w{16,}|AKIA[0-9A-Z]{16}"
    r"|xox[abpr]-[\w-]{10,})"
)
_PASSWORD_IN_URL = re.compile(r"://[^/\s@]+:[^/\s@]*@")


def refuse_secrets(stages: Iterable[Mapping[str, Any]]) -> None:
    """Refuse stages that hold a key or a password; the sentence does not repeat it.

    Raises:
      UserError: a setting looks like one.
    """
    for stage in stages:
        for path, value in _texts(stage, str(stage.get("name", "stage"))):
            refuse_secret(path, value)


def refuse_secret(path: str, value: str) -> None:
    """Refuse a setting that looks like a key or a password.

    Args:
      path: the setting, as "main.generation.api_key".
      value: its text.

    Raises:
      UserError: it does.
    """
    name = path.rpartition(".")[2]
    is_key = _KEY_NAME.search(name) and _KEY_VALUE.fullmatch(value)
    if is_key or (_PASSWORD_NAME.search(name) and value) or _KNOWN.search(value) or _PASSWORD_IN_URL.search(value):
        raise UserError(
            f"{path} looks like a key or a password, and a recipe is copied into every run folder; take it out, and "
            "put the secret into an environment variable (OPENAI_API_KEY, HF_TOKEN, or the one that api_key_env or "
            "token_env names)."
        )


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _texts(part, f"{path}.{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _texts(part, f"{path}.{number}")
