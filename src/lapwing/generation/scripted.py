"""A generator that follows a script: for tests, demonstrations and replays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lapwing.core.types import Completion, Prompt, Request


class Scripted:
    """Answers every context with what a function says."""

    def __init__(self, reply: Callable[[str, int], str], tokenizer: Any, *, max_tokens: int = 64) -> None:
        """Make the generator.

        Args:
          reply: from the context as text and the 64-bit key of the reply's random stream to the reply.
          tokenizer: of transformers.
          max_tokens: replies are cut after this many tokens.
        """
        self.reply = reply
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One scripted reply for each request, with log-probabilities 0 (it is certain)."""
        return [self._one(request) for request in requests]

    def prefetch(self, prompts: Sequence[Prompt]) -> None:
        """A script needs no hints."""

    def _one(self, request: Request) -> Completion:
        context = self.tokenizer.decode(request.prompt.token)
        ids = self.tokenizer.encode(self.reply(context, request.key), add_special_tokens=False)
        token = np.array(ids[: self.max_tokens], dtype=np.int32)
        return Completion(token, np.zeros(len(token)), "end" if len(ids) <= self.max_tokens else "length")
