"""Every credit method on the same episodes, held against the exact advantage and the exact gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapwing.audit.accuracy import accuracy
from lapwing.audit.gradient import Signal, logit_gram, pair_gram, signal, unit_weights
from lapwing.audit.methods import Method, is_in_reward_units
from lapwing.audit.regroup import regroup
from lapwing.core import rng as streams
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError

# With more pairs of a state and an action in the episodes the gradients are left out: their inner products grow as
# the square.
MOST_PAIRS = 3000
# With fewer groups their spread says little, and episodes are taken as independent instead.
FEWEST_GROUPS = 20


@dataclass(frozen=True, eq=False)
class Exact:
    """The exact answer in the form that methods are measured against.

    Attributes:
      advantage: of each step's reply, [N].
      place: number of the state, steps left and retries used of each step, [N].
      pair: number of the state and reply of each step, [N].
      weights: of the exact gradient, [pairs].
      kept: numbers of the P pairs that the episodes have, ascending.
      gram: inner products in the model's parameters of the gradients of these pairs, and last the exact gradient,
        [P + 1, P + 1]; None where P is more than `MOST_PAIRS`.
      logit_gram: the same in logits of every state's own.
    """

    advantage: np.ndarray
    place: np.ndarray
    pair: np.ndarray
    weights: np.ndarray
    kept: np.ndarray
    gram: np.ndarray | None
    logit_gram: np.ndarray | None


def exact_answer(model: Any, truth: Any, batch: EpisodeBatch) -> Exact:
    """Put a solved game in that form.

    Args:
      model: the causal language model that played.
      truth: the solution under its action distribution.
      batch: the episodes that it played.
    """
    places = truth.places
    view, left, level, action = places.locate(batch)
    levels, times, _, actions = truth.advantages.shape
    pair, weights = view * actions + action, truth.gradient_weights
    kept = np.unique(pair)
    is_small = len(kept) <= MOST_PAIRS
    gram = pair_gram(model, truth.distribution, places.views, places.legal, weights, kept) if is_small else None
    return Exact(
        advantage=truth.advantages[level, left, view, action],
        place=(view * times + left) * levels + level,
        pair=pair,
        weights=weights.ravel(),
        kept=kept,
        gram=gram,
        logit_gram=logit_gram(truth.policy, weights, kept) if is_small else None,
    )


def measure(
    exact: Exact, batch: EpisodeBatch, methods: Sequence[Method], group_sizes: Sequence[int], *, seed: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Run every method for every group size.

    Args:
      exact: the answer for the batch.
      batch: E episodes; its groups say which began in the same state.
      methods: what to run.
      group_sizes: episodes to a group.
      seed: of the bootstrap.

    Returns:
      One object for each method and group size, and the methods that refused the batch with their sentence.
    """
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for size in group_sizes:
        grouped = regroup(batch, size)
        for method in methods:
            if method.name in refused:
                continue
            try:
                rows.append(_measure_one(exact, grouped, method, size, seed))
            except LapwingError as error:
                refused[method.name] = str(error)
    return [row for row in rows if row["method"] not in refused], refused


def _measure_one(exact: Exact, batch: EpisodeBatch, method: Method, size: int, seed: int) -> dict[str, Any]:
    estimate = method.by_step(batch).astype(np.float64)
    if not np.isfinite(estimate).all():
        raise LapwingError(f"{method.name} gave numbers that are not finite.")
    in_reward = is_in_reward_units(method, batch, estimate)
    groups = len(np.unique(batch.group))
    kind = "group" if groups >= FEWEST_GROUPS else "episode"
    unit = np.unique(batch.group, return_inverse=True)[1] if kind == "group" else np.arange(batch.num_episodes)
    unit = unit.reshape(-1)
    of_step = unit[batch.episode_of_step]
    found = accuracy(estimate, exact.advantage, exact.place, exact.pair, of_step, rescale=not in_reward)
    gradients = _gradients(exact, estimate, unit, of_step, streams.fold(0, "audit", seed, method.name, size))
    return {
        "method": method.name,
        "settings": dict(method.settings),
        "level": method.level,
        "scope": method.scope,
        "group_size": size,
        "groups": groups,
        "unit": kind,
        "in_reward_units": in_reward,
        **found._asdict(),
        **gradients,
    }


def _gradients(exact: Exact, estimate: np.ndarray, unit: np.ndarray, of_step: np.ndarray, key: int) -> dict[str, Any]:
    size = np.bincount(unit).astype(np.float64)
    # The last direction is the exact gradient itself.
    goal = np.zeros(len(exact.kept) + 1)
    goal[-1] = 1.0
    weights = unit_weights(estimate, np.searchsorted(exact.kept, exact.pair), of_step, len(goal))
    row: dict[str, Any] = {}
    for prefix, gram in (("gradient", exact.gram), ("logit_gradient", exact.logit_gram)):
        found = Signal(None, None)
        if gram is not None:
            found = signal(weights, size, goal, gram, streams.generator("audit", key, prefix))
        row[f"{prefix}_cosine"] = None if found.cosine is None else found.cosine.to_dict()
        row[f"{prefix}_episodes_for_snr_1"] = found.episodes_for_snr_1
    return row
