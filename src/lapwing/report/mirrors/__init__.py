"""Copies of a run's metrics for TensorBoard, Weights & Biases and trackio; `metrics.jsonl` stays the truth.

A mirror may fail, hang or lag at any moment: it then loses rows or all of them, and training goes on as if it were not
there. Each has one file here, with the one package that it needs.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from lapwing.core.errors import UserError, nearest, shown
from lapwing.report.mirrors._courier import Courier
from lapwing.report.mirrors._texts import About, final_numbers

MIRRORS = ("tensorboard", "trackio", "wandb")
# Of a run that ended, and of one that was stopped: who stops a run waits for 10 s or more.
_SECONDS_TO_FINISH = 30.0
_SECONDS_TO_STOP = 2.0


def check_mirrors(names: Sequence[str]) -> list[str]:
    """The mirrors that were asked for, each once.

    Args:
      names: of mirrors.

    Raises:
      UserError: there is no such mirror, or its package is not installed.
    """
    if isinstance(names, str):
        raise UserError(f"The mirrors are a list of names, as in ['tensorboard'], not '{names}'.")
    for name in names:
        if name not in MIRRORS:
            raise UserError(f"There is no mirror {shown(name)}; {nearest(name, MIRRORS)}")
        if not is_installed(name):
            raise UserError(f'The mirror {name} needs a package that is not installed: pip install "lapwing[{name}]"')
    return list(dict.fromkeys(names))


def is_installed(name: str) -> bool:
    """Whether the package of a mirror is there; it bears the mirror's name, and is not imported."""
    found = importlib.util.find_spec(name)
    # A folder of this name in the current one, as W&B leaves it there, is no package.
    return found is not None and found.origin is not None


class Mirrors:
    """The mirrors of a run: hands every row on, and never waits for any of them but at the end."""

    def __init__(self, names: Sequence[str], about: About, say: Callable[[str], None]) -> None:
        """Prepare; nothing runs yet.

        Args:
          names: of mirrors.
          about: the run.
          say: is given a sentence when a mirror is lost, or loses something; from any thread.
        """
        self._couriers = [Courier(name, _opener(name), about, say) for name in names]
        self._final: dict[str, float] | None = None
        self._steps = 0

    def __enter__(self) -> Self:
        """Begin."""
        for courier in self._couriers:
            courier.start()
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        """Give each mirror some time to write what it has, and leave it behind if that is not enough."""
        for courier in self._couriers:
            courier.end(self._final, self._steps)
        until = time.monotonic() + (_SECONDS_TO_FINISH if kind is None else _SECONDS_TO_STOP)
        for courier in self._couriers:
            courier.wait(max(0.0, until - time.monotonic()))

    def tell(self, row: Mapping[str, Any]) -> None:
        """Hand a row of metrics on.

        Args:
          row: of `metrics.jsonl`.
        """
        self._steps = int(row["iteration"]) + 1
        for courier in self._couriers:
            courier.hand(row)

    def conclude(self, evaluation: Mapping[str, Any], transfer: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep the numbers of the last evaluation for the end.

        Args:
          evaluation: the object of `evaluation.json`.
          transfer: the same of each transfer game, by label.
        """
        self._final = final_numbers(evaluation, transfer)


def _opener(name: str) -> Callable[[About], Any]:
    def open_mirror(about: About) -> Any:
        return importlib.import_module(f"lapwing.report.mirrors.{name}").open_mirror(about)

    return open_mirror


def about_run(path: Path, manifest: Mapping[str, Any], recipe: Mapping[str, Any], text: str) -> About:
    """What mirrors are told of a run.

    Args:
      path: its folder.
      manifest: with its `mirrors`.
      recipe, text: with every default, as a table and as TOML.
    """
    return About(path, path.resolve().name, manifest["mirrors"]["id"], dict(recipe), text)
