"""Log-probabilities of the replies under reference weights."""

from pathlib import Path
from typing import Any

import numpy as np

from lapwing.annotate._frozen import with_earlier_weights
from lapwing.core.batch import EpisodeBatch
from lapwing.models.distinct import DistinctReplies
from lapwing.models.scorer import Scorer

PRODUCES = ("reference_logprob",)


class ReferenceLogprob:
    """Scores every reply with the weights that the main stage began with.

    reference_logprob_k = log π_ref(token_k | context, earlier tokens)

    The reference is a second copy of the model, frozen. With LoRA there is no second copy: the adapter is switched off,
    or, if the stage began with one that had learnt already, to what it was then.

    Reference: Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.4
      (a penalty towards the supervised model). https://arxiv.org/abs/2203.02155
    """

    def __init__(self, model: Any, *, weights: Path, temperature: float = 1.0) -> None:
        """Copy the model and give the copy the reference weights, or add them beside those of its adapter.

        Args:
          model: the causal language model that is trained.
          weights: a Hugging Face folder of the same architecture, or a PEFT folder if the model has an adapter.
          temperature: of sampling; the same for both sides of a divergence.
        """
        model, self._as_reference = with_earlier_weights(model, weights)
        self._scorer = Scorer(model, temperature=temperature)

    def columns(self, batch: EpisodeBatch) -> dict[str, np.ndarray]:
        """`reference_logprob`, float64 [K], nats."""
        distinct = DistinctReplies(batch, np.arange(batch.num_steps))
        logprob = np.empty(batch.num_tokens)
        with self._as_reference():
            logprob[distinct.index] = distinct.score(self._scorer)["logprob"]
        return {"reference_logprob": logprob}
