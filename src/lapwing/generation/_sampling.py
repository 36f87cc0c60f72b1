"""Drawing tokens on the model's device: only token ids and log-probabilities travel to the host."""

from collections.abc import Callable

import numpy as np
import torch

from lapwing.core.errors import NonFiniteError

# Numbers that a block of logits, and a block of the float64 arrays made from it, may have.
_HEAD_BLOCK = 2**26
_DRAW_BLOCK = 2**22
_ONE = 2.0**52


def damaged(bad: int, of: int, what: str) -> NonFiniteError:
    """The error of logits from which nothing can be drawn.

    Args:
      bad, of: how many of how many have such logits.
      what: is counted.
    """
    return NonFiniteError(
        f"The model's logits are not finite for {bad} of {of} {what}, so that no token can be drawn: its weights are "
        "damaged. Go on from the last checkpoint with lapwing resume; if it happens again, lower "
        "optimizer.learning_rate or optimizer.clip_norm, or take dtype = 'float32'."
    )


def draw(
    logits: torch.Tensor, noise: torch.Tensor, *, temperature: float, greedy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw tokens by inverting the distribution function.

        p = softmax(logits / temperature),   w_v = round(2⁵² p_v),   token = the first v with w_0 + … + w_v > u · Σ w

    All is computed in float64, in which sums of whole numbers below 2⁵³ are exact: the order in which a device adds
    them cannot change a token, and a token's probability is right to 2⁻⁵³.

    Args:
      logits: [U, V], of any floating dtype.
      noise: u in [0, 1), float64 [U, M]: each row of logits is drawn from M times.
      temperature: above 0.
      greedy: take the most probable token, the first of equals, whatever the noise.

    Returns:
      Token ids int64 and their log-probabilities float64, [U, M]; M is 1 where `greedy`.
    """
    scaled = logits.double() / temperature
    most = scaled.amax(dim=-1, keepdim=True)
    weight = (scaled - most).exp_()
    total = weight.sum(dim=-1, keepdim=True)
    if greedy:
        token = scaled.argmax(dim=-1, keepdim=True)
    else:
        height = weight.mul_(_ONE / total).round_().cumsum(dim=-1)
        token = torch.searchsorted(height, noise * height[:, -1:], right=True).clamp_(max=logits.shape[-1] - 1)
    return token, scaled.gather(-1, token) - most - total.log()


def sample(
    head: Callable[[torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    row: np.ndarray,
    noise: np.ndarray,
    *,
    vocabulary: int,
    temperature: float,
    greedy: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw tokens that follow given last hidden states; the logits of all rows never stand in memory together.

    Args:
      head: from hidden states [U, W] to logits [U, V].
      hidden: the different last hidden states, [U, W].
      row: which of them each draw continues, [R].
      noise: u of each draw, in [0, 1), float64 [R].
      vocabulary: V.
      temperature, greedy: as in `draw`.

    Returns:
      Token ids int64 [R] and their log-probabilities float64 [R].

    Raises:
      NonFiniteError: logits are not finite.
    """
    place, column, table = _by_row(row, noise, len(hidden))
    if greedy:
        table, column = table[:, :1], np.zeros_like(column)
    heads = max(1, _HEAD_BLOCK // vocabulary)
    draws = max(1, _DRAW_BLOCK // vocabulary)
    found: list[torch.Tensor] = []
    for low in range(0, len(hidden), heads):
        logits = head(hidden[low : low + heads])
        if logits.device.type == "mps":  # has no float64
            logits = logits.cpu()
        for first in range(0, len(logits), draws):
            part = logits[first : first + draws]
            u = torch.from_numpy(table[low + first : low + first + len(part)]).to(part.device)
            token, logprob = draw(part, u, temperature=temperature, greedy=greedy)
            found.append(torch.stack([token.double(), logprob]))
    numbers = torch.cat(found, dim=1).cpu().numpy()
    token, logprob = numbers[:, place, column]
    # One logit that is NaN or +∞ makes the sum of its row, and so every log-probability of it, NaN.
    if not np.isfinite(logprob).all():
        raise damaged(int((~np.isfinite(logprob)).sum()), len(logprob), "replies")
    return token.astype(np.int64), logprob


def _by_row(row: np.ndarray, noise: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each draw stands in a table with one line per row, and that table of noise, padded with zeros."""
    order = np.argsort(row, kind="stable")
    count = np.bincount(row, minlength=rows)
    column = np.empty(len(row), dtype=np.int64)
    column[order] = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    table = np.zeros((rows, int(count.max(initial=0))))
    table[row, column] = noise
    return row, column, table
