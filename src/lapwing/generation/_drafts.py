"""Replies in the making, and what ends them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lapwing.core.types import Completion, Request

_MEMO_SIZE = 200_000
# Tokens before the longest stop string that the decoded tail begins with: the rest of a character that begins
# earlier (3), a blank that decoding strips off the front of a text (1), and characters of the last token (3).
_MARGIN = 8


class Draft:
    """A reply in the making; an empty `stop_reason` says that it goes on."""

    __slots__ = ("logprob", "request", "room", "stop_reason", "token")

    def __init__(self, request: Request, room: int) -> None:
        """Begin a reply; without room for a token it is finished, and empty.

        Args:
          request: to reply to.
          room: most tokens that fit behind the context.
        """
        self.request = request
        self.room = room
        self.token: list[int] = []
        self.logprob: list[float] = []
        self.stop_reason = "" if room > 0 else "length"

    @property
    def key(self) -> bytes:
        """The context and the reply so far, as bytes."""
        return self.request.prompt.key + np.array(self.token, dtype=np.int32).tobytes()

    @property
    def length(self) -> int:
        """Tokens of the context and of the reply so far."""
        return len(self.request.prompt.token) + len(self.token)

    def prefix(self) -> np.ndarray:
        """The context and the reply so far, int32."""
        return np.concatenate([self.request.prompt.token, np.array(self.token, dtype=np.int32)])

    def append(self, token: int, logprob: float, endings: "Endings", max_tokens: int) -> None:
        """Add a token; the reply may end with it."""
        self.token.append(token)
        self.logprob.append(logprob)
        self.stop_reason = endings.reason(self.token) or (
            "length" if len(self.token) >= min(max_tokens, self.room) else ""
        )

    def completion(self) -> Completion:
        """The finished reply."""
        return Completion(np.array(self.token, dtype=np.int32), np.array(self.logprob), self.stop_reason)


class Endings:
    """The tokens and the strings that end a reply.

    Whether a stop string has come is asked after every token, so only the tail of a reply is decoded that can hold
    it, and only where the last token has the last character of a stop string: a reply of 1,000 tokens costs 1,000
    decodings of a few tokens at most, not of half a million.
    """

    def __init__(self, tokenizer: Any, ends: frozenset[int], stop: tuple[str, ...]) -> None:
        """Keep what ends a reply.

        Args:
          tokenizer: of transformers.
          ends: token ids.
          stop: strings.
        """
        self.tokenizer = tokenizer
        self.ends = ends
        self.stop = stop
        # A character takes at least one byte, and a token of such a text has at least one.
        self._tail = max((len(text.encode()) for text in stop), default=0) + _MARGIN
        # A blank at the end may come from the decoder, which puts it between tokens.
        blank = any(text != text.rstrip() for text in stop)
        self._last = None if blank else {text[-1:] for text in stop} | {"\ufffd"}
        self._may_complete: dict[int, bool] = {}
        self._found: dict[bytes, bool] = {}

    def reason(self, token: Sequence[int]) -> str:
        """What ends a reply of these tokens: "end", "stop", or "" where it goes on.

        Args:
          token: the reply so far; its beginnings were asked about before.
        """
        if token and token[-1] in self.ends:
            return "end"
        return "stop" if self.stop and token and self._stopped(token) else ""

    def _stopped(self, token: Sequence[int]) -> bool:
        if not self._completes(token[-1]):
            return False
        tail = token[-self._tail :]
        key = np.array(tail, dtype=np.int32).tobytes()
        found = self._found.get(key)
        if found is None:
            if len(self._found) > _MEMO_SIZE:
                self._found.clear()
            found = self._found[key] = self._occurs(tail)
        # A tail that begins within a character may show what the whole text does not hold.
        return found and (len(tail) == len(token) or self._occurs(token))

    def _completes(self, token: int) -> bool:
        """Whether a stop string may end within this token: it has the last character, or pieces of characters."""
        if self._last is None:
            return True
        found = self._may_complete.get(token)
        if found is None:
            text = self.tokenizer.decode([token])
            found = self._may_complete[token] = any(character in text for character in self._last)
        return found

    def _occurs(self, token: Sequence[int]) -> bool:
        text = self.tokenizer.decode(token)
        return any(stop in text for stop in self.stop)


def ends_of(tokenizer: Any, ends: frozenset[int] | None) -> frozenset[int]:
    """The tokens that end a reply: those that are given, or the tokenizer's."""
    if ends is not None:
        return ends
    return frozenset(() if tokenizer.eos_token_id is None else {tokenizer.eos_token_id})
