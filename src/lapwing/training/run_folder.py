"""The folder of a run: recipe, manifest, metrics, episodes, checkpoints, evaluation, report."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.paths import checked_path
from lapwing.core.storage import atomic_path, leftovers, read_json, read_json_lines, to_plain, write_json, write_text
from lapwing.core.types import Episode
from lapwing.training.credited import StepCredit
from lapwing.training.run_lock import FILES

_NO_CREDIT = StepCredit(None, None)
_KEPT_BATCHES = 5
# What `create` writes before the manifest: without that nothing was ever trained.
_FOLDERS = {"checkpoints", "episodes"}
_STILLBORN = {"recipe.toml", ".probe", *_FOLDERS}


class RunFolder:
    """Reads and writes the files of one run; files are whole or absent, logs grow by whole lines."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is touched."""
        self.path = path
        self.recipe = path / "recipe.toml"
        self.metrics = path / "metrics.jsonl"
        self.faults = path / "faults.jsonl"
        self.manifest = path / "manifest.json"
        self.evaluation = path / "evaluation.json"

    @staticmethod
    def create(path: Path, recipe: dict[str, Any], manifest: dict[str, Any]) -> "RunFolder":
        """Begin a run in a new or empty folder.

        Raises:
          UserError: the folder is not empty, or cannot be made.
        """
        RunFolder.refuse(path)
        folder = RunFolder(path)
        try:
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
            (path / "episodes").mkdir(exist_ok=True)
            write_text(folder.recipe, tomli_w.dumps(recipe))
            folder.write_manifest(manifest)
        except OSError as error:
            raise UserError(f"The run folder {path} could not be made: {error}.") from error
        return folder

    @staticmethod
    def reserve(path: Path) -> None:
        """Make the folder of a new run and see that it can be written, before anything slow is done.

        Raises:
          UserError: a run cannot begin there.
        """
        RunFolder.refuse(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_text(path / ".probe", "")
            (path / ".probe").unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"The run folder {path} cannot be written: {reason}; name another with --run.") from error

    @staticmethod
    def refuse(path: Path) -> None:
        """Raise if a run cannot begin in this folder.

        Raises:
          UserError: it is a file, or holds something; what a run that died at its birth left there does not count.
        """
        try:
            is_folder, found = path.is_dir(), list(path.iterdir()) if path.is_dir() else []
            is_there = os.path.lexists(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"The run folder {path} cannot be read: {reason}; name another with --run.") from error
        if is_there and not is_folder:
            raise UserError(f"{path} is a file; name a folder for the run.")
        names = {entry.name for entry in found} - set(FILES) - {entry.name for entry in _leftovers(path)}
        if names and (names - _STILLBORN or any(any(path.glob(f"{name}/*")) for name in names & _FOLDERS)):
            raise UserError(
                f"The folder {path} is not empty; name another with --run, or continue it: lapwing resume {path}"
            )

    def clear_leftovers(self) -> int:
        """Remove what dead writers left half-written, and return how many there were; only for who holds the lock."""
        found = [part for folder in ("", "checkpoints", "episodes") for part in _leftovers(self.path / folder)]
        for part in found:
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
        return len(found)

    @staticmethod
    def open(path: Path) -> "RunFolder":
        """Open the folder of an earlier run.

        Raises:
          UserError: it is no run.
        """
        folder = RunFolder(checked_path(path, "the folder of a run"))
        if not folder.recipe.is_file() or not folder.manifest.is_file():
            raise UserError(f"{path} is no run: it has no recipe.toml and manifest.json.")
        return folder

    def discard_unlearnt(self) -> None:
        """Remove what `create` began, if no iteration is in the log."""
        if self.metrics.is_file() and self.read_metrics():
            return
        for part in (self.path / "checkpoints", self.path / "episodes"):
            shutil.rmtree(part, ignore_errors=True)
        for file in (self.metrics, self.faults, self.manifest, self.recipe):
            file.unlink(missing_ok=True)
        self.give_up()

    def give_up(self) -> None:
        """Remove the folder where it is empty; it stays where somebody else keeps something in it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def read_manifest(self) -> dict[str, Any]:
        """The manifest."""
        return read_json(self.manifest)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        write_json(self.manifest, manifest)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one line; numbers that are not finite are left out, because JSON has none.

        Raises:
          LapwingError: the disk is full, or the file cannot be written; no half line is left.
        """
        _append(self.metrics, finite(row))

    def append_faults(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add lines to the log of what went wrong."""
        for row in rows:
            _append(self.faults, finite(row))

    def sync_logs(self) -> None:
        """Make the logs outlive a power cut; before a checkpoint, so that none is ahead of them."""
        for log in (self.metrics, self.faults):
            if log.is_file():
                with log.open("rb") as file:
                    os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines."""
        return read_json_lines(self.metrics)

    def cut_logs(self, keep: Callable[[dict[str, Any]], bool]) -> tuple[int, int]:
        """Leave only those lines that go before the point from which a run goes on.

        Args:
          keep: says it of a line.

        Returns:
          How many whole lines were cut, and how many half ones.
        """
        cut = halves = 0
        for log in (self.metrics, self.faults):
            if not log.is_file():
                continue
            content = log.read_bytes()
            halves += not content.endswith(b"\n") and bool(content)
            rows = read_json_lines(log)
            kept = [row for row in rows if keep(row)]
            cut += len(rows) - len(kept)
            with atomic_path(log) as temporary:
                text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept)
                temporary.write_text(text, encoding="utf-8")
        return cut, halves

    def write_batch(self, name: str, batch: EpisodeBatch) -> None:
        """Keep the batch of an update that was left out, as `faults/<name>.npz`; the first few of a run are enough.

        Args:
          name: of the file.
          batch: as the learner got it.
        """
        folder = self.path / "faults"
        if len(list(folder.glob("*.npz"))) < _KEPT_BATCHES:
            folder.mkdir(exist_ok=True)
            batch.save(folder / f"{name}.npz")

    def write_episodes(
        self, name: str, episodes: Sequence[Episode], credit: Sequence[Sequence[StepCredit] | None] | None = None
    ) -> None:
        """Write episodes as `episodes/<name>.jsonl`, one a line.

        Args:
          name: of the file.
          episodes: what to write.
          credit: of the steps of each; None, and None in place of an episode, where none was given.
        """
        given = [None] * len(episodes) if credit is None else credit
        lines = [
            json.dumps(episode_as_json(episode, found), ensure_ascii=False)
            for episode, found in zip(episodes, given, strict=True)
        ]
        write_text(self.path / "episodes" / f"{name}.jsonl", "".join(line + "\n" for line in lines))

    def write_evaluation(self, result: dict[str, Any], label: str | None = None) -> None:
        """Write what an evaluation found.

        Args:
          result: the object of `evaluation.json`.
          label: of a transfer to another game; None for the run's own.
        """
        write_json(self.evaluation if label is None else self.path / f"evaluation_{label}.json", result)

    def write_replay(self, replay: dict[str, Any]) -> None:
        """Write `replay.json`, what the report shows step by step; compact, for it holds thousands of numbers."""
        text = json.dumps(replay, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        write_text(self.path / "replay.json", text + "\n")


class Onlooker(RunFolder):
    """The folder of a run for processes that take part in it and leave its files to another one."""

    def discard_unlearnt(self) -> None:
        """Remove nothing."""

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write nothing."""

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Write nothing."""

    def append_faults(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write nothing."""

    def sync_logs(self) -> None:
        """Do nothing."""

    def cut_logs(self, keep: Callable[[dict[str, Any]], bool]) -> tuple[int, int]:
        """Cut nothing."""
        return 0, 0

    def clear_leftovers(self) -> int:
        """Remove nothing."""
        return 0

    def write_batch(self, name: str, batch: EpisodeBatch) -> None:
        """Write nothing."""

    def write_episodes(
        self, name: str, episodes: Sequence[Episode], credit: Sequence[Sequence[StepCredit] | None] | None = None
    ) -> None:
        """Write nothing."""

    def write_evaluation(self, result: dict[str, Any], label: str | None = None) -> None:
        """Write nothing."""

    def write_replay(self, replay: dict[str, Any]) -> None:
        """Write nothing."""


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the numbers that JSON does not have."""
    return {k: v for k, v in row.items() if not isinstance(v, float) or abs(v) < float("inf")}


def _append(log: Path, row: dict[str, Any]) -> None:
    line = (json.dumps(row, allow_nan=False) + "\n").encode("utf-8", errors="replace")
    size = log.stat().st_size if log.exists() else 0
    try:
        with log.open("ab", buffering=0) as file:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        # Cutting needs no room.
        with contextlib.suppress(OSError):
            os.truncate(log, size)
        raise LapwingError(
            f"{log} could not be written: {error.strerror}; make room, then go on from the last checkpoint: "
            f"lapwing resume {log.parent}"
        ) from error


def _leftovers(folder: Path) -> list[Path]:
    return leftovers(folder) if folder.is_dir() else []


def name_of(record: Mapping[str, Any]) -> str:
    """What a recorded episode is called: its match, and its seat where that is not the first."""
    seat = record.get("player", 0)
    return f"{record['match']}, seat {seat}" if seat else str(record["match"])


def episode_as_json(episode: Episode, credit: Sequence[StepCredit] | None = None) -> dict[str, Any]:
    """An episode, with the credit of its steps where it was given, as the documented object of `episodes/*.jsonl`."""
    given = [_NO_CREDIT] * len(episode.steps) if credit is None else credit
    return {
        "match": episode.match.identifier,
        "group": episode.match.group,
        "player": episode.player,
        **({} if episode.opponent_version is None else {"opponent_version": episode.opponent_version}),
        "policy_version": episode.policy_version,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "success": episode.success,
        "outcome": episode.outcome,
        "return": episode.episode_return,
        "domain_return": episode.domain_return,
        "final_view": to_plain(episode.final_view),
        "steps": [
            {
                "view": to_plain(step.view),
                "reply": step.decision.text,
                "action": None if step.action is None else str(step.action),
                "valid": step.decision.valid,
                "reason": step.decision.reason,
                "reward": step.reward,
                "domain_reward": step.domain_reward,
                "parts": dict(step.parts),
                "context_token": step.decision.context[step.decision.extends :].tolist(),
                "extends_previous": step.decision.extends > 0,
                "token": step.decision.token.tolist(),
                "sampler_logprob": step.decision.logprob.tolist(),
                **found._asdict(),
            }
            for step, found in zip(episode.steps, given, strict=True)
        ],
    }
