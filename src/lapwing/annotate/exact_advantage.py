"""The exact advantage of every reply, in games that can be enumerated."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lapwing.annotate._truth import Places, Situation, Truth
from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import State

PRODUCES = ("exact_advantage",)


class ExactAdvantage:
    """Solves the game under the model's current action distribution and gives each step the advantage of its reply.

    A_h(s, a) = Q_h(s, a) − Σ_a' π(a' | s) Q_h(s, a')      h steps left, being cut off is worth 0

    Every reachable state is shown to the model, and π is read off the probabilities of the replies that stand for its
    legal actions; what is left is the probability of an invalid reply, an action of its own whose effect follows the
    recipe's rule. It is the advantage of the training reward, format penalty included. Where a reply is longer than one
    token, only the composed reply of an action is counted; any other wording of it counts as invalid.

    Recipes that think before they act, that read more than the current state, or whose game cannot be enumerated are
    refused with the reason, and so are games that show two states alike in which a reply has different advantages; a
    hidden reward that is owed in any case is allowed.

    Reference: Sutton and Barto 2018, "Reinforcement Learning: An Introduction", chapter 4 (dynamic programming).
      http://incompleteideas.net/book/the-book-2nd.html
    """

    def __init__(self, model: Any, *, situation: Situation, max_states: int = 10_000) -> None:
        """Keep the model; nothing is computed before the first batch.

        Args:
          model: the causal language model that is trained; its current weights are read for every batch.
          situation: what is played, by whom and under which rules.
          max_states: games with more reachable states are refused.
        """
        self._model = model
        self._situation = situation
        self._max_states = max_states
        self._starts: tuple[State, ...] = ()
        self._places: Places | None = None

    def columns(self, batch: EpisodeBatch) -> dict[str, np.ndarray]:
        """`exact_advantage`, float64 [N], in units of reward."""
        return {"exact_advantage": Truth(self._model, self._reached(self._situation.starts())).advantage(batch)}

    def _reached(self, starts: Sequence[State]) -> Places:
        # The advantage of a step does not depend on how often a start was drawn.
        wanted = tuple(dict.fromkeys(starts))
        if self._places is None or wanted != self._starts:
            self._places = Places(self._situation, wanted, max_states=self._max_states)
            self._starts = wanted
        return self._places
