"""The contract with vLLM: a server of ours that speaks it as documented, on a toy model that it loads itself."""

import asyncio
import contextlib
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from transformers import AutoModelForCausalLM, AutoTokenizer

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.types import Match, Prompt, Request
from lapwing.games.frozen_lake import FrozenLake
from lapwing.generation._weight_push import weights_hash
from lapwing.generation.transformers import Transformers
from lapwing.generation.vllm import VLLM


class Documented:
    """What vLLM's documentation says of the endpoints that are used, and nothing else."""

    def __init__(self, folder):
        self.base = folder
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.adapters = {}
        self.label = None
        self.is_paused = self.is_updating = self.is_ready = False
        self.calls, self.bodies, self.labels = [], [], []
        self.failures = {}
        self.lock = threading.Lock()

    def app(self):
        post = {
            "/v1/completions": self.complete,
            "/v1/load_lora_adapter": self.load_adapter,
            "/v1/unload_lora_adapter": self.unload_adapter,
            "/init_weight_transfer_engine": self.init,
            "/pause": self.pause,
            "/resume": self.resume,
            "/start_weight_update": self.start,
            "/update_weights": self.update,
            "/finish_weight_update": self.finish,
        }
        get = {"/v1/models": self.models, "/weight_info": self.info}
        routes = [Route(path, self.logged(path, handle), methods=["POST"]) for path, handle in post.items()]
        return Starlette(routes=[*routes, *(Route(p, self.logged(p, h), methods=["GET"]) for p, h in get.items())])

    def logged(self, path, handle):
        async def wrapped(request):
            self.calls.append(path)
            failures = self.failures.get(path, [])
            if failures:
                failed = failures.pop(0)
                if failed == "hang":
                    await asyncio.sleep(20.0)
                    return JSONResponse({})
                return JSONResponse({"error": {"message": "no"}}, failed)
            body = await request.json() if request.method == "POST" else None
            return await asyncio.to_thread(handle, request, body)

        return wrapped

    def models(self, request, body):
        return JSONResponse({"object": "list", "data": [{"id": name} for name in ("base-model", *self.adapters)]})

    def info(self, request, body):
        return JSONResponse({"weight_version": self.label})

    def init(self, request, body):
        assert body == {"init_info": {}}
        self.is_ready = True
        return JSONResponse({"message": "Weight transfer initialized"})

    def pause(self, request, body):
        assert request.query_params["mode"] == "wait"
        self.is_paused = True
        return JSONResponse({"status": "paused"})

    def resume(self, request, body):
        self.is_paused = False
        return JSONResponse({"status": "resumed"})

    def start(self, request, body):
        assert self.is_ready
        assert self.is_paused
        assert not self.is_updating
        self.is_updating = True
        return JSONResponse({"message": "Weight update started"})

    def update(self, request, body):
        path = Path(body["update_info"]["path"])
        assert self.is_updating
        assert path.is_absolute()
        assert list(path.glob("*.safetensors"))
        self.model = AutoModelForCausalLM.from_pretrained(path).eval()
        return JSONResponse({"message": "Weights updated"})

    def finish(self, request, body):
        self.is_updating = False
        self.label = body.get("weight_version") or self.label
        self.labels.append(self.label)
        return JSONResponse({"message": "Weight update finished"})

    def load_adapter(self, request, body):
        from peft import PeftModel

        if body["lora_name"] in self.adapters:
            return JSONResponse({"error": {"message": "already loaded"}}, 400)
        base = AutoModelForCausalLM.from_pretrained(self.base)
        self.adapters[body["lora_name"]] = PeftModel.from_pretrained(base, body["lora_path"]).eval()
        return PlainTextResponse(f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    def unload_adapter(self, request, body):
        if self.adapters.pop(body["lora_name"], None) is None:
            return JSONResponse({"error": {"message": "cannot be found"}}, 404)
        return PlainTextResponse(f"Success: LoRA adapter '{body['lora_name']}' removed successfully.")

    def complete(self, request, body):
        assert not self.is_paused
        self.bodies.append(body)
        model = self.model if body["model"] == "base-model" else self.adapters.get(body["model"])
        if model is None:
            return JSONResponse({"error": {"message": f"The model `{body['model']}` does not exist."}}, 404)
        with self.lock:
            token, logprob, reason = sample(model, self.tokenizer, body)
        text = self.tokenizer.decode(token, skip_special_tokens=body["skip_special_tokens"])
        choice = {
            "index": 0,
            "text": text,
            "finish_reason": reason,
            "stop_reason": None,
            "logprobs": {"tokens": [""] * len(token), "token_logprobs": logprob, "top_logprobs": [], "text_offset": []},
            "token_ids": token,
            "prompt_token_ids": body["prompt"],
        }
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(token)}
        return JSONResponse({"id": "cmpl-1", "model": body["model"], "choices": [choice], "usage": usage})


@torch.no_grad()
def sample(model, tokenizer, body):
    """One reply, token by token; the seed alone decides, whatever else is under way."""
    noise = torch.Generator().manual_seed(body["seed"] % 2**62)
    token, logprobs = [], []
    while True:
        logits = model(input_ids=torch.tensor([body["prompt"] + token])).logits[0, -1].double()
        distribution = torch.log_softmax(logits / (body["temperature"] or 1.0), -1)
        drawn = torch.multinomial(distribution.exp(), 1, generator=noise)
        one = int(distribution.argmax()) if body["temperature"] == 0 else int(drawn)
        token.append(one)
        logprobs.append(float(distribution[one]))
        text = tokenizer.decode(token)
        if one in body["stop_token_ids"] or any(stop in text for stop in body["stop"]):
            return token, logprobs, "stop"
        if len(token) == body["max_tokens"]:
            return token, logprobs, "length"


@pytest.fixture
def start(run_app, toy_folder, tmp_path):
    folder = toy_folder("llama")
    with contextlib.ExitStack() as stack:
        server = Documented(folder)
        address = stack.enter_context(run_app(server.app())).removesuffix("/v1")

        def begin(model=None, **settings):
            model = AutoModelForCausalLM.from_pretrained(folder).eval() if model is None else model
            given = {"base_url": address, "sync_folder": str(tmp_path / "sync"), "max_tokens": 6, "retries": 2}
            return server, VLLM(model, server.tokenizer, **{**given, "timeout_seconds": 60.0, **settings})

        yield begin


def requests(tokenizer, texts, keys):
    tokens = [np.array(tokenizer.encode(text), dtype=np.int32) for text in texts]
    return [Request(Prompt(token, token.tobytes()), key) for token, key in zip(tokens, keys, strict=True)]


PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
TEXTS = ["You move on", "Reply with", "goal", "You are at row"]


def change(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))


def test_greedy_replies_and_their_logprobs_are_the_local_ones(start):
    server, vllm = start(stop=("r",), greedy=True)
    asked = requests(server.tokenizer, TEXTS, range(4))
    here = Transformers(vllm.model, server.tokenizer, max_tokens=6, greedy=True, stop=("r",)).generate(asked)
    there = vllm.generate(asked)
    for local, remote in zip(here, there, strict=True):
        assert remote.token.tolist() == local.token.tolist()
        assert remote.stop_reason == local.stop_reason
        np.testing.assert_allclose(remote.logprob, local.logprob, atol=1e-4)
    assert server.bodies[0]["top_k"] == 0


def test_a_key_fixes_a_reply_whatever_else_is_asked(start):
    server, vllm = start()
    together = vllm.generate(requests(server.tokenizer, TEXTS, [5, 6, 7, 8]))
    alone = vllm.generate(requests(server.tokenizer, TEXTS[2:3], [7]))
    other = vllm.generate(requests(server.tokenizer, TEXTS[2:3], [9 << 40]))
    assert alone[0].token.tolist() == together[2].token.tolist() != other[0].token.tolist()
    assert server.bodies[0]["seed"] in {key >> 1 for key in (5, 6, 7, 8)}


def test_a_rollout_through_the_server_is_the_local_one(start):
    from lapwing.policies.agent import Agent
    from lapwing.policies.contexts import Transcript
    from lapwing.policies.parsers import Tags
    from lapwing.policies.renderers import Grid
    from lapwing.rollout.play import play

    server, vllm = start(greedy=True, max_tokens=4)
    here = Transformers(vllm.model, server.tokenizer, max_tokens=4, greedy=True)
    game = FrozenLake(map_name="4x4")
    matches = [Match(game=game, seed=0, split="test", iteration=0, group=i, member=0, max_steps=2) for i in range(2)]
    texts = []
    for generator in (here, vllm):
        agent = Agent(
            renderer=Grid(), context=Transcript(), parser=Tags(), tokenizer=server.tokenizer, generator=generator
        )
        episodes = play(matches, {0: agent})
        texts.append([[(s.decision.text, s.decision.context.tolist()) for s in e.steps] for e in episodes])
    assert texts[0] == texts[1]


def test_weights_are_pushed_when_they_changed_and_not_otherwise(start, tmp_path):
    server, vllm = start(greedy=True)
    asked = requests(server.tokenizer, TEXTS, range(4))
    before = vllm.generate(asked)
    vllm.forget()
    assert server.calls.count("/update_weights") == 1
    change(vllm.model)
    vllm.forget()
    assert server.calls.count("/update_weights") == 2
    assert server.label == f"1-{weights_hash(vllm.model)}"
    assert not server.is_paused
    after = vllm.generate(asked)
    local = Transformers(vllm.model, server.tokenizer, max_tokens=6, greedy=True).generate(asked)
    assert [c.token.tolist() for c in after] == [c.token.tolist() for c in local]
    assert any(a.token.tolist() != b.token.tolist() for a, b in zip(after, before, strict=True))
    assert list((tmp_path / "sync").iterdir()) == []


@PEFT_WARNS
def test_an_adapter_is_pushed_alone_and_each_version_has_its_name(start, tmp_path):
    pytest.importorskip("peft")
    from lapwing.models.lora import LoraSettings, add_adapter, has_adapter

    server, vllm = start(greedy=True)
    add_adapter(vllm.model, LoraSettings(), seed=0, base=str(server.base), revision=None)
    assert has_adapter(vllm.model)
    change(vllm.model)
    asked = requests(server.tokenizer, TEXTS, range(4))
    for _ in range(2):
        there = vllm.generate(asked)
        local = Transformers(vllm.model, server.tokenizer, max_tokens=6, greedy=True).generate(asked)
        assert [c.token.tolist() for c in there] == [c.token.tolist() for c in local]
        (name,) = server.adapters
        assert name.endswith(weights_hash(vllm.model))
        (folder,) = (tmp_path / "sync").iterdir()
        assert set(load_file(folder / "adapter_model.safetensors"))
        change(vllm.model)
        vllm.forget()
    assert "/update_weights" not in server.calls
    server.adapters.clear()  # as after a restart
    with pytest.raises(LapwingError, match="has the weights 'none'"):
        vllm.generate(asked)


def test_weights_that_are_not_ours_are_an_error(start):
    server, vllm = start()
    vllm.forget()
    server.label = "7-0123456789abcdef"
    with pytest.raises(LapwingError, match="has the weights '7-0123456789abcdef' and not '0-"):
        vllm.generate(requests(server.tokenizer, TEXTS[:1], [0]))
    assert "/v1/completions" not in server.calls
    vllm.forget()  # two generators of one server take turns so
    assert server.label.startswith("1-")
    assert vllm.generate(requests(server.tokenizer, TEXTS[:1], [0]))


@pytest.mark.parametrize("path", ["/start_weight_update", "/update_weights", "/finish_weight_update"])
def test_a_push_that_fails_is_closed_and_marked_and_nothing_is_sampled_before_another_one(start, path):
    server, vllm = start()
    vllm.forget()
    change(vllm.model)
    server.failures[path] = [500]
    with pytest.raises(LapwingError, match=f"{path} did not answer in 1 attempts"):
        vllm.forget()
    assert not server.is_paused
    assert not server.is_updating
    assert server.label == f"failed-1-{weights_hash(vllm.model)}"
    assert vllm.generate(requests(server.tokenizer, TEXTS[:1], [0]))  # pushes first
    assert server.label == f"1-{weights_hash(vllm.model)}"


@PEFT_WARNS
def test_an_adapter_that_fails_to_load_is_taken_out(start, tmp_path):
    pytest.importorskip("peft")
    from lapwing.models.lora import LoraSettings, add_adapter

    server, vllm = start()
    add_adapter(vllm.model, LoraSettings(), seed=0, base=str(server.base), revision=None)
    server.failures["/v1/load_lora_adapter"] = [400]
    with pytest.raises(UserError, match="/v1/load_lora_adapter refused"):
        vllm.forget()
    assert server.calls[-1] == "/v1/unload_lora_adapter"
    assert list((tmp_path / "sync").iterdir()) == []
    assert vllm.generate(requests(server.tokenizer, TEXTS[:1], [0]))


def test_timeouts_and_errors_of_the_server_are_tried_again_within_a_bound(start):
    server, vllm = start(timeout_seconds=3.0)
    vllm.forget()
    asked = requests(server.tokenizer, TEXTS[:1], [0])
    server.failures["/v1/completions"] = [500, "hang"]
    assert len(vllm.generate(asked)[0].token)
    server.failures["/v1/completions"] = [503] * 3
    with pytest.raises(LapwingError, match=r"did not answer in 3 attempts .HTTP 503: no"):
        vllm.generate(asked)
    server.failures["/v1/completions"] = [400]
    with pytest.raises(UserError, match="HTTP 400: no"):
        vllm.generate(asked)
    assert server.calls.count("/v1/completions") == 3 + 3 + 1


BROKEN = {
    "no token ids": lambda choice: choice.pop("token_ids"),
    "too few log-probabilities": lambda choice: choice["logprobs"].update(token_logprobs=[0.0]),
    "another prompt": lambda choice: choice.update(prompt_token_ids=[1]),
    "an abort": lambda choice: choice.update(finish_reason="abort"),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_answers_that_do_not_keep_the_contract_are_errors(start, spoil):
    _, vllm = start()
    choice = {
        "token_ids": [5, 6],
        "logprobs": {"token_logprobs": [-1.0, -2.0]},
        "prompt_token_ids": [3],
        "finish_reason": "length",
    }
    assert vllm._completion({"choices": [choice]}, [3]).token.tolist() == [5, 6]
    spoil(choice)
    with pytest.raises(LapwingError, match=r"answered|broke off"):
        vllm._completion({"choices": [choice]}, [3])


WRONG = {
    "no budget": {"max_tokens": 0},
    "no temperature": {"temperature": 0.0},
    "no address": {"base_url": "localhost:8000"},
    "a key in the address": {"base_url": "http://u:p@localhost"},
    "no time": {"timeout_seconds": 0.0},
}


@pytest.mark.parametrize("settings", WRONG.values(), ids=WRONG)
def test_wrong_settings_are_refused(start, settings):
    with pytest.raises(UserError):
        start(**settings)


def test_nobody_at_the_address_is_said(start):
    _, vllm = start(base_url="http://127.0.0.1:9", retries=0)
    with pytest.raises(LapwingError, match=r"http://127.0.0.1:9/v1/models did not answer in 1 attempts"):
        vllm.forget()


def test_a_run_trains_through_the_server(start, tmp_path):
    import lapwing

    server, vllm = start()
    recipe = tmp_path / "through_vllm.toml"
    recipe.write_text(f"""
        [[stage]]
        name = "main"
        iterations = 2
        game = {{ name = "frozen_lake", map_name = "4x4" }}
        policy = {{ renderer = {{ name = "grid" }}, parser = {{ name = "tags" }} }}
        model = {{ name = "{server.base}" }}
        generation = {{ name = "vllm", base_url = "{vllm._server.base_url}", max_tokens = 4 }}
        sampler = {{ groups = 1, group_size = 3, max_steps = 2 }}
        credit = {{ name = "grpo" }}
        loss = {{ name = "negative_log_likelihood" }}
        optimizer = {{ learning_rate = 0.01 }}
        evaluation = {{ episodes = 2 }}
    """)
    run = lapwing.train(str(recipe), run=tmp_path / "run")
    # Once at the start and once after each update; the evaluation at the end is by the weights of the last one.
    assert server.calls.count("/update_weights") >= 3
    assert run.evaluation["policies"]["trained"]["tokens_per_step"]["mean"] == 4.0
    trained = AutoModelForCausalLM.from_pretrained(run.model)
    assert any(label.endswith(weights_hash(trained)) for label in server.labels)
