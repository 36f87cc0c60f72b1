"""The endpoints: OpenAI's chat completions, completions and models, and a health check."""

import asyncio
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lapwing.api._serving_engine import Busy, Engine, Sampling
from lapwing.api._serving_replies import Choice, Head, choice, usage
from lapwing.api._serving_requests import Call, ChatCall, CompletionCall, Refusal, read
from lapwing.core.errors import UserError
from lapwing.core.types import Prompt, Request

_LARGEST_BODY = 4 * 2**20


class Reader(Protocol):
    """Turns what is asked into token ids, and token ids into text."""

    positions: int
    vocabulary: int

    def dialogue(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> np.ndarray:
        """The context of a dialogue."""
        ...

    def text(self, text: str) -> np.ndarray:
        """A text as token ids."""
        ...

    def decode(self, token: Any) -> str:
        """Token ids as text."""
        ...


class App:
    """The handlers and what they share."""

    def __init__(self, engine: Engine, reader: Reader, *, name: str, defaults: Sampling, token: str | None) -> None:
        """Put them together.

        Args:
          engine: generates.
          reader: of the served model.
          name: of the model.
          defaults: how replies are drawn where a request says nothing.
          token: what requests must bear; None for none.
        """
        self.engine = engine
        self.reader = reader
        self.name = name
        self.defaults = defaults
        self.token = token
        self._started = int(time.time())

    def starlette(self) -> Starlette:
        """The application for a server."""
        return Starlette(
            routes=[
                Route("/health", self._health, methods=["GET"]),
                Route("/v1/models", self._guarded(self._models), methods=["GET"]),
                Route("/v1/models/{name:path}", self._guarded(self._models), methods=["GET"]),
                Route("/v1/chat/completions", self._guarded(self._chat), methods=["POST"]),
                Route("/v1/completions", self._guarded(self._completions), methods=["POST"]),
            ]
        )

    def _guarded(self, handle: Callable[[HTTPRequest], Awaitable[Response]]) -> Any:
        async def guarded(request: HTTPRequest) -> Response:
            try:
                self._authorise(request)
                return await handle(request)
            except Refusal as refusal:
                headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
                headers |= {"Retry-After": "1"} if refusal.status == 503 else {}
                return JSONResponse(refusal.body, refusal.status, headers)

        return guarded

    def _authorise(self, request: HTTPRequest) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if self.token is not None and not hmac.compare_digest(given.encode(), self.token.encode()):
            raise Refusal(
                401, "A bearer token is wanted: the one that the server was started with.", code="invalid_api_key"
            )

    async def _health(self, request: HTTPRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def _models(self, request: HTTPRequest) -> Response:
        model = {"id": self.name, "object": "model", "created": self._started, "owned_by": "lapwing"}
        asked = request.path_params.get("name")
        if asked is None:
            return JSONResponse({"object": "list", "data": [model]})
        self._check_name(asked)
        return JSONResponse(model)

    async def _chat(self, request: HTTPRequest) -> Response:
        call = read(ChatCall, await _body(request))
        self._check_name(call.model)
        prompt = _readable(self.reader.dialogue, call.dialogue(), call.tools)
        head = Head(f"chatcmpl-{secrets.token_hex(12)}", self.name, True, call.logprobs, call.return_token_ids)
        return await self._answer(call, [prompt], head)

    async def _completions(self, request: HTTPRequest) -> Response:
        call = read(CompletionCall, await _body(request))
        self._check_name(call.model)
        prompts = [self._tokens(prompt) for prompt in call.prompts()]
        has_logprobs = call.logprobs is not None
        head = Head(f"cmpl-{secrets.token_hex(12)}", self.name, False, has_logprobs, call.return_token_ids)
        return await self._answer(call, prompts, head)

    async def _answer(self, call: Call, prompts: list[np.ndarray], head: Head) -> Response:
        sampling = call.sampling(self.defaults, self._room(call, prompts))
        repeated = [prompt for prompt in prompts for _ in range(call.n)]
        keys = call.keys(len(repeated))
        requests = [Request(Prompt(p, p.tobytes()), key) for p, key in zip(repeated, keys, strict=True)]
        try:
            completions = await asyncio.wrap_future(self.engine.submit(requests, sampling))
        except Busy:
            raise Refusal(503, "Too many requests are waiting; ask again later.") from None
        except Exception as error:
            raise Refusal(500, f"The reply could not be generated: {error}.") from error
        choices: list[Choice] = [
            choice(
                completion,
                prompt.tolist(),
                decode=self.reader.decode,
                stop=sampling.stop,
                keeps_stop=call.include_stop_str_in_output,
            )
            for completion, prompt in zip(completions, repeated, strict=True)
        ]
        used = usage(choices, sum(map(len, prompts)))
        if not call.stream:
            return JSONResponse(head.answer(choices, used))
        wants_usage = call.stream_options is not None and call.stream_options.include_usage
        return StreamingResponse(head.events(choices, used if wants_usage else None), media_type="text/event-stream")

    def _tokens(self, prompt: str | list[int]) -> np.ndarray:
        if isinstance(prompt, str):
            return _readable(self.reader.text, prompt)
        if not all(0 <= token < self.reader.vocabulary for token in prompt):
            raise Refusal(400, f"prompt: token ids are from 0 to {self.reader.vocabulary - 1}.", param="prompt")
        return np.array(prompt, dtype=np.int32)

    def _room(self, call: Call, prompts: list[np.ndarray]) -> int:
        longest = max(map(len, prompts))
        room = self.reader.positions - longest
        if room < (call.budget or 1):
            raise Refusal(
                400,
                f"This model's context has {self.reader.positions} tokens; the prompt has {longest}, and "
                f"{call.budget or 1} are wanted for the reply.",
                param="max_tokens" if room > 0 else "messages",
                code="context_length_exceeded",
            )
        return room

    def _check_name(self, name: str) -> None:
        if name != self.name:
            raise Refusal(
                404, f"There is no model '{name}' here; this is '{self.name}'.", param="model", code="model_not_found"
            )


async def _body(request: HTTPRequest) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise Refusal(413, f"A body has at most {_LARGEST_BODY} bytes.")
    return bytes(body)


def _readable(encode: Callable[..., np.ndarray], *given: Any) -> np.ndarray:
    try:
        token = encode(*given)
    except UserError as error:
        raise Refusal(400, str(error)) from None
    if not len(token):
        raise Refusal(400, "The prompt has no tokens.", param="prompt")
    return token
