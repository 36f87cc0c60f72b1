"""The three-headed critic of HiPER: of the state, of the state with its subgoal, and of a switch."""

import numpy as np

from lapwing.annotate._critic import LearnedValues
from lapwing.annotate._rows import Rows
from lapwing.core.batch import EpisodeBatch
from lapwing.models.value_heads import Reads

NEEDS = ("span", "switch")
PRODUCES = ("v_low", "v_high", "v_term")

_OTHER, _SWITCH, _SUBGOAL, _ACTION = 0, 2, 3, 4


class HierarchyValues(LearnedValues):
    """Gives each step the values of its two levels and of the decision between them.

    v_low  = w_low · hidden(the token that ends the subgoal) + b_low
    v_high = w_high · hidden(last token of the context) + b_high,   v_term alike

    The paper reads v_low at the first token after `</subgoal>`, v_high and v_term at the first token of the reply;
    each is read where that token is predicted, as everywhere here. Where `span` leaves out the tags, the token that
    ends the subgoal is the one after its last word; it is never a token of the action. A reply without a subgoal has
    its v_low read before the reply. v_high learns at the steps that open a segment, each head from the first
    token that carries its advantage: action, subgoal and switch tokens; a step without such a token, and one whose
    advantages cannot be told apart because it has no action and nothing else either, teaches that head nothing.

    Reference: Peng et al. 2026, "HiPER: Hierarchical Reinforcement Learning with Explicit Credit Assignment for Large
      Language Model Agents". https://arxiv.org/abs/2602.16165
    """

    name = "hierarchy_values"
    heads = ("v_low", "v_high", "v_term")
    advantage_axis = "K"

    def _reads(self, batch: EpisodeBatch, rows: Rows) -> dict[str, Reads]:
        replied = _until_subgoal_ends(batch)
        row = rows.of_steps(batch, replied)
        last = rows.last(row)
        before = Reads(row, last - replied)
        return {"v_low": Reads(row, last), "v_high": before, "v_term": before}

    def _taught(self, batch: EpisodeBatch, advantage: np.ndarray, head: str) -> tuple[np.ndarray, np.ndarray]:
        step, span = batch.step_of_token, batch.column("span", needed_by=self.name)
        opens = np.array(batch.column("switch", needed_by=self.name), dtype=bool)
        opens[batch.step_splits[:-1]] = True
        has_action = np.zeros(batch.num_steps, dtype=bool)
        has_action[step[span == _ACTION]] = True
        term, high = span == _SWITCH, (span == _SUBGOAL) & opens[step]
        low = _first(np.where(has_action[step], span == _ACTION, ~term & ~high), batch)
        if head == "v_low":
            steps = np.flatnonzero(low >= 0)
            return steps, advantage[low[steps]]
        token = _first(term if head == "v_term" else high, batch)
        # Without an action all tokens have the low advantage, these beside their own.
        steps = np.flatnonzero((token >= 0) & (has_action | (low >= 0)))
        return steps, advantage[token[steps]] - np.where(has_action[steps], 0.0, advantage[low[steps]])


def _first(chosen: np.ndarray, batch: EpisodeBatch) -> np.ndarray:
    """The first chosen token of each step, int64 [N]; −1 where there is none."""
    token = np.flatnonzero(chosen)
    steps, at = np.unique(batch.step_of_token[token], return_index=True)
    first = np.full(batch.num_steps, -1)
    first[steps] = token[at]
    return first


def _until_subgoal_ends(batch: EpisodeBatch) -> np.ndarray:
    """How many tokens of each reply there are up to the end of its subgoal, int64 [N]; 0 without a subgoal."""
    span, step_of_token = batch.column("span", needed_by="hierarchy_values"), batch.step_of_token
    token = np.flatnonzero(span == _SUBGOAL)
    if len(token) == 0:
        return np.zeros(batch.num_steps, dtype=np.int64)
    end = np.full(batch.num_steps, -1)
    # The tokens come in order, so that the last one of a step is what stays.
    end[step_of_token[token]] = token
    has_subgoal = end >= 0
    closing = np.minimum(end + 1, batch.num_tokens - 1)
    in_reply = step_of_token[closing] == np.arange(batch.num_steps)
    end[has_subgoal & in_reply & (span[closing] == _OTHER)] += 1
    return np.where(has_subgoal, end - batch.token_splits[:-1] + 1, 0)
