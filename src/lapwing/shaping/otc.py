"""Correct answers worth more the fewer tool calls they took."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index

SCOPE = "group"
NEEDS = ("tool_calls", "success")

_FORMS = ("group", "single")


def initial_state(**_: object) -> dict[str, np.ndarray]:
    """Starts, the latest seen last, and the fewest calls of a success from each: `start` and `fewest`, [starts]."""
    return {"start": np.zeros(0, dtype=np.uint64), "fewest": np.zeros(0)}


@checked(*NEEDS)
def otc(
    batch: EpisodeBatch,
    *,
    state: dict[str, np.ndarray],
    limit: int,
    scale: float = 1.0,
    form: str = "group",
    memory: int = 0,
) -> tuple[EpisodeBatch, dict[str, np.ndarray]]:
    """Multiply the outcome of successful episodes by a coefficient that is largest for the fewest tool calls.

        o′ = α · ρ · max(o, 0) · [success] + min(o, 0)
        ρ = sin(f π / (2 n)),   f = 2 n m / (m + n)       if n > 0
        ρ = cos(m π / (2 m + c))                          if n = 0, or the form is "single"

    m is the number of tool calls of the episode and n the fewest among the successful episodes of its group, so that
    ρ = 1 for m = n. The form "single" knows no group, for credit by a critic. A failure earns nothing for its thrift:
    the paper multiplies, as a bonus that is added would pay for not calling tools while wrong. What an outcome has
    below 0 is a penalty, of a format gate that comes before this in a recipe (`router_r1`), and stays, or else fewer
    calls would make it worse. Rewards of steps stay too: what a game pays as reward and not as outcome is not
    multiplied. All calls count, those that failed or were refused as well.

    Without memory n is of this batch. With it, n is the least over earlier iterations too, as in the paper: of the
    episodes that began in the same view, for as many views as `memory` says, those not seen for longest forgotten
    first. n is lowered before the batch is scored, so that a better episode than any before (m < n) is not punished,
    and groups of one batch that begin alike share it. A start whose key is 0 is not remembered. Where the maps or
    questions of a run hardly ever come again, memory does nothing.

    Provenance: formula from a paper note; code not seen.

    Reference: Wang et al. 2025, "OTC: Optimal Tool Calls via Reinforcement Learning" (OTC-GRPO and OTC-PPO), whose
      c is not known here. https://arxiv.org/abs/2504.14870

    Args:
      batch: E episodes with N steps, with the columns `tool_calls` and `success`.
      state: `start` and `fewest`, as `initial_state` or an earlier call gave them.
      limit: c, the most turns that an episode may take, ≥ 1; the larger, the less a call costs where n = 0.
      scale: α, of the outcomes of successes, ≥ 0.
      form: "group" or "single".
      memory: how many starts are remembered, ≥ 0, such as 4096; 0 is none.

    Returns:
      The batch with another `outcome`, float64 [E], in units of reward, and the new state.

    Raises:
      UserError: `limit` is below 1, `scale` is negative or not finite, `form` is unknown, or `memory` or `tool_calls`
        is negative.
    """
    if limit < 1:
        raise UserError(f"limit is the most turns that an episode may take, at least 1, but it is {limit}.")
    if not 0.0 <= scale < math.inf:
        raise UserError(f"scale must be finite and at least 0, but it is {scale}.")
    if form not in _FORMS:
        raise UserError(f"There is no form '{form}'; valid names: {', '.join(_FORMS)}.")
    if memory < 0:
        raise UserError(f"memory is a number of starts, at least 0, but it is {memory}.")
    calls = np.asarray(batch.column("tool_calls"), dtype=np.float64)
    if np.any(calls < 0):
        at = int(np.argmax(calls < 0))
        raise UserError(f"tool_calls is a number of at least 0, but episode {at} has {calls[at]:g}.")
    success = np.asarray(batch.column("success")) > 0.5
    fewest = _fewest(calls, success, batch.group) if form == "group" else np.full(batch.num_episodes, np.inf)
    if memory > 0 and form == "group":
        fewest, state = _remembered(batch.view_key[batch.step_splits[:-1]], fewest, state, memory)
    outcome = np.asarray(batch.outcome, dtype=np.float64)
    earned = scale * _economy(calls, np.where(np.isfinite(fewest), fewest, 0.0), limit)
    return batch.with_columns(outcome=earned * np.maximum(outcome, 0.0) * success + np.minimum(outcome, 0.0)), state


def _fewest(calls: np.ndarray, success: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The fewest calls of a success in each episode's group, float64 [E]; ∞ where nothing succeeded."""
    index, size = group_index(group)
    fewest = np.full(len(size), np.inf)
    np.minimum.at(fewest, index[success], calls[success])
    return fewest[index]


def _remembered(
    start: np.ndarray, fewest: np.ndarray, state: dict[str, np.ndarray], memory: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The fewest calls from each episode's start, now or earlier, float64 [E], and the state with these starts last."""
    seen, index = np.unique(start, return_inverse=True)
    index = index.reshape(-1)
    least = np.full(len(seen), np.inf)
    np.minimum.at(least, index, fewest)
    known = {int(key): float(calls) for key, calls in zip(state["start"], state["fewest"], strict=True)}
    for i, key in enumerate(seen.tolist()):
        if key != 0:
            known[key] = least[i] = min(least[i], known.pop(key, np.inf))
    kept = [(key, calls) for key, calls in known.items() if np.isfinite(calls)][-memory:]
    after = {
        "start": np.array([key for key, _ in kept], dtype=np.uint64),
        "fewest": np.array([calls for _, calls in kept], dtype=np.float64),
    }
    return np.where(start == 0, fewest, least[index]), after


def _economy(calls: np.ndarray, fewest: np.ndarray, limit: int) -> np.ndarray:
    """The coefficient ρ in [0, 1] of m calls where n would do, [E]."""
    # f π / (2 n) = π m / (m + n).
    share = calls / np.where(fewest > 0, calls + fewest, 1.0)
    alone = np.cos(np.pi * calls / (2.0 * calls + limit))
    return np.where(fewest > 0, np.sin(np.pi * share), alone)
