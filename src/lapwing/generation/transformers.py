"""Sampling from any causal language model of transformers, with exact log-probabilities and keyed noise."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.types import Completion, Prompt, Request
from lapwing.models.scorer import next_token_logits
from lapwing.models.tree import grow, parts

_STOPS_SIZE = 200_000


class Transformers:
    """Samples token by token; every token's noise has its own key, so that batching cannot change a reply.

    Next-token distributions are remembered for as long as the weights stay the same: equal contexts, and equal
    beginnings of replies to them, are computed once. Distributions that are not remembered yet are computed
    together as trees that share their prefixes (`cache = false`), or, for long replies, one token at a time on a
    key–value cache (`cache = true`). Both give the same distributions up to rounding.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        *,
        max_tokens: int = 32,
        temperature: float = 1.0,
        greedy: bool = False,
        stop: tuple[str, ...] = (),
        cache: bool = True,
        row_tokens: int = 160,
        batch_tokens: int = 16384,
        memo_bytes: int = 256 * 2**20,
    ) -> None:
        """Make the generator.

        Args:
          model, tokenizer: of transformers.
          max_tokens: the reply budget, at least 1.
          temperature: logits are divided by it, above 0.
          greedy: take the most probable token; log-probabilities stay those at `temperature`.
          stop: a reply ends with the first of these strings; it is kept in the reply.
          cache: decode on a key–value cache.
          row_tokens, batch_tokens: sizes of packed rows and of one forward pass, in tokens.
          memo_bytes: forget all remembered distributions when they would take more.

        Raises:
          UserError: the reply budget is below 1 or the temperature is not positive.
        """
        if max_tokens < 1:
            raise UserError(f"A reply needs a budget of at least 1 token, not {max_tokens}; set generation.max_tokens.")
        if not temperature > 0:
            raise UserError(f"generation.temperature is above 0, not {temperature}; for greedy decoding set greedy.")
        self.model = model
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.greedy = greedy
        self.stop = stop
        self.cache = cache
        self.row_tokens = row_tokens
        self.batch_tokens = batch_tokens
        self.memo_bytes = memo_bytes
        self._end: int | None = tokenizer.eos_token_id
        self._stops: dict[bytes, bool] = {}
        self._memo: dict[bytes, _Distribution] = {}
        self.tokens_computed = 0

    def greedily(self) -> "Transformers":
        """The same generator with greedy decoding; the two share what they remember."""
        other = copy.copy(self)
        other.greedy = True
        return other

    def forget(self) -> None:
        """Empty the memo: the weights changed, or a checkpoint wants the same bits after a resume."""
        self._memo.clear()

    def prefetch(self, prompts: Sequence[Prompt]) -> None:
        """Compute the first-token distributions of these prompts together."""
        if not self._decodes_on_cache:
            self._remember({prompt.key: prompt.token for prompt in prompts})

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Sample one reply for each request, in order."""
        if self._decodes_on_cache:
            return self._generate_on_cache(requests)
        return self._generate_on_trees(requests)

    def draw_first(
        self, prompts: Sequence[Prompt], index: np.ndarray, keys: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sample the first token of many replies to few prompts; the tokens are those of `generate`.

        Args:
          prompts: the different prompts.
          index: which of them each reply continues, [M].
          keys: of the replies' random streams, uint64 [M].

        Returns:
          Token ids int32 [M] and their log-probabilities float64 [M].
        """
        self._remember({prompt.key: prompt.token for prompt in prompts})
        distributions = [self._memo[prompt.key] for prompt in prompts]
        noise = rng.uniform(rng.fold_many(keys, 0))
        token = np.empty(len(index), dtype=np.int32)
        logprob = np.empty(len(index))
        order = np.argsort(index, kind="stable")
        bounds = np.searchsorted(index[order], np.arange(len(prompts) + 1))
        for distribution, low, high in zip(distributions, bounds[:-1], bounds[1:], strict=True):
            at = order[low:high]
            token[at] = distribution.best if self.greedy else distribution.draw_many(noise[at])
            logprob[at] = distribution.logprob[token[at]]
        return token, logprob

    def stop_reason(self, reply: Sequence[int]) -> str:
        """What ended a reply of these tokens: "end", "stop" or "length"."""
        if reply and reply[-1] == self._end:
            return "end"
        return "stop" if self.stop and self._stopped(reply) else "length"

    @property
    def _decodes_on_cache(self) -> bool:
        return self.cache and self.max_tokens > 1

    def _generate_on_trees(self, requests: Sequence[Request]) -> list[Completion]:
        drafts = [_Draft(request) for request in requests]
        live = drafts
        for index in range(self.max_tokens):
            if index == 0:
                self._remember({draft.key: draft.request.prompt.token for draft in live})
            else:
                self._remember({draft.key: draft.prefix() for draft in live})
            distributions = [self._memo[draft.key] for draft in live]
            self._extend(live, distributions, index)
            live = [draft for draft in live if not draft.stop_reason]
            if not live:
                break
        return [draft.completion() for draft in drafts]

    def _generate_on_cache(self, requests: Sequence[Request]) -> list[Completion]:
        drafts = [_Draft(request) for request in requests]
        longest = max((len(draft.request.prompt.token) for draft in drafts), default=0) + self.max_tokens
        per_batch = max(1, self.batch_tokens // max(longest, 1))
        # Contexts of like length together: less padding, and a layout that does not depend on arrival.
        order = sorted(drafts, key=lambda d: (len(d.request.prompt.token), d.key, d.request.key))
        for start in range(0, len(order), per_batch):
            self._decode(order[start : start + per_batch])
        return [draft.completion() for draft in drafts]

    @torch.no_grad()
    def _decode(self, live: list["_Draft"]) -> None:
        device = next(self.model.parameters()).device
        unique: dict[bytes, int] = {}
        for draft in live:
            unique.setdefault(draft.key, len(unique))
        contexts = {draft.key: draft.request.prompt.token for draft in live}
        width = max(len(token) for token in contexts.values())
        ids = np.zeros((len(unique), width), dtype=np.int64)
        keep = np.zeros((len(unique), width), dtype=np.int64)
        for key, row in unique.items():  # padding on the left, so that all rows end together
            ids[row, width - len(contexts[key]) :] = contexts[key]
            keep[row, width - len(contexts[key]) :] = 1
        model: Any = self.model
        attention = torch.from_numpy(keep).to(device)
        position = (attention.cumsum(-1) - 1).clamp(min=0)
        output = model(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=attention,
            position_ids=position,
            use_cache=True,
            logits_to_keep=1,
        )
        self.tokens_computed += int(keep.sum())
        past = output.past_key_values
        rows = torch.tensor([unique[draft.key] for draft in live], device=device)
        logits, position = output.logits[:, -1], position[:, -1:]
        distributions = [_Distribution(row) for row in self._logprobs(logits)]
        self._extend(live, [distributions[row] for row in rows.tolist()], 0)
        for index in range(1, self.max_tokens):
            going = [i for i, draft in enumerate(live) if not draft.stop_reason]
            if not going:
                return
            # Keep the cache rows of the replies that go on; the first time this also copies shared contexts.
            past.batch_select_indices(rows[going])
            attention, position = attention[rows[going]], position[rows[going]] + 1
            attention = torch.cat([attention, attention.new_ones(len(going), 1)], dim=1)
            live = [live[i] for i in going]
            rows = torch.arange(len(live), device=device)
            output = model(
                input_ids=torch.tensor([[draft.token[-1]] for draft in live], device=device),
                attention_mask=attention,
                position_ids=position,
                past_key_values=past,
                use_cache=True,
            )
            self.tokens_computed += len(live)
            self._extend(live, [_Distribution(row) for row in self._logprobs(output.logits[:, -1])], index)

    def _extend(self, live: list["_Draft"], distributions: list["_Distribution"], index: int) -> None:
        noise = rng.uniform(rng.fold_many(np.array([d.request.key for d in live], dtype=np.uint64), index))
        for draft, distribution, u in zip(live, distributions, noise.tolist(), strict=True):
            token = distribution.best if self.greedy else distribution.draw(u)
            draft.append(token, float(distribution.logprob[token]))
            if token == self._end:
                draft.stop_reason = "end"
            elif self.stop and self._stopped(draft.token):
                draft.stop_reason = "stop"
            elif index + 1 == self.max_tokens:
                draft.stop_reason = "length"

    def _stopped(self, token: Sequence[int]) -> bool:
        reply = np.array(token, dtype=np.int32).tobytes()
        found = self._stops.get(reply)
        if found is None:
            if len(self._stops) > _STOPS_SIZE:
                self._stops.clear()
            text = self.tokenizer.decode(token)
            found = self._stops[reply] = any(stop in text for stop in self.stop)
        return found

    def _remember(self, wanted: dict[bytes, np.ndarray]) -> None:
        missing = [(key, token) for key, token in wanted.items() if key not in self._memo]
        if not missing:
            return
        distribution_bytes = 16 * self.model.config.vocab_size  # pyright: ignore
        if (len(self._memo) + len(missing)) * distribution_bytes > self.memo_bytes:
            self._memo.clear()
            missing = list(wanted.items())
        tree = grow([token for _, token in missing], row_tokens=self.row_tokens)
        self.tokens_computed += tree.num_tokens
        for part in parts(tree, tree.last, batch_tokens=self.batch_tokens):
            with torch.no_grad():
                logits = next_token_logits(self.model, part.tree, part.nodes)
            rows = self._logprobs(logits)
            for i, at in zip(part.chosen.tolist(), part.inverse.tolist(), strict=True):
                self._memo[missing[i][0]] = _Distribution(rows[at])

    def _logprobs(self, logits: torch.Tensor) -> np.ndarray:
        return torch.log_softmax(logits.double() / self.temperature, dim=-1).cpu().numpy()


class _Distribution:
    """One next-token distribution: log-probabilities, and the running sum that draws from it."""

    __slots__ = ("_cumulative", "best", "logprob")

    def __init__(self, logprob: np.ndarray) -> None:
        self.logprob = logprob
        self._cumulative: np.ndarray | None = None
        self.best = int(logprob.argmax())

    def draw(self, u: float) -> int:
        """The token at height u of the running sum; u in [0, 1)."""
        heights = self._heights()
        return min(int(heights.searchsorted(u * heights[-1], side="right")), len(heights) - 1)

    def draw_many(self, u: np.ndarray) -> np.ndarray:
        """The tokens at many heights."""
        heights = self._heights()
        return np.minimum(heights.searchsorted(u * heights[-1], side="right"), len(heights) - 1)

    def _heights(self) -> np.ndarray:
        if self._cumulative is None:
            self._cumulative = np.cumsum(np.exp(self.logprob))
        return self._cumulative


class _Draft:
    """A reply in the making."""

    __slots__ = ("key", "logprob", "request", "stop_reason", "token")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.key = request.prompt.key
        self.token: list[int] = []
        self.logprob: list[float] = []
        self.stop_reason = ""

    def append(self, token: int, logprob: float) -> None:
        self.token.append(token)
        self.logprob.append(logprob)
        self.key += token.to_bytes(4, "little")

    def prefix(self) -> np.ndarray:
        return np.concatenate([self.request.prompt.token, np.array(self.token, dtype=np.int32)])

    def completion(self) -> Completion:
        return Completion(np.array(self.token, dtype=np.int32), np.array(self.logprob), self.stop_reason)
