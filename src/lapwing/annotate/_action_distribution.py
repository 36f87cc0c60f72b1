"""What a language agent does in a state, as probabilities of actions instead of tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lapwing.core.types import Action, Prompt
from lapwing.models.scorer import Scorer, next_token_logits
from lapwing.models.tree import grow
from lapwing.policies.agent import Agent
from lapwing.policies.parsers import Invalid

_PROMPTS_AT_ONCE = 64


class ActionDistribution:
    """Reads log π(action | view) off the model, with all replies that stand for no action as one more action.

    Where a reply is one token, an action has the probability of all tokens that parse to it. Where a reply is longer,
    it has that of its composed reply alone, and every other reply counts as invalid, also one that would parse.
    """

    def __init__(self, model: torch.nn.Module, agent: Agent) -> None:
        """Take the parts of an agent.

        Args:
          model: the causal language model; its current weights are read, and gradients flow into them.
          agent: whose renderer, parser and generation settings.
        """
        generator: Any = agent.generator
        self.model = model
        self.agent = agent
        self.temperature: float = generator.temperature
        self.is_one_token = generator.max_tokens == 1
        self._meaning: dict[tuple[Action, ...], torch.Tensor] = {}

    def probabilities(self, views: Sequence[Any], legal: Sequence[tuple[Action, ...]], width: int) -> np.ndarray:
        """The policy in some states.

        Args:
          views: what is seen in each of the S states.
          legal: the legal actions of each.
          width: A, at least the longest list of legal actions.

        Returns:
          float64 [S, A + 1], rows sum to 1; the last column is the probability of an invalid reply.
        """
        found = np.zeros((len(views), width + 1))
        with torch.no_grad():
            for first in range(0, len(views), _PROMPTS_AT_ONCE):
                at = slice(first, first + _PROMPTS_AT_ONCE)
                rows = self.logprobs(views[at], legal[at])
                for row, logprob in enumerate(rows, start=first):
                    probability = logprob.exp().cpu().numpy()
                    found[row, : len(legal[row])] = probability[:-1]
                    found[row, -1] = probability[-1]
        return found / found.sum(axis=1, keepdims=True)

    def logprobs(self, views: Sequence[Any], legal: Sequence[tuple[Action, ...]]) -> list[torch.Tensor]:
        """The log-probabilities in each state, float64, with gradients: one per legal action, then an invalid reply."""
        prompts = [self.agent.prompt(view, None) for view in views]
        if self.is_one_token:
            return self._of_tokens(prompts, legal)
        return self._of_replies(prompts, legal)

    def _of_tokens(self, prompts: list[Prompt], legal: Sequence[tuple[Action, ...]]) -> list[torch.Tensor]:
        tree = grow([prompt.token for prompt in prompts])
        nodes, inverse = np.unique(tree.last, return_inverse=True)
        logits = next_token_logits(self.model, tree, nodes).double() / self.temperature
        logprob = torch.log_softmax(logits, dim=-1)[torch.from_numpy(inverse.reshape(-1)).to(logits.device)]
        found = []
        for row, actions in zip(logprob, legal, strict=True):
            meaning = self._tokens_meaning(actions, len(row)).to(row.device)
            found.append(torch.stack([_log_sum(row[meaning == action]) for action in range(len(actions) + 1)]))
        return found

    def _tokens_meaning(self, legal: tuple[Action, ...], vocabulary: int) -> torch.Tensor:
        """The action that each token stands for, [V]; the number of actions where it stands for none."""
        if legal not in self._meaning:
            index = {action: number for number, action in enumerate(legal)}
            meaning = []
            for token in range(vocabulary):
                parsed = self.agent.read(np.array([token], dtype=np.int32), legal)[1]
                meaning.append(len(legal) if isinstance(parsed, Invalid) else index[parsed])
            self._meaning[legal] = torch.tensor(meaning)
        return self._meaning[legal]

    def _of_replies(self, prompts: list[Prompt], legal: Sequence[tuple[Action, ...]]) -> list[torch.Tensor]:
        contexts = [prompt.token for prompt, actions in zip(prompts, legal, strict=True) for _ in actions]
        replies = [self.agent.reply(action) for actions in legal for action in actions]
        reply_of = np.repeat(np.arange(len(replies)), [len(reply) for reply in replies])
        total = None
        for scored in Scorer(self.model, temperature=self.temperature).micro_batches(contexts, replies):
            device = scored.logprob.device
            total = torch.zeros(len(replies), dtype=torch.float64, device=device) if total is None else total
            total = total.index_add(0, torch.from_numpy(reply_of[scored.index]).to(device), scored.logprob.double())
        assert total is not None
        parts = torch.split(total, [len(actions) for actions in legal])
        return [torch.cat([part, torch.log1p(-_below_one(part)).reshape(1)]) for part in parts]


def _log_sum(logprob: torch.Tensor) -> torch.Tensor:
    return torch.logsumexp(logprob, dim=0) if len(logprob) else torch.tensor(-torch.inf, dtype=logprob.dtype)


def _below_one(logprob: torch.Tensor) -> torch.Tensor:
    """The probability of any of the replies; rounding may carry the sum past 1."""
    return logprob.exp().sum().clamp(max=1.0 - 1e-12)
