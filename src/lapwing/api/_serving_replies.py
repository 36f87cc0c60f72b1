"""From completions to the answers of OpenAI's API, whole or as server-sent events."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from lapwing.core.types import Completion


class Choice(NamedTuple):
    """One reply in text.

    Attributes:
      text: without the token that ended it, and without the stop string unless it was wanted.
      pieces: texts whose concatenation it is, about one for each token.
      finish_reason: "stop" or "length".
      stop_reason: the stop string that ended it, if one did (as vLLM says it).
      tokens: the text of each token, those included that `text` leaves out.
      completion, prompt: what it was made from.
    """

    text: str
    pieces: list[str]
    finish_reason: str
    stop_reason: str | None
    tokens: list[str]
    completion: Completion
    prompt: Sequence[int]


def choice(
    completion: Completion,
    prompt: Sequence[int],
    *,
    decode: Callable[[Sequence[int]], str],
    stop: Sequence[str],
    keeps_stop: bool,
) -> Choice:
    """Read one completion.

    Args:
      completion, prompt: the reply and what it continues.
      decode: from token ids to text.
      stop: the stop strings.
      keeps_stop: leave the stop string in the text.
    """
    ids = completion.token.tolist()
    shown = ids[:-1] if completion.stop_reason == "end" else ids
    text = decode(shown)
    found = min(((at, one) for one in stop if (at := text.find(one)) >= 0), default=None)
    if found is not None:
        at, one = found
        text = text[: at + len(one)] if keeps_stop else text[:at]
    return Choice(
        text=text,
        pieces=_pieces(text, [decode(shown[: n + 1]) for n in range(len(shown))]),
        finish_reason="length" if completion.stop_reason == "length" else "stop",
        stop_reason=None if found is None else found[1],
        tokens=[decode([token]) for token in ids],
        completion=completion,
        prompt=prompt,
    )


def _pieces(text: str, prefixes: Sequence[str]) -> list[str]:
    """The text cut where a token ends, but not within a character of several tokens."""
    cuts = [0]
    for prefix in prefixes:
        if len(prefix) > cuts[-1] and text.startswith(prefix):
            cuts.append(len(prefix))
    cuts.append(len(text))
    return [text[low:high] for low, high in itertools.pairwise(cuts) if high > low]


def usage(choices: Sequence[Choice], prompt_tokens: int) -> dict[str, int]:
    """How many tokens were read and written."""
    written = sum(len(one.completion.token) for one in choices)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": written,
        "total_tokens": prompt_tokens + written,
    }


class Head(NamedTuple):
    """What all parts of an answer repeat."""

    id: str
    model: str
    is_chat: bool
    has_logprobs: bool
    has_ids: bool

    def answer(self, choices: Sequence[Choice], used: dict[str, int]) -> dict[str, Any]:
        """The whole answer."""
        found = []
        for index, one in enumerate(choices):
            said: dict[str, Any] = (
                {"message": {"role": "assistant", "content": one.text}} if self.is_chat else {"text": one.text}
            )
            found.append({"index": index, **said, **self._end(one)})
        return {**self._base("chat.completion" if self.is_chat else "text_completion"), "choices": found, "usage": used}

    def events(self, choices: Sequence[Choice], used: dict[str, int] | None) -> Iterator[str]:
        """The answer as server-sent events; `used` in the last one if it is given."""
        base = self._base("chat.completion.chunk" if self.is_chat else "text_completion")
        for index, one in enumerate(choices):
            if self.is_chat:
                yield _event({**base, "choices": [_delta(index, {"role": "assistant", "content": ""})]})
            for piece in one.pieces:
                said = _delta(index, {"content": piece}) if self.is_chat else _text(index, piece)
                yield _event({**base, "choices": [said]})
            last = _delta(index, {}) if self.is_chat else _text(index, "")
            yield _event({**base, "choices": [{**last, **self._end(one)}]})
        if used is not None:
            yield _event({**base, "choices": [], "usage": used})
        yield "data: [DONE]\n\n"

    def _base(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": int(time.time()), "model": self.model}

    def _end(self, one: Choice) -> dict[str, Any]:
        found: dict[str, Any] = {"finish_reason": one.finish_reason, "stop_reason": one.stop_reason, "logprobs": None}
        if self.has_logprobs:
            found["logprobs"] = _chat_logprobs(one) if self.is_chat else _text_logprobs(one)
        if self.has_ids:
            found |= {"token_ids": one.completion.token.tolist(), "prompt_token_ids": list(map(int, one.prompt))}
        return found


def _delta(index: int, said: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": said, "finish_reason": None, "logprobs": None}


def _text(index: int, said: str) -> dict[str, Any]:
    return {"index": index, "text": said, "finish_reason": None, "logprobs": None}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, allow_nan=False)}\n\n"


def _chat_logprobs(one: Choice) -> dict[str, Any]:
    content = [
        {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
        for text, logprob in zip(one.tokens, one.completion.logprob.tolist(), strict=True)
    ]
    return {"content": content, "refusal": None}


def _text_logprobs(one: Choice) -> dict[str, Any]:
    offsets = [sum(map(len, one.tokens[:n])) for n in range(len(one.tokens))]
    return {
        "tokens": one.tokens,
        "token_logprobs": one.completion.logprob.tolist(),
        "top_logprobs": None,
        "text_offset": offsets,
    }
