"""Sampling from any causal language model of transformers, with exact log-probabilities and keyed noise."""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.types import Completion, Prompt, Request
from lapwing.generation._decoding import Counts, Decoder, Memory
from lapwing.generation._drafts import Draft, Endings, ends_of
from lapwing.generation._memo import Distribution, Memo, WeightsStamp, distributions, entry_bytes
from lapwing.generation._replies import Drawn, Guesses, draw_replies, wanted
from lapwing.generation._sampling import sample
from lapwing.generation._slots import draws_on_device
from lapwing.models.head import Squash

_NOTHING = np.zeros(0, dtype=np.int32)


class Transformers:
    """Samples token by token; every token's noise has its own key, so that batching cannot change a reply.

    A token is drawn from softmax(logits / temperature), and its log-probability is that of this distribution, which is
    the one that a learner scores with. There is no `top_k` and no `top_p`: with them the sampler would play another
    policy than the one that is trained, and the gap between their log-probabilities would be no rounding error.

    What is computed once, for as long as the weights stay the same: equal contexts, and equal beginnings of replies to
    them. Without the cache (`cache = false`) contexts are laid into trees that share their prefixes; on a key–value
    cache (`cache = true`), for long replies, one token is computed at a time. Both give the same distributions up to
    rounding. With a large vocabulary, or off the CPU, tokens are drawn on the device, the cache has preallocated slots
    that finished replies give to waiting ones, and the keys and values of contexts are kept for the contexts that
    extend them: the next turn of a conversation computes only what is new.
    """

    def __init__(  # noqa: PLR0913 (the signature is the schema of a recipe's section)
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        *,
        max_tokens: int = 32,
        temperature: float = 1.0,
        greedy: bool = False,
        stop: tuple[str, ...] = (),
        cache: bool | None = None,
        row_tokens: int = 160,
        batch_tokens: int = 16384,
        memo_bytes: int = 256 * 2**20,
        ends: frozenset[int] | None = None,
        on_device: bool | None = None,
        cache_bytes: int | None = None,
        prefix_bytes: int | None = None,
        append_only: bool = False,
    ) -> None:
        """Make the generator.

        Args:
          model, tokenizer: of transformers.
          max_tokens: the reply budget, at least 1.
          temperature: logits are divided by it, above 0.
          greedy: take the most probable token; log-probabilities stay those at `temperature`.
          stop: a reply ends with the first of these strings; it is kept in the reply.
          cache: decode on a key–value cache; None does so unless tokens are drawn on the host, where trees of all the
            replies that begin alike are cheaper.
          row_tokens, batch_tokens: sizes of packed rows and of one forward pass, in tokens.
          memo_bytes: forget all that is remembered of contexts without the cache when it would take more.
          ends: ids of all tokens that end a reply; None is the tokenizer's end token.
          on_device: draw on the model's device, on a cache of slots; None does so where the vocabulary has more than
            4,096 entries, the model is not on the CPU, or contexts extend each other.
          cache_bytes, prefix_bytes: keys and values of one batch, and those that are kept between calls (0 keeps
            none), where tokens are drawn on the device; None takes 60 % and 20 % of the free memory of a CUDA device,
            and 2 GiB and 1 GiB elsewhere; given, they make the layout of batches, and so the last bits, repeat.
          append_only: the context of a step is that of the step before, its reply, and more.

        Raises:
          UserError: the reply budget is below 1, the temperature is not positive, a size is negative, or drawing on
            the device is wanted of a model that cannot be decoded on slots.
        """
        _check(max_tokens, temperature, cache_bytes=cache_bytes, prefix_bytes=prefix_bytes)
        self.model = model
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.greedy = greedy
        self.stop = stop
        self.row_tokens = row_tokens
        self.batch_tokens = batch_tokens
        self.memo_bytes = memo_bytes
        self.on_device = draws_on_device(model, on_device, append_only=append_only)
        self.cache = self.on_device if cache is None else cache
        self.append_only = append_only
        config: Any = model.config
        self._positions: int = getattr(config.get_text_config(), "max_position_embeddings", None) or 2**31
        # What follows is shared by the copies of a generator: it depends on the model alone.
        self.counts = Counts()
        self._endings = Endings(tokenizer, ends_of(tokenizer, ends), stop)
        self._memory = Memory(batch_tokens, cache_bytes, prefix_bytes)
        self._guesses = Guesses()
        self._stamp = WeightsStamp(model)
        self._memo = Memo(
            model,
            temperature=None if self.on_device else temperature,
            entry_bytes=entry_bytes(model, self.on_device),
            most_bytes=memo_bytes,
            row_tokens=row_tokens,
            batch_tokens=batch_tokens,
        )

    @property
    def tokens_computed(self) -> int:
        """Tokens that went through the model so far."""
        return self.counts.computed

    def greedily(self) -> "Transformers":
        """The same generator with greedy decoding; the two share what they remember."""
        other = copy.copy(self)
        other.greedy = True
        return other

    def forget(self) -> None:
        """Empty the memo: the weights changed, or a checkpoint wants the same bits after a resume."""
        self._memo.clear()
        self._guesses.clear()
        self._memory.prefixes.clear()
        self._stamp.take()

    def release(self) -> None:
        """Give back the memory of contexts that no conversation will extend: play is over, the update wants it."""
        self._memory.prefixes.clear()

    def prefetch(self, prompts: Sequence[Prompt]) -> None:
        """Compute the first-token distributions of these prompts together, where that is cheap.

        Once replies were drawn under these weights, what follows the likely ones is computed along.
        """
        if not self._decodes_on_cache and not self.on_device:
            self._check_weights()
            self._remember([(prompt, _NOTHING) for prompt in prompts if self._room(prompt) > 0])

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Sample one reply for each request, in order.

        A reply ends with the model's last position: a context that leaves no room for a token gets an empty reply.

        Raises:
          NonFiniteError: the model's logits are not finite.
          LapwingError: the weights changed since something was remembered, and nobody called `forget`.
        """
        if not requests:
            return []
        self._check_weights()
        drafts = [Draft(request, self._room(request.prompt)) for request in requests]
        live = [draft for draft in drafts if not draft.stop_reason]
        with _evaluating(self.model):
            if not live:
                pass
            elif not self._decodes_on_cache:
                self._generate_on_trees(live)
            elif self.on_device:
                self._decoder().run(live)
                self._guesses.add_tokens([draft.token for draft in live])
            else:
                self._generate_on_cache(live)
        return [draft.completion() for draft in drafts]

    @property
    def remembers_replies(self) -> bool:
        """Whether equal contexts and equal beginnings of replies are computed once."""
        return not self._decodes_on_cache

    def draw_replies(self, prompts: Sequence[Prompt], index: np.ndarray, keys: np.ndarray) -> Drawn:
        """Sample many replies to few prompts; the tokens are those of `generate`.

        Args:
          prompts: the different prompts.
          index: which of them each reply continues, [M].
          keys: of the replies' random streams, uint64 [M].

        Returns:
          The different replies, which of them each is, and the log-probabilities of their tokens.

        Raises:
          NonFiniteError, LapwingError: as for `generate`.
          UserError: a context leaves no room for a token.
        """
        self._check_weights()
        longest = max((len(prompt.token) for prompt in prompts), default=0)
        if longest >= self._positions:
            raise UserError(
                f"A context has {longest} tokens, and the model {self._positions} positions, so that there is no room "
                "for a reply; take a context policy that shows less, a shorter rendering, or another model."
            )
        with _evaluating(self.model):
            drawn = draw_replies(prompts, index, keys, draw=self._draw, ended=self._is_ended)
        self._guesses.add(drawn)
        return drawn

    def stop_reason(self, reply: Sequence[int]) -> str:
        """What ended a reply of these tokens: "end", "stop" or "length"."""
        return self._endings.reason(reply) or "length"

    @property
    def _decodes_on_cache(self) -> bool:
        # A single token is a context's first, and needs a cache only where the next context begins with this one.
        return self.cache and (self.max_tokens > 1 or (self.on_device and self.append_only))

    def _room(self, prompt: Prompt) -> int:
        return self._positions - len(prompt.token)

    def _check_weights(self) -> None:
        self._stamp.check(kept=len(self._memo) > 0 or self._memory.prefixes.bytes > 0)

    def _decoder(self) -> Decoder:
        return Decoder(
            self.model,
            self._head,
            self._endings,
            self._memory,
            self.counts,
            self._guesses,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            greedy=self.greedy,
        )

    def _generate_on_trees(self, drafts: list[Draft]) -> None:
        prompts: dict[bytes, tuple[int, Prompt]] = {}
        for draft in drafts:
            prompts.setdefault(draft.request.prompt.key, (len(prompts), draft.request.prompt))
        index = np.array([prompts[draft.request.prompt.key][0] for draft in drafts])
        keys = np.array([draft.request.key for draft in drafts], dtype=np.uint64)
        drawn = draw_replies(
            [prompt for _, prompt in prompts.values()], index, keys, draw=self._draw, ended=self._is_ended
        )
        self._guesses.add(drawn)
        tokens = [reply.tolist() for reply in drawn.replies]
        reasons = [self.stop_reason(reply) for reply in tokens]
        splits = drawn.splits.tolist()
        for draft, reply, low, high in zip(drafts, drawn.reply.tolist(), splits[:-1], splits[1:], strict=True):
            draft.token, draft.stop_reason = tokens[reply], reasons[reply]
            draft.logprob = drawn.logprob[low:high].tolist()

    def _draw(
        self, begun: list[tuple[Prompt, np.ndarray]], index: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The token after the beginning of a reply, for many draws from few beginnings."""
        keys = [prompt.key + token.tobytes() for prompt, token in begun]
        missing = [pair for pair, key in zip(begun, keys, strict=True) if key not in self._memo]
        if missing:
            self._remember(missing)
            if any(key not in self._memo for key in keys):  # there was no room for all, and the others were forgotten
                self._remember(begun)
        values = [self._memo[key] for key in keys]
        if self.on_device:
            return self._sample(values, index, noise)
        token = np.empty(len(index), dtype=np.int64)
        logprob = np.empty(len(index))
        order = np.argsort(index, kind="stable")
        bounds = np.searchsorted(index[order], np.arange(len(begun) + 1))
        for distribution, low, high in zip(values, bounds[:-1], bounds[1:], strict=True):
            at = order[low:high]
            token[at] = distribution.best if self.greedy else distribution.draw_many(noise[at])
            logprob[at] = distribution.logprob[token[at]]
        return token, logprob

    def _is_ended(self, prompt: Prompt, reply: list[int]) -> bool:
        return len(reply) >= min(self.max_tokens, self._room(prompt)) or bool(self._endings.reason(reply))

    def _generate_on_cache(self, drafts: list[Draft]) -> None:
        longest = max(draft.length for draft in drafts) + self.max_tokens
        per_batch = max(1, self.batch_tokens // longest)
        # Contexts of like length together: less padding, and a layout that does not depend on arrival.
        order = sorted(drafts, key=lambda d: (d.length, d.request.prompt.key, d.request.key))
        for start in range(0, len(order), per_batch):
            self._decode(order[start : start + per_batch])

    @torch.no_grad()
    def _decode(self, live: list[Draft]) -> None:
        device = next(self.model.parameters()).device
        unique: dict[bytes, int] = {}
        for draft in live:
            unique.setdefault(draft.request.prompt.key, len(unique))
        contexts = {draft.request.prompt.key: draft.request.prompt.token for draft in live}
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
        self._count(int(keep.sum()))
        past = output.past_key_values
        rows = torch.tensor([unique[draft.request.prompt.key] for draft in live], device=device)
        logits, position = output.logits[:, -1], position[:, -1:]
        first = distributions(logits, self.temperature)
        self._extend(live, [first[row] for row in rows.tolist()], 0)
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
            self._count(len(live))
            self._extend(live, distributions(output.logits[:, -1], self.temperature), index)

    def _extend(self, live: list[Draft], given: list[Distribution], index: int) -> None:
        noise = rng.uniform(rng.fold_many(np.array([d.request.key for d in live], dtype=np.uint64), index))
        for draft, distribution, u in zip(live, given, noise.tolist(), strict=True):
            token = distribution.best if self.greedy else distribution.draw(u)
            draft.append(token, float(distribution.logprob[token]), self._endings, self.max_tokens)

    def _sample(self, hidden: list[torch.Tensor], row: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            return sample(
                self._head,
                torch.stack(hidden),
                row,
                noise,
                vocabulary=self.model.config.get_text_config().vocab_size,  # pyright: ignore
                temperature=self.temperature,
                greedy=self.greedy,
            )

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        model: Any = self.model
        return Squash.of(model.config)(model.get_output_embeddings()(hidden))

    def _remember(self, begun: Sequence[tuple[Prompt, np.ndarray]]) -> None:
        likely = [reply for reply in self._guesses.likely() if len(reply) > 1] if self.max_tokens > 1 else []
        self._memo.remember([one for pair in begun for one in wanted(*pair, likely)], self._count)

    def _count(self, tokens: int) -> None:
        self.counts.computed += tokens


def _check(max_tokens: int, temperature: float, **bytes_of: int | None) -> None:
    if max_tokens < 1:
        raise UserError(f"A reply needs a budget of at least 1 token, not {max_tokens}; set generation.max_tokens.")
    if not temperature > 0:
        raise UserError(f"generation.temperature is above 0, not {temperature}; for greedy decoding set greedy.")
    for name, size in bytes_of.items():
        if size is not None and size < 0:
            raise UserError(f"generation.{name} is a number of bytes, at least 0, not {size}.")


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout, and with a cache: gradient checkpointing in training mode would throw it away."""
    training = [module for module in model.modules() if module.training] if model.training else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
