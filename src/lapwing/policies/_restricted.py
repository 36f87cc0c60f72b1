"""Replies drawn among those of the actions that a game's heuristic allows."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.protocols import Generator
from lapwing.core.ragged import lengths_to_splits
from lapwing.core.types import Action, Ask, Completion, Prompt


class Restricted:
    """Draws the replies of those decisions at which guidance masks actions.

        p(reply of a | allowed) = p(reply of a) / Σ_{b allowed and legal} p(reply of b)

    where the reply of an action is its composed one. What is allowed is what the game's `allowed(state, player)` lists,
    or, where it has no such method, the action of its `heuristic`. Where nothing legal is allowed, nothing is masked.
    """

    def __init__(self, generator: Generator, reply: Callable[[Action], np.ndarray]) -> None:
        """Take the parts of an agent.

        Args:
          generator: has the model that is scored and its temperature.
          reply: the composed reply of an action, as token ids.
        """
        self._generator: Any = generator
        self._reply = reply

    def draw(self, asks: Sequence[Ask], prompts: Sequence[Prompt]) -> dict[int, Completion]:
        """The replies to those asks, by their numbers, that are masked; which ones are belongs to their keys.

        Args:
          asks: all that are to be decided.
          prompts: what the model reads for each.

        Returns:
          Completions with the log-probabilities of the restricted draw, token by token.

        Raises:
          UserError: the game has no heuristic, or the generator no model that can be scored.
        """
        options = {number: self._options(ask) for number, ask in enumerate(asks) if _is_masked(ask)}
        options = {number: replies for number, replies in options.items() if replies}
        if not options:
            return {}
        logprob = self._score(options, prompts)
        return {number: _drawn(replies, logprob[number], asks[number].key) for number, replies in options.items()}

    def _options(self, ask: Ask) -> list[np.ndarray]:
        """The different replies that are allowed."""
        legal = ask.legal
        allowed = [action for action in allowed_actions(ask) if legal is None or action in legal]
        return list({token.tobytes(): token for token in map(self._reply, allowed)}.values())

    def _score(self, options: Mapping[int, list[np.ndarray]], prompts: Sequence[Prompt]) -> dict[int, np.ndarray]:
        """The log-probability of each whole reply, float64; a single one has probability 1 and need not be scored."""
        several = {number: replies for number, replies in options.items() if len(replies) > 1}
        found = {number: np.zeros(1) for number in options if number not in several}
        if several:
            contexts = [prompts[number].token for number, replies in several.items() for _ in replies]
            replies = [reply for those in several.values() for reply in those]
            scored = self._scorer.score(contexts, replies)["logprob"].astype(np.float64)
            sums = np.add.reduceat(scored, lengths_to_splits(np.array([len(reply) for reply in replies]))[:-1])
            counts = np.array([len(those) for those in several.values()])
            found |= dict(zip(several, np.split(sums, np.cumsum(counts)[:-1]), strict=True))
        return found

    @functools.cached_property
    def _scorer(self) -> Any:
        from lapwing.models.scorer import Scorer

        generator = self._generator
        if not hasattr(generator, "model"):
            raise UserError("Masked actions need a model that is sampled from in this process; choose another sampler.")
        return Scorer(generator.model, temperature=generator.temperature, batch_tokens=generator.batch_tokens)


def allowed_actions(ask: Ask) -> Sequence[Action]:
    """The actions that the game's heuristic allows where a decision is asked for.

    Raises:
      UserError: the game has none.
    """
    listed = getattr(ask.game, "allowed", None)
    if listed is not None:
        return listed(ask.state, ask.player)
    heuristic = getattr(ask.game, "heuristic", None)
    if heuristic is None:
        raise UserError(f"{type(ask.game).__name__} has no heuristic to mask actions by; choose another sampler.")
    return (heuristic(ask.state, ask.player),)


def _is_masked(ask: Ask) -> bool:
    return ask.guidance is not None and rng.unit(rng.fold(ask.key, "mask")) < ask.guidance.mask


def _drawn(replies: Sequence[np.ndarray], logprob: np.ndarray, key: int) -> Completion:
    share = np.exp(logprob - logsumexp(logprob))
    heights = np.cumsum(share)
    at = int(np.searchsorted(heights, rng.unit(rng.fold(key, "allowed")) * heights[-1], side="right"))
    chosen = replies[min(at, len(replies) - 1)]
    return Completion(chosen, token_logprobs(replies, logprob, chosen), "end")


def token_logprobs(replies: Sequence[np.ndarray], logprob: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The log-probability of each token of a reply, given that one of some replies is drawn.

        log p(x_t | x_{<t}) = log Σ_{replies that begin with x_{≤t}} p − log Σ_{replies that begin with x_{<t}} p

    Args:
      replies: token ids of the different replies.
      logprob: of each whole reply, [replies], nats.
      chosen: one of them.

    Returns:
      float64, one for each token of `chosen`, nats; they sum to the log-probability of the draw.
    """
    begins = [
        logsumexp([one for reply, one in zip(replies, logprob, strict=True) if np.array_equal(reply[:n], chosen[:n])])
        for n in range(len(chosen) + 1)
    ]
    return np.diff(np.array(begins))
