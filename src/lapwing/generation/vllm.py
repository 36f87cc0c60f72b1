"""Sampling by a vLLM server: token ids in, token ids and log-probabilities out, weights pushed after each update.

Written against vLLM's documentation and held to it by a contract test on a server of ours; **it has not been run
against vLLM itself**, which could not be installed where it was written. Start the server by hand, for all weights with

    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs --generation-config vllm \
        --weight-transfer-config '{"backend": "disk"}'

and for an adapter with

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve MODEL --logprobs-mode processed_logprobs \
        --generation-config vllm --enable-lora --max-lora-rank 64

on an address that nobody else reaches: the endpoints of the development mode ask for no key.

Reference: https://docs.vllm.ai/en/latest/serving/online_serving/openai_compatible_server/
"""

import copy
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.types import Completion, Prompt, Request
from lapwing.generation._http import JSONServer
from lapwing.generation._memo import WeightsStamp
from lapwing.generation._weight_push import AdapterPush, DiskPush, Push, weights_hash


class VLLM:
    """Asks a vLLM server for replies under the weights that the trainer holds.

    Each request carries the reply's key as its seed. `forget`, which the loop calls whenever the weights may have
    changed, pushes them if the server has others; a server whose label is another before or after a batch is an error,
    for its replies would be of unknown weights. Replies differ from those of `Transformers` in their noise and in
    rounding.
    """

    def __init__(  # noqa: PLR0913 (the signature is the schema of a recipe's section)
        self,
        model: Any,
        tokenizer: Any,
        *,
        ends: frozenset[int] | None = None,
        stop: tuple[str, ...] = (),
        base_url: str = "http://127.0.0.1:8000",
        served_model: str = "",
        sync_folder: str = "",
        token_env: str = "VLLM_API_KEY",
        max_tokens: int = 256,
        temperature: float = 1.0,
        greedy: bool = False,
        concurrency: int = 64,
        retries: int = 3,
        timeout_seconds: float = 300.0,
        row_tokens: int = 160,
        batch_tokens: int = 16384,
    ) -> None:
        """Make the generator; nothing is sent yet.

        Args:
          model, tokenizer: of the trainer; an adapter in the model is pushed alone.
          ends: the tokens that end a reply; the tokenizer's end of text if left out.
          stop: a reply ends with the first of these strings; it is kept in the reply.
          base_url: of the server, without /v1.
          served_model: what the server calls the model; if left out, the first one that it lists.
          sync_folder: where weights are put for the server, which sees it at the same path; a temporary folder if left
            out, for a server on this machine.
          token_env: the environment variable with the server's key, if it has one.
          max_tokens: the reply budget.
          temperature: logits are divided by it, above 0.
          greedy: take the most probable token.
          concurrency: requests under way at once; the server batches them.
          retries: further attempts after a connection error, a timeout, 429 or 5xx.
          timeout_seconds: for one answer, the loading of weights included.
          row_tokens, batch_tokens: sizes of packed rows and of one forward pass of the update, which is made here.

        Raises:
          UserError: a setting is impossible.
        """
        if max_tokens < 1 or concurrency < 1:
            raise UserError("generation.max_tokens and generation.concurrency are at least 1.")
        if not temperature > 0:
            raise UserError(f"generation.temperature is above 0, not {temperature}; for greedy decoding set greedy.")
        self.model = model
        self.tokenizer = tokenizer
        self.ends = frozenset({tokenizer.eos_token_id}) if ends is None else ends
        self.stop = stop
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.greedy = greedy
        self.row_tokens, self.batch_tokens = row_tokens, batch_tokens
        self._concurrency = concurrency
        self._served_model = served_model
        self._sync_folder = sync_folder
        self._server = JSONServer(base_url, token_env=token_env, timeout_seconds=timeout_seconds, retries=retries)
        self._sync = _Sync()
        self._stamp = WeightsStamp(model)

    def greedily(self) -> "VLLM":
        """The same generator with greedy decoding; the two share what was pushed."""
        other = copy.copy(self)
        other.greedy = True
        return other

    def prefetch(self, prompts: Sequence[Prompt]) -> None:
        """The server keeps its own cache of prefixes."""

    def forget(self) -> None:
        """The weights may have changed: push them if the server has others."""
        self.load(self.model, self._sync.version + 1)

    def load(self, weights: Any, version: int) -> None:
        """Push weights unless the server has them.

        Args:
          weights: the model, with them in it.
          version: their number.

        Raises:
          LapwingError, UserError: the server did not take them; it is not asked for replies until a push succeeds.
        """
        found = weights_hash(weights)
        self._stamp.take()
        push = self._sync.push
        if push is not None and found == self._sync.hash and push.current() == self._sync.label:
            return
        label = f"{version}-{found}"
        self._sync.hash = self._sync.label = ""
        push = self._sync.push = push or self._make_push(weights)
        push.push(label)
        self._sync.label, self._sync.hash, self._sync.version = label, found, version

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Sample one reply for each request, in order.

        Raises:
          LapwingError: the server does not have the weights that were pushed last, or did not answer; or the weights
            here changed, and nobody called `forget`.
          UserError: the server refused a request.
        """
        if not requests:
            return []
        if not self._sync.label:
            self.forget()
        self._stamp.check(kept=True)
        self._check_weights()
        with ThreadPoolExecutor(min(self._concurrency, len(requests))) as pool:
            futures = [pool.submit(self._one, request) for request in requests]
            try:
                completions = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._check_weights()
        return completions

    def stop_reason(self, reply: Sequence[int]) -> str:
        """What ended a reply of these tokens: "end", "stop" or "length"."""
        if len(reply) and int(reply[-1]) in self.ends:
            return "end"
        text = self.tokenizer.decode(reply) if self.stop else ""
        return "stop" if any(one in text for one in self.stop) else "length"

    def _make_push(self, model: Any) -> Push:
        from lapwing.models.lora import has_adapter, save_adapter

        folder = Path(self._sync_folder or tempfile.mkdtemp(prefix="lapwing-vllm-"))
        if not self._sync_folder:
            folder.chmod(0o755)
        if has_adapter(model):
            return AdapterPush(self._server, folder, lambda path: save_adapter(path, model))
        served = self._served_model or str(self._server.get("/v1/models")["data"][0]["id"])
        return DiskPush(self._server, folder, served, model.save_pretrained)

    def _check_weights(self) -> None:
        push = self._sync.push
        assert push is not None
        if (found := push.current()) != self._sync.label:
            raise LapwingError(
                f"The server at {self._server.base_url} has the weights '{found}' and not '{self._sync.label}', which "
                "were pushed last: its replies are of unknown weights; see whether it was restarted, or something else "
                "updates it."
            )

    def _one(self, request: Request) -> Completion:
        assert self._sync.push is not None
        prompt = request.prompt.token.tolist()
        body = {
            "model": self._sync.push.model,
            "prompt": prompt,
            "add_special_tokens": False,
            "max_tokens": self.max_tokens,
            "temperature": 0.0 if self.greedy else self.temperature,
            # What a model's generation settings may say otherwise.
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "seed": request.key >> 1,
            "stop": list(self.stop),
            "include_stop_str_in_output": True,
            "stop_token_ids": sorted(self.ends),
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "logprobs": 1,
            "return_token_ids": True,
        }
        answer = self._server.post("/v1/completions", body)
        if answer["model"] != body["model"]:
            raise LapwingError(f"{self._server.base_url} answered for the model '{answer['model']}'.")
        return self._completion(answer, prompt)

    def _completion(self, answer: Any, prompt: list[int]) -> Completion:
        try:
            choice = answer["choices"][0]
            token = np.array(choice["token_ids"], dtype=np.int32)
            logprob = np.array(choice["logprobs"]["token_logprobs"], dtype=np.float64)
            echoed = choice.get("prompt_token_ids") or prompt
            reason = choice["finish_reason"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise LapwingError(
                f"{self._server.base_url} answered without token ids and log-probabilities ({error!r} is missing); "
                "vLLM 0.10.2 and later return them."
            ) from None
        if len(token) != len(logprob) or not len(token) or not np.isfinite(logprob).all() or echoed != prompt:
            raise LapwingError(f"{self._server.base_url} answered with token ids that do not fit the request.")
        if reason not in ("stop", "length"):
            raise LapwingError(f"{self._server.base_url} broke off a reply (finish_reason '{reason}').")
        return Completion(token, logprob, self.stop_reason(token.tolist()))


class _Sync:
    """What was pushed last; shared by copies of a generator."""

    def __init__(self) -> None:
        self.version = -1
        self.label = ""
        self.hash = ""
        self.push: Push | None = None
