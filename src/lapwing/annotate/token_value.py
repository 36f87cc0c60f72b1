"""A critic of tokens: one value before each token of a reply."""

import numpy as np

from lapwing.annotate._critic import LearnedValues
from lapwing.annotate._rows import Rows
from lapwing.core.batch import EpisodeBatch
from lapwing.models.value_heads import Reads

PRODUCES = ("token_value", "final_value")


class TokenValue(LearnedValues):
    """Gives each reply token the critic's value of all that comes before it.

    token_value_k = w · hidden(the token before token k) + b

    The value of the first token of a reply is that of the state, read at the last token of the context.
    `final_value` is the same of the context that a truncated episode would have gone on from, and 0 where the rules
    ended it.

    Reference: Ouyang et al. 2022, "Training language models to follow instructions with human feedback", appendix C
      (PPO on tokens). https://arxiv.org/abs/2203.02155; over several turns: MT-PPO 2025.
      https://arxiv.org/abs/2505.11821
    """

    name = "token_value"
    heads = ("token_value",)
    advantage_axis = "K"
    final_head = "token_value"

    def _reads(self, batch: EpisodeBatch, rows: Rows) -> dict[str, Reads]:
        # The last token of a reply predicts nothing that was sampled.
        replied = np.maximum(np.diff(batch.token_splits) - 1, 0)
        row = rows.of_steps(batch, replied)
        step = batch.step_of_token
        within = np.arange(batch.num_tokens) - batch.token_splits[step]
        return {"token_value": Reads(row[step], (rows.last(row) - replied)[step] + within)}

    def _taught(self, batch: EpisodeBatch, advantage: np.ndarray, head: str) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(batch.num_tokens), advantage
