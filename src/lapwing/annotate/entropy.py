"""Entropy of the policy's next-token distributions along the replies."""

from typing import Any

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.models.distinct import DistinctReplies
from lapwing.models.scorer import Scorer

PRODUCES = ("entropy", "token_entropy")


class Entropy:
    """Measures how uncertain the policy was, token by token, under the weights that played.

    token_entropy_k = −Σ_v π(v | context, earlier tokens) log π(v | …),   entropy_n = mean over the tokens of step n

    Over the whole vocabulary and at the temperature of sampling. A step without tokens has entropy 0.

    Reference: EMPG 2025 (step entropy as the mean over a step's tokens). https://arxiv.org/abs/2509.09265
    """

    def __init__(self, model: Any, *, temperature: float = 1.0) -> None:
        """Make the annotator.

        Args:
          model: the causal language model that is trained.
          temperature: of sampling.
        """
        self._scorer = Scorer(model, temperature=temperature)

    def columns(self, batch: EpisodeBatch) -> dict[str, np.ndarray]:
        """`token_entropy`, float64 [K], and `entropy`, float64 [N], nats."""
        distinct = DistinctReplies(batch, np.arange(batch.num_steps))
        per_token = np.zeros(batch.num_tokens)
        per_token[distinct.index] = distinct.score(self._scorer, want=("entropy",))["entropy"]
        tokens = np.diff(batch.token_splits)
        total = np.bincount(batch.step_of_token, weights=per_token, minlength=batch.num_steps)
        return {"token_entropy": per_token, "entropy": total / np.maximum(tokens, 1)}
