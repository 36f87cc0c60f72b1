"""What is remembered of contexts under one version of the weights: distributions, or last hidden states."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from lapwing.core.errors import LapwingError
from lapwing.generation._replies import Wanted
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


def entry_bytes(model: Any, on_device: bool) -> int:
    """Bytes of what is remembered of one context: a hidden state, or log-probabilities and their running sum."""
    text = model.config.get_text_config()
    return text.hidden_size * next(model.parameters()).dtype.itemsize if on_device else 16 * text.vocab_size


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

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def __getitem__(self, key: bytes) -> Any:
        return self._values[key]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()

    def remember(self, wanted: Iterable[Wanted], count: Callable[[int], None]) -> None:
        """Compute what is not remembered yet; afterwards all that is wanted can be looked up.

        Args:
          wanted: sequences.
          count: is told how many tokens went through the model.
        """
        wanted = list(wanted)
        missing = self._missing(wanted)
        if not missing:
            return
        if len(self._values) + sum(len(keys) for _, keys in missing) > self._most:
            self._values.clear()
            missing = self._missing(wanted)
            if sum(len(keys) for _, keys in missing) > self._most:  # then nothing is computed ahead
                missing = self._missing([one for one in wanted if len(one.keys) == 1])
        tree = grow([token for token, _ in missing], row_tokens=self.row_tokens)
        count(tree.num_tokens)
        nodes = [tree.node[i][[place for place, _ in found]] for i, (_, found) in enumerate(missing)]
        keys = [key for _, found in missing for _, key in found]
        for part in parts(tree, np.concatenate(nodes), batch_tokens=self.batch_tokens):
            with torch.no_grad():
                rows = self._compute(part.tree, part.nodes)
            for i, at in zip(part.chosen.tolist(), part.inverse.tolist(), strict=True):
                self._values[keys[i]] = rows[at]

    def _missing(self, wanted: Sequence[Wanted]) -> list[tuple[np.ndarray, list[tuple[int, bytes]]]]:
        """The sequences of which something is missing: places and keys of what is, each key once."""
        seen: set[bytes] = set()
        missing = []
        for token, keys in wanted:
            first = len(token) - len(keys)
            found = [(at, key) for at, key in enumerate(keys, first) if key not in self._values and key not in seen]
            if found:
                seen.update(key for _, key in found)
                # What comes after the last missing one is not needed.
                missing.append((token[: found[-1][0] + 1], found))
        return missing

    def _compute(self, tree: Any, nodes: np.ndarray) -> Any:
        if self.temperature is None:
            return hidden_states(self.model.base_model, tree, nodes)
        return distributions(next_token_logits(self.model, tree, nodes), self.temperature)
