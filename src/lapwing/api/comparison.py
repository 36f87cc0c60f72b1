"""Compare recipes: paired runs, and what they say."""

import datetime
import itertools
import os
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lapwing import build
from lapwing.api.paired_runs import Job, is_finished, refuse_foreign, train_all
from lapwing.core.errors import LapwingError, UserError, nearest
from lapwing.core.paths import checked_path
from lapwing.core.storage import read_json, read_json_lines, write_json
from lapwing.stats.interval import Interval
from lapwing.training.run_folder import RunFolder

Watcher = Callable[[dict[str, Any]], None]
# Of the players without a model, in the order of a page.
_PLAYERS = ("random", "guess", "heuristic", "ucb1", "lin_ucb", "thompson", "greedy", "bayes", "optimal")


@dataclass(frozen=True)
class Comparison:
    """A finished comparison on disk.

    Attributes:
      path: its folder.
      result: the object of `comparison.json`.
    """

    path: Path
    result: dict[str, Any]

    @property
    def page(self) -> Path:
        """The report."""
        return self.path / "comparison.html"


class _Entry(NamedTuple):
    """A recipe of the comparison: what was asked for, as read, and with every default."""

    given: str
    recipe: build.Recipe
    plans: list[build.StagePlan]

    def resolved(self, seed: int) -> dict[str, Any]:
        return {**build.resolved(self.recipe, self.plans), "seed": seed}


def compare(
    recipes: Sequence[str],
    *,
    seeds: int,
    run: str | Path | None = None,
    overrides: Sequence[str] = (),
    measure: str | None = None,
    workers: int | None = None,
    allow_code: Sequence[str] = (),
    watch: Watcher | None = None,
) -> Comparison:
    """Train recipes with the same seeds and compare what became of them.

    Every run is a `lapwing train` of its own on one thread, in `run/<recipe>/<seed>`. Runs that have finished there are
    used as they are and interrupted ones are resumed, so that the same call goes on where an earlier one was stopped,
    and more seeds or recipes may be asked for later.

    Args:
      recipes: at least two shipped recipes or paths of TOML files, with different names.
      seeds: each recipe is trained with the seeds 0 … seeds − 1.
      run: folder of the comparison; `runs/compare-<time>` if left out.
      overrides: `[stage.]section.key=value`, for every recipe.
      measure: "success", "score" or "return", on the test matches; the first that all games have if left out.
      workers: runs at once; as many as there are cores if left out.
      allow_code: packages outside Lapwing whose code the recipes may name.
      watch: is called with `{"event": …}` rows.

    Returns:
      The comparison; `comparison.json` and `comparison.html` are written in its folder.

    Raises:
      UserError: a recipe, the folder or a number is wrong; nothing was trained.
      LapwingError: a run failed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = cores if workers is None else workers
    if seeds < 1 or workers < 1:
        what, number = ("--seeds", seeds) if seeds < 1 else ("--workers", workers)
        raise UserError(f"{what} is at least 1, not {number}.")
    entries = _read(recipes, overrides, tuple(allow_code))
    measure = _measure(entries, measure)
    path = checked_path(run, "--run") if run is not None else _default_folder()
    _refuse(path, entries, seeds, tuple(allow_code))
    words = [*recipes, "--seeds", str(seeds), *_sets(overrides, allow_code), "--measure", measure]
    jobs = [
        _job(entry, seed, path / name / str(seed), overrides, allow_code)
        for seed, (name, entry) in itertools.product(range(seeds), entries.items())
    ]
    watch = watch or _ignore
    watch(
        {
            "event": "comparison",
            "path": str(path),
            "command": shlex.join(["lapwing", "compare", *words, "--run", str(path), "--workers", str(workers)]),
            "runs": len(jobs),
            "finished": sum(is_finished(job.folder) for job in jobs),
            "workers": workers,
        }
    )
    train_all(jobs, workers=workers, watch=watch)
    return _conclude(path, list(entries), seeds, measure, shlex.join(["lapwing", "compare", *words]))


def _read(recipes: Sequence[str], overrides: Sequence[str], allow_code: tuple[str, ...]) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for given in recipes:
        recipe = build.read_recipe(given, overrides=overrides)
        if recipe.name in entries:
            before = entries[recipe.name].given
            same = "is named twice" if before == given else f"is the name of both {before} and {given}"
            raise UserError(f"{recipe.name} {same}; a comparison needs recipes with different names.")
        entries[recipe.name] = _Entry(given, recipe, build.plan(recipe, allow_code=allow_code))
    if len(entries) < 2:
        raise UserError("A comparison needs at least two recipes; see `lapwing list recipes`.")
    games = {entry.plans[-1].game.name for entry in entries.values()}
    if len(games) > 1:
        raise UserError(f"A comparison needs recipes for one game, not for {' and '.join(sorted(games))}.")
    return entries


def _measure(entries: Mapping[str, _Entry], wanted: str | None) -> str:
    """The measure that every recipe's game has."""
    from lapwing.report.verdict import HEADLINES

    if wanted is not None and wanted not in HEADLINES:
        raise UserError(f"There is no measure '{wanted}'; {nearest(wanted, HEADLINES)}")
    has = set(HEADLINES)
    for name, (_, _, plans) in entries.items():
        known = _measures(plans[-1])
        has &= known
        if wanted is not None and wanted not in has:
            valid = ", ".join(key for key in HEADLINES if key in known)
            raise UserError(f"{name} plays {plans[-1].game.name}, which has no {wanted}; valid measures: {valid}.")
    return wanted or next(key for key in HEADLINES if key in has)


def _measures(plan: build.StagePlan) -> set[str]:
    """The headline measures that a stage's game has, found by playing one match."""
    from lapwing.api.playing import measure
    from lapwing.report.verdict import HEADLINES

    baselines = build.make_baselines(plan)
    if not baselines:
        # An open-ended game of one's own may have nobody to play it.
        return {"return"} | ({"success"} if getattr(build.make_game(plan.game), "has_success", False) else set())
    name, policy = next(iter(baselines.items()))
    found = measure(plan, {name: policy}, episodes=1)["policies"][name]
    return {key for key in HEADLINES if found[key] is not None}


def _refuse(path: Path, entries: Mapping[str, _Entry], seeds: int, allow_code: tuple[str, ...]) -> None:
    """Raise if a comparison cannot be made in this folder."""
    if path.is_file() or (path / "manifest.json").is_file():
        what = "a file" if path.is_file() else "the folder of a single run"
        raise UserError(f"{path} is {what}; name another folder with --run.")
    if _is_foreign(path):
        raise UserError(f"{path} is not empty and holds no comparison; name another folder with --run.")
    for seed, (name, entry) in itertools.product(range(seeds), entries.items()):
        run = path / name / str(seed)
        refuse_foreign(run)
        if not (run / "manifest.json").is_file():
            continue
        start_from = read_json(run / "manifest.json").get("start_from")
        then = build.read_recipe(str(run / "recipe.toml"))
        try:
            trained = build.resolved(then, build.plan(then, allow_code=allow_code))
        except UserError as error:
            raise UserError(f"{run} was trained with a recipe that is none any more: {error}") from error
        differs = f"it began from {start_from}" if start_from else _difference(trained, entry.resolved(seed))
        if differs:
            raise UserError(f"{run} was trained with another recipe ({differs}); name another folder with --run.")


def _is_foreign(path: Path) -> bool:
    """Whether a folder holds things of which none is of a comparison."""
    marks = ("comparison.json", "*/*/manifest.json", "*/*.log", "*/*.lock")
    if not path.is_dir() or any(True for mark in marks for _ in path.glob(mark)):
        return False
    return any(one.is_file() or any(one.iterdir()) for one in path.iterdir() if not one.name.startswith("."))


def _difference(then: Any, now: Any, where: str = "") -> str:
    """The first place where two resolved recipes differ, in words; empty where they are equal."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*then, *now]):
            found = _difference(then.get(key), now.get(key), f"{where}.{key}" if where else str(key))
            if found:
                return found
        return ""
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        found = (_difference(a, b, f"{where}.{b.get('name', i) if isinstance(b, dict) else i}") for i, (a, b) in pairs)
        return next((text for text in found if text), "")
    return "" if then == now else f"{where.removeprefix('stage.')} is {_short(then)} there and {_short(now)} now"


def _short(value: Any) -> str:
    text = "unset" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _job(entry: _Entry, seed: int, folder: Path, overrides: Sequence[str], allow_code: Sequence[str]) -> Job:
    words = (entry.given, "--seed", str(seed), "--run", str(folder), *_sets(overrides, allow_code))
    return Job(
        recipe=entry.recipe.name,
        seed=seed,
        folder=folder,
        train=words,
        iterations=entry.plans[-1].settings.iterations,
        allow_code=tuple(_sets((), allow_code)),
    )


def _sets(overrides: Sequence[str], allow_code: Sequence[str]) -> list[str]:
    options = [("--set", text) for text in overrides] + [("--allow-code", text) for text in allow_code]
    return [word for pair in options for word in pair]


def _conclude(path: Path, names: Sequence[str], seeds: int, measure: str, command: str) -> Comparison:
    from lapwing.evaluation.comparison import SCHEMA_VERSION, compare_runs
    from lapwing.report.comparison import write_comparison

    runs = {name: [RunFolder.open(path / name / str(seed)) for seed in range(seeds)] for name in names}
    evaluations = [read_json(run.evaluation) for folders in runs.values() for run in folders]
    compared = compare_runs({name: [_result(run, measure) for run in folders] for name, folders in runs.items()})
    matches = {(e["episodes"], e["seed"]) for e in evaluations}
    if len(matches) > 1:
        compared["notes"].append("The recipes were not tested on the same matches: their numbers or seeds differ.")
    settings = [_played(runs[name][0]) for name in names]
    if any(played != settings[0] for played in settings):
        compared["notes"].append("The recipes do not play the game with the same settings or step cap.")
    result = {
        "schema_version": SCHEMA_VERSION,
        "game": evaluations[0]["game"],
        "measure": measure,
        "test_matches": evaluations[0]["episodes"],
        "seeds": list(range(seeds)),
        "command": command,
        "references": _references(evaluations, measure),
        "differences": _differences({name: found[0] for name, found in runs.items()}),
        **compared,
    }
    write_json(path / "comparison.json", result)
    write_comparison(path)
    return Comparison(path, result)


def _references(evaluations: Sequence[Mapping[str, Any]], measure: str) -> dict[str, float]:
    """The measure of those that were not trained, on the test matches: mean over the runs."""
    found: dict[str, list[float]] = {name: [] for name in ("untrained", *_PLAYERS)}
    for name, evaluation in itertools.product(found, evaluations):
        if measured := evaluation["policies"].get(name, {}).get(measure):
            found[name].append(measured["mean"])
    return {name: sum(means) / len(means) for name, means in found.items() if means}


def _differences(runs: Mapping[str, RunFolder]) -> dict[str, dict[str, str | None]]:
    """Setting → recipe → its value as text, None where it has none; only settings that are not the same in all."""
    from lapwing.training.resumption import flat

    read = {name: tomllib.loads(run.recipe.read_text("utf-8")) for name, run in runs.items()}
    settings = {name: dict(flat({"stage": recipe.get("stage", [])})) for name, recipe in read.items()}
    keys = dict.fromkeys(key for found in settings.values() for key in found)
    table = {
        key: {name: _short(found[key]) if key in found else None for name, found in settings.items()} for key in keys
    }
    return {key: row for key, row in table.items() if len(set(row.values())) > 1}


def _played(run: RunFolder) -> list[Any]:
    main = build.read_recipe(str(run.recipe)).stages[-1]
    cap = main.get("evaluation", {}).get("max_steps") or main.get("sampler", {}).get("max_steps")
    return [main["game"], build.measured_against(main), cap]


def _result(run: RunFolder, measure: str) -> Any:
    from lapwing.evaluation.comparison import RunResult
    from lapwing.stats.difference import difference

    manifest, policies = run.read_manifest(), read_json(run.evaluation)["policies"]
    if policies["trained"].get(measure) is None:
        raise LapwingError(f"The evaluation of {run.path} has no {measure}.")
    rows = [row for row in run.read_metrics() if row["stage"] == "main"]
    metric = f"evaluation/{measure}"
    commit = (manifest.get("commit") or "no commit")[:12]
    before, after = (
        Interval(*(policies[name][measure][key] for key in ("mean", "low", "high")))
        for name in ("untrained", "trained")
    )
    return RunResult(
        seed=manifest["seed"],
        value=policies["trained"][measure]["mean"],
        greedy=policies["trained_greedy"][measure]["mean"],
        episodes=rows[-1]["rollout/episodes"] if rows else 0.0,
        trained_episodes=float(sum(row.get("selection/episodes", 0.0) for row in rows)),
        learning_seconds=manifest["seconds"]["main"],
        initial_weights=_initial_weights(run.path),
        curve=tuple(
            (row["iteration"] + 1, row["rollout/episodes"], row["time/learning"], row[metric])
            for row in rows
            if metric in row
        ),
        code=f"Lapwing {manifest['lapwing']} at {commit}, torch {manifest['versions']['torch']}",
        tokens=rows[-1]["rollout/tokens"] if rows else 0.0,
        credit_seconds=float(sum(row["time/credit"] for row in rows)),
        untrained=before.mean,
        improved=difference(after, before).low > 0,
        faults=len(read_json_lines(run.faults)),
        # An evaluation of an earlier version counts no contexts.
        context_tokens=_mean_of(policies["trained"], "context_tokens_per_step"),
        reply_tokens=_mean_of(policies["trained"], "tokens_per_step"),
    )


def _mean_of(measures: Mapping[str, Any], name: str) -> float | None:
    found = measures.get(name)
    return None if found is None else found["mean"]


def _initial_weights(run: Path) -> str:
    """The hash of checkpoint 0's weights, which its manifest holds."""
    from lapwing.training.checkpoint import digests

    files = digests(run / "checkpoints" / "0")
    return " ".join(digest[:32] for name, digest in sorted(files.items()) if name.endswith(".safetensors"))


def _default_folder() -> Path:
    return Path("runs") / f"compare-{datetime.datetime.now().strftime('%Y%m%d-%H%M%S')}"


def _ignore(row: dict[str, Any]) -> None:
    pass
