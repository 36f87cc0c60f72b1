"""Train a recipe, resume a run."""

import datetime
import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapwing import __version__, build
from lapwing.api.loading import has_checkpoint, last_model
from lapwing.api.playing import measure
from lapwing.core.columns import PART_PREFIX
from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.core.storage import content_hash, read_json, write_json
from lapwing.training.run_folder import RunFolder

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
    path = Path(run) if run is not None else _default_folder(read.name)
    RunFolder.refuse(path)
    weights = None
    if start_from is not None:
        weights = last_model(RunFolder.open(Path(start_from)).path)
        plans = plans[-1:]
    started = time.monotonic()
    shop = build.make_workshop(plans[-1], read.seed, weights=weights)
    folder = RunFolder.create(path, build.resolved(read, plans), _manifest(read, shop, start_from))
    watch = watch or _ignore
    watch({"event": "run", "path": str(path)})
    session = _session(folder, plans, shop, watch)
    session.run()
    return _finish(folder, plans, shop, watch, started)


def resume(run: str | Path, *, watch: Watcher | None = None, allow_code: Sequence[str] = ()) -> Run:
    """Continue an interrupted run to its end.

    Args:
      run: its folder.
      watch: as for `train`.
      allow_code: as for `train`.

    Returns:
      The finished run; one that had finished before is returned as it is.

    Raises:
      UserError: the folder is no run.
    """
    folder = RunFolder.open(Path(run))
    manifest = folder.read_manifest()
    if manifest["status"] == "finished":
        return _read_run(folder)
    started = time.monotonic()
    recipe = build.read_recipe(str(folder.recipe))
    plans = build.plan(recipe, allow_code=tuple(allow_code))
    start_from = manifest.get("start_from")
    weights = None
    if start_from:
        # The run's own tokenizer, where it has one: the earlier run may be gone by now.
        weights = last_model(folder.path if has_checkpoint(folder) else Path(start_from))
    shop = build.make_workshop(plans[-1], recipe.seed, weights=weights)
    watch = watch or _ignore
    session = _session(folder, plans, shop, watch)
    at = _next_iteration(folder)
    manifest["status"] = "running"
    manifest["resumed_at"] = [*manifest.get("resumed_at", []), at]
    folder.write_manifest(manifest)
    session.resume()
    return _finish(folder, plans, shop, watch, started)


def _session(folder: RunFolder, plans: Sequence[build.StagePlan], shop: build.Workshop, watch: Watcher) -> Any:
    from lapwing.training.session import Session

    main = plans[-1]
    agent = build.make_agent(main, shop)

    def develop() -> dict[str, float]:
        agent.generator.forget()
        settings = main.evaluation.settings
        result = measure(main, {"trained": agent}, episodes=settings["development_episodes"], split="development")[
            "policies"
        ]["trained"]
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
        warm_start_cache=_warm_start_cache(plans, shop),
    )


def _warm_start_cache(plans: Sequence[build.StagePlan], shop: build.Workshop) -> Path | None:
    """Where the weights after the warm start are kept: a name by the content of all that they depend on."""
    import torch
    import transformers

    if len(plans) == 1:
        return None
    root = os.environ.get("LAPWING_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lapwing"
    described = [plan.to_dict() for plan in plans[:-1]]
    versions = [torch.__version__, transformers.__version__, torch.get_num_threads(), platform.machine(), _code_hash()]
    depends = [described, _files(plans), _digest(shop), shop.seed, versions]
    return Path(root) / "warm_starts" / content_hash(depends)


def _files(plans: Sequence[build.StagePlan]) -> list[str]:
    """The content of files that a game's settings name; of folders, what can be told without reading them."""
    found = []
    for value in dict.fromkeys(v for plan in plans for v in plan.game.settings.values() if isinstance(v, str) and v):
        path = Path(value)
        if path.is_file():
            found.append(hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest())
        elif path.is_dir():
            inside = sorted(path.rglob("*"))
            found += [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in inside if file.is_file()]
    return found


def _digest(shop: build.Workshop) -> str:
    """A hash of the first weights, the vocabulary and the chat template."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(shop.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    digest.update(content_hash([shop.tokenizer.get_vocab(), shop.tokenizer.chat_template]).encode())
    return digest.hexdigest()


def _code_hash() -> str:
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return content_hash([path.read_text(encoding="utf-8") for path in files])


def _finish(
    folder: RunFolder, plans: Sequence[build.StagePlan], shop: build.Workshop, watch: Watcher, started: float
) -> Run:
    from lapwing.report.page import write_report
    from lapwing.training.interruption import Interruption

    clock = time.monotonic()
    # A signal waits for the next safe point: raised at any moment, it can be lost inside an import.
    with Interruption() as interruption:
        watch({"event": "evaluation", "episodes": plans[-1].evaluation.settings["episodes"]})
        _evaluate_run(folder, plans[-1], shop, interruption.check)
    manifest = folder.read_manifest()
    rows = [row for row in folder.read_metrics() if row["stage"] == "main"]
    manifest["status"] = "finished"
    manifest["seconds"] |= {
        "main": rows[-1]["time/learning"] if rows else 0.0,
        "evaluation": time.monotonic() - clock,
        "total": manifest["seconds"].get("total", 0.0) + time.monotonic() - started,
    }
    folder.write_manifest(manifest)
    write_report(folder.path)
    return _read_run(folder)


def _evaluate_run(folder: RunFolder, plan: build.StagePlan, shop: build.Workshop, check: Callable[[], None]) -> None:
    """Measure the last weights, the first ones and the baselines on the test matches, and the last on each transfer."""
    settings = plan.evaluation.settings
    before = build.make_workshop(plan, shop.seed, weights=folder.path / "checkpoints" / "0" / "model")

    def policies(stage: build.StagePlan) -> dict[str, Policy]:
        agent = build.make_agent(stage, shop)
        return {"trained": agent, "trained_greedy": build.greedy(agent), **build.make_baselines(stage)}

    check()
    untrained: dict[str, Policy] = {"untrained": build.make_agent(plan, before)}
    write_json(folder.evaluation, measure(plan, policies(plan) | untrained, episodes=settings["episodes"]))
    check()
    for entry in settings["transfer"]:
        other = build.with_game(plan, entry)
        result = measure(other, policies(other), episodes=settings["episodes"], max_steps=entry.get("max_steps"))
        write_json(folder.path / f"evaluation_{_label(entry)}.json", result)
        check()


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
