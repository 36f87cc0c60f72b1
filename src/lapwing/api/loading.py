"""Find the weights of a run, and set up what it or a model from elsewhere plays."""

from collections.abc import Sequence
from pathlib import Path

from lapwing import build
from lapwing.core.errors import UserError
from lapwing.core.paths import checked_path


def plan_and_shop(
    run_or_model: str,
    game: str | None,
    overrides: Sequence[str],
    *,
    allow_code: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> tuple[build.StagePlan, build.Workshop]:
    """The plan and the model of a run, or of a model that is to play a game.

    Args:
      run_or_model: the folder of a run, one of its checkpoints or the weights of one of its seats there
        (`RUN/checkpoints/50/seat_1`), a Hugging Face folder, or a hub id.
      game: another game for a run; needed for a model.
      overrides: `section.key=value`.
      allow_code: packages outside Lapwing whose code the run's recipe, or `game`, may name.
      trust_remote_code: run code that comes with a pretrained model.

    Raises:
      UserError: there is no such run, model, game or setting.
    """
    path = checked_path(run_or_model, "the run or model")
    run, weights = run_of(path)
    # An exported model has the recipe too.
    if (run / "recipe.toml").is_file() and (run / "manifest.json").is_file():
        recipe = build.read_recipe(str(run / "recipe.toml"))
        weights = weights or last_model(run)
    else:
        if game is None:
            raise UserError(f"{run_or_model} is no run; name the game that the model is to play with --game.")
        recipe = build.model_recipe(run_or_model, game)
        weights = None
    stage = recipe.stages[-1]
    if game is not None and stage["game"].get("name") != game:
        stage["game"] = {"name": game}
    # Transfers were a part of training; they need not fit another game.
    stage.get("evaluation", {}).pop("transfer", None)
    before = dict(stage.get("generation", {}))
    recipe = build.with_overrides(recipe, overrides)
    build.forget_other_settings(stage.get("generation", {}), before)
    plan = build.plan(recipe, allow_code=tuple(allow_code))[-1]
    return plan, build.make_workshop(plan, recipe.seed, weights=weights, trust_remote_code=trust_remote_code)


def run_of(path: Path) -> tuple[Path, Path | None]:
    """The run that a folder is or belongs to, and the weights in it that are meant; None for the newest.

    Args:
      path: a run, `RUN/checkpoints/50`, or the weights of a seat in it, as `RUN/checkpoints/50/seat_1`.

    Raises:
      UserError: it is a checkpoint without weights.
    """
    # Not resolve(), which raises at a link that leads to itself.
    whole = path.absolute()
    if whole.parent.name == "checkpoints":
        if not (whole / "model").is_dir():
            raise UserError(f"{path} holds no model; name a folder of RUN/checkpoints.")
        return whole.parent.parent, whole / "model"
    is_of_seat = whole.parent.parent.name == "checkpoints" and whole.name.startswith("seat_") and whole.is_dir()
    return (whole.parent.parent.parent, whole) if is_of_seat else (path, None)


def last_model(run: Path) -> Path:
    """The Hugging Face folder of a run's newest whole checkpoint.

    Raises:
      UserError: there is none yet.
    """
    from lapwing.training.checkpoint import newest_whole

    newest, _ = newest_whole(run)
    if newest is None:
        raise UserError(f"{run} has no whole checkpoint yet; let it train first: lapwing resume {run}")
    return newest / "model"


def first_model(run: Path) -> Path | None:
    """The Hugging Face folder of a run's oldest whole checkpoint; number 0 is never deleted. None if there is none."""
    from lapwing.training.checkpoint import by_age, is_whole

    return next((path / "model" for path in by_age(run) if is_whole(path)), None)
