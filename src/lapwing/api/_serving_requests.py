"""Bodies of OpenAI's requests, checked: what would change a reply and is not offered is refused, not passed over."""

import json
import secrets
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lapwing.api._serving_engine import Sampling
from lapwing.core import rng

# What these say without changing anything.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_p": (1,),
    "top_k": (-1, 0),
    "min_p": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto", "none"),
    "functions": ([],),
}


class Refusal(Exception):
    """A request is answered with an error, in OpenAI's format."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        """What the answer says."""
        super().__init__(message)
        self.status = status
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _StreamOptions(BaseModel):
    include_usage: bool = False


class Call(BaseModel):
    """What both kinds of request have in common."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: str
    n: int = Field(default=1, ge=1, le=64)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    return_token_ids: bool = False
    include_stop_str_in_output: bool = False

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def budget(self) -> int | None:
        """How many tokens a reply may have, by either of its names."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def sampling(self, defaults: Sampling, room: int) -> Sampling:
        """How the replies are drawn.

        Args:
          defaults: what holds where the request says nothing.
          room: tokens that the model has left after the prompt.
        """
        return Sampling(
            temperature=self.temperature or defaults.temperature,
            greedy=defaults.greedy or self.temperature == 0.0,
            max_tokens=min(defaults.max_tokens, room) if self.budget is None else self.budget,
            stop=self.stops,
        )

    def keys(self, count: int) -> list[int]:
        """A random stream for each reply: by the seed, or new ones."""
        seed = secrets.randbits(64) if self.seed is None else self.seed
        return [rng.fold(0, "serve", seed, index) for index in range(count)]


_C = TypeVar("_C", bound=Call)


class ChatCall(Call):
    """A request to /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    logprobs: bool = False
    tools: list[dict[str, Any]] | None = None

    def dialogue(self) -> list[dict[str, Any]]:
        """The messages with their texts as plain strings.

        Raises:
          Refusal: a message has no role or no text.
        """
        return [_message(message, i) for i, message in enumerate(self.messages)]


class CompletionCall(Call):
    """A request to /v1/completions."""

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: int | None = Field(default=None, ge=0)

    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself, as a text or as token ids.

        Raises:
          Refusal: there is none, or there are too many.
        """
        given: Any = self.prompt
        found = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)
        if not 1 <= len(found) <= 64 or not all(found):
            raise Refusal(400, "prompt: 1 to 64 texts or lists of token ids that are not empty.", param="prompt")
        return found


def read(kind: type[_C], body: bytes) -> _C:
    """Check a body.

    Raises:
      Refusal: it is no JSON, lacks something, or asks for what is not offered.
    """
    try:
        data = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is no JSON.") from None
    if not isinstance(data, dict):
        raise Refusal(400, "The body is a JSON object.")
    for name, neutral in _NEUTRAL.items():
        if data.get(name) is not None and data[name] not in neutral:
            raise Refusal(400, f"{name} is not offered here; leave it out.", param=name, code="unsupported_parameter")
    if kind is CompletionCall and data.get("logprobs"):
        raise Refusal(
            400, "logprobs = 0 gives those of the sampled tokens; alternatives are not kept.", param="logprobs"
        )
    try:
        call = kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else None
        raise Refusal(400, f"{name}: {first['msg']}.", param=name) from None
    if len(call.stops) > 16 or not all(call.stops):
        raise Refusal(400, "stop: at most 16 texts that are not empty.", param="stop")
    return call


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _message(message: dict[str, Any], index: int) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise Refusal(400, f"messages.{index}.role is system, user, assistant or tool.", param="messages")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(map(str, texts)) if len(texts) == len(content) else None
    if not isinstance(content, str):
        raise Refusal(400, f"messages.{index}.content is a text; nothing else is read here.", param="messages")
    return {"role": "system" if role == "developer" else role, "content": content}
