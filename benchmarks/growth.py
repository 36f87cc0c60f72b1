"""Time and memory of an update as the work grows: episodes, horizon, group size, vocabulary, parameters.

`python benchmarks/growth.py` for all points, `--short` for three of each axis (part of `make bench`), `--only AXIS` for
one axis. Every axis begins at the same common point, the default recipe with 4 random lakes and 16 episodes on each,
and changes one thing; the horizons have a large lake without holes, on which a walk lasts as long as it may. The
policy is untrained, so that replies are many and different, an invalid one plays a random move, and every step is
trained on.

Every point has a process of its own, which first makes a small update that loads what is loaded late; then it makes the
first update of a stage again and again. Seconds are those of the loop's own clock in the fastest of these updates: they
are the same work, and other processes can only add to it. Memory is the largest resident size beyond that of the
process with its model before. `needed` is the arithmetic that is left when every distinct prefix of the contexts goes
through the model once:

    FLOP = 2 P t + 4 L W a + 2 V W h  forward, three times that for an update

with P parameters of L layers of width W, t distinct prefixes, a pairs of these and what they attend to, and h distinct
contexts, whose next token is predicted from V words. The verdict is the largest rise of the cost of a unit from any
point to a later one: 1.5 and less is flat. A unit may cost a third more where arrays outgrow the processor's caches.
"""

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np

FLAT = 1.5
# A point is repeated until it took so long; twice at least, unless one update is this long, and not too often.
SHORT_SECONDS, LONG_SECONDS, ONCE_SECONDS, MOST_UPDATES = 1.0, 5.0, 20.0, 9

COMMON = (
    "iterations=1000",
    "sampler.groups=4",
    "sampler.group_size=16",
    "policy.invalid=random_legal",
    "selection={name='all_episodes'}",
    # All updates of a point are the same work: it begins with the same weights.
    "optimizer.learning_rate=1e-9",
)
# Holes would end the walks. One lake without any is in one split only, so that a few must be possible.
OPEN_LAKE = (
    "game.size=32",
    "game.frozen_probability=0.9995",
    "policy.renderer.board=false",
    "policy.renderer.nearby=0",
)
# What a context of many steps costs is a matter of each episode: four of them do.
FEW = ("sampler.groups=2", "sampler.group_size=2", "model.max_positions=16384")
# Replies of more than one token are decoded on the cache that keeps the keys and values of the turns before.
TURNS = ("generation.max_tokens=2", "generation.cache=true", "generation.on_device=true")
# Hidden size, layers, heads, intermediate size, by the number of parameters.
SIZES = {
    100_000: (64, 2, 4, 160),
    570_000: (128, 3, 8, 320),
    3_000_000: (224, 5, 7, 600),
    10_000_000: (320, 8, 8, 864),
    30_000_000: (512, 10, 8, 1360),
    100_000_000: (768, 14, 12, 2048),
}
HORIZONS = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Axis:
    """What grows, and by what its cost is judged.

    Attributes:
      grows: in words.
      points: of the long form. short: of the short one.
      settings: of a point, as overrides of the recipe.
      unit: of the seconds: "episode", "step" or "flop".
      bytes_unit: of the bytes: "episode", "step" or "value", what grows itself.
    """

    grows: str
    points: tuple[int, ...]
    short: tuple[int, ...]
    settings: Callable[[int], tuple[str, ...]]
    unit: str
    bytes_unit: str


def _horizon(grows: str, context: str, unit: str, short: tuple[int, ...], common: tuple[str, ...]) -> Axis:
    def settings(steps: int) -> tuple[str, ...]:
        return (*OPEN_LAKE, *common, f"policy.context={context}", f"sampler.max_steps={steps}")

    return Axis(grows, HORIZONS, short, settings, unit, "step")


def _sized(parameters: int) -> tuple[str, ...]:
    names = ("hidden", "layers", "heads", "intermediate")
    return tuple(f"model.{name}={size}" for name, size in zip(names, SIZES[parameters], strict=True))


AXES: dict[str, Axis] = {
    "episodes": Axis(
        "episodes of an iteration, 16 on each lake",
        (64, 256, 1024, 4096, 16384, 65536),
        (64, 512, 4096),
        # Episodes on few lakes may happen to be short: what counts is the step.
        lambda episodes: (f"sampler.groups={episodes // 16}",),
        "step",
        "episode",
    ),
    "horizon": _horizon("steps of an episode, state only", "{name='state_only'}", "step", (8, 64, 512), ()),
    "horizon_last_k": _horizon("steps, the last three shown", "{name='last_k',k=3}", "flop", (8, 32, 128), FEW),
    "horizon_transcript": _horizon(
        "steps, all of them shown", "{name='transcript'}", "flop", (8, 32, 128), (*FEW, *TURNS)
    ),
    "group_size": Axis(
        "episodes on each of 4 lakes",
        (2, 4, 8, 16, 32, 64, 128, 256),
        (2, 16, 256),
        lambda size: (f"sampler.group_size={size}",),
        "episode",
        "episode",
    ),
    "vocabulary": Axis(
        "words of the vocabulary",
        (64, 512, 4096, 16384, 50000, 150000),
        (64, 4096, 150000),
        lambda _: (),
        "flop",
        "value",
    ),
    "parameters": Axis(
        "parameters of the model", tuple(SIZES), (100_000, 3_000_000, 30_000_000), _sized, "flop", "value"
    ),
}


# In the arm: what one process measures.


def work(overrides: list[str], words: int) -> Callable[[], dict[str, float]]:
    """The first update of a stage each time it is called: always the same work, whatever was looked up before.

    Args:
      overrides: of the recipe.
      words: entries of the vocabulary; 0 for those that the game needs.
    """
    small = [one for one in overrides if not one.startswith("model.")]
    first_update(*prepared([*small, "sampler.groups=1", "sampler.group_size=2", "sampler.max_steps=4"], 0))
    plan, shop = prepared(overrides, words)
    return lambda: first_update(plan, shop)


def prepared(overrides: list[str], words: int) -> tuple[Any, Any]:
    """The plan of a stage, and its model and tokenizer."""
    from lapwing import build
    from lapwing.models.tiny import tiny_model, tiny_tokenizer

    plan = build.plan(build.read_recipe("frozen_lake_tiny", overrides=[*COMMON, *overrides]))[-1]
    shop = build.make_workshop(plan, 0)
    if words:
        own = set(shop.tokenizer.get_vocab())
        tokenizer = tiny_tokenizer(own | {f"word{number}" for number in range(words - len(shop.tokenizer))})
        shop = build.Workshop(tiny_model(len(tokenizer), seed=0, **plan.model.settings), tokenizer, 0)
    return plan, shop


def first_update(plan: Any, shop: Any) -> dict[str, float]:
    """Play and learn once; what that took, and what work it was."""
    from lapwing import build
    from lapwing.training.loop import iterate

    before = resident_bytes()
    stage = build.make_stage(plan, shop)
    learner = stage.make_learner()
    stage.load(learner.version)
    batches: list[Any] = []
    row = next(iterate(stage, learner, 0, lambda credited: batches.append(credited.batch)))
    return {
        "before_bytes": before,
        "episodes": row["rollout/new_episodes"],
        "steps": row["rollout/new_steps"],
        **{phase: row[f"time/{phase}"] for phase in ("play", "credit", "update")},
        "play_tokens": stage.policy.generator.tokens_computed,
        "update_tokens": learner.scorer.tokens,
        **needed(batches.pop(), shop.model),
    }


def needed(batch: Any, model: Any) -> dict[str, float]:
    """Tokens that must go through the model at least, and the arithmetic of play and update with them."""
    # A context that the next step extends is a beginning of that step's.
    ends = np.flatnonzero(~np.append(batch.extends_previous[1:], False))
    keys, steps = batch.extra["context_key"], {}
    for step in ends.tolist():
        steps.setdefault(int(keys[step]), step)
    contexts = sorted((batch.context(step) for step in steps.values()), key=lambda c: c.astype(">u4").tobytes())
    tokens = attended = 0
    previous = np.zeros(0, dtype=np.int32)
    for context in contexts:
        shared = common_prefix(previous, context)
        tokens += len(context) - shared
        attended += (len(context) * (len(context) + 1) - shared * (shared + 1)) // 2
        previous = context
    head = model.get_output_embeddings().weight.numel()
    body = sum(parameter.numel() for parameter in model.parameters()) - head
    config = model.config
    forward = 2 * body * tokens + 2 * head * len(np.unique(keys))
    forward += 4 * config.num_hidden_layers * config.hidden_size * attended
    return {"needed_tokens": tokens, "play_flop": forward, "update_flop": 3 * forward}


def common_prefix(first: np.ndarray, second: np.ndarray) -> int:
    """How many tokens two sequences begin with in common."""
    length = min(len(first), len(second))
    differs = first[:length] != second[:length]
    return int(differs.argmax()) if differs.any() else length


def resident_bytes() -> int:
    """Resident memory of this process as it is; where the system does not tell, its largest so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * os.sysconf("SC_PAGE_SIZE")


# In the parent: all points of an axis, and what they show.


def measure(name: str, values: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """The figures of some points of an axis.

    The first point works again before and after each unit of every other one, so that what is relative to it is
    measured while the machine is as busy with other things.

    Args:
      name: of the axis.
      values: of the points.
      seconds: each is repeated until it took so long.
    """
    first, *others = (
        harness.Arm(
            f"{name} {value}",
            "growth.py:work",
            {"overrides": list(AXES[name].settings(value)), "words": value if name == "vocabulary" else 0},
        )
        for value in values
    )
    with harness.started([first]):
        points = [figures(name, values[0], _rows(first, seconds), [])]
        for value, arm in zip(values[1:], others, strict=True):
            beside: list[dict[str, Any]] = []
            with harness.started([arm]):
                points.append(figures(name, value, _rows(arm, seconds, first, beside), beside))
    return points


def _rows(
    arm: harness.Arm, seconds: float, other: harness.Arm | None = None, beside: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """What an arm measured; the other one works in between, and what it measured is put into `beside`."""

    def work_beside() -> None:
        if other is not None and beside is not None:
            beside.extend(other.step() for _ in range(2))

    rows: list[dict[str, Any]] = []
    taken = 0.0
    work_beside()
    while len(rows) < MOST_UPDATES and (taken < seconds or (len(rows) < 2 and taken < ONCE_SECONDS)):
        rows.append(arm.step())
        taken += rows[-1]["seconds"]
        work_beside()
    return rows


def figures(name: str, value: int, rows: list[dict[str, Any]], beside: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a point, and its cost relative to that of the first point as it was measured beside it."""
    memory = max(row["peak_bytes"] for row in rows) - rows[0]["before_bytes"]
    best, unit = fastest(rows), AXES[name].unit
    costs = seconds_per(best)
    return {
        "value": value,
        "updates": len(rows),
        "memory_bytes": memory,
        **{key: best[key] for key in ("episodes", "steps", "play", "credit", "update")},
        **{key: best[key] for key in best if key.endswith(("_tokens", "_flop"))},
        "seconds_per": costs,
        "relative_seconds": costs[unit] / seconds_per(fastest(beside))[unit] if beside else 1.0,
    }


def fastest(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The update that took least."""
    return min(rows, key=_seconds)


def _seconds(row: Mapping[str, Any]) -> float:
    return row["play"] + row["credit"] + row["update"]


def seconds_per(row: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of play, credit and update together, for each unit of work."""
    units = {
        "episode": row["episodes"],
        "step": row["steps"],
        "token": row["play_tokens"] + row["update_tokens"],
        "flop": row["play_flop"] + row["update_flop"],
    }
    return {unit: _seconds(row) / max(count, 1) for unit, count in units.items()}


def judged(axis: Axis, points: list[dict[str, Any]]) -> dict[str, Any]:
    """An axis with its points, what each costs relative to the first, and whether the cost of a unit stays flat."""
    count = {"episode": "episodes", "step": "steps", "value": "value"}[axis.bytes_unit]
    for point in points:
        point["bytes_per_unit"] = point["memory_bytes"] / point[count]
        point["relative_bytes"] = point["bytes_per_unit"] / points[0]["bytes_per_unit"]
    rises = {
        "seconds": rise([point["relative_seconds"] for point in points]),
        "bytes": rise([point["relative_bytes"] for point in points]),
    }
    return {
        "grows": axis.grows,
        "unit": axis.unit,
        "bytes_unit": axis.bytes_unit,
        "rise": rises,
        "flat": {name: found <= FLAT for name, found in rises.items()},
        "points": points,
    }


def rise(costs: list[float]) -> float:
    """The largest ratio of a cost to any before it; 1 where it only falls."""
    found, least = 1.0, costs[0]
    for cost in costs:
        found, least = max(found, cost / least), min(least, cost)
    return found


def show(name: str, axis: Mapping[str, Any]) -> None:
    """Print the table of an axis."""
    print(f"\n{name}: {axis['grows']}")
    print(
        f"{'point':>12}{'steps':>10}{'play s':>9}{'credit s':>9}{'update s':>9}{'tokens':>11}{'needed':>9}"
        f"{'GFLOP/s':>9}{'peak MiB':>9}{'per ' + axis['unit']:>13}{'x first':>8}"
        f"{'B/' + axis['bytes_unit']:>12}{'x first':>8}"
    )
    for point in axis["points"]:
        print(
            f"{point['value']:>12,}{point['steps']:>10,.0f}{point['play']:>9.3f}{point['credit']:>9.3f}"
            f"{point['update']:>9.3f}{point['play_tokens'] + point['update_tokens']:>11,.0f}"
            f"{2 * point['needed_tokens']:>9,.0f}{1e-9 / point['seconds_per']['flop']:>9.1f}"
            f"{point['memory_bytes'] / 2**20:>9.0f}{_tiny(point['seconds_per'][axis['unit']]):>13}"
            f"{point['relative_seconds']:>8.2f}{point['bytes_per_unit']:>12,.0f}{point['relative_bytes']:>8.2f}"
        )
    said = [
        f"{what} {'flat' if flat else 'NOT flat'} (x{axis['rise'][what]:.2f})" for what, flat in axis["flat"].items()
    ]
    print(f"  largest rise of the cost of a unit: {', '.join(said)}", flush=True)


def _tiny(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.1f} {unit}"
    return f"{seconds * 1e12:.1f} ps"


def measured(names: list[str], *, is_short: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """The axes, one after the other."""
    for name in names:
        axis = AXES[name]
        values, seconds = (axis.short, SHORT_SECONDS) if is_short else (axis.points, LONG_SECONDS)
        found = judged(axis, measure(name, values, seconds))
        show(name, found)
        yield name, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="three points of each axis")
    parser.add_argument("--only", choices=AXES, action="append", help="one axis; may be given again")
    parser.add_argument("--out", type=Path, default=harness.RESULTS)
    given = parser.parse_args()
    before = json.loads(given.out.read_text()).get("growth", {}) if given.out.exists() else {}
    # Axes that were not asked for keep the figures that they have, of the same form.
    axes = dict(before.get("axes", {})) if given.only and before.get("short") == given.short else {}
    for name, found in measured(given.only or list(AXES), is_short=given.short):
        axes[name] = found
        shown = {"short": given.short, "flat_up_to": FLAT, "axes": axes}
        harness.write_results("growth", shown, threads=1, path=given.out)


if __name__ == "__main__":
    main()
