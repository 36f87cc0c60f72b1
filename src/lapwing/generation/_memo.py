"""What is remembered of contexts under one version of the weights: distributions, or last hidden states."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lapwing.core.errors import LapwingError
from lapwing.generation._sampling import damaged
from lapwing.models.scorer import hidden_states, next_token_logits
from lapwing.models.tree import grow, parts


class Distribution:
    """One next-token distribution: log-probabilities, and the running sum that draws from it."""

    __slots__ = ("_cumulative", "best", "logprob")

    def __init__(self, logprob: np.ndarray) -> None:
        self.logprob = logprob
        self._cumulative: np.ndarray | None = None
        self.best = int(logprob.argmax())

    def draw(self, u: float) -> int:
        """The token at height u of the running sum; u in [0, 1)."""
        heights = self._heights()
        return min(int(heights.searchsorted(u * heights[-1], side="right")), len(heights) - 1)

    def draw_many(self, u: np.ndarray) -> np.ndarray:
        """The tokens at many heights."""
        heights = self._heights()
        return np.minimum(heights.searchsorted(u * heights[-1], side="right"), len(heights) - 1)

    def _heights(self) -> np.ndarray:
        if self._cumulative is None:
            self._cumulative = np.cumsum(np.exp(self.logprob))
        return self._cumulative


def distributions(logits: torch.Tensor, temperature: float) -> list[Distribution]:
    """The distributions of some rows of logits [U, V], on the host.

    Raises:
      NonFiniteError: a row has a logit that is NaN or +∞, or nothing but −∞.
    """
    rows = torch.log_softmax(logits.double() / temperature, dim=-1).cpu().numpy()
    # The largest of a row with NaN is NaN; argmax and a search in the running sum would find some token all the same.
    if len(rows) and not np.isfinite(most := rows.max(axis=-1)).all():
        raise damaged(int((~np.isfinite(most)).sum()), len(rows), "contexts")
    return [Distribution(row) for row in rows]


class WeightsStamp:
    """Finds out that the weights of a model were changed in place while something computed with them is kept.

    Torch counts the changes of every tensor; the learner counts those of its optimiser, whose kernels do not. Nothing
    is read from the device.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        """Nothing is kept yet.

        Args:
          model: whose weights are meant.
        """
        self._parameters = list(model.parameters())
        self.take()

    def take(self) -> None:
        """What is kept from now on is computed with the weights of now."""
        self._stamp = self._now()

    def _now(self) -> int:
        return sum(parameter._version for parameter in self._parameters)

    def check(self, *, kept: bool) -> None:
        """Something is about to be computed, and may be kept.

        Args:
          kept: there is something already.

        Raises:
          LapwingError: it was computed with other weights.
        """
        if kept and self._now() != self._stamp:
            raise LapwingError(
                "The weights changed, and the generator still holds what it computed with the old ones: its replies "
                "would be of no policy at all. Call the generator's forget (a stage's load) after every change of the "
                "weights, and go on from the last checkpoint."
            )
        self.take()


class Memo:
    """Remembers one value per context, computed on trees that share their prefixes.

    For a small vocabulary that is the next-token distribution; for a large one the last hidden state, which is a
    hundred times smaller, and from which the head makes the logits again.
    """

    def __init__(
        self,
        model: Any,
        *,
        temperature: float | None,
        entry_bytes: int,
        most_bytes: int,
        row_tokens: int,
        batch_tokens: int,
    ) -> None:
        """Begin with nothing.

        Args:
          model: of transformers.
          temperature: of the distributions; None remembers hidden states.
          entry_bytes: of one value.
          most_bytes: forget everything when it would take more.
          row_tokens, batch_tokens: sizes of packed rows and of one forward pass, in tokens.
        """
        self.model = model
        self.temperature = temperature
        self.row_tokens = row_tokens
        self.batch_tokens = batch_tokens
        self._most = most_bytes // entry_bytes
        self._values: dict[bytes, Any] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: bytes) -> Any:
        return self._values[key]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()

    def remember(self, wanted: dict[bytes, np.ndarray], count: Callable[[int], None]) -> None:
        """Compute what is not remembered yet; afterwards all that is wanted can be looked up.

        Args:
          wanted: contexts by key.
          count: is told how many tokens went through the model.
        """
        missing = [(key, token) for key, token in wanted.items() if key not in self._values]
        if not missing:
            return
        if len(self._values) + len(missing) > self._most:
            self._values.clear()
            missing = list(wanted.items())
        tree = grow([token for _, token in missing], row_tokens=self.row_tokens)
        count(tree.num_tokens)
        for part in parts(tree, tree.last, batch_tokens=self.batch_tokens):
            with torch.no_grad():
                rows = self._compute(part.tree, part.nodes)
            for i, at in zip(part.chosen.tolist(), part.inverse.tolist(), strict=True):
                self._values[missing[i][0]] = rows[at]

    def _compute(self, tree: Any, nodes: np.ndarray) -> Any:
        if self.temperature is None:
            return hidden_states(self.model.base_model, tree, nodes)
        return distributions(next_token_logits(self.model, tree, nodes), self.temperature)
