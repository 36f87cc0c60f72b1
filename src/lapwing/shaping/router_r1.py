"""Format first, then correctness, then the price of the calls."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError

SCOPE = "batch"
NEEDS = ("tool_cost",)


def initial_state(**_: object) -> dict[str, np.ndarray]:
    """The latest roots of prices, the oldest first: `window` [prices]."""
    return {"window": np.zeros(0)}


@checked(*NEEDS)
def router_r1(
    batch: EpisodeBatch,
    *,
    state: dict[str, np.ndarray],
    cost_share: float = 0.0,
    low: float = 0.05,
    high: float = 0.95,
    window: int = 0,
) -> tuple[EpisodeBatch, dict[str, np.ndarray]]:
    """Replace the outcome by a hierarchy: −1 for bad format, nothing for a wrong answer, else correctness and thrift.

        o′ = −1                            if a reply of the episode is invalid
        o′ = o                             else, if o ≤ 0
        o′ = (1 − α) o + α R_cost          else
        R_cost = 1 − clip((x − q_low) / (q_high − q_low), 0, 1),   x = √tool_cost

    o is the outcome, exact match or F1 of the answer in [0, 1]; a penalty below 0 stays as it is. q are quantiles of x
    over the window, invalid and wrong episodes included; where they are equal, R_cost is ½. A wrong answer gets
    no credit for being cheap, but half of one does: where outcomes are F1 and α is large, a cheap answer that is half
    right beats a costly right one (α = 0.6: 0.4 · ½ + 0.6 · 1 = 0.8 against 0.4 · 1 + 0.6 · 0 = 0.4). An
    episode that is cut off before it answers counts as wrong, not as malformed. Rewards of steps stay as they are.
    This gates the format, so that it comes before any coefficient on the outcome (`otc`).

    The authors' quantiles are of the last 1,000 episodes that one process happened to score. With `window` = 0 they
    are those of the batch, whatever its order; else of the latest `window` episodes, this batch among them, in the
    order of groups and matches and not of arrival.

    Provenance: formula and defaults from the authors' code.

    Reference: Zhang et al. 2025, "Router-R1: Teaching LLMs Multi-Round Routing and Aggregation via Reinforcement
      Learning". https://arxiv.org/abs/2506.09033; https://github.com/ulab-uiuc/Router-R1

    Args:
      batch: E episodes with N steps, with the column `tool_cost`.
      state: `window`, as `initial_state` or an earlier call gave it.
      cost_share: α in [0, 1]; 0.6 to 0.9 in the authors' runs that save.
      low: quantile of x up to which an episode is as cheap as can be, in [0, 1].
      high: quantile of x from which it is as costly as can be, in [0, 1], above `low`.
      window: how many episodes the quantiles are taken over, ≥ 0; 0 is the batch alone.

    Returns:
      The batch with another `outcome`, float64 [E], in units of reward, and the new state.

    Raises:
      UserError: `cost_share`, `low`, `high` or `window` lies out of its range, or a price is negative.
    """
    if not 0.0 <= cost_share <= 1.0:
        raise UserError(f"cost_share must be in [0, 1], but it is {cost_share}.")
    if not 0.0 <= low < high <= 1.0:
        raise UserError(f"low and high must be quantiles, 0 ≤ low < high ≤ 1, but they are {low} and {high}.")
    if window < 0:
        raise UserError(f"window is a number of episodes, at least 0, but it is {window}.")
    price = np.asarray(batch.column("tool_cost"), dtype=np.float64)
    if np.any(price < 0):
        at = int(np.argmax(price < 0))
        raise UserError(f"tool_cost is a price of at least 0, but episode {at} has {price[at]:g}.")
    outcome = np.asarray(batch.outcome, dtype=np.float64)
    x = np.sqrt(price)
    seen = x
    if window > 0:
        order = np.lexsort((batch.player, batch.match, batch.group))
        seen = np.concatenate([state["window"], x[order]])[-window:]
        state = {"window": seen}
    priced = (1.0 - cost_share) * outcome + cost_share * _thrift(x, seen, low, high)
    malformed = np.bincount(batch.episode_of_step, weights=~batch.valid, minlength=batch.num_episodes) > 0
    return batch.with_columns(outcome=np.where(malformed, -1.0, np.where(outcome > 0, priced, outcome))), state


def _thrift(x: np.ndarray, seen: np.ndarray, low: float, high: float) -> np.ndarray:
    """1 for what is cheapest within the window, 0 for what is dearest, [E]."""
    if len(x) == 0:
        return x
    cheap, dear = np.quantile(seen, [low, high])
    # Sums of the same prices in another order differ by rounding; that is no spread.
    if dear - cheap <= 1e-9 * dear:
        return np.full(len(x), 0.5)
    return 1.0 - np.clip((x - cheap) / (dear - cheap), 0.0, 1.0)
