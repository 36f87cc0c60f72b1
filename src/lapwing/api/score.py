"""Score transcripts that were made elsewhere."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lapwing.build.schema import Checker
from lapwing.core import registry
from lapwing.core.errors import UserError, nearest
from lapwing.core.paths import checked_path
from lapwing.core.storage import atomic_path
from lapwing.evaluation.score import Score, score_transcripts
from lapwing.evaluation.transcripts import read_transcripts

_ROOMS = ("credit", "modulation")


def score(
    file: str | Path,
    *,
    format: str = "auto",
    methods: Sequence[str] | None = None,
    modulations: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    mapping: Sequence[str] = (),
    views: str = "last",
    out: str | Path | None = None,
) -> Score:
    """Score transcripts by every credit method, and grpo's credit by every modulation, whose columns are there.

    No model is needed, and PyTorch is not imported.

    Args:
      file: a file `*.jsonl` or `*.jsonl.gz`, a folder of such files, or the folder of a run.
      format: "lapwing", "trl", "verl", "verifiers", or "auto", which tells by the fields of the first line.
      methods: names of credit methods; all if left out.
      modulations: names of modulations; all if left out.
      overrides: `credit.METHOD.setting=value`, `modulation.METHOD.setting=value` or `METHOD.setting=value`.
      mapping: `field=place`: where the rows hold a field.
      views: what a chat's assistant saw: "last", the messages since its last one, or "history", all before.
      out: a folder for `score.json` and `score.html`; nothing is written if left out.

    Returns:
      The methods with their figures and their advantage of every step.

    Raises:
      UserError: the file, a method, a setting or the folder is wrong; nothing is written then.
    """
    settings = _settings(overrides)
    folder = None if out is None else _checked_folder(checked_path(out, "--out"))
    transcripts = read_transcripts(checked_path(file, "the file"), form=format, mapping=mapping, views=views)
    found = score_transcripts(transcripts, methods=methods, modulations=modulations, settings=settings)
    if folder is not None:
        _write(found, folder)
    return found


def _checked_folder(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for score.json and score.html.")
    return folder


def _write(found: Score, folder: Path) -> None:
    from lapwing.report.score_page import write_score_page

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "score.json") as temporary, temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(found.json_chunks())
        write_score_page(found, folder / "score.html")
    except OSError as error:
        raise UserError(f"The score could not be written to {folder}: {error.strerror}.") from error


def _settings(overrides: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Settings by room and method, each checked against the signature of its method."""
    tables: dict[tuple[str, str], dict[str, Any]] = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        path = key.strip().split(".")
        if not separator or len(path) not in (2, 3) or not all(path):
            raise UserError(f"--set takes METHOD.setting=value, as in gigpo.discount=0.9, not '{text}'.")
        tables.setdefault(_method(path[:-1], text), {})[path[-1]] = _value(value)
    checker = Checker(allow_code=())
    found = {}
    for (room, name), table in tables.items():
        checked = checker.settings(f"--set {name}", registry.resolve(room, name), table)
        found[room, name] = {key: value for key, value in checked.items() if key in table}
    if checker.errors:
        raise UserError("\n".join(checker.errors))
    return found


def _method(path: Sequence[str], text: str) -> tuple[str, str]:
    rooms, name = _ROOMS if len(path) == 1 else (path[0],), path[-1]
    if rooms[0] not in _ROOMS:
        raise UserError(f"--set {text}: there is no room '{rooms[0]}'; {nearest(rooms[0], _ROOMS)}")
    for room in rooms:
        if name in registry.names(room):
            return room, name
    known = [known for room in rooms for known in registry.names(room)]
    raise UserError(f"--set {text}: there is no method '{name}'; {nearest(name, known)}")


def _value(text: str) -> Any:
    """A value as TOML has it, else the text."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text.strip()
    return parsed["value"] if len(parsed) == 1 else text.strip()
