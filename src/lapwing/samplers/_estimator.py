"""A light online estimator: how likely the policy of now succeeds, from what it sees at the start."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lapwing.core.storage import bytes_key, canonical_json, to_plain

# Of one text: what comes after these words, or characters, is left out.
_MOST_PARTS = 512


class Estimator:
    """A logistic regression on hashed features, with one AdaGrad step for every outcome.

        V(x) = σ(b + Σ_{j ∈ x} w_j / √|x|),    g = (V − y) / √|x|,    w ← w − rate · g / √(10⁻⁸ + Σ g²)

    y, the mean outcome of a group, is in [0, 1]: g is the gradient of the cross-entropy, whose minimum is at the mean
    as that of the squared error is.
    """

    def __init__(self, *, features: int, rate: float) -> None:
        """Begin with V = 0.5 everywhere.

        Args:
          features: places that features are hashed to.
          rate: of learning.
        """
        self.features = features
        self.rate = rate
        # The last place is the bias.
        self._weight = np.zeros(features + 1)
        self._square = np.zeros(features + 1)

    def places(self, view: Any) -> np.ndarray:
        """Where the features of a view stand, and the bias, int64."""
        hashed = {bytes_key(text.encode("utf-8", "replace")) % self.features for text in features_of(view)}
        return np.array([*sorted(hashed), self.features])

    def value(self, places: np.ndarray) -> float:
        """V of a view, in (0, 1)."""
        logit = self._weight[places].sum() / np.sqrt(len(places))
        return float(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))

    def learn(self, places: np.ndarray, outcome: float) -> None:
        """Take a step towards an outcome in [0, 1]."""
        gradient = (self.value(places) - outcome) / np.sqrt(len(places))
        self._square[places] += gradient**2
        self._weight[places] -= self.rate * gradient / np.sqrt(1e-8 + self._square[places])

    def state(self) -> dict[str, list[float]]:
        """What was learnt, as JSON."""
        return {"weight": self._weight.tolist(), "square": self._square.tolist()}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Take back what `state` returned."""
        self._weight, self._square = np.array(state["weight"]), np.array(state["square"])


def features_of(view: Any) -> list[str]:
    """What is said of a view: itself as a whole, each of its fields, and the words, or the characters, of each text."""
    return [canonical_json(view), *_fields(to_plain(view), "")]


def _fields(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _fields(part, f"{path}/{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _fields(part, f"{path}/{number}")
    else:
        yield f"{path}={value}"
        words = value.split() if isinstance(value, str) else []
        if len(words) > 1:  # a text: which words, wherever they stand
            yield from (f"{path}~{word}" for word in words[:_MOST_PARTS])
        elif words:  # a row of a board: which character stands where
            yield from (f"{path}/{at}={one}" for at, one in enumerate(words[0][:_MOST_PARTS]))
