"""A copy in the local database of trackio: `trackio show --project lapwing`."""

from collections.abc import Mapping, Sequence
from typing import Any

from lapwing.report.mirrors._texts import About, as_config, escaped, numbers

_PROJECT = "lapwing"


class Trackio:
    """One trackio run; names begin with the stage, as `main/rollout/return_mean`, over the iteration.

    It writes to the database itself: `trackio.init` would ask the hub who is logged in, and may be told by the
    environment to upload everything to a Space.
    """

    def __init__(self, about: About) -> None:
        """Begin.

        Args:
          about: the run.
        """
        from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]

        self._storage: Any = SQLiteStorage
        self._name, self._identifier = escaped(about.name), about.identifier
        self._config: dict[str, Any] | None = as_config(about.recipe)

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Copy rows."""
        found = [
            {
                **{f"{escaped(str(row['stage']))}/{name}": value for name, value in numbers(row).items()},
                f"{escaped(str(row['stage']))}/iteration": int(row["iteration"]),
            }
            for row in rows
        ]
        self._log(found, [int(row["iteration"]) for row in rows])

    def final(self, found: Mapping[str, float], steps: int) -> None:
        """Copy the last evaluation, at the step after the last iteration."""
        self._log([dict(found)], [steps])

    def close(self) -> None:
        """Nothing is left: every row was written at once."""

    def _log(self, found: list[dict[str, Any]], steps: list[int]) -> None:
        self._storage.bulk_log(_PROJECT, self._name, found, steps=steps, config=self._config, run_id=self._identifier)
        self._config = None


def open_mirror(about: About) -> Trackio:
    """Begin to mirror a run."""
    return Trackio(about)
