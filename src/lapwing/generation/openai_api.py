"""A client for every server that speaks OpenAI's chat completions: for evaluation and for opponents.

Reference: https://platform.openai.com/docs/api-reference/chat/create
"""

import asyncio
import copy
import dataclasses
import email.utils
import math
import os
import re
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lapwing.core import rng
from lapwing.core.clean_text import encodable
from lapwing.core.errors import UserError
from lapwing.core.storage import canonical_json
from lapwing.core.types import Message
from lapwing.generation._rates import Rates

# The first pause before a request is sent again, the longest, and the longest that a server may ask for, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_WAIT = 0.5, 30.0, 120.0
# Statuses that may pass: timeout, conflict, too many requests; and all from 500 on.
_PASSING = {408, 409, 429}
_REMEMBERED = 100_000


class Reply(NamedTuple):
    """What a server answered: `finish_reason` is OpenAI's; the counts are the server's, 0 if it counts nothing."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclasses.dataclass
class Usage:
    """What a client has asked for so far; retried requests that were not answered are not in it."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class OpenAIAPI:
    """Asks a server for replies, many at once, and again where that may help.

    The key comes from an environment variable when it is needed and is kept nowhere. A reply ends with the first of the
    `stop` strings, which stays in it as in replies of Lapwing's own generators; it is cut here and not by the server,
    because the API neither returns the string nor tells it from the end of a turn. Greedy replies to the same messages
    are asked for once.
    """

    def __init__(  # noqa: PLR0913 (the signature is the schema of a recipe's section)
        self,
        *,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        max_tokens: int = 256,
        max_tokens_field: str = "max_tokens",
        temperature: float = 1.0,
        greedy: bool = False,
        stop: tuple[str, ...] = (),
        send_seed: bool = True,
        extra_body: dict[str, Any] | None = None,
        concurrency: int = 8,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        retries: int = 5,
        timeout_seconds: float = 60.0,
        deadline_seconds: float | None = None,
        price_in: float | None = None,
        price_out: float | None = None,
    ) -> None:
        """Make the client; nothing is sent yet.

        Args:
          model: its name at the server.
          base_url: such as "http://127.0.0.1:8000/v1"; OpenAI's own if left out.
          api_key_env: the name of the environment variable that holds the key; servers on `base_url` may need none.
          max_tokens: the reply budget.
          max_tokens_field: what the server calls it: "max_tokens", or "max_completion_tokens" (OpenAI's newer models).
          temperature: of sampling, above 0.
          greedy: ask for the most probable tokens (temperature 0).
          stop: a reply ends with the first of these strings.
          send_seed: send 31 bits of each reply's key as `seed`.
          extra_body: further fields of every request, such as { chat_template_kwargs = { enable_thinking = false } }.
          concurrency: how many requests are under way at once.
          requests_per_minute, tokens_per_minute: limits in any 60 seconds; of a prompt 4 characters count as a token.
          retries: how often a request is sent again after a connection error, a timeout, 408, 409, 429 or 5xx.
          timeout_seconds: for one answer.
          deadline_seconds: for all replies of one call together.
          price_in, price_out: money per million tokens of prompt and reply.

        Raises:
          UserError: a setting is impossible, the key is missing, or the package `openai` is.
        """
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.greedy = greedy
        self.stop = stop
        self.price_in, self.price_out = price_in, price_out
        self.usage = Usage()
        self._fields = {**(extra_body or {}), max_tokens_field: max_tokens}
        self._send_seed = send_seed
        self._concurrency = concurrency
        self._retries = retries
        self._timeout_seconds, self._deadline_seconds = timeout_seconds, deadline_seconds
        self._check(max_tokens_field, requests_per_minute, tokens_per_minute)
        self._rates = Rates(requests_per_minute, tokens_per_minute)
        self._greedy_replies: dict[str, Reply] = {}
        _package()
        self._key()

    def greedily(self) -> "OpenAIAPI":
        """The same client with greedy decoding; the two share their limits and their usage."""
        other = copy.copy(self)
        other.greedy = True
        return other

    @property
    def cost(self) -> float | None:
        """Money spent so far; None where a price is not known."""
        if self.price_in is None or self.price_out is None:
            return None
        used = self.usage
        return (used.prompt_tokens * self.price_in + used.completion_tokens * self.price_out) / 1e6

    def spent(self) -> dict[str, float | None]:
        """Requests, tokens and cost so far, by name."""
        return {**dataclasses.asdict(self.usage), "cost": self.cost}

    def complete(self, messages_list: Sequence[list[Message]], keys: Sequence[int]) -> list[Reply]:
        """One reply to each dialogue, in order.

        Args:
          messages_list: the dialogues.
          keys: of the replies' random streams, 64 bits each.

        Raises:
          UserError: the server refused a request, could not be reached, or missed the deadline; the sentence says what.
        """
        named = [canonical_json(messages) if self.greedy else str(i) for i, messages in enumerate(messages_list)]
        if len(self._greedy_replies) > _REMEMBERED:
            self._greedy_replies.clear()
        known = self._greedy_replies if self.greedy else {}
        wanted = {
            name: (messages, key)
            for name, messages, key in zip(named, messages_list, keys, strict=True)
            if name not in known
        }
        replies = dict(zip(wanted, _run(self._complete(list(wanted.values()))), strict=True)) if wanted else {}
        known.update(replies)
        return [known[name] for name in named]

    async def _complete(self, wanted: list[tuple[list[Message], int]]) -> list[Reply]:
        places = asyncio.Semaphore(self._concurrency)
        # A client of its own for every call: none outlives its event loop, and none keeps the key.
        client = self._openai.AsyncOpenAI(
            api_key=self._key(), base_url=self.base_url, max_retries=0, timeout=self._timeout_seconds
        )

        async def one(messages: list[Message], key: int) -> Reply:
            async with places:
                return await self._persist(client, messages, key)

        tasks = []
        try:
            async with client, asyncio.timeout(self._deadline_seconds), asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(messages, key)) for messages, key in wanted]
        except TimeoutError:
            done = sum(task.done() and not task.cancelled() for task in tasks)
            raise UserError(
                f"{self._server} gave {done} of {len(tasks)} replies within deadline_seconds = "
                f"{self._deadline_seconds}; raise it, or ask for fewer tokens."
            ) from None
        except BaseExceptionGroup as failed:
            # Tracebacks of the client hold its headers, and these the key.
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _persist(self, client: Any, messages: list[Message], key: int) -> Reply:
        """Ask until there is an answer, a refusal, or no attempt left."""
        said = ""
        for attempt in range(self._retries + 1):
            if attempt:
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1))
                # Half of it is jitter, so that what failed together does not come back together.
                await asyncio.sleep(pause * (0.5 + 0.5 * rng.unit(rng.fold(key, "retry", attempt))))
            try:
                return await self._ask(client, messages, key)
            except self._openai.APIStatusError as error:
                said = self._said(error)
                if not self._may_pass(error):
                    raise UserError(self._refusal(error.status_code, said)) from None
                self._hold(_retry_after(error.response.headers))
            except (self._openai.APIConnectionError, TimeoutError) as error:
                late = isinstance(error, (self._openai.APITimeoutError, TimeoutError))
                said = f"no answer within {self._timeout_seconds} s" if late else "it could not be reached"
        raise UserError(
            f"{self._server} did not answer in {self._retries + 1} attempts ({said}); see whether it runs and is not "
            "overloaded, or raise retries or timeout_seconds."
        )

    async def _ask(self, client: Any, messages: list[Message], key: int) -> Reply:
        estimate = self.max_tokens + sum(len(message["content"]) for message in messages) // 4
        while (seconds := self._rates.wait(time.monotonic(), estimate)) > 0:
            await asyncio.sleep(seconds)
        sent = self._rates.note(time.monotonic(), estimate)
        seed = {"seed": key >> 33} if self._send_seed else {}
        async with asyncio.timeout(self._timeout_seconds):
            answer = await client.chat.completions.create(
                model=self.model,
                messages=[{**message, "content": encodable(message["content"])} for message in messages],
                temperature=0.0 if self.greedy else self.temperature,
                extra_body=self._fields,
                **seed,
            )
        choices = getattr(answer, "choices", None)
        if not choices:
            raise UserError(
                f"{self._server} did not answer as chat completions do; see base_url, which mostly ends with /v1."
            )
        counted = answer.usage
        prompt, completion = (counted.prompt_tokens, counted.completion_tokens) if counted else (0, 0)
        if counted:
            sent.tokens = prompt + completion
        self.usage.requests += 1
        self.usage.prompt_tokens += prompt
        self.usage.completion_tokens += completion
        text = _cut(choices[0].message.content or "", self.stop)
        return Reply(text, choices[0].finish_reason or "stop", prompt, completion)

    def _may_pass(self, error: Any) -> bool:
        # An empty account answers 429 as well, and waiting does not fill it.
        if error.code == "insufficient_quota":
            return False
        return error.status_code in _PASSING or error.status_code >= 500

    def _hold(self, seconds: float | None) -> None:
        if seconds is None:
            return
        if seconds > _LONGEST_WAIT:
            raise UserError(f"{self._server} asks to wait for {seconds:.0f} s; try again then, or lower the rates.")
        self._rates.hold(time.monotonic() + seconds)

    def _refusal(self, status: int, said: str) -> str:
        if status in (401, 403):
            if not os.environ.get(self.api_key_env):
                return (
                    f"{self._server} wants a key (HTTP {status}): set the environment variable {self.api_key_env} to "
                    "it, or name another one in api_key_env."
                )
            return (
                f"{self._server} wants another key (HTTP {status}): the one in the environment variable "
                f"{self.api_key_env} is refused."
            )
        if status == 404:
            return (
                f"{self._server} knows no model '{self.model}', or no chat completions there (HTTP 404: {said}); give "
                "its name there in model.name, or as an opponent's model."
            )
        return f"{self._server} refused a request (HTTP {status}: {said})."

    def _said(self, error: Any) -> str:
        """The server's own words on one line, without the key should it repeat it."""
        body = error.body if isinstance(error.body, dict) else {}
        words = str(body.get("message") or error.message)
        if secret := os.environ.get(self.api_key_env):
            words = words.replace(secret, "***")
        return " ".join(words.split())[:300]

    @property
    def _openai(self) -> Any:
        return _package()

    @property
    def _server(self) -> str:
        return f"The server {self.base_url or 'api.openai.com'}"

    def _key(self) -> str:
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.base_url is None:
            raise UserError(f"OpenAI's API needs a key in the environment variable {self.api_key_env}; it is not set.")
        return key or "none"

    def _check(self, max_tokens_field: str, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        # Neither value is repeated: people put the key itself there.
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):
            raise UserError(
                "api_key_env is the name of an environment variable in upper case, such as OPENAI_API_KEY, and not the "
                "key itself."
            )
        url = urlsplit(self.base_url or "https://api.openai.com/v1")
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.password or url.query:
            raise UserError(
                "base_url is an address such as http://127.0.0.1:8000/v1, without user, password or query; a key goes "
                "into the environment variable that api_key_env names."
            )
        if not self.model:
            raise UserError("openai_api needs the model's name at the server.")
        if max_tokens_field not in ("max_tokens", "max_completion_tokens"):
            raise UserError(f"max_tokens_field is max_tokens or max_completion_tokens, not '{max_tokens_field}'.")
        if not 0.0 < self.temperature < math.inf:
            raise UserError(f"temperature is above 0, not {self.temperature}; for greedy decoding set greedy.")
        positive: dict[str, float | None] = {
            "max_tokens": self.max_tokens,
            "concurrency": self._concurrency,
            "timeout_seconds": self._timeout_seconds,
            "deadline_seconds": self._deadline_seconds,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
        }
        for name, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} is above 0, not {value}.")
        for name, value in (("retries", self._retries), ("price_in", self.price_in), ("price_out", self.price_out)):
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"{name} is at least 0, not {value}.")


def _package() -> Any:
    try:
        import openai
    except ImportError as error:
        raise UserError('openai_api needs the package openai: pip install "lapwing[openai]".') from error
    return openai


def _run(coroutine: Coroutine[Any, Any, list[Reply]]) -> list[Reply]:
    """Run it to its end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _cut(text: str, stop: Sequence[str]) -> str:
    """The text up to the end of the stop string that is complete first."""
    ends = [at + len(one) for one in stop if (at := text.find(one)) >= 0]
    return text[: min(ends)] if ends else text


def _retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait: a number, or a date; None where it says nothing that can be read."""
    said = headers.get("retry-after", "")
    try:
        seconds = float(headers.get("retry-after-ms", "")) / 1000.0
    except ValueError:
        try:
            seconds = float(said)
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(said).timestamp() - time.time()
            except ValueError:
                return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
