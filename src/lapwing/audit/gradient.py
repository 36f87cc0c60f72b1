"""The exact policy gradient and its estimates, all as weights on the gradients of log π(action | state)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from lapwing.stats.interval import Interval

_COLUMNS_AT_ONCE = 32_768


class Signal(NamedTuple):
    """How an estimated gradient compares with the exact one.

    Attributes:
      cosine: of the mean gradient with the exact one, with a 95 % interval; None if it is 0.
      episodes_for_snr_1: episodes after which the noise is as long as the signal; None where no signal was seen.
    """

    cosine: Interval | None
    episodes_for_snr_1: float | None


def pair_gram(
    model: torch.nn.Module,
    distribution: Any,
    views: Sequence[Any],
    legal: Sequence[tuple[Any, ...]],
    exact: np.ndarray,
    kept: np.ndarray,
    *,
    block_bytes: int = 2**30,
) -> np.ndarray:
    """Inner products of ∇ log π(a | s) between pairs of a state and an action, and of them with the exact gradient.

        K[i, j] = ⟨d_i, d_j⟩,   d_i = ∇ log π(a_i | s_i) for the kept pairs,   d_P = Σ_{s, a} exact[s, a] ∇ log π(a | s)

    in the model's parameters. Every gradient that is a weighted sum of these needs no further backward pass. An invalid
    reply is an action of its own, with the gradient of the log of the probability of all invalid replies together.
    Only the pairs that somebody weights are worth their rows: work grows as the square of P.

    Args:
      model: whose parameters.
      distribution: an `ActionDistribution` of it.
      views, legal: the S states.
      exact: [S, A + 1] weights of the exact gradient; pair (s, a) has the number s · (A + 1) + a, and an invalid
        reply has a = A.
      kept: [P] numbers of the pairs that get a row, ascending.
      block_bytes: memory that the gradients of a block of states may take.

    Returns:
      float64 [P + 1, P + 1]; the last one is the exact gradient. 0 where the action does not exist.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    size, width = sum(parameter.numel() for parameter in parameters), exact.shape[1]
    states, actions = np.divmod(kept, width)

    def logprobs(state: int) -> torch.Tensor:
        """[A + 1], −∞ where the action does not exist."""
        (found,) = distribution.logprobs([views[state]], [legal[state]])
        missing = found.new_full((width - len(found),), -torch.inf)
        return torch.cat([found[:-1], missing, found[-1:]])

    def gradients(block: range) -> torch.Tensor:
        rows = torch.zeros((len(block), size), device=parameters[0].device)
        logprob, at = torch.empty(0), -1
        for row, pair in enumerate(block):
            if states[pair] != at:
                at = int(states[pair])
                logprob = logprobs(at)
            if torch.isfinite(logprob[actions[pair]]):
                rows[row] = _gradient(logprob[actions[pair]], parameters)
        return rows

    goal = _exact_gradient(logprobs, exact, parameters)
    gram = np.zeros((len(kept) + 1,) * 2)
    gram[-1:, -1:] = _inner(goal, goal)
    per_block = max(1, block_bytes // (4 * size))
    blocks = [range(first, min(first + per_block, len(kept))) for first in range(0, len(kept), per_block)]
    for number, block in enumerate(blocks):
        rows = gradients(block)
        here = slice(block.start, block.stop)
        gram[here, -1:] = _inner(rows, goal)
        gram[-1:, here] = gram[here, -1:].T
        for other in blocks[number:]:
            there = slice(other.start, other.stop)
            gram[here, there] = _inner(rows, rows if other is block else gradients(other))
            gram[there, here] = gram[here, there].T
    return gram


def _exact_gradient(logprobs: Callable[[int], torch.Tensor], exact: np.ndarray, parameters: list[Any]) -> torch.Tensor:
    """[1, parameters]: Σ exact[s, a] ∇ log π(a | s), a backward pass for each state."""
    total = torch.zeros((1, sum(parameter.numel() for parameter in parameters)), device=parameters[0].device)
    for state in np.flatnonzero(exact.any(axis=1)).tolist():
        logprob = logprobs(state)
        weight = torch.from_numpy(exact[state]).to(logprob)
        counts = torch.isfinite(logprob) & (weight != 0)
        if counts.any():
            total += _gradient((weight[counts] * logprob[counts]).sum(), parameters)
    return total


def _gradient(value: torch.Tensor, parameters: list[Any]) -> torch.Tensor:
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([part.reshape(-1).float() for part in parts])


def _inner(rows: torch.Tensor, columns: torch.Tensor) -> np.ndarray:
    total = np.zeros((len(rows), len(columns)))
    for first in range(0, rows.shape[1], _COLUMNS_AT_ONCE):
        part = slice(first, first + _COLUMNS_AT_ONCE)
        total += (rows[:, part] @ columns[:, part].T).double().cpu().numpy()
    return total


def logit_gram(policy: np.ndarray, exact: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The same inner products where every state has logits of its own, one for each action.

        ⟨d(s, a), d(s, a')⟩ = (e_a − π(s)) · (e_a' − π(s)),   0 between different states

    Args:
      policy: [S, A] probabilities, an invalid reply among the actions.
      exact: [S, A] weights of the exact gradient.
      kept: [P] numbers of the pairs that get a row, ascending.

    Returns:
      float64 [P + 1, P + 1]; the last one is the exact gradient.
    """
    states, actions = np.divmod(kept, policy.shape[1])
    score = np.eye(policy.shape[1])[actions] - policy[states]
    # In the logits of a state the exact gradient is Σ_a exact[s, a] (e_a − π(s)).
    goal = exact - exact.sum(axis=1, keepdims=True) * policy
    gram = np.zeros((len(kept) + 1,) * 2)
    gram[:-1, :-1] = (score @ score.T) * (states[:, None] == states)
    gram[:-1, -1] = gram[-1, :-1] = (score * goal[states]).sum(axis=1)
    gram[-1, -1] = (goal**2).sum()
    return gram


def unit_weights(advantage: np.ndarray, pair: np.ndarray, unit: np.ndarray, num_pairs: int) -> np.ndarray:
    """Sum the advantages of the steps of each unit by pair, [U, pairs]: the weights of its gradient.

    Args:
      advantage: of each step, [N].
      pair: number of the state and action of each step, [N].
      unit: number of the group or episode of each step, from 0 without gaps, [N].
      num_pairs: how many pairs there are.
    """
    units = int(unit.max()) + 1
    return np.bincount(unit * num_pairs + pair, advantage, minlength=units * num_pairs).reshape(units, num_pairs)


def signal(
    weights: np.ndarray,
    size: np.ndarray,
    exact: np.ndarray,
    gram: np.ndarray,
    rng: np.random.Generator,
    *,
    resamples: int = 400,
) -> Signal:
    """Compare the mean gradient of some episodes with the exact one.

        g = Σ_u g_u / Σ_u n_u,   cosine = ⟨g, g*⟩ / (‖g‖ ‖g*‖)
        noise = per-episode variance of g in all directions together
        signal = (⟨g, g*⟩ / ‖g*‖)² less what noise adds to it
        episodes for a signal-to-noise ratio of 1 = noise / signal

    The interval is cosine ± 1.96 standard deviations over bootstrap resamples of the units, cut at ±1. Advantages are
    not computed again for a resample.

    Reference: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 12.3 (normal interval).
      https://doi.org/10.1201/9780429246593

    Args:
      weights: [U, pairs] of each unit's summed gradient.
      size: [U] episodes of each unit.
      exact: [pairs] weights of the exact gradient of the expected return, per episode.
      gram: [pairs, pairs] inner products of the gradients of the pairs.
      rng: the source of the resamples.
      resamples: how many.
    """
    length = float(np.sqrt(max(exact @ gram @ exact, 0.0)))
    mean = weights.sum(axis=0) / size.sum()
    cosine = _cosines(mean[None], exact, gram, length)[0]
    if not np.isfinite(cosine):
        return Signal(None, None)
    counts = rng.multinomial(len(size), np.full(len(size), 1.0 / len(size)), size=resamples)
    drawn = _cosines((counts @ weights) / (counts @ size)[:, None], exact, gram, length)
    drawn = drawn[np.isfinite(drawn)]
    half = 1.96 * float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
    interval = Interval(float(cosine), max(float(cosine) - half, -1.0), min(float(cosine) + half, 1.0))
    return Signal(interval, _episodes_for_snr_1(weights, size, exact, gram, length))


def _cosines(weights: np.ndarray, exact: np.ndarray, gram: np.ndarray, length: float) -> np.ndarray:
    """[B] of B weights [B, pairs]; NaN where a gradient is 0."""
    image = weights @ gram
    own = np.sqrt(np.maximum((image * weights).sum(axis=1), 0.0))
    product = own * length
    return np.divide(image @ exact, product, out=np.full(len(weights), np.nan), where=product > 0)


def _episodes_for_snr_1(
    weights: np.ndarray, size: np.ndarray, exact: np.ndarray, gram: np.ndarray, length: float
) -> float | None:
    units, episodes = len(size), float(size.sum())
    if units < 2:
        return None
    centred = weights - size[:, None] * (weights.sum(axis=0) / episodes)
    noise = float(((centred @ gram) * centred).sum()) / (units - 1) * units / episodes
    along = weights @ (gram @ exact) / length
    mean = along.sum() / episodes
    spread = float(((along - size * mean) ** 2).sum()) / (units - 1) * units / episodes
    square = mean**2 - spread / episodes
    return noise / square if mean > 0 and square > 0 else None
