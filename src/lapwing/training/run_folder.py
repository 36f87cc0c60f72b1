"""The folder of a run: recipe, manifest, metrics, episodes, checkpoints, evaluation, report."""

import contextlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from lapwing.core.errors import UserError
from lapwing.core.storage import atomic_path, read_json, read_json_lines, to_plain, write_json, write_text
from lapwing.core.types import Episode
from lapwing.training.credited import StepCredit

_NO_CREDIT = StepCredit(None, None)


class RunFolder:
    """Reads and writes the files of one run; files are whole or absent, logs grow by whole lines."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is touched."""
        self.path = path
        self.recipe = path / "recipe.toml"
        self.metrics = path / "metrics.jsonl"
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
        except OSError as error:
            raise UserError(f"The run folder {path} could not be made: {error}.") from error
        folder.write_manifest(manifest)
        return folder

    @staticmethod
    def refuse(path: Path) -> None:
        """Raise if a run cannot begin in this folder."""
        if path.is_file():
            raise UserError(f"{path} is a file; name a folder for the run.")
        if path.is_dir() and any(path.iterdir()):
            raise UserError(
                f"The folder {path} is not empty; name another with --run, or continue it: lapwing resume {path}"
            )

    @staticmethod
    def open(path: Path) -> "RunFolder":
        """Open the folder of an earlier run.

        Raises:
          UserError: it is no run.
        """
        folder = RunFolder(path)
        if not folder.recipe.is_file() or not folder.manifest.is_file():
            raise UserError(f"{path} is no run: it has no recipe.toml and manifest.json.")
        return folder

    def discard_unlearnt(self) -> None:
        """Remove what `create` began, if no iteration is in the log."""
        if self.metrics.is_file() and self.read_metrics():
            return
        for part in (self.path / "checkpoints", self.path / "episodes"):
            shutil.rmtree(part, ignore_errors=True)
        for file in (self.metrics, self.manifest, self.recipe):
            file.unlink(missing_ok=True)
        # The folder itself stays where somebody else keeps something in it.
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def read_manifest(self) -> dict[str, Any]:
        """The manifest."""
        return read_json(self.manifest)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        write_json(self.manifest, manifest)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one line; numbers that are not finite are left out, because JSON has none."""
        clean = {k: v for k, v in row.items() if not isinstance(v, float) or abs(v) < float("inf")}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean, allow_nan=False) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines."""
        return read_json_lines(self.metrics)

    def cut_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Replace the log by these lines."""
        with atomic_path(self.metrics) as temporary:
            temporary.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows), encoding="utf-8")

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


class Onlooker(RunFolder):
    """The folder of a run for processes that take part in it and leave its files to another one."""

    def discard_unlearnt(self) -> None:
        """Remove nothing."""

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write nothing."""

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Write nothing."""

    def cut_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write nothing."""

    def write_episodes(
        self, name: str, episodes: Sequence[Episode], credit: Sequence[Sequence[StepCredit] | None] | None = None
    ) -> None:
        """Write nothing."""

    def write_evaluation(self, result: dict[str, Any], label: str | None = None) -> None:
        """Write nothing."""


def episode_as_json(episode: Episode, credit: Sequence[StepCredit] | None = None) -> dict[str, Any]:
    """An episode, with the credit of its steps where it was given, as the documented object of `episodes/*.jsonl`."""
    given = [_NO_CREDIT] * len(episode.steps) if credit is None else credit
    return {
        "match": episode.match.identifier,
        "group": episode.match.group,
        "player": episode.player,
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
