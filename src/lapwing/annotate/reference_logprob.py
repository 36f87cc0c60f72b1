"""Log-probabilities of the replies under reference weights."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from lapwing.core.batch import EpisodeBatch
from lapwing.models.distinct import DistinctReplies
from lapwing.models.scorer import Scorer

PRODUCES = ("reference_logprob",)


class ReferenceLogprob:
    """Scores every reply with the weights that the main stage began with.

    reference_logprob_k = log π_ref(token_k | context, earlier tokens)

    The reference is a second copy of the model, frozen.

    Reference: Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.4
      (a penalty towards the supervised model). https://arxiv.org/abs/2203.02155
    """

    def __init__(self, model: Any, *, weights: Path, temperature: float = 1.0) -> None:
        """Copy the model and give the copy the reference weights.

        Args:
          model: the causal language model that is trained.
          weights: a Hugging Face folder of the same architecture.
          temperature: of sampling; the same for both sides of a divergence.
        """
        reference = copy.deepcopy(model).requires_grad_(False).eval()
        for file in sorted(weights.glob("*.safetensors")):
            reference.load_state_dict(load_file(file), strict=False)
        self._scorer = Scorer(reference, temperature=temperature)

    def columns(self, batch: EpisodeBatch) -> dict[str, np.ndarray]:
        """`reference_logprob`, float64 [K], nats."""
        distinct = DistinctReplies(batch, np.arange(batch.num_steps))
        logprob = np.empty(batch.num_tokens)
        logprob[distinct.index] = distinct.to_all(self._scorer.score(distinct.contexts, distinct.replies)["logprob"])
        return {"reference_logprob": logprob}
