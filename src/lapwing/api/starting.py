"""What must be right before a run begins: one check for `lapwing train` and its dry run."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lapwing import build
from lapwing.api.loading import last_model
from lapwing.core.paths import checked_path
from lapwing.report.mirrors import check_mirrors
from lapwing.training.run_folder import RunFolder


class Start(NamedTuple):
    """A recipe that can be trained.

    Attributes:
      recipe: as read.
      plans: of its stages, or of the main one alone where it begins with the weights of an earlier run.
      weights: of the earlier run, if there is one.
    """

    recipe: build.Recipe
    plans: list[build.StagePlan]
    weights: Path | None


def start(
    recipe: str,
    *,
    run: str | Path | None,
    seed: int | None,
    overrides: Sequence[str],
    start_from: str | Path | None,
    allow_code: Sequence[str],
    mirrors: Sequence[str] = (),
) -> Start:
    """Check everything that can be checked before a model is built; nothing is written.

    Args:
      recipe, run, seed, overrides, start_from, allow_code, mirrors: as for `lapwing.train`.

    Raises:
      UserError: something is wrong.
    """
    check_mirrors(mirrors)
    if run is not None:
        checked_path(run, "--run")
    earlier = None if start_from is None else checked_path(start_from, "--from")
    read = build.read_recipe(recipe, overrides=overrides, seed=seed)
    plans = build.plan(read, allow_code=tuple(allow_code))
    for stage in plans:
        build.refuse_served(stage)
    if earlier is None:
        build.check_same_sets(plans)
        return Start(read, plans, None)
    return Start(read, plans[-1:], last_model(RunFolder.open(earlier).path))
