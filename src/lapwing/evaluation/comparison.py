"""What paired runs say about their recipes; the seeds are the replicates, never the episodes."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.stats.bootstrap import bootstrap
from lapwing.stats.holm import holm
from lapwing.stats.interval import Estimate
from lapwing.stats.probability_of_improvement import probability_of_improvement
from lapwing.stats.sign_flip import sign_flip, smallest_p
from lapwing.stats.stratified_bootstrap import stratified_bootstrap

SCHEMA_VERSION = 2
LEVEL = 0.05
CONFIDENCE = 0.95
# Of the way from the untrained policies to the best recipe: far enough to be learnt, and reached by some.
THRESHOLD = 0.8


class RunResult(NamedTuple):
    """What counts of one finished run.

    Attributes:
      seed: of the run.
      value: the measure on the test matches, replies sampled as in training; higher is better.
      greedy: the same with the most probable replies.
      episodes: generated in the main stage.
      trained_episodes: of these, how many the updates were made from, with repetitions.
      learning_seconds: playing, credit and updating in the main stage.
      initial_weights: a hash of the weights after the warm start.
      curve: iterations done, episodes generated, learning seconds and the measure on the development matches, at each
        evaluation.
      code: which Lapwing and torch trained it.
      tokens: sampled in the main stage.
      credit_seconds: of the learning seconds, packing, filters, credit, selection and aggregation.
      untrained: the measure of the weights that the main stage began with, on the test matches.
      improved: whether the interval of value − untrained over the test matches lies above 0.
      faults: lines of faults.jsonl.
      context_tokens, reply_tokens: a step, of the trained policy on the test matches; None where that was not counted.
    """

    seed: int
    value: float
    greedy: float
    episodes: float
    trained_episodes: float
    learning_seconds: float
    initial_weights: str
    curve: tuple[tuple[int, float, float, float], ...]
    code: str = ""
    tokens: float = 0.0
    credit_seconds: float = 0.0
    untrained: float = 0.0
    improved: bool = True
    faults: int = 0
    context_tokens: float | None = None
    reply_tokens: float | None = None


def compare_runs(results: Mapping[str, Sequence[RunResult]]) -> dict[str, Any]:
    """Summaries of every recipe and tests of every pair.

    Args:
      results: the runs of each recipe; all recipes have the same seeds in the same order, at least one.

    Returns:
      The entries of comparison.json that need nothing but the runs: summaries, pairs, what they say, and notes.
    """
    seeds = [run.seed for run in next(iter(results.values()))]
    pairs = [_pair(results, first, second) for first, second in itertools.combinations(results, 2)]
    adjusted = holm(np.array([pair["p"] for pair in pairs]))
    for pair, p_holm in zip(pairs, adjusted, strict=True):
        pair["p_holm"] = float(p_holm)
        pair["separated"] = bool(p_holm <= LEVEL)
        pair["sentence"] = _sentence(pair, len(seeds), len(pairs))
    threshold = _threshold(results)
    return {
        "confidence": CONFIDENCE,
        "level": LEVEL,
        "comparisons": len(pairs),
        "smallest_p": smallest_p(len(seeds)),
        "smallest_p_holm": min(1.0, len(pairs) * smallest_p(len(seeds))),
        "threshold": threshold,
        "recipes": {name: _summary(runs, threshold) for name, runs in results.items()},
        "pairs": pairs,
        "verdict": _verdict(pairs, len(seeds), len(results)),
        "notes": _notes(results, pairs),
    }


def _threshold(results: Mapping[str, Sequence[RunResult]]) -> dict[str, float] | None:
    """The level whose cost is compared; None where no recipe is better than the untrained policies."""
    untrained = float(np.mean([run.untrained for runs in results.values() for run in runs]))
    best = float(max(np.mean([run.value for run in runs]) for runs in results.values()))
    if best <= untrained:
        return None
    return {"value": untrained + THRESHOLD * (best - untrained), "untrained": untrained, "best": best}


def _summary(runs: Sequence[RunResult], threshold: Mapping[str, float] | None) -> dict[str, Any]:
    values = np.array([run.value for run in runs])
    return {
        "mean": float(values.mean()),
        "iqm": _interval(stratified_bootstrap(values, confidence=CONFIDENCE), len(runs)),
        "median": float(np.median(values)),
        "worst": float(values.min()),
        "episodes": float(np.mean([run.episodes for run in runs])),
        "trained_episodes": float(np.mean([run.trained_episodes for run in runs])),
        "learning_seconds": float(np.mean([run.learning_seconds for run in runs])),
        "cost": _cost(runs, threshold),
        "curve": _curve(runs),
        "runs": [
            {name: value for name, value in run._asdict().items() if name not in ("curve", "code")} for run in runs
        ],
    }


def _cost(runs: Sequence[RunResult], threshold: Mapping[str, float] | None) -> dict[str, Any]:
    """Means over the seeds with intervals; medians of what it took to reach the threshold."""

    def mean(values: list[float]) -> dict[str, float | None]:
        found = bootstrap(np.array(values), confidence=CONFIDENCE)
        return _interval(Estimate(found.mean, found.low, found.high), len(runs))

    cost: dict[str, Any] = {
        "tokens": mean([run.tokens for run in runs]),
        "learning_seconds": mean([run.learning_seconds for run in runs]),
        "credit_seconds": mean([run.credit_seconds for run in runs]),
        "context_tokens_per_step": _known_mean([run.context_tokens for run in runs], mean),
        "reply_tokens_per_step": _known_mean([run.reply_tokens for run in runs], mean),
    }
    if threshold is None:
        return cost
    firsts = [next((point for point in run.curve if point[3] >= threshold["value"]), None) for run in runs]
    cost["reached"] = sum(first is not None for first in firsts)
    for at, name in ((1, "episodes_to_threshold"), (2, "seconds_to_threshold")):
        budgets = [run.curve[-1][at] if run.curve else 0.0 for run in runs]
        cost[name] = _until([None if first is None else first[at] for first in firsts], max(budgets))
    return cost


def _known_mean(values: Sequence[float | None], mean: Any) -> dict[str, float | None] | None:
    """The mean over the seeds with an interval; None where a run does not know it."""
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def _until(values: Sequence[float | None], budget: float) -> dict[str, float | None]:
    """The median of a time to an event that not every seed has seen; a bound beyond the budget is None.

    A seed without the event has it at some time beyond the budget: where exactly does not change a median within it.
    """
    beyond = 2.0 * budget + 1.0
    found = stratified_bootstrap(
        np.array([beyond if value is None else value for value in values]), np.median, confidence=CONFIDENCE
    )
    within = {name: value if value <= budget else None for name, value in found.to_dict().items()}
    return within if len(values) > 1 else {**within, "low": None, "high": None}


def _curve(runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """The development measure where every seed was evaluated: its mean over the seeds with an interval."""
    by_iteration = [{iteration: found for iteration, *found in run.curve} for run in runs]
    common = sorted(set.intersection(*(set(points) for points in by_iteration)))
    found = []
    for iteration in common:
        episodes, seconds, values = np.array([points[iteration] for points in by_iteration]).T
        mean, low, high = bootstrap(values, confidence=CONFIDENCE)
        point = _interval(Estimate(mean, low, high), len(runs))
        x = {"iteration": iteration, "episodes": float(episodes.mean()), "seconds": float(seconds.mean())}
        found.append({**x, **point})
    return found


def _interval(estimate: Estimate, seeds: int) -> dict[str, float | None]:
    """An estimate by name; one seed has no interval, and a width of 0 would claim one."""
    if seeds == 1:
        return {"value": estimate.value, "low": None, "high": None}
    return {**estimate.to_dict()}


def _pair(results: Mapping[str, Sequence[RunResult]], first: str, second: str) -> dict[str, Any]:
    a, b = results[first], results[second]
    x, y = np.array([run.value for run in a]), np.array([run.value for run in b])
    mean, low, high = bootstrap(x - y, confidence=CONFIDENCE)
    return {
        "first": first,
        "second": second,
        "difference": _interval(Estimate(mean, low, high), len(a)),
        "probability_of_improvement": _interval(probability_of_improvement(x, y, confidence=CONFIDENCE), len(a)),
        "p": sign_flip(x - y),
        "same_initial_weights": all(p.initial_weights == q.initial_weights for p, q in zip(a, b, strict=True)),
        "same_episodes": all(p.episodes == q.episodes for p, q in zip(a, b, strict=True)),
    }


def _verdict(pairs: Sequence[Mapping[str, Any]], seeds: int, recipes: int) -> list[str]:
    """What the pairs say, in one sentence where none of them can say anything."""
    if len(pairs) == 1 or len(pairs) * smallest_p(seeds) <= LEVEL:
        return [pair["sentence"] for pair in pairs]
    return [f"No two of these {recipes} recipes can {_too_few(seeds, len(pairs))}"]


def _too_few(seeds: int, comparisons: int) -> str:
    smallest = smallest_p(seeds)
    several = f", {min(1.0, comparisons * smallest):.3g} after Holm's adjustment for {comparisons} comparisons"
    needed = next((n for n in range(seeds, 100) if comparisons * smallest_p(n) <= LEVEL), None)
    return (
        f"be separated {_with(seeds)}: the smallest attainable p is {smallest:.3g}"
        f"{several if comparisons > 1 else ''}{f'; it takes at least {needed} seeds' if needed else ''}."
    )


def _with(seeds: int) -> str:
    return f"with {seeds} seed{'' if seeds == 1 else 's'}"


def _sentence(pair: Mapping[str, Any], seeds: int, comparisons: int) -> str:
    names, difference = (pair["first"], pair["second"]), pair["difference"]["value"]
    if comparisons * smallest_p(seeds) > LEVEL:
        return f"{names[0]} and {names[1]} cannot {_too_few(seeds, comparisons)}"
    p = f"p = {pair['p']:.3g}" + (f" ({pair['p_holm']:.3g} after Holm's adjustment)" if comparisons > 1 else "")
    if not pair["separated"]:
        return (
            f"{names[0]} and {names[1]} are not separated at {LEVEL} {_with(seeds)}: {p}, "
            "which does not show that they are equal."
        )
    better, worse = names if difference > 0 else names[::-1]
    return f"{better} is better than {worse} at {LEVEL} {_with(seeds)}: by {abs(difference):.3f} on average, {p}."


def _notes(results: Mapping[str, Sequence[RunResult]], pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    for pair in pairs:
        first, second = pair["first"], pair["second"]
        both = list(zip(results[first], results[second], strict=True))
        if not pair["same_initial_weights"]:
            other = [str(p.seed) for p, q in both if p.initial_weights != q.initial_weights]
            notes.append(
                f"{first} and {second} began with different weights (seeds {', '.join(other)}): "
                "they share seeds and test matches only."
            )
    if not all(pair["same_episodes"] for pair in pairs):
        budgets = [f"{name} {np.mean([run.episodes for run in runs]):,.0f}" for name, runs in results.items()]
        notes.append(f"The budgets of games differ; episodes a run: {', '.join(budgets)}.")
    codes = sorted({run.code for runs in results.values() for run in runs})
    if len(codes) > 1:
        notes.append(f"The runs were trained by different code: {'; '.join(codes)}.")
    return notes
