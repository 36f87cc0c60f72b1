"""Train a recipe, resume a run."""

import dataclasses
import datetime
import functools
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapwing import __version__, build
from lapwing.api.loading import first_model, has_checkpoint, last_model
from lapwing.api.playing import measure
from lapwing.api.warm_start_cache import warm_start_cache
from lapwing.core.columns import PART_PREFIX
from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.core.storage import read_json
from lapwing.training.run_folder import Onlooker, RunFolder

Watcher = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """A finished run on disk.

    Attributes:
      path: its folder.
      evaluation: the object of `evaluation.json`.
      transfer: evaluations of the same weights on further games, by label.
      start_from: the run whose weights it began with, if any; its recipe alone does not repeat such a run.
    """

    path: Path
    evaluation: dict[str, Any]
    transfer: dict[str, dict[str, Any]]
    start_from: str | None = None

    @property
    def model(self) -> Path:
        """The Hugging Face folder of the last checkpoint."""
        return last_model(self.path)


def train(
    recipe: str,
    *,
    run: str | Path | None = None,
    seed: int | None = None,
    overrides: Sequence[str] = (),
    start_from: str | Path | None = None,
    allow_code: Sequence[str] = (),
    trust_remote_code: bool = False,
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
      watch: is called with each row of metrics, and with `{"event": …}` rows in between.
      settings: further overrides, with `__` for the dots: `sampler__groups=4`.

    Returns:
      The finished run.

    Raises:
      UserError: something about the recipe or the folder is wrong; nothing was written.
    """
    spread = [f"{key.replace('__', '.')}={_as_toml(value)}" for key, value in settings.items()]
    read = build.read_recipe(recipe, overrides=[*overrides, *spread], seed=seed)
    plans = build.plan(read, allow_code=tuple(allow_code))
    for stage in plans:
        build.refuse_served(stage)
    team = build.make_team(plans[-1], f"train {recipe}")
    path = _on_first(team, lambda: Path(run) if run is not None else _default_folder(read.name), "the run folder")
    if team is not None and team.was_restarted and _is_begun(path, read, plans):
        origin = build.Origin(build.resolved(read, plans), None, tuple(allow_code), trust_remote_code)
        return _go_on(path, read, plans, origin, team, watch)
    _on_first(team, lambda: RunFolder.refuse(path), "whether a run can begin in its folder")
    weights = None
    if start_from is not None:
        weights = last_model(RunFolder.open(Path(start_from)).path)
        plans = plans[-1:]
    started = time.monotonic()
    resolved = build.resolved(read, plans)
    origin = build.Origin(resolved, weights, tuple(allow_code), trust_remote_code)
    shop = _workshop(plans[-1], read.seed, origin, team)
    manifest = _manifest(read, shop, start_from)
    _on_first(team, lambda: RunFolder.create(path, resolved, manifest), "the run folder")
    folder, watch = _open(team, path), _watcher(team, watch)
    watch({"event": "run", "path": str(path)})
    try:
        session = _session(folder, plans, shop, watch)
        session.run()
    except UserError:
        # What is missing may show only now; the same command must run once it is there.
        folder.discard_unlearnt()
        raise
    return _finish(folder, plans, shop, watch, started)


def resume(
    run: str | Path,
    *,
    watch: Watcher | None = None,
    allow_code: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> Run:
    """Continue an interrupted run to its end.

    Args:
      run: its folder.
      watch: as for `train`.
      allow_code: as for `train`.
      trust_remote_code: as for `train`.

    Returns:
      The finished run; one that had finished before is returned as it is.

    Raises:
      UserError: the folder is no run.
    """
    folder = RunFolder.open(Path(run))
    if folder.read_manifest()["status"] == "finished":
        return _read_run(folder)
    recipe = build.read_recipe(str(folder.recipe))
    plans = build.plan(recipe, allow_code=tuple(allow_code))
    team = build.make_team(plans[-1], f"resume {run}", resumed=True)
    origin = build.Origin(build.resolved(recipe, plans), None, tuple(allow_code), trust_remote_code)
    return _go_on(folder.path, recipe, plans, origin, team, watch)


def _go_on(
    path: Path,
    recipe: build.Recipe,
    plans: Sequence[build.StagePlan],
    origin: build.Origin,
    team: Any,
    watch: Watcher | None,
) -> Run:
    folder, watch = _open(team, path), _watcher(team, watch)
    manifest = _on_first(team, folder.read_manifest, "the manifest")
    if manifest["status"] == "finished":
        return _read_run(folder)
    started = time.monotonic()
    start_from = manifest.get("start_from")
    if start_from:
        # The run's own, where it has one: the earlier run may be gone by now. Checkpoint 0 stays for as long as the run
        # goes on, and actors that take the place of others begin with it.
        weights = first_model(folder.path) if has_checkpoint(folder) else last_model(Path(start_from))
        origin = dataclasses.replace(origin, weights=weights)
    shop = _workshop(plans[-1], recipe.seed, origin, team)
    session = _session(folder, plans, shop, watch)
    at = _on_first(team, lambda: _next_iteration(folder), "the iteration to go on from")
    manifest["status"] = "running"
    manifest["resumed_at"] = [*manifest.get("resumed_at", []), at]
    # With another number of ranks sums have another order, so that the run does not go on to the last bit.
    manifest["ranks"] = [*manifest.get("ranks", []), _size(team)]
    folder.write_manifest(manifest)
    session.resume()
    return _finish(folder, plans, shop, watch, started)


def _workshop(main: build.StagePlan, seed: int, origin: build.Origin, team: Any) -> build.Workshop:
    shop = build.make_workshop(main, seed, weights=origin.weights, trust_remote_code=origin.trust_remote_code)
    shop.origin, shop.team = origin, team
    return shop


def _session(folder: RunFolder, plans: Sequence[build.StagePlan], shop: build.Workshop, watch: Watcher) -> Any:
    from lapwing.training.session import Session

    main = plans[-1]
    agent = build.make_agent(main, shop)

    def develop() -> dict[str, float]:
        agent.generator.forget()
        settings = main.evaluation.settings
        episodes = settings["development_episodes"]
        result = measure(main, {"trained": agent}, episodes=episodes, split="development", team=shop.team)
        result = result["policies"]["trained"]
        agent.generator.forget()
        found = {"success": "success", "score": "score", "return": "return", "valid": "valid"}
        measured = {name: result[key]["mean"] for name, key in found.items() if result[key] is not None}
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
        **({} if shop.team is None else {"coordinator": shop.team.coordinator()}),
    )


def _finish(
    folder: RunFolder, plans: Sequence[build.StagePlan], shop: build.Workshop, watch: Watcher, started: float
) -> Run:
    from lapwing.report.page import write_report
    from lapwing.training.interruption import Interruption

    clock = time.monotonic()
    # A signal waits for the next safe point: raised at any moment, it can be lost inside an import.
    with Interruption() as interruption:
        watch({"event": "evaluation", "episodes": plans[-1].evaluation.settings["episodes"]})
        together = functools.partial(_check_together, shop.team, interruption)
        _evaluate_run(folder, plans[-1], shop, interruption.check if shop.team is None else together)
    manifest = folder.read_manifest()
    rows = [row for row in folder.read_metrics() if row["stage"] == "main"]
    manifest["status"] = "finished"
    manifest["seconds"] |= {
        "main": rows[-1]["time/learning"] if rows else 0.0,
        "evaluation": time.monotonic() - clock,
        "total": manifest["seconds"].get("total", 0.0) + time.monotonic() - started,
    }
    folder.write_manifest(manifest)
    _on_first(shop.team, lambda: str(write_report(folder.path)), "the report")
    if shop.team is not None:
        shop.team.leave()
    return _read_run(folder)


def _evaluate_run(folder: RunFolder, plan: build.StagePlan, shop: build.Workshop, check: Callable[[], None]) -> None:
    """Measure the last weights, the first ones and the baselines on the test matches, and the last on each transfer."""
    settings = plan.evaluation.settings
    trusted = shop.origin is not None and shop.origin.trust_remote_code
    first = folder.path / "checkpoints" / "0" / "model"
    before = build.make_earlier_workshop(plan, shop, first, trust_remote_code=trusted)

    def policies(stage: build.StagePlan) -> dict[str, Policy]:
        agent = build.make_agent(stage, shop)
        return {"trained": agent, "trained_greedy": build.greedy(agent), **build.make_baselines(stage)}

    check()
    untrained: dict[str, Policy] = {"untrained": build.make_agent(plan, before)}
    result = measure(plan, policies(plan) | untrained, episodes=settings["episodes"], team=shop.team)
    folder.write_evaluation(result)
    check()
    for entry in settings["transfer"]:
        other = build.with_game(plan, entry)
        steps = entry.get("max_steps")
        result = measure(other, policies(other), episodes=settings["episodes"], max_steps=steps, team=shop.team)
        folder.write_evaluation(result, _label(entry))
        check()


def _check_together(team: Any, interruption: Any) -> None:
    """A safe point at which all ranks end if any of them received a signal."""
    interruption.signal_number = team.ranks.largest(interruption.signal_number, "whether to stop")
    interruption.check()


def _on_first(team: Any, call: Callable[[], Any], what: str) -> Any:
    """Do what one process of a run must do for all of them."""
    return call() if team is None else team.on_first(call, what)


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


def _label(entry: Mapping[str, Any]) -> str:
    if "size" in entry and set(entry) <= {"size", "max_steps"}:
        return f"{entry['size']}x{entry['size']}"
    return "_".join(f"{key}-{value}" for key, value in sorted(entry.items()))


def _read_run(folder: RunFolder) -> Run:
    transfer = {
        path.stem.removeprefix("evaluation_"): read_json(path) for path in sorted(folder.path.glob("evaluation_*.json"))
    }
    return Run(folder.path, read_json(folder.evaluation), transfer, folder.read_manifest().get("start_from"))


def _next_iteration(folder: RunFolder) -> int:
    from lapwing.training.checkpoint import checkpoints

    found = checkpoints(folder.path)
    return int(found[-1].name) if found else 0


def _manifest(recipe: build.Recipe, shop: build.Workshop, start_from: str | Path | None) -> dict[str, Any]:
    import torch
    import transformers

    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "status": "running",
        "lapwing": __version__,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "start_from": None if start_from is None else str(start_from),
        "resumed_at": [],
        "ranks": [_size(shop.team)],
        "parameters": sum(p.numel() for p in shop.model.parameters()),
        "seconds": {},
        "warm_start_cached": False,
    }


def _commit() -> str | None:
    """The commit of the checkout that Lapwing runs from, if it runs from one."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _default_folder(recipe: str) -> Path:
    return Path("runs") / f"{recipe}-{datetime.datetime.now().strftime('%Y%m%d-%H%M%S')}"


def _as_toml(value: Any) -> str:
    import tomli_w

    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_as_toml(item)}" for key, item in value.items()) + " }"
    try:
        return tomli_w.dumps({"value": value}).partition("=")[2].strip()
    except TypeError as error:
        raise UserError(f"{value!r} cannot be a setting: recipes hold text, numbers, lists and tables.") from error


def _ignore(row: dict[str, Any]) -> None:
    pass
