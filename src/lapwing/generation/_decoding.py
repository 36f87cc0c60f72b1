"""Decoding on a key–value cache, for real vocabularies and long contexts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.ragged import lengths_to_splits
from lapwing.generation._drafts import Draft, Endings
from lapwing.generation._prefixes import Match, Prefixes, common_prefix, order_key
from lapwing.generation._replies import Guesses
from lapwing.generation._sampling import sample
from lapwing.generation._slots import SlotCache
from lapwing.models.footprint import cache_bytes_per_token

# Slots are reserved in multiples of this, so that an allocator meets the same sizes again.
_SLOTS = 64
# A beginning that all contexts of a call share is computed ahead of them from this length on.
_SHARED = 16
_LEAST_BATCH_TOKENS = 64
_SHARE_OF_FREE_MEMORY = {"cache": 0.6, "prefixes": 0.2}
_BYTES_OFF_CUDA = {"cache": 2**31, "prefixes": 2**30}


@dataclass
class Counts:
    """What generation did so far.

    Attributes:
      computed: tokens that went through the model.
      reused: tokens of contexts whose keys and values were known.
      out_of_memory: how often memory ran out and the batch was halved.
    """

    computed: int = 0
    reused: int = 0
    out_of_memory: int = 0


@dataclass
class Memory:
    """How much may be held at once; where that proves too much, less from then on.

    Attributes:
      batch_tokens: tokens of one forward pass.
      cache_bytes, prefix_bytes: of keys and values of a batch, and of those kept between calls; None goes by the free
        memory of a CUDA device, and allows 2 GiB and 1 GiB elsewhere.
      most_cells: rows × slots of the cache, once memory ran out.
      prefixes: what is kept between calls.
    """

    batch_tokens: int
    cache_bytes: int | None = None
    prefix_bytes: int | None = None
    most_cells: int | None = None
    prefixes: Prefixes = field(default_factory=Prefixes)

    def cells(self, model: Any, device: torch.device) -> int:
        """Rows × slots that a cache may have."""
        numbers = cache_bytes_per_token(model.config, dtype="float32") // 4
        given = _room("cache", self.cache_bytes, device) // (numbers * next(model.parameters()).dtype.itemsize)
        return given if self.most_cells is None else min(given, self.most_cells)

    def begin(self, device: torch.device) -> None:
        """A call begins."""
        self.prefixes.begin(_room("prefixes", self.prefix_bytes, device, self.prefixes.bytes))

    def shrink(self, rows: int, slots: int) -> None:
        """Memory ran out with this many rows of slots: give back what is kept, and take half as much.

        Raises:
          UserError: it was the least already.
        """
        self.prefixes.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if rows <= 1 and self.batch_tokens <= _LEAST_BATCH_TOKENS:
            raise UserError(
                f"Memory ran out while one reply was generated alone, with room for {slots} tokens of context and "
                "reply; shorten the context, lower generation.max_tokens, or take a smaller model or dtype."
            )
        self.most_cells = max(rows // 2, 1) * slots
        self.batch_tokens = max(self.batch_tokens // 2, _LEAST_BATCH_TOKENS)


def _room(kind: str, given: int | None, device: torch.device, held: int = 0) -> int:
    if given is not None:
        return given
    if device.type != "cuda":
        return _BYTES_OFF_CUDA[kind]
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds for later use is free to us.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int((free + held) * _SHARE_OF_FREE_MEMORY[kind])


class _Plan(NamedTuple):
    """A context that is about to be computed: the drafts that continue it, what is known of it, and what may follow."""

    drafts: list[Draft]
    token: np.ndarray
    known: Match
    guess: list[int]

    @property
    def new(self) -> int:
        return len(self.token) + len(self.guess) - self.known.length


class Decoder:
    """Continues drafts until they end, one token of every live draft at a time.

    Rows of the cache that become free are given to drafts that wait. Contexts that several drafts share are computed
    once and copied; beginnings that were computed before come from `Prefixes`. Tokens that most earlier replies had in
    this place are computed along with the one before them; where the token that is drawn is the guessed one, the next
    one can be drawn at once, and otherwise it is computed as if nothing had been guessed. Where memory runs out, the
    drafts go on from the tokens that they have, fewer at a time. Because every token has its own noise, none of this
    changes what is drawn.

    Reference: for the guesses, Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding".
      https://arxiv.org/abs/2211.17192. With noise that belongs to the token, equal draws take the place of rejection.
    """

    def __init__(
        self,
        model: Any,
        head: Callable[[torch.Tensor], torch.Tensor],
        endings: Endings,
        memory: Memory,
        counts: Counts,
        guesses: Guesses,
        *,
        max_tokens: int,
        temperature: float,
        greedy: bool,
    ) -> None:
        """Make a decoder for one call.

        Args:
          model: of transformers, in evaluation mode.
          head: from last hidden states [U, W] to logits [U, V].
          endings: what ends a reply.
          memory, counts, guesses: shared by all calls.
          max_tokens, temperature, greedy: of the generator.
        """
        self.model = model
        self.body: Any = model.base_model
        self.head = head
        self.endings = endings
        self.memory = memory
        self.counts = counts
        self.guesses = guesses
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.greedy = greedy
        self.like = next(model.parameters())

    @torch.no_grad()
    def run(self, drafts: Sequence[Draft]) -> None:
        """Finish all drafts.

        Raises:
          UserError: memory does not even do for one of them.
        """
        self.memory.begin(self.like.device)
        # The layout depends on the contexts and not on the order of arrival.
        waiting = sorted(drafts, key=lambda draft: (draft.length, draft.key, draft.request.key))
        for token in {draft.key: draft.prefix() for draft in waiting}.values():
            self.memory.prefixes.find(token)  # marks what must not be dropped during this call
        while waiting:
            ran_out: tuple[int, int] | None = None
            rows, slots, batch = self._session(waiting)
            try:
                self._serve(batch, rows, slots)
            except torch.OutOfMemoryError:
                ran_out = rows, slots
            if ran_out is not None:  # outside of the handler, whose exception holds on to tensors
                self.counts.out_of_memory += 1
                self.memory.shrink(*ran_out)
            waiting = [draft for draft in waiting if not draft.stop_reason]

    def _session(self, waiting: list[Draft]) -> tuple[int, int, list[Draft]]:
        """Rows and slots of a cache, and the drafts that it serves: all that wait, or the longer ones."""
        need = [len(draft.request.prompt.token) + self.max_tokens for draft in waiting]
        # One more than the longest sequence, for the padding.
        slots = -(-(max(need) + 1) // _SLOTS) * _SLOTS
        rows = max(1, self.memory.cells(self.model, self.like.device) // slots)
        if rows >= len(waiting):
            return len(waiting), slots, list(waiting)
        batch = [draft for draft, length in zip(waiting, need, strict=True) if 2 * length >= max(need)]
        return min(rows, len(batch)), slots, batch

    def _serve(self, waiting: list[Draft], rows: int, slots: int) -> None:
        self._share_beginning(waiting)
        cache = SlotCache(self.model.config, rows, slots, self.like.device)
        live: list[Draft] = []
        while waiting or live:
            # Draw together what can be: a row that becomes free waits for others, so that prefills are not too small.
            if waiting and (not live or 4 * (rows - len(live)) >= rows):
                count = rows - len(live)
                live += self._admit(cache, len(live), waiting[:count])
                waiting = waiting[count:]
            else:
                self._step(cache, live)
            live = self._retire(cache, live)

    def _plans(self, drafts: Sequence[Draft]) -> list[_Plan]:
        """The different contexts of some drafts; one token at least is computed, for the hidden state of the last."""
        by_key: dict[bytes, list[Draft]] = {}
        for draft in drafts:
            by_key.setdefault(draft.key, []).append(draft)
        plans = []
        for same in by_key.values():
            token = same[0].prefix()
            known = self.memory.prefixes.find(token)
            known = known._replace(length=min(known.length, len(token) - 1))
            guess = self._guess(same[0])
            # A context that goes in pieces is computed alone.
            fits = len(token) + len(guess) - known.length <= self.memory.batch_tokens
            plans.append(_Plan(same, token, known, guess if fits else []))
        return plans

    def _guess(self, draft: Draft) -> list[int]:
        """Tokens that may follow, none of them the last one that there is room for."""
        most = min(self.max_tokens, draft.room) - len(draft.token) - 1
        return self.guesses.continuation(draft.token, most)

    def _share_beginning(self, drafts: Sequence[Draft]) -> None:
        """Compute the beginning that all contexts share, if they are spared more than it costs."""
        plans = self._plans(drafts)
        ordered = sorted(plans, key=lambda plan: order_key(plan.token))
        shared = common_prefix(ordered[0].token, ordered[-1].token)
        spared = sum(max(0, min(shared, len(plan.token) - 1) - plan.known.length) for plan in plans)
        token = plans[0].token[:shared]
        if shared < _SHARED or spared <= shared or not self.memory.prefixes.wants(token):
            return
        cache = SlotCache(self.model.config, 1, shared + 1, self.like.device)
        known = max((plan.known for plan in plans), key=lambda known: known.length)
        self._prefill(cache, 0, [_Plan([], token, known._replace(length=min(known.length, shared - 1)), [])])
        self.memory.prefixes.add(token, cache.take(0, shared))

    def _admit(self, cache: SlotCache, row: int, drafts: list[Draft]) -> list[Draft]:
        """Give drafts the rows from `row` on, and each its next token; returns them in the order of their rows."""
        plans = sorted(self._plans(drafts), key=lambda plan: (plan.new, order_key(plan.token)))
        for at, plan in enumerate(plans, row):
            if plan.known.length:
                cache.load(at, plan.known.layers, plan.known.length)
                self.counts.reused += plan.known.length
        hidden = self._prefill(cache, row, plans)
        # Each context's first draft has its row; the others get copies.
        order = [(plan.drafts[0], i) for i, plan in enumerate(plans)]
        others = [(draft, i) for i, plan in enumerate(plans) for draft in plan.drafts[1:]]
        if others:
            source = [row + i for _, i in others]
            target = list(range(row + len(order), row + len(order) + len(others)))
            cache.copy(source, target, max(len(plans[i].token) + len(plans[i].guess) for _, i in others))
        order += others
        admitted = [draft for draft, _ in order]
        first = lengths_to_splits(np.array([len(plan.guess) + 1 for plan in plans]))
        self._extend(admitted, [plans[i].guess for _, i in order], hidden, np.array([first[i] for _, i in order]))
        return admitted

    def _prefill(self, cache: SlotCache, row: int, plans: list[_Plan]) -> torch.Tensor:
        """Compute contexts into consecutive rows, the shortest rests first.

        Returns:
          The hidden states of the last token of each context and of what was guessed, laid end to end, [·, W].
        """
        last = []
        low = 0
        while low < len(plans):
            high = low + 1
            while high < len(plans) and (high + 1 - low) * plans[high].new <= self.memory.batch_tokens:
                high += 1
            last.append(self._prefill_rows(cache, row + low, plans[low:high]))
            low = high
        return torch.cat(last)

    def _prefill_rows(self, cache: SlotCache, row: int, plans: list[_Plan]) -> torch.Tensor:
        start = np.array([plan.known.length for plan in plans])
        count = np.array([plan.new for plan in plans])
        if len(plans) == 1:  # a context that is longer than a pass goes in pieces
            width = self.memory.batch_tokens
            while count[0] > width:
                self._forward(cache, row, start, np.array([width]), plans[0].token[None, start[0] : start[0] + width])
                start, count = start + width, count - width
        token = np.zeros((len(plans), count.max()), dtype=np.int64)
        for line, plan, new in zip(token, plans, count.tolist(), strict=True):
            line[:new] = [*plan.token, *plan.guess][-new:]
        hidden = self._forward(cache, row, start, count, token)
        return _last_of(hidden, count, np.array([len(plan.guess) + 1 for plan in plans]))

    def _step(self, cache: SlotCache, live: list[Draft]) -> None:
        """One more token for every live draft, or several."""
        guesses = [self._guess(draft) for draft in live]
        count = np.array([len(guess) + 1 for guess in guesses])
        token = np.zeros((len(live), count.max()), dtype=np.int64)
        for line, draft, guess in zip(token, live, guesses, strict=True):
            line[: len(guess) + 1] = [draft.token[-1], *guess]
        start = np.array([draft.length - 1 for draft in live])
        hidden = _last_of(self._forward(cache, 0, start, count, token), count, count)
        self._extend(live, guesses, hidden, lengths_to_splits(count)[:-1])

    def _forward(
        self, cache: SlotCache, row: int, start: np.ndarray, count: np.ndarray, token: np.ndarray
    ) -> torch.Tensor:
        """The hidden states [B, Q, W] of tokens [B, Q] that come to consecutive rows of the cache."""
        self.counts.computed += int(count.sum())
        return self.body(
            input_ids=torch.from_numpy(token.astype(np.int64)).to(self.like.device),
            past_key_values=cache,
            use_cache=True,
            **cache.settle(row, start, count, self.like),
        ).last_hidden_state

    def _extend(self, drafts: list[Draft], guesses: list[list[int]], hidden: torch.Tensor, first: np.ndarray) -> None:
        """Draw the next token of each draft, and the following ones as long as they are those that were guessed.

        Args:
          drafts: to extend.
          guesses: what may follow each of them.
          hidden: states from which tokens are drawn, [·, W].
          first: where in `hidden` each draft begins; the states after its guessed tokens follow.
        """
        count = np.array([len(guess) + 1 for guess in guesses])
        splits = lengths_to_splits(count)
        place = np.arange(splits[-1]) - np.repeat(splits[:-1], count)
        keys = np.repeat(np.array([draft.request.key for draft in drafts], dtype=np.uint64), count)
        index = np.repeat(np.array([len(draft.token) for draft in drafts]), count) + place
        token, logprob = sample(
            self.head,
            hidden,
            np.repeat(first, count) + place,
            rng.uniform(rng.fold_many(keys, index)),
            vocabulary=self.model.config.get_text_config().vocab_size,
            temperature=self.temperature,
            greedy=self.greedy,
        )
        drawn = list(zip(token.tolist(), logprob.tolist(), strict=True))
        for draft, guess, low in zip(drafts, guesses, splits.tolist(), strict=False):
            for guessed, (one, number) in zip([*guess, None], drawn[low : low + len(guess) + 1], strict=True):
                draft.append(one, number, self.endings, self.max_tokens)
                if draft.stop_reason or one != guessed:
                    break

    def _retire(self, cache: SlotCache, live: list[Draft]) -> list[Draft]:
        """Keep the keys and values of what is finished, and close the gaps with the last rows."""
        done = [row for row, draft in enumerate(live) if draft.stop_reason]
        if not done:
            return live
        for row in done:
            token = live[row].prefix()[:-1]  # the last token never went through the model
            if self.memory.prefixes.wants(token):
                self.memory.prefixes.add(token, cache.take(row, len(token)))
        going = len(live) - len(done)
        gaps = [row for row in done if row < going]
        tails = [row for row in range(going, len(live)) if not live[row].stop_reason]
        if gaps:
            cache.copy(tails, gaps, max(live[row].length for row in tails))
        live = live.copy()
        for gap, tail in zip(gaps, tails, strict=True):
            live[gap] = live[tail]
        return live[:going]


def _last_of(hidden: torch.Tensor, count: np.ndarray, wanted: np.ndarray) -> torch.Tensor:
    """The last `wanted` of the first `count` states of each row, laid end to end."""
    splits = lengths_to_splits(wanted)
    place = np.arange(splits[-1]) - np.repeat(splits[:-1], wanted) + np.repeat(count - wanted, wanted)
    return hidden[torch.from_numpy(np.repeat(np.arange(len(count)), wanted)), torch.from_numpy(place)]
