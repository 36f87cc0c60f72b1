"""How probable the gold answer is at every step."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lapwing.annotate._frozen import with_earlier_weights
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError
from lapwing.core.ragged import lengths_to_splits, segment_sum
from lapwing.core.storage import bytes_key, key_of
from lapwing.core.types import Action, State
from lapwing.models.scorer import Scorer

PRODUCES = ("gold_probability",)


class GoldProbability:
    """Asks the model at every step how probable the gold answer would be now.

    p_n = exp( mean over the answer's tokens of log π(token | context of step n, opening of an answer, earlier tokens) )

    The gold answer is the game's own (`gold(state, player)`); it is written as the parser composes it, and its tokens
    are those between the opening and the closing of an answer. The step itself need not be an answer.

    Reference: IGPO 2025 (information gain), with the weights that play. https://arxiv.org/abs/2510.14967; TIPS 2026
      (potential-based), with frozen ones. https://arxiv.org/abs/2603.22293

    Only seat 0 is annotated; a start that its view does not tell from another with another answer is an error.
    """

    def __init__(
        self,
        model: Any,
        *,
        agent: Any,
        game: Any,
        starts: Callable[[], Sequence[State]],
        weights: Path,
        frozen: bool = False,
        temperature: float = 1.0,
    ) -> None:
        """Make the annotator.

        Args:
          model: the causal language model that is trained.
          agent: the language agent, which writes answers.
          game: what is played.
          starts: the states that the matches played last began in.
          weights: a Hugging Face folder of the same architecture, or a PEFT folder if the model has an adapter.
          frozen: ask the weights that the stage began with, `weights`, instead of the current ones.
          temperature: logits are divided by it.
        """
        model, self._as_asked = with_earlier_weights(model, weights) if frozen else (model, contextlib.nullcontext)
        self._scorer = Scorer(model, temperature=temperature)
        self._agent = agent
        self._game = game
        self._starts = starts

    def columns(self, batch: EpisodeBatch) -> dict[str, np.ndarray]:
        """`gold_probability`, float64 [N]."""
        gold = self._gold_answers()
        first = batch.view_key[batch.step_splits[:-1]].tolist()
        if not set(first) <= set(gold):
            raise LapwingError("An episode began in a state that none of the matches played last began in.")
        written = {action: self._answer_tokens(action) for action in set(gold.values())}
        index: dict[tuple[int, Action], int] = {}
        contexts: list[np.ndarray] = []
        replies: list[np.ndarray] = []
        inside: list[np.ndarray] = []
        which = np.empty(batch.num_steps, dtype=np.int64)
        keys = batch.extra.get("context_key")
        for step, episode in enumerate(batch.episode_of_step.tolist()):
            action = gold[first[episode]]
            key = bytes_key(batch.context(step).tobytes()) if keys is None else int(keys[step])
            at = which[step] = index.setdefault((key, action), len(contexts))
            if at == len(contexts):
                token, counts = written[action]
                contexts.append(batch.context(step))
                replies.append(token)
                inside.append(counts)
        with self._as_asked():
            logprob = self._scorer.score(contexts, replies)["logprob"]
        counts = np.concatenate(inside)
        splits = lengths_to_splits(np.array([len(reply) for reply in replies]))
        mean = segment_sum(np.where(counts, logprob, 0.0), splits) / segment_sum(counts.astype(np.float64), splits)
        return {"gold_probability": np.exp(mean)[which]}

    def _gold_answers(self) -> dict[int, Action]:
        found: dict[int, Action] = {}
        for state in self._starts():
            key, action = key_of(self._game.view(state, 0)), self._game.gold(state, 0)
            if found.setdefault(key, action) != action:
                raise LapwingError("Two starts look the same and have different gold answers.")
        return found

    def _answer_tokens(self, action: Action) -> tuple[np.ndarray, np.ndarray]:
        """The composed answer, and which of its tokens are the answer's own."""
        compose, chat = self._agent.parser.compose, self._agent.chat
        composed, text = compose(action), action.text
        # The answer "a" occurs in its tag, too: it begins where an empty one has another character.
        pairs = zip(composed, compose(dataclasses.replace(action, text="")), strict=False)
        opening = next((n for n, (one, other) in enumerate(pairs) if one != other), 0)
        token = chat.reply(composed, is_ended=False)
        ends = np.array(chat.boundaries(token))
        # The chat format may put something before what is composed, such as the end of a thought, and nothing after it.
        start = len(chat.read(token)) - len(composed) + opening
        # A token that holds a character of the answer is the answer's.
        counts = (ends[1:] > start) & (ends[:-1] < start + len(text))
        return token, counts
