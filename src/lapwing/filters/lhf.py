"""Leave out groups whose start is not learnt, or not steadily."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import segment_mean
from lapwing.filters._learning_history import improvement, stability

SCOPE = "batch"
NEEDS = ()


def initial_state(*, window: int = 12, **_: float) -> dict[str, np.ndarray]:
    """No start was seen.

    Args:
      window: as for `lhf`.
    """
    return {
        "start": np.zeros(0, dtype=np.uint64),
        "length": np.zeros(0, dtype=np.int64),
        "returns": np.zeros((0, max(window, 1))),
    }


@checked(*NEEDS)
def lhf(
    batch: EpisodeBatch,
    *,
    state: dict[str, np.ndarray],
    weight: float = 1.0,
    percentile: float = 25.0,
    least: int = 3,
    window: int = 12,
    memory: int = 4096,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Keep the groups whose start has a learning history that rises, and rises steadily.

        U_s = I_s + λ S_s,   keep s where U_s ≥ the percentile of U over all remembered histories

    The history of a start is the mean return of its groups, iteration by iteration; I is its improvement from the first
    to the last third in units of the spread of all histories, S the share of its movement that is upwards.
    Starts with fewer than `least` entries are kept: nothing is known of them yet.
    It needs starts that come again, as a fixed map or the sampler's `revisit` gives them.

    Provenance: general knowledge; the constants are Lapwing's choice, and so is that histories are those of the starts
      within a run, where the paper filters finished histories before they are distilled.

    Reference: Chen et al. 2025, "Filtering Learning Histories Enhances In-Context Reinforcement Learning".
      https://arxiv.org/abs/2505.15143

    Args:
      batch: E episodes with the first view of each.
      state: the histories.
      weight: λ of the stability, ≥ 0.
      percentile: in [0, 100); histories below it are left out.
      least: entries that a history needs to be judged, ≥ 2.
      window: latest entries of a history that count, ≥ `least`.
      memory: how many starts are remembered, ≥ 1; the oldest are forgotten first.

    Returns:
      `keep`, bool [E], without unit; True = counts; and the new state.

    Raises:
      UserError: a setting lies outside its range.
    """
    _check(weight, percentile, least, window, memory)
    start = batch.view_key[batch.step_splits[:-1]]
    histories = {
        int(key): returns[:length].tolist()
        for key, length, returns in zip(state["start"], state["length"], state["returns"], strict=True)
    }
    seen, index = np.unique(start, return_inverse=True)
    order = np.argsort(index.reshape(-1), kind="stable")
    counts = np.bincount(index.reshape(-1), minlength=len(seen))
    means = segment_mean(batch.episode_return[order], np.concatenate([[0], np.cumsum(counts)]))
    for key, mean in zip(seen.tolist(), means.tolist(), strict=True):
        if key:
            histories[key] = [*histories.pop(key, []), mean][-window:]
    kept = dict(list(histories.items())[-memory:])
    dropped = _dropped(kept, weight, percentile, least)
    return np.array([key not in dropped for key in start.tolist()], dtype=bool), _as_state(kept, window)


def _dropped(histories: dict[int, list[float]], weight: float, percentile: float, least: int) -> set[int]:
    """The starts whose histories are below the percentile."""
    judged = {key: np.array(returns) for key, returns in histories.items() if len(returns) >= least}
    if not judged:
        return set()
    spread = float(np.ptp(np.concatenate(list(judged.values()))))
    score = np.array([improvement(returns, spread) + weight * stability(returns) for returns in judged.values()])
    # Histories that are equal up to rounding are equal.
    below = score < np.percentile(score, percentile) - 1e-9
    return {key for key, is_below in zip(judged, below, strict=True) if is_below}


def _as_state(histories: dict[int, list[float]], window: int) -> dict[str, np.ndarray]:
    returns = np.zeros((len(histories), window))
    for row, history in enumerate(histories.values()):
        returns[row, : len(history)] = history
    return {
        "start": np.array(list(histories), dtype=np.uint64),
        "length": np.array([len(history) for history in histories.values()], dtype=np.int64),
        "returns": returns,
    }


def _check(weight: float, percentile: float, least: int, window: int, memory: int) -> None:
    if not 0.0 <= weight < np.inf:
        raise UserError(f"weight must be finite and at least 0, but it is {weight}.")
    if not 0.0 <= percentile < 100.0:
        raise UserError(f"percentile must be in [0, 100), but it is {percentile}.")
    if least < 2:
        raise UserError(f"least is a number of entries, at least 2, but it is {least}.")
    if window < least:
        raise UserError(f"window is at least `least` ({least}), but it is {window}.")
    if memory < 1:
        raise UserError(f"memory is a number of starts, at least 1, but it is {memory}.")
