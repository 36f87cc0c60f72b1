"""A critic of states: one value before each step."""

import numpy as np

from lapwing.annotate._critic import LearnedValues
from lapwing.annotate._rows import Rows
from lapwing.core.batch import EpisodeBatch
from lapwing.models.value_heads import Reads

PRODUCES = ("value", "final_value")


class Value(LearnedValues):
    """Gives each step the critic's value of its context, before the reply.

    value_t = w · hidden(last token of the context of step t) + b

    `final_value` is the same of the context that a truncated episode would have gone on from, and 0 where the rules
    ended it. The methods call it the value at the first token of the reply: it is read where that token is predicted.

    Reference: Schulman et al. 2017, "Proximal Policy Optimization Algorithms". https://arxiv.org/abs/1707.06347; one
      value per turn: Turn-PPO 2025. https://arxiv.org/abs/2512.17008
    """

    name = "value"
    heads = ("value",)
    advantage_axis = "N"
    final_head = "value"

    def _reads(self, batch: EpisodeBatch, rows: Rows) -> dict[str, Reads]:
        row = rows.of_steps(batch, np.zeros(batch.num_steps, dtype=np.int64))
        return {"value": Reads(row, rows.last(row))}

    def _taught(self, batch: EpisodeBatch, advantage: np.ndarray, head: str) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(batch.num_steps), advantage
