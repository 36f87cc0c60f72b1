"""Every credit method on the same episodes against the exact answer."""

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lapwing import build
from lapwing.api.loading import plan_and_shop
from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError
from lapwing.core.paths import checked_path
from lapwing.core.storage import to_plain, write_json
from lapwing.core.types import Match
from lapwing.training.run_folder import RunFolder

Watcher = Callable[[dict[str, Any]], None]

SCHEMA_VERSION = 1
BRANCHES = 8
_GROUP_SIZES = (8, 32, 128)
_MOST_STARTS = 8
_MOST_STATES = 10_000


def audit(
    what: str | Path,
    *,
    methods: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
    episodes: int = 4096,
    overrides: Sequence[str] = (),
    vary: Sequence[str] = (),
    allow_code: Sequence[str] = (),
    watch: Watcher | None = None,
) -> dict[str, Any]:
    """Measure credit methods on the same episodes against the exact advantage and the exact gradient.

    Args:
      what: a shipped recipe or the path of one, audited at its weights after the warm start; or the folder of a run,
        audited at its last weights, where the result is kept as `audit.json`.
      methods: names of credit methods, or `my_pkg.my_file:my_method`; all of Lapwing and the recipe's if left out.
      groups: group sizes; 8, 32, 128 and the recipe's if left out.
      episodes: how many are played.
      overrides: `section.key=value`, as `--set` takes them.
      vary: `section.key=value,value,…`; every combination is audited.
      allow_code: packages outside Lapwing whose code the recipe or `methods` may name.
      watch: is called with rows of metrics of a warm start, and with `{"event": …}` rows.

    Returns:
      The object of `lapwing audit --json`.

    Raises:
      UserError: the game cannot be solved exactly, or something about the arguments is wrong.
    """
    if episodes < 4:
        raise UserError(f"An audit needs at least 4 episodes, not {episodes}.")
    # What is wrong with the names is said before anything is trained.
    allowed = tuple(allow_code)
    _check_methods(methods, allowed)
    is_run = (checked_path(what, "the recipe or run") / "recipe.toml").is_file()
    audits = [
        _audit_one(str(what), is_run, methods, groups, episodes, overrides, settings, watch or _ignore, allowed)
        for settings in _combinations(vary)
    ]
    if not any(one["rows"] for one in audits):
        reasons = "; ".join(f"{name} {reason}" for name, reason in audits[0]["not_audited"].items())
        raise UserError(f"None of the methods can be audited: {reasons}.")
    result = {
        "schema": SCHEMA_VERSION,
        "what": str(what),
        "weights": "last" if is_run else "warm start",
        "audits": audits,
    }
    if is_run:
        from lapwing.report.page import write_report

        write_json(Path(what) / "audit.json", result)
        write_report(Path(what))
    return result


def _check_methods(methods: Sequence[str] | None, allow_code: tuple[str, ...]) -> None:
    from lapwing.audit.methods import find_methods

    if isinstance(methods, str):
        raise UserError(f"The methods are a list of names, as in ['grpo'], not '{methods}'.")
    if methods is not None and not any(methods):
        raise UserError("An audit needs at least one credit method; leave --methods out for all.")
    find_methods(methods, (), allow_code=allow_code)


def _combinations(vary: Sequence[str]) -> list[dict[str, str]]:
    axes = []
    for text in vary:
        key, separator, values = text.partition("=")
        parts = [value.strip() for value in values.split(",")]
        if not separator or not key.strip() or not all(parts):
            raise UserError(f"--vary takes section.key=value,value,…, not '{text}'.")
        axes.append([(key.strip(), value) for value in parts])
    return [dict(choice) for choice in itertools.product(*axes)]


def _audit_one(
    what: str,
    is_run: bool,
    methods: Sequence[str] | None,
    groups: Sequence[int] | None,
    episodes: int,
    overrides: Sequence[str],
    settings: Mapping[str, str],
    watch: Watcher,
    allow_code: tuple[str, ...],
) -> dict[str, Any]:
    from lapwing.annotate._truth import Places, Truth
    from lapwing.audit.measure import exact_answer, measure
    from lapwing.audit.methods import find_methods

    started = time.monotonic()
    every = [*overrides, *(f"{key}={value}" for key, value in settings.items())]
    if is_run:
        plan, shop = plan_and_shop(what, None, every, allow_code=allow_code)
    else:
        plan, shop = _after_warm_start(what, every, watch, allow_code)
    plan = build.against_fixed(plan)
    if is_run:
        build.check_solvable(plan, build.make_game(plan.game), max_states=_MOST_STATES)
    stage = build.make_stage(build.played_here(plan), shop)
    matches = _matches(plan, shop, episodes)
    watch({"event": "audit", "text": f"playing {len(matches):,} episodes"})
    batch, situation = _play(plan, stage, matches)
    starts = list(situation.starts())
    truth = Truth(shop.model, Places(situation, starts, max_states=_MOST_STATES))
    states = f"{len(truth.places.deciding):,} states"
    watch({"event": "audit", "text": f"solved {states}; gradients of what the episodes chose"})
    exact = exact_answer(shop.model, truth, batch)
    batch, sources = with_exact_columns(batch, truth, exact.advantage, shop.seed)
    own = {} if plan.credit is None else {plan.credit.name: plan.credit.settings}
    found, left_out = find_methods(methods, columns_of(batch), own, allow_code=allow_code)
    watch({"event": "audit", "text": f"measuring {len(found)} methods"})
    sizes = _group_sizes(groups, batch, plan.sampler.settings.get("group_size"))
    rows, refused = measure(exact, batch, found, sizes, seed=shop.seed)
    return {
        "settings": dict(settings),
        **_facts(plan, shop, batch, truth, starts),
        "group_sizes": list(sizes),
        "recipe_group_size": plan.sampler.settings.get("group_size"),
        "columns": sources,
        "rows": rows,
        "not_audited": {**left_out, **refused},
        "seconds": time.monotonic() - started,
    }


def _after_warm_start(
    recipe: str, overrides: Sequence[str], watch: Watcher, allow_code: tuple[str, ...]
) -> tuple[build.StagePlan, build.Workshop]:
    """The main stage of a recipe and the model that it would begin with."""
    from lapwing.api.training import _session

    read = build.read_recipe(recipe, overrides=overrides)
    plans = build.plan(read, allow_code=allow_code)
    fixed = build.against_fixed(plans[-1])
    build.check_solvable(fixed, build.make_game(fixed.game), max_states=_MOST_STATES)
    shop = build.make_workshop(plans[-1], read.seed)
    with tempfile.TemporaryDirectory() as folder:
        scratch = RunFolder.create(Path(folder) / "audit", build.resolved(read, plans), {"status": "running"})
        _session(scratch, plans, shop, watch).warm_start()
    return plans[-1], shop


def _matches(plan: build.StagePlan, shop: build.Workshop, episodes: int) -> list[Match]:
    """Episodes from a few starts, every one with replies and chance of its own."""
    from lapwing.games.game import for_split
    from lapwing.samplers.grouped import Grouped

    most = min(plan.sampler.settings.get("groups", _MOST_STARTS), _MOST_STARTS, episodes // 4)
    starts = max(number for number in range(1, most + 1) if episodes % number == 0)
    sampler = Grouped(
        for_split(build.make_game(plan.game), "train"),
        seed=rng.fold(0, "audit", shop.seed),
        groups=starts,
        group_size=episodes // starts,
        max_steps=plan.sampler.settings["max_steps"],
        share_chance=False,
    )
    return sampler.draw(0)


def _play(plan: build.StagePlan, stage: Any, matches: Sequence[Match]) -> tuple[EpisodeBatch, Any]:
    """The episodes, grouped by the state that they began in, and what the exact solution needs to know."""
    from lapwing.annotate._truth import Situation
    from lapwing.rollout.play import initial_state

    first = {match.group: initial_state(match) for match in matches}
    number = {state: index for index, state in enumerate(dict.fromkeys(first.values()))}
    batch = stage.collector.collect(matches).batch
    if batch.num_episodes < len(matches):
        raise UserError("Matches of the audit missed their deadline; leave deadline_seconds out.")
    start = np.array([number[first[match.group]] for match in matches])
    situation = Situation(
        agent=stage.policy,
        game=build.make_game(plan.game),
        invalid=stage.collector.invalid,
        max_steps=plan.sampler.settings["max_steps"],
        opponents=build.make_opponents(plan),
        starts=lambda: list(first.values()),
    )
    return batch.with_columns(group=start), situation


def with_exact_columns(
    batch: EpisodeBatch, truth: Any, advantage: np.ndarray, seed: int
) -> tuple[EpisodeBatch, dict[str, str]]:
    """The batch with every column that the exact solution can fill, and where each came from."""
    from lapwing.audit.branches import branch_values

    places = truth.places
    sources = {"exact_advantage": "solved exactly"}
    columns = {"exact_advantage": advantage}
    if places.invalid.levels == 1 and not places.hides:
        view, left, _, _ = places.locate(batch)
        columns |= branch_values(
            batch,
            places.table,
            truth.solution,
            places.state_of_view[view],
            left,
            rng.generator("branches", seed),
            branches=BRANCHES,
            invalid=places.invalid,
        )
        how = f"mean return of {BRANCHES} branches from each step, played on the table of the game"
        sources |= {"branch_value": how, "next_branch_value": how}
    return batch.with_columns(**columns), sources


def columns_of(batch: EpisodeBatch) -> tuple[str, ...]:
    """The names of all arrays that a batch has."""
    from dataclasses import fields

    return (*(field.name for field in fields(batch)), *batch.extra)


def _group_sizes(groups: Sequence[int] | None, batch: EpisodeBatch, own: int | None) -> list[int]:
    most = int(np.bincount(batch.group).min())
    if groups is not None:
        return sorted(set(groups))
    return sorted({size for size in (*_GROUP_SIZES, *([own] if own else [])) if size <= most} or {most})


def _facts(
    plan: build.StagePlan, shop: build.Workshop, batch: EpisodeBatch, truth: Any, starts: Sequence[Any]
) -> dict[str, Any]:
    from lapwing.tabular.solve import solve
    from lapwing.tabular.value_iteration import optimal_values

    places, solution = truth.places, truth.solution
    table, horizon = places.table, solution.horizon
    returns = batch.episode_return
    domain = solve(table, solution.policy, horizon, invalid=replace(places.invalid, penalty=0.0))
    visits = solution.visits.sum(axis=(0, 1))
    at_own = table.decides * visits
    return {
        "game": plan.game.name,
        "game_settings": to_plain(dict(plan.game.settings)),
        "seed": shop.seed,
        "max_steps": horizon,
        "episodes": batch.num_episodes,
        "steps": batch.num_steps,
        "starts": len(set(starts)),
        "states": len(places.deciding),
        "views": len(places.views),
        "parameters": sum(parameter.numel() for parameter in shop.model.parameters()),
        "share_chance": False,
        "value": {
            "exact": solution.expected_return,
            "mean": float(returns.mean()),
            "standard_error": float(returns.std(ddof=1) / np.sqrt(len(returns))),
        },
        "domain_value": domain.expected_return,
        "optimal_domain_value": float(table.start @ optimal_values(table, horizon)[horizon]),
        "invalid_share": float(at_own @ solution.policy[:, -1] / max(at_own.sum(), 1e-300)),
        "uncomposed_share": _uncomposed_share(batch, truth),
        "advantage_deviation": float(np.std(batch.extra["exact_advantage"])),
    }


def _uncomposed_share(batch: EpisodeBatch, truth: Any) -> float:
    """Share of the valid replies that are no composed ones: the exact answer took them for invalid."""
    agent = truth.places.situation.agent
    if truth.distribution.is_one_token or not batch.valid.any():
        return 0.0
    composed = {agent.reply(action).tobytes() for legal in truth.places.legal for action in legal}
    valid = np.flatnonzero(batch.valid)
    splits = batch.token_splits
    wrong = sum(batch.token[splits[n] : splits[n + 1]].tobytes() not in composed for n in valid.tolist())
    return wrong / len(valid)


def _ignore(row: dict[str, Any]) -> None:
    pass
