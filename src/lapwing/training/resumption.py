"""From where a run goes on, and whether it is still the same run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.storage import read_json
from lapwing.training.checkpoint import by_age, problems
from lapwing.training.run_folder import RunFolder


@dataclass(frozen=True)
class Position:
    """Where a run goes on.

    Attributes:
      stage: the index of the stage.
      checkpoint: to begin with; None for the beginning of the stage.
      skipped: why newer checkpoints were not taken, by their names.
    """

    stage: int = 0
    checkpoint: Path | None = None
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def iteration(self) -> int:
        """Iterations of that stage that are made."""
        return 0 if self.checkpoint is None else int(self.checkpoint.name.rpartition("-")[2])


def find_position(folder: RunFolder, stages: Sequence[str], *, anew: bool = False) -> Position:
    """The newest checkpoint that is whole and that the log reaches up to.

    Args:
      folder: of the run.
      stages: the names of all stages, in order.
      anew: begin at the beginning if there is no such checkpoint, though there were some.

    Raises:
      UserError: there are checkpoints, and none can be used; nothing is deleted.
    """
    logged = [(row["stage"], int(row["iteration"])) for row in folder.read_metrics()]
    skipped: dict[str, Sequence[str]] = {}
    for index in reversed(range(len(stages))):
        for path in reversed(by_age(folder.path, stages[index])):
            found = problems(path) or _beyond_the_log(path, logged)
            if not found:
                return Position(index, path, skipped)
            skipped[path.name] = found
    if skipped and not anew:
        listed = "\n".join(f"  {name}: {'; '.join(found)}" for name, found in skipped.items())
        raise UserError(
            f"No checkpoint of {folder.path} can be used; nothing was changed. To train it again from the beginning: "
            f"lapwing resume {folder.path} --anew\n{listed}"
        )
    return Position(skipped=skipped)


def _beyond_the_log(checkpoint: Path, logged: Sequence[tuple[str, int]]) -> list[str]:
    try:
        state = read_json(checkpoint / "state" / "state.json")
        # The last row of a checkpoint that was made before an evaluation is in the checkpoint.
        made = int(state["iteration"]) - (state.get("row") is not None)
        stage = state.get("stage", "main")
    except (LapwingError, KeyError, TypeError, ValueError):
        return ["its state.json cannot be understood"]
    missing = made - len({iteration for name, iteration in logged if name == stage and iteration < made})
    return [f"the log lacks {missing} of the iterations before it"] if missing else []


def cut_logs(folder: RunFolder, stages: Sequence[str], position: Position) -> tuple[int, int]:
    """Cut the logs back to a position; how many whole and how many half lines went."""
    order = {name: index for index, name in enumerate(stages)}
    first = position.iteration
    if position.checkpoint is not None and read_json(position.checkpoint / "state" / "state.json").get("row"):
        first -= 1

    def keep(row: dict[str, Any]) -> bool:
        at = order.get(row["stage"], len(order))
        return at < position.stage or (at == position.stage and int(row["iteration"]) < first)

    return folder.cut_logs(keep)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where two resolved recipes differ, as "main.optimizer.learning_rate: 0.001 -> 0.002"."""
    old, new = dict(flat(before)), dict(flat(now))
    return [
        f"{name}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in [*old, *(name for name in new if name not in old)]
        if name not in old or name not in new or old[name] != new[name]
    ]


def _shown(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "nothing"


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a resolved recipe by their places, as ("main.optimizer.learning_rate", 0.001)."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)) and value and all(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            # A stage is known by its name, and so is every other entry of a list of tables by its place.
            at = inner["name"] if name == "stage" and "name" in inner else f"{name}.{number}"
            yield from flat(inner, at)
    else:
        yield name, list(value) if isinstance(value, tuple) else value
