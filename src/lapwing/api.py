"""The Python interface: train, resume, load, play and evaluate."""

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
from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.protocols import Game, Policy
from lapwing.core.storage import content_hash, read_json, write_json
from lapwing.core.types import Ask, Decision, Episode, Match, View
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
        return _last_model(self.path)


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
        weights = _last_model(RunFolder.open(Path(start_from)).path)
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
        weights = _last_model(folder.path if _has_checkpoint(folder) else Path(start_from))
    shop = build.make_workshop(plans[-1], recipe.seed, weights=weights)
    watch = watch or _ignore
    session = _session(folder, plans, shop, watch)
    at = _next_iteration(folder)
    manifest["status"] = "running"
    manifest["resumed_at"] = [*manifest.get("resumed_at", []), at]
    folder.write_manifest(manifest)
    session.resume()
    return _finish(folder, plans, shop, watch, started)


def load(run_or_model: str | Path, *, game: str | None = None, greedy: bool = False) -> "LoadedPolicy":
    """Load a trained policy.

    Args:
      run_or_model: the folder of a run, a Hugging Face folder, or a hub id.
      game: which game a model that comes from no run is to play.
      greedy: take the most probable token.

    Raises:
      UserError: there is no such run or model.
    """
    plan, shop = _plan_and_shop(str(run_or_model), game, ())
    agent = build.make_agent(plan, shop)
    return LoadedPolicy(build.greedy(agent) if greedy else agent, build.make_game(plan.game))


class LoadedPolicy:
    """A policy together with the game that it plays."""

    def __init__(self, policy: Policy, game: Game) -> None:
        """Put the two together."""
        self.policy = policy
        self.game = game
        self.version = policy.version

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Any]]:
        """Decide every ask."""
        return self.policy.act_many(asks)

    def act(self, view: View, *, legal: Sequence[Any] | None = None, seed: int = 0) -> Decision:
        """Decide once, from a view alone.

        Args:
          view: what the player sees.
          legal: the legal actions; left out, those of the start of the game.
          seed: of the reply.
        """
        if legal is None:
            legal = self.game.legal(self.game.initial(rng.generator("act")), 0)
        key = rng.fold(0, "act", seed)
        ask = Ask(view=view, legal=legal, memory=None, key=key, game=self.game, state=None, player=0, steps_left=1)
        return self.policy.act_many([ask])[0][0]


def play(
    game: Game, policies: Policy | Mapping[int, Policy], seed: int = 0, *, max_steps: int = 100, split: str = "test"
) -> list[Episode]:
    """Play one match.

    Args:
      game: what is played.
      policies: the policy of each seat, or of the only one.
      seed: of the match.
      max_steps: step cap.
      split: of the starts.

    Returns:
      The episode of each seat.
    """
    from lapwing.games.game import for_split
    from lapwing.rollout.play import play as play_matches

    seats = policies if isinstance(policies, Mapping) else {0: policies}
    match = Match(
        game=for_split(game, split), seed=seed, split=split, iteration=0, group=0, member=0, max_steps=max_steps
    )
    return play_matches([match], seats, learners=sorted(seats))


def evaluate(
    run_or_model: str | Path,
    *,
    game: str | None = None,
    overrides: Sequence[str] = (),
    episodes: int = 500,
    seed: int | None = None,
    baselines: bool = False,
) -> dict[str, Any]:
    """Measure a run or a model on test matches.

    Args:
      run_or_model: the folder of a run, a Hugging Face folder, or a hub id.
      game: another game for the same weights.
      overrides: `section.key=value`, as `game.size=5` or `sampler.max_steps=30`.
      episodes: number of matches.
      seed: of the matches; the run's evaluation seed if left out.
      baselines: measure random, heuristic and optimal play too.

    Returns:
      The object of `lapwing eval --json`.

    Raises:
      UserError: there is no such run, model, game or setting.
    """
    if episodes < 1:
        raise UserError(f"An evaluation needs at least 1 episode, not {episodes}.")
    if seed is not None:
        build.checked_seed(seed)
    plan, shop = _plan_and_shop(str(run_or_model), game, overrides)
    agent = build.make_agent(plan, shop)
    policies: dict[str, Policy] = {"trained": agent, "trained_greedy": build.greedy(agent)}
    untrained = Path(run_or_model) / "checkpoints" / "0" / "model"
    if untrained.is_dir():
        before = build.make_workshop(plan, shop.seed, weights=untrained)
        policies["untrained"] = build.make_agent(plan, before)
    if baselines:
        policies |= build.make_baselines(plan)
    return _evaluate(plan, policies, episodes=episodes, seed=seed)


def _evaluate(
    plan: build.StagePlan,
    policies: Mapping[str, Policy],
    *,
    episodes: int,
    seed: int | None = None,
    split: str = "test",
    max_steps: int | None = None,
) -> dict[str, Any]:
    from lapwing.evaluation.evaluate import evaluate as measure_all

    settings = plan.evaluation.settings
    return measure_all(
        policies,
        build.make_game(plan.game),
        name=plan.game.name,
        play=build.make_play(plan),
        split=split,
        seed=settings["seed"] if seed is None else seed,
        episodes=episodes,
        max_steps=max_steps or settings["max_steps"] or plan.sampler.settings["max_steps"],
    )


def _plan_and_shop(
    run_or_model: str, game: str | None, overrides: Sequence[str]
) -> tuple[build.StagePlan, build.Workshop]:
    path = Path(run_or_model)
    if (path / "recipe.toml").is_file():
        recipe = build.read_recipe(str(path / "recipe.toml"))
        weights = _last_model(path)
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
    recipe = build.with_overrides(recipe, overrides)
    plan = build.plan(recipe)[-1]
    return plan, build.make_workshop(plan, recipe.seed, weights=weights)


def _session(folder: RunFolder, plans: Sequence[build.StagePlan], shop: build.Workshop, watch: Watcher) -> Any:
    from lapwing.training.session import Session

    main = plans[-1]
    agent = build.make_agent(main, shop)

    def measure() -> dict[str, float]:
        agent.generator.forget()
        settings = main.evaluation.settings
        result = _evaluate(main, {"trained": agent}, episodes=settings["development_episodes"], split="development")[
            "policies"
        ]["trained"]
        agent.generator.forget()
        found = {"success": "success", "score": "score", "return": "return", "valid": "valid"}
        return {f"evaluation/{name}": result[key]["mean"] for name, key in found.items() if result[key] is not None}

    return Session(
        folder=folder,
        stages=[build.make_stage(plan, shop) for plan in plans],
        model=shop.model,
        tokenizer=shop.tokenizer,
        max_tokens=main.generation.settings["max_tokens"],
        measure=measure,
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
    depends = [described, _digest(shop), shop.seed, versions]
    return Path(root) / "warm_starts" / content_hash(depends)


def _digest(shop: build.Workshop) -> str:
    """A hash of the first weights, the vocabulary and the chat template."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(shop.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    digest.update(content_hash([shop.tokenizer.get_vocab(), shop.tokenizer.chat_template]).encode())
    return digest.hexdigest()


def _code_hash() -> str:
    files = sorted(Path(__file__).parent.rglob("*.py"))
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
    write_json(folder.evaluation, _evaluate(plan, policies(plan) | untrained, episodes=settings["episodes"]))
    check()
    for entry in settings["transfer"]:
        other = build.with_game(plan, entry)
        result = _evaluate(other, policies(other), episodes=settings["episodes"], max_steps=entry.get("max_steps"))
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


def _last_model(run: Path) -> Path:
    from lapwing.training.checkpoint import checkpoints

    found = checkpoints(run)
    if not found:
        raise UserError(f"{run} has no whole checkpoint yet; let it train first: lapwing resume {run}")
    return found[-1] / "model"


def _has_checkpoint(folder: RunFolder) -> bool:
    from lapwing.training.checkpoint import checkpoints

    return bool(checkpoints(folder.path))


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
