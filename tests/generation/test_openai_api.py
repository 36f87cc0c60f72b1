"""The client against a real server that misbehaves on demand."""

import asyncio
import contextlib
import inspect
import json
import logging
import time

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from lapwing.core.errors import UserError
from lapwing.generation.openai_api import OpenAIAPI, Reply, _retry_after

KEY = "sk-canary-0123456789"
MESSAGES = [{"role": "user", "content": "hello"}]


class Server:
    """Answers requests with what `script` says, request by request, and then repeats what was said to it."""

    def __init__(self, *script):
        self.script = list(script)
        self.bodies, self.headers, self.times = [], [], []
        self.live = self.most_live = 0
        self.seconds = 0.0

    async def answer(self, request):
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.times.append(time.monotonic())
        self.live += 1
        self.most_live = max(self.most_live, self.live)
        try:
            await asyncio.sleep(self.seconds)
            step = self.script.pop(0) if self.script else None
            if step is None:
                return JSONResponse(said(body["messages"][-1]["content"]))
            return await step() if inspect.isfunction(step) else step
        finally:
            self.live -= 1


def said(text, *, finish_reason="stop", usage=True):
    counted = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10} if usage else None
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": counted}


def error(status, message="no", *, code=None, **headers):
    return JSONResponse({"error": {"message": message, "code": code}}, status, headers)


async def silence():
    await asyncio.sleep(20.0)


@pytest.fixture
def start(run_app, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with contextlib.ExitStack() as stack:

        def begin(*script, **settings):
            server = Server(*script)
            app = Starlette(routes=[Route("/v1/chat/completions", server.answer, methods=["POST"])])
            address = stack.enter_context(run_app(app))
            return server, OpenAIAPI(**{"model": "m", "base_url": address, "timeout_seconds": 30.0, **settings})

        yield begin


def test_replies_come_in_order_with_counts_and_cost(start):
    _, client = start(price_in=1.0, price_out=10.0)
    dialogues = [[{"role": "user", "content": str(i)}] for i in range(20)]
    replies = client.complete(dialogues, list(range(20)))
    assert replies == [Reply(str(i), "stop", 7, 3) for i in range(20)]
    assert (client.usage.requests, client.usage.prompt_tokens, client.usage.completion_tokens) == (20, 140, 60)
    assert client.cost == pytest.approx(740e-6)
    assert OpenAIAPI(model="m", base_url="http://x").cost is None


def test_a_request_says_everything_that_a_server_might_choose_otherwise(start):
    server, client = start(
        max_tokens=9, temperature=0.7, extra_body={"top_k": 5}, max_tokens_field="max_completion_tokens"
    )
    client.complete([MESSAGES], [(5 << 33) + 1])
    client.greedily().complete([MESSAGES], [0])
    sampled, greedy = server.bodies
    assert sampled == {
        "model": "m", "messages": MESSAGES, "temperature": 0.7, "seed": 5, "top_k": 5, "max_completion_tokens": 9,
    }  # fmt: skip
    assert greedy["temperature"] == 0.0
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_no_more_requests_than_allowed_are_under_way(start):
    server, client = start(concurrency=3)
    server.seconds = 0.1  # long enough for the others to come
    client.complete([MESSAGES] * 9, range(9))
    assert server.most_live == 3


def test_equal_greedy_requests_are_sent_once_and_sampled_ones_each(start):
    server, client = start(greedy=True)
    other = [{"role": "user", "content": "other"}]
    replies = client.complete([MESSAGES, other, MESSAGES], [1, 2, 3])
    assert [reply.text for reply in replies] == ["hello", "other", "hello"]
    assert client.complete([MESSAGES], [4])[0].text == "hello"
    assert len(server.bodies) == client.usage.requests == 2
    server, client = start()
    client.complete([MESSAGES] * 2, [1, 2])
    assert len(server.bodies) == 2


def test_a_reply_ends_with_the_first_stop_string_which_stays(start):
    server, client = start(JSONResponse(said("go </b> left </a> right </b>")), stop=("</a>", "</b>"))
    assert client.complete([MESSAGES], [0])[0].text == "go </b>"
    assert "stop" not in server.bodies[0]


def test_a_missing_count_and_a_missing_text_are_nothing(start):
    _, client = start(JSONResponse(said(None, finish_reason="length", usage=False)))
    assert client.complete([MESSAGES], [0]) == [Reply("", "length", 0, 0)]


@pytest.mark.parametrize("trouble", [error(500), error(503), error(408), error(429)], ids=lambda one: one.status_code)
def test_what_may_pass_is_tried_again(start, trouble):
    server, client = start(trouble)
    assert client.complete([MESSAGES], [1])[0].text == "hello"
    assert len(server.bodies) == 2


def test_the_pauses_between_attempts_become_longer(start, monkeypatch):
    pauses, sleep = [], asyncio.sleep

    async def noted(seconds, *rest):
        if seconds > 0.2:
            pauses.append(seconds)
        await sleep(seconds if seconds <= 0.2 else 0)

    monkeypatch.setattr("lapwing.generation.openai_api.asyncio.sleep", noted)
    server, client = start(error(500), error(503), error(408))
    assert client.complete([MESSAGES], [1])[0].text == "hello"
    assert len(server.bodies) == 4
    first, second, third = pauses
    assert 0.25 <= first <= 0.5 <= second <= 1.0 <= third <= 2.0


def test_a_silent_server_is_given_up_after_the_timeout(start):
    _, client = start(silence, timeout_seconds=0.5)
    assert client.complete([MESSAGES], [1])[0].text == "hello"
    _, client = start(silence, silence, timeout_seconds=0.5, retries=1)
    with pytest.raises(UserError, match=r"did not answer in 2 attempts \(no answer within 0.5 s\)"):
        client.complete([MESSAGES], [1])


def test_nobody_at_the_address_is_said(monkeypatch):
    client = OpenAIAPI(model="m", base_url="http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/v1 did not answer .* could not be reached"):
        client.complete([MESSAGES], [1])


def test_the_server_says_how_long_to_wait_and_everything_waits(start):
    server, client = start(error(429, **{"retry-after": "1"}), concurrency=1, retries=1)
    client.complete([MESSAGES] * 2, [1, 2])
    assert server.times[1] - server.times[0] > 0.95
    _, client = start(error(429, **{"retry-after": "86400"}))
    with pytest.raises(UserError, match="asks to wait for 86400 s"):
        client.complete([MESSAGES], [1])


def test_retry_after_is_a_number_a_date_or_nothing():
    assert _retry_after({"retry-after": "1.5"}) == 1.5
    assert _retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25
    assert _retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0.0
    for nonsense in ("", "soon", "nan", "inf"):
        assert _retry_after({"retry-after": nonsense}) is None


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (error(401), "wants another key .HTTP 401.: the one in the environment variable OPENAI_API_KEY is refused"),
        (error(404, "unknown"), "knows no model 'm'.*unknown.*model.name"),
        (error(400, "maximum context length is 8 tokens"), "HTTP 400: maximum context length is 8 tokens"),
        (error(422, "what\nis this"), "HTTP 422: what is this"),
        (error(429, "pay first", code="insufficient_quota"), "HTTP 429: pay first"),
        (PlainTextResponse("<html>"), "base_url, which mostly ends with /v1"),
        (JSONResponse({"choices": []}), "base_url"),
    ],
    ids=["key", "model", "context", "unreadable", "account", "no API", "no choices"],
)
def test_what_will_not_pass_is_one_sentence_at_once(start, trouble, sentence):
    server, client = start(trouble, concurrency=1)
    with pytest.raises(UserError, match=sentence) as caught:
        client.complete([MESSAGES] * 5, range(5))
    assert len(server.bodies) == 1
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_that_is_not_set_is_asked_for_by_its_name(start, monkeypatch):
    _, client = start(error(401), concurrency=1, api_key_env="MY_KEY")
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UserError, match=r"wants a key .HTTP 401.: set the environment variable MY_KEY"):
        client.complete([MESSAGES], [1])


def test_the_deadline_holds_for_the_whole_call(start):
    server, client = start(deadline_seconds=0.5, concurrency=1)
    server.seconds = 0.2
    with pytest.raises(UserError, match=r"gave [0-2] of 9 replies within deadline_seconds = 0.5"):
        client.complete([MESSAGES] * 9, range(9))
    assert len(server.bodies) < 9


def test_it_works_inside_an_event_loop(start):
    _, client = start()

    async def notebook():
        return client.complete([MESSAGES], [1])

    assert asyncio.run(notebook())[0].text == "hello"


# F66. Fails when the server's words are repeated as they are, or a client is kept.
def test_the_key_is_in_no_message_log_or_object(start, caplog):
    caplog.set_level(logging.DEBUG)
    _, client = start(error(400, f"bad key {KEY} in {KEY}"), retries=0)
    with pytest.raises(UserError) as caught:
        client.complete([MESSAGES], [1])
    assert "***" in str(caught.value)
    assert KEY not in str(caught.value)
    assert KEY not in caplog.text
    assert KEY not in repr(vars(client))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


WRONG = {
    "the key itself": ({"api_key_env": KEY}, "and not the key itself"),
    "a key of small letters": ({"api_key_env": "gsk_canary"}, "and not the key itself"),
    "a password in the address": ({"base_url": f"http://me:{KEY}@host/v1"}, "without user"),
    "a key in the address": ({"base_url": f"http://host/v1?key={KEY}"}, "query"),
    "another scheme": ({"base_url": "ftp://host"}, "such as http"),
    "no model": ({"model": ""}, "name at the server"),
    "an unknown field": ({"max_tokens_field": "length"}, "max_completion_tokens"),
    "no temperature": ({"temperature": 0.0}, "greedy"),
    "no budget": ({"max_tokens": 0}, "max_tokens is above 0"),
    "no places": ({"concurrency": 0}, "concurrency"),
    "no time": ({"timeout_seconds": 0.0}, "timeout_seconds"),
    "fewer than no retries": ({"retries": -1}, "retries is at least 0"),
    "a price below zero": ({"price_in": -1.0}, "price_in"),
}


@pytest.mark.parametrize(("settings", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_one_sentence_without_the_key(settings, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        OpenAIAPI(**{"model": "m", "base_url": "http://127.0.0.1/v1", **settings})
    assert "canary" not in str(caught.value)


def test_openai_itself_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="key in the environment variable OPENAI_API_KEY; it is not set"):
        OpenAIAPI(model="gpt")


def test_extra_fields_travel_as_they_are(start):
    server, client = start(extra_body={"chat_template_kwargs": {"enable_thinking": False}}, send_seed=False)
    client.complete([MESSAGES], [1])
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert "seed" not in server.bodies[0]
    assert json.dumps(server.bodies[0])
