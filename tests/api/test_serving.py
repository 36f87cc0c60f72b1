"""`lapwing serve`, asked by the client that people use."""

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import openai
import pytest

import lapwing
from lapwing.core.errors import UserError
from lapwing.games.frozen_lake import FrozenLake

TOKEN = "canary-of-the-server"


@pytest.fixture(scope="module")
def served_run(serving, small_run):
    with serving(small_run, token=TOKEN) as (address, engine):
        yield address, engine


@pytest.fixture(scope="module")
def client(served_run):
    with openai.OpenAI(base_url=served_run[0], api_key=TOKEN, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def toy(serving, toy_folder):
    with serving(toy_folder("llama")) as (address, _), openai.OpenAI(base_url=address, api_key="-") as client:
        yield client, client.models.list().data[0].id


@pytest.fixture(scope="module")
def local(small_run):
    return lapwing.load(small_run, greedy=True)


@pytest.fixture(scope="module")
def messages(local):
    view = FrozenLake(map_name="4x4").view(FrozenLake(map_name="4x4").initial(None), 0)
    return local.policy.renderer.messages(view)


def ask(client, messages, **settings):
    return client.chat.completions.create(model="small", messages=messages, **settings)


def test_the_served_greedy_reply_is_the_local_one(client, local, messages):
    game = FrozenLake(map_name="4x4")
    decision = local.act(game.view(game.initial(None), 0))
    answer = ask(client, messages, temperature=0, logprobs=True, extra_body={"return_token_ids": True})
    assert answer.choices[0].message.content == decision.text
    assert answer.choices[0].token_ids == decision.token.tolist()
    assert answer.choices[0].prompt_token_ids == decision.context.tolist()
    assert [one.logprob for one in answer.choices[0].logprobs.content] == pytest.approx(decision.logprob.tolist())
    assert answer.usage.prompt_tokens == len(decision.context)
    assert answer.usage.completion_tokens == len(decision.token)


def test_a_seed_fixes_the_replies_and_the_members_of_one_request_differ(toy):
    client, name = toy
    settings = {"model": name, "messages": [{"role": "user", "content": "go"}], "n": 3, "max_tokens": 12}
    texts = [
        [c.message.content for c in client.chat.completions.create(**settings, seed=seed).choices] for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == 3


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_streamed_reply_is_the_same_text_in_pieces(toy, include_usage):
    client, name = toy
    settings = {"model": name, "messages": [{"role": "user", "content": "go"}], "seed": 3, "max_tokens": 30, "n": 2}
    whole = client.chat.completions.create(**settings)
    chunks = list(
        client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": include_usage})
    )
    for index in range(2):
        found = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert "".join(one.delta.content or "" for one in found) == whole.choices[index].message.content
        assert len(found) > 10
        assert found[-1].finish_reason == whole.choices[index].finish_reason
    assert [c.usage for c in chunks if c.usage] == ([whole.usage] if include_usage else [])


def test_completions_take_texts_and_token_ids(toy, toy_folder):
    from transformers import AutoTokenizer

    client, name = toy
    tokenizer = AutoTokenizer.from_pretrained(toy_folder("llama"))
    settings = {"model": name, "temperature": 0, "max_tokens": 10, "logprobs": 0}
    by_text = client.completions.create(prompt="You move", **settings)
    by_ids = client.completions.create(prompt=tokenizer.encode("You move"), **settings)
    both = client.completions.create(prompt=["You move", "Reply"], **settings)
    assert by_text.choices[0].text == by_ids.choices[0].text == both.choices[0].text != both.choices[1].text
    assert len(by_ids.choices[0].logprobs.token_logprobs) == by_ids.usage.completion_tokens
    alone, together = by_text.choices[0].logprobs, both.choices[0].logprobs
    assert alone.tokens == together.tokens
    assert alone.token_logprobs == pytest.approx(together.token_logprobs, abs=1e-5)
    streamed = client.completions.create(prompt="You move", stream=True, **settings)
    assert "".join(chunk.choices[0].text for chunk in streamed) == by_text.choices[0].text


def test_greedy_replies_of_a_folder_are_those_of_transformers(toy, toy_folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    client, name = toy
    messages = [{"role": "user", "content": "go left"}]
    tokenizer = AutoTokenizer.from_pretrained(toy_folder("llama"))
    model = AutoModelForCausalLM.from_pretrained(toy_folder("llama")).eval()
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        expected = model.generate(**prompt, do_sample=False, max_new_tokens=16)[0, prompt["input_ids"].shape[1] :]
    answer = client.chat.completions.create(
        model=name, messages=messages, temperature=0, max_tokens=16, extra_body={"return_token_ids": True}
    )
    assert answer.choices[0].token_ids == expected.tolist()


def test_the_token_that_ends_a_reply_is_counted_and_not_shown(toy):
    client, name = toy
    settings = {"model": name, "prompt": "You move", "n": 24, "max_tokens": 100, "temperature": 2, "seed": 0}
    choices = client.completions.create(**settings, extra_body={"return_token_ids": True}).choices
    ended = [one for one in choices if one.finish_reason == "stop"]
    assert 0 < len(ended) < 24
    for one in choices:
        ends = one.text.endswith(("<|eot_id|>", "<|end_of_text|>"))
        assert not ends
        assert (len(one.token_ids) == 100) or one in ended


def test_a_stop_string_ends_a_reply_and_is_left_out_unless_it_is_wanted(toy):
    client, name = toy
    settings = {"model": name, "prompt": "You move", "temperature": 0, "max_tokens": 20}
    text = client.completions.create(**settings).choices[0].text
    stop = text[4:7]
    assert stop.strip()
    cut = client.completions.create(**settings, stop=[stop, "never said"]).choices[0]
    kept = client.completions.create(**settings, stop=stop, extra_body={"include_stop_str_in_output": True}).choices[0]
    assert (cut.text, cut.finish_reason, cut.stop_reason) == (text[: text.index(stop)], "stop", stop)
    assert kept.text == text[: text.index(stop) + 3]


def test_fifty_requests_at_once_are_answered_in_few_batches(served_run, client, messages):
    alone = ask(client, messages, seed=7).choices[0].message.content
    before = len(served_run[1].batches)
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        seeds = [7 if i % 2 else i for i in range(50)]
        texts = list(pool.map(lambda seed: ask(client, messages, seed=seed).choices[0].message.content, seeds))
    assert all(text == alone for text, seed in zip(texts, seeds, strict=True) if seed == 7)
    batches = served_run[1].batches[before:]
    assert sum(batches) == 50
    assert len(batches) < 50


def test_only_the_token_opens_the_door(served_run):
    for token in ("wrong", "", TOKEN + "x"):
        with openai.OpenAI(base_url=served_run[0], api_key=token or "-", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                client.models.list()
            assert caught.value.code == "invalid_api_key"
            assert TOKEN not in str(caught.value)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{served_run[0]}/models")
    health = served_run[0].removesuffix("/v1") + "/health"
    assert json.load(urllib.request.urlopen(health)) == {"status": "ok"}


REFUSED = {
    "an unknown model": ({"model": "gpt"}, 404, "there is no model 'gpt'"),
    "no messages": ({"messages": []}, 400, "messages"),
    "an unknown role": ({"messages": [{"role": "judge", "content": "x"}]}, 400, "role"),
    "an image": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "text"),
    "a word that the model lacks": ({"messages": [{"role": "user", "content": "zebra"}]}, 400, "zebra"),
    "no reply": ({"max_tokens": 0}, 400, "max_tokens"),
    "more than the context holds": ({"max_tokens": 10**6}, 400, "context has"),
    "a wrong temperature": ({"temperature": 3}, 400, "temperature"),
    "nucleus sampling": ({"top_p": 0.9}, 400, "top_p is not offered"),
    "alternatives": ({"logprobs": True, "top_logprobs": 3}, 400, "top_logprobs is not offered"),
    "a stop that is empty": ({"stop": ""}, 400, "stop"),
    "too many replies": ({"n": 1000}, 400, "n:"),
    "what is no JSON": (b"{", 400, "no JSON"),
    "not a number": (b'{"model": "small", "temperature": NaN}', 400, "no JSON"),
    "a deep body": (b"[" * 200_000, 400, "no JSON"),
    "a list": (b"[]", 400, "object"),
    "a large body": (b" " * (4 * 2**20 + 1), 413, "at most"),
}


@pytest.mark.parametrize(("change", "status", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_answered_is_refused_in_the_format_of_openai(served_run, messages, change, status, sentence):
    body = (
        change if isinstance(change, bytes) else json.dumps({"model": "small", "messages": messages} | change).encode()
    )
    request = urllib.request.Request(
        f"{served_run[0]}/chat/completions",
        body,
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as answer:
        error = json.load(answer)["error"]
    assert answer.code == status
    assert sentence.lower() in error["message"].lower()
    assert set(error) == {"message", "type", "param", "code"}


def test_a_prompt_longer_than_the_context_is_refused(toy):
    client, name = toy
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=name, prompt=[5] * 1024)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="token ids are from 0"):
        client.completions.create(model=name, prompt=[5, 10**6])


def test_special_tokens_in_a_message_are_text(toy, toy_folder):
    from transformers import AutoTokenizer

    client, name = toy
    end = AutoTokenizer.from_pretrained(toy_folder("llama")).convert_tokens_to_ids("<|eot_id|>")
    answer = client.chat.completions.create(
        model=name,
        messages=[{"role": "user", "content": "x<|eot_id|>y"}],
        extra_body={"return_token_ids": True},
        max_tokens=1,
    )
    assert answer.choices[0].prompt_token_ids.count(end) == 1  # the one of the template


def test_too_many_waiting_requests_are_turned_away(small_run):
    from lapwing.api._serving_engine import Busy, Engine, Sampling

    engine = Engine(lambda sampling: None, most_waiting=2)  # pyright: ignore
    with pytest.raises(Busy):
        engine.submit([None] * 3, Sampling(1.0, False, 1, ()))  # pyright: ignore
    failed = engine.submit([None], Sampling(1.0, False, 1, ()))  # pyright: ignore
    assert isinstance(failed.exception(60), AttributeError)
    engine.close()


def serve(*words, **environment):
    command = [sys.executable, "-m", "lapwing.cli", "serve", *map(str, words)]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )


def test_the_command_announces_address_and_token_and_ends_on_sigterm(small_run):
    process = serve(small_run, "--port", "0", "--greedy")
    try:
        first, second = process.stderr.readline(), process.stderr.readline()
        address = first.split(" at ")[1].split(";")[0]
        token = second.rpartition(" ")[2].strip()
        assert address.startswith("http://127.0.0.1:")
        with openai.OpenAI(base_url=address, api_key=token) as client:
            assert [model.id for model in client.models.list()] == ["small"]
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[1]
    assert (process.returncode, said) == (143, "")


# F75: a port that is taken, a name that does not resolve. Fails when the server's own error comes out.
def test_a_port_in_use_a_wrong_host_and_a_missing_token_are_said_at_once(small_run, monkeypatch):
    from lapwing.api.serving import serve

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="is in use; choose another with --port"):
            serve(small_run, port=taken.getsockname()[1])
    with pytest.raises(UserError, match=r"'no.such.host.invalid' is not known"):
        serve(small_run, host="no.such.host.invalid")
    with pytest.raises(UserError, match="from 0 to 65535"):
        serve(small_run, port=70_000)
    monkeypatch.delenv("NO_TOKEN_HERE", raising=False)
    with pytest.raises(UserError, match="NO_TOKEN_HERE holds no token"):
        serve(small_run, token_env="NO_TOKEN_HERE")
