"""Train a recipe, resume a run."""

import contextlib
import dataclasses
import datetime
import errno
import signal
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lapwing import build
from lapwing.api.as_toml import as_toml
from lapwing.api.finishing import Run, Watcher, finish, on_first, read_run
from lapwing.api.loading import first_model, last_model
from lapwing.api.mirroring import mirrored, mirrors_entry
from lapwing.api.playing import measure
from lapwing.api.sameness import changed, check_room, described, new_manifest, other_versions
from lapwing.api.starting import start
from lapwing.api.warm_start_cache import warm_start_cache
from lapwing.core.columns import PART_PREFIX
from lapwing.core.errors import LapwingError, UserError
from lapwing.training.interruption import Interrupted
from lapwing.training.run_folder import Onlooker, RunFolder

_DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}


def train(
    recipe: str,
    *,
    run: str | Path | None = None,
    seed: int | None = None,
    overrides: Sequence[str] = (),
    start_from: str | Path | None = None,
    allow_code: Sequence[str] = (),
    trust_remote_code: bool = False,
    mirrors: Sequence[str] = (),
    watch: Watcher | None = None,
    **settings: Any,
) -> Run:
    """Train a recipe and evaluate what it became.

    Args:
      recipe: a shipped recipe's name, or the path of a TOML file.
      run: folder of the run, new or empty; `runs/<recipe>-<time>` if left out.
      seed: replaces the recipe's.
      overrides: `[stage.]section.key=value`, as `--set` takes them.
      start_from: an earlier run whose last weights the main stage begins with; earlier stages are left out.
      allow_code: packages outside Lapwing whose code the recipe may name.
      trust_remote_code: run code that comes with a pretrained model.
      mirrors: where to copy the metrics to, besides the run's folder: "tensorboard", "wandb", "trackio".
      watch: is called with each row of metrics, and with `{"event": …}` rows in between.
      settings: further overrides, with `__` for the dots: `sampler__groups=4`; `game` may be a game, such as
        `lapwing.from_gymnasium` makes.

    Returns:
      The finished run.

    Raises:
      UserError: something about the recipe or the folder is wrong; nothing was written.
    """
    spread = [f"{key.replace('__', '.')}={as_toml(value)}" for key, value in settings.items()]
    read, plans, weights = start(
        recipe,
        run=run,
        seed=seed,
        overrides=[*overrides, *spread],
        start_from=start_from,
        allow_code=allow_code,
        mirrors=mirrors,
    )
    team = build.make_team(plans[-1], f"train {recipe}")
    path = on_first(team, lambda: Path(run) if run is not None else _default_folder(read.name), "the run folder")
    if team is not None and team.was_restarted and _is_begun(path, read, plans):
        origin = build.Origin(build.resolved(read, plans), None, tuple(allow_code), trust_remote_code)
        with _locked(team, path), _named(path):
            return _go_on(path, read, plans, origin, team, watch)
    on_first(team, lambda: RunFolder.reserve(path), "whether a run can begin in its folder")
    origin = build.Origin(build.resolved(read, plans), weights, tuple(allow_code), trust_remote_code)
    begun: list[RunFolder] = []
    try:
        with _locked(team, path), _named(path):
            return _begin(path, read, plans, origin, team, watch, start_from, begun, mirrors)
    except UserError:
        # What is missing may show only now; the same command must run once it is there.
        for folder in begun:
            folder.discard_unlearnt()
        raise
    finally:
        if not begun:
            RunFolder(path).give_up()


def _begin(
    path: Path,
    recipe: build.Recipe,
    plans: Sequence[build.StagePlan],
    origin: build.Origin,
    team: Any,
    watch: Watcher | None,
    start_from: str | Path | None,
    begun: list[RunFolder],
    mirrors: Sequence[str],
) -> Run:
    """Train in a new folder, which `begun` holds from the moment on when there is something in it."""
    started = time.monotonic()
    shop = _workshop(plans[-1], recipe.seed, origin, team)
    on_first(
        team,
        lambda: check_room(path, shop.model, len(build.weight_sets(plans[-1]))),
        "whether there is room for the checkpoints",
    )
    manifest = new_manifest(recipe, origin.recipe, shop, start_from, _size(team)) | mirrors_entry(mirrors)
    on_first(team, lambda: RunFolder.create(path, dict(origin.recipe), manifest) and None, "the run folder")
    folder, watch = _open(team, path), _watcher(team, watch)
    begun.append(folder)
    watch({"event": "run", "path": str(path)})
    with mirrored(folder, manifest, watch) as (watch, conclude), _explained(path):
        _session(folder, plans, shop, watch).run()
        return conclude(finish(folder, plans, shop, watch, started))


def resume(
    run: str | Path,
    *,
    watch: Watcher | None = None,
    allow_code: Sequence[str] = (),
    trust_remote_code: bool = False,
    accept_changes: bool = False,
    anew: bool = False,
) -> Run:
    """Continue an interrupted run to its end.

    Args:
      run: its folder.
      watch: as for `train`.
      allow_code: as for `train`.
      trust_remote_code: as for `train`.
      accept_changes: go on although the run's recipe.toml, or a file that it names, is not what the run began with.
      anew: train from the beginning if there are checkpoints and none of them can be used.

    Returns:
      The finished run; one that had finished before is returned as it is.

    Raises:
      UserError: the folder is no run, another process is writing it, its recipe changed, or no checkpoint is whole.
    """
    folder = RunFolder.open(Path(run))
    recipe = build.read_recipe(str(folder.recipe))
    plans = build.plan(recipe, allow_code=tuple(allow_code))
    changes = changed(folder, build.resolved(recipe, plans))
    if changes and not accept_changes:
        listed = "\n".join(f"  {change}" for change in changes)
        raise UserError(
            f"{run} is not what it began with; to go on with these changes: lapwing resume {run} --accept-changes\n"
            f"{listed}"
        )
    if folder.read_manifest()["status"] == "finished" and not changes:
        return read_run(folder)
    team = build.make_team(plans[-1], f"resume {run}", resumed=True)
    origin = build.Origin(build.resolved(recipe, plans), None, tuple(allow_code), trust_remote_code)
    with _locked(team, folder.path), _named(folder.path):
        return _go_on(folder.path, recipe, plans, origin, team, watch, changes=changes, anew=anew)


def _go_on(
    path: Path,
    recipe: build.Recipe,
    plans: Sequence[build.StagePlan],
    origin: build.Origin,
    team: Any,
    watch: Watcher | None,
    *,
    changes: Sequence[str] = (),
    anew: bool = False,
) -> Run:
    from lapwing.training.resumption import cut_logs, find_position

    folder, watch = _open(team, path), _watcher(team, watch)
    manifest = on_first(team, folder.read_manifest, "the manifest")
    if manifest["status"] == "finished" and not changes:
        return read_run(folder)
    started = time.monotonic()
    names = [plan.name for plan in plans]
    position = on_first(team, lambda: find_position(folder, names, anew=anew), "the checkpoint to go on from")
    for name, reasons in position.skipped.items():
        watch({"event": "warning", "text": f"checkpoint {name} was skipped: {'; '.join(reasons)}"})
    start_from = manifest.get("start_from")
    if start_from:
        # The run's own, where it has one: the earlier run may be gone by now. Checkpoint 0 stays for as long as the run
        # goes on, and actors that take the place of others begin with it.
        weights = first_model(folder.path) or last_model(Path(start_from))
        origin = dataclasses.replace(origin, weights=weights)
    shop = _workshop(plans[-1], recipe.seed, origin, team)
    with mirrored(folder, manifest, watch) as (watch, conclude):
        session = _session(folder, plans, shop, watch)
        cut = cut_logs(folder, names, position)
        _note_resume(folder, manifest, names, position, cut, changes, _size(team), watch)
        with _explained(path):
            session.run(position)
            return conclude(finish(folder, plans, shop, watch, started))


def _note_resume(
    folder: RunFolder,
    manifest: dict[str, Any],
    names: Sequence[str],
    position: Any,
    cut: tuple[int, int],
    changes: Sequence[str],
    ranks: int,
    watch: Watcher,
) -> None:
    """Write into the manifest, and say, from where a run goes on and what is not as it was."""
    rows, halves = cut
    strange = other_versions(manifest)
    for text in strange:
        watch({"event": "warning", "text": text})
    made = position.iteration if position.stage == len(names) - 1 else 0
    manifest["status"] = "running"
    manifest["resumed_at"] = [*manifest.get("resumed_at", []), made]
    found = {
        "stage": names[position.stage],
        "iteration": position.iteration,
        "skipped": dict(position.skipped),
        "cut_lines": rows,
        "cut_half_lines": halves,
        "leftovers": folder.clear_leftovers(),
        "changes": list(changes),
        "warnings": strange,
    }
    manifest["resumes"] = [*manifest.get("resumes", []), found]
    if changes:
        manifest |= described(tomllib.loads(text := folder.recipe.read_text("utf-8")), text)
    # With another number of ranks sums have another order, so that the run does not go on to the last bit.
    manifest["ranks"] = [*manifest.get("ranks", []), ranks]
    folder.write_manifest(manifest)
    lines = f", {rows + halves} lines of the logs are made again" if rows + halves else ""
    watch({"event": "resumed", "text": f"going on at iteration {position.iteration} of {found['stage']}{lines}"})


@contextlib.contextmanager
def _explained(run: Path) -> Iterator[None]:
    """A disk that is full, or gone, ends a run with advice and no traceback; what was saved is kept."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or run
        raise LapwingError(
            f"{where} could not be written: {error.strerror}. Earlier checkpoints are as they were: make room, then go "
            f"on: lapwing resume {run}"
        ) from error


@contextlib.contextmanager
def _named(run: Path) -> Iterator[None]:
    """A signal outside of the session and the evaluation, as in set-up or in the report, names the run too."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stopped:
        if getattr(stopped, "run", None) is not None or not RunFolder(run).manifest.is_file():
            raise
        number = getattr(stopped, "signal_number", signal.SIGINT)
        raise Interrupted(number, run=run, saved="What was saved before is kept.") from None


def _locked(team: Any, path: Path) -> contextlib.AbstractContextManager[Any]:
    """One process writes a run; of several ranks it is the first."""
    from lapwing.training.run_lock import RunLock

    stack = contextlib.ExitStack()
    on_first(team, lambda: stack.enter_context(RunLock(path)) and None, "the lock of the run folder")
    return stack


def _workshop(main: build.StagePlan, seed: int, origin: build.Origin, team: Any) -> build.Workshop:
    shop = build.make_workshop(main, seed, weights=origin.weights, trust_remote_code=origin.trust_remote_code)
    shop.origin, shop.team = origin, team
    return shop


def _session(folder: RunFolder, plans: Sequence[build.StagePlan], shop: build.Workshop, watch: Watcher) -> Any:
    from lapwing.training.by_seat import seat_folder
    from lapwing.training.session import Session

    main = plans[-1]
    build.with_seats(main, shop)
    agent = build.make_agent(main, shop)

    def develop(safe_point: Callable[[], None]) -> dict[str, float]:
        agent.generator.forget()
        settings = main.evaluation.settings
        episodes = settings["development_episodes"]
        result = measure(
            main,
            {"trained": agent},
            episodes=episodes,
            split="development",
            team=shop.team,
            safe_point=safe_point,
        )
        result = result["policies"]["trained"]
        agent.generator.forget()
        found = [name for name in ("success", "not_lost", "score", "return", "valid") if result.get(name) is not None]
        measured = {name: result[name]["mean"] for name in found}
        for name in found:
            measured |= {f"{name}_{bound}": result[name][bound] for bound in ("low", "high")}
        measured |= {f"{PART_PREFIX}{name}": part["mean"] for name, part in result["parts"].items()}
        return {f"evaluation/{name}": mean for name, mean in measured.items()}

    return Session(
        folder=folder,
        stages=[build.make_stage(plan, shop) for plan in plans],
        model=shop.model,
        tokenizer=shop.tokenizer,
        max_tokens=main.generation.settings["max_tokens"],
        measure=develop,
        watch=watch,
        warm_start_cache=warm_start_cache(plans, shop),
        others={seat_folder(seat): other.model for seat, other in shop.others.items()},
        **({} if shop.team is None else {"coordinator": shop.team.coordinator()}),
    )


def _open(team: Any, path: Path) -> RunFolder:
    return RunFolder(path) if team is None or team.ranks.rank == 0 else Onlooker(path)


def _watcher(team: Any, watch: Watcher | None) -> Watcher:
    return _ignore if watch is None or (team is not None and team.ranks.rank > 0) else watch


def _size(team: Any) -> int:
    return 1 if team is None else team.ranks.size


def _is_begun(path: Path, recipe: build.Recipe, plans: Sequence[build.StagePlan]) -> bool:
    """Whether a folder holds a run of this recipe."""
    import tomli_w

    folder = RunFolder(path)
    found = folder.recipe.read_text("utf-8") if folder.recipe.is_file() and folder.manifest.is_file() else None
    return found == tomli_w.dumps(build.resolved(recipe, plans))


def _default_folder(recipe: str) -> Path:
    return Path("runs") / f"{recipe}-{datetime.datetime.now().strftime('%Y%m%d-%H%M%S')}"


def _ignore(row: dict[str, Any]) -> None:
    pass
