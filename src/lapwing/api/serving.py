"""Give a trained policy an OpenAI-compatible endpoint."""

import copy
import dataclasses
import errno
import importlib.util
import os
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lapwing import build
from lapwing.api._serving_engine import Engine, Sampling
from lapwing.api.loading import plan_and_shop
from lapwing.core.clean_text import encodable
from lapwing.core.errors import UserError
from lapwing.core.paths import checked_path

# Any game will do for a model that comes from no run: none is played.
_GAME = "bandit"


def serve(
    run_or_model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_env: str | None = None,
    has_token: bool = True,
    greedy: bool = False,
    allow_code: Sequence[str] = (),
    announce: Callable[[str], Any] = sys.stderr.write,
) -> int:
    """Answer requests until a signal ends it.

    GET /v1/models and /health, POST /v1/chat/completions and /v1/completions: `n`, `max_tokens`, `temperature` (0 is
    greedy), `stop`, `seed`, `logprobs` (of the sampled tokens), `stream` (the reply is sent in pieces once it is
    complete), and of vLLM's extensions `return_token_ids` and `include_stop_str_in_output`. Replies are text: `tools`
    are shown to the model, and calls are left for the client to read. Requests that arrive while others are generated
    are the next batch. Where a request says nothing, the run's temperature and reply budget hold.

    Args:
      run_or_model: the folder of a run, a Hugging Face folder, or a hub id.
      host: the address to listen on; only this machine reaches the default.
      port: 0 takes a free one.
      token_env: the environment variable with the token that requests must bear; a random one is announced if left out.
      has_token: whether one is wanted at all.
      greedy: answer every request with the most probable tokens.
      allow_code: packages outside Lapwing whose code the run's recipe may name.
      announce: is told the address and the token, once.

    Returns:
      128 + the number of the signal.

    Raises:
      UserError: there is no such run or model, the port is taken, or a package is missing.
    """
    uvicorn = _package()
    token = _token(token_env) if has_token else None
    listening = _listen(host, port)
    with listening:
        app, engine = make_app(run_or_model, token=token, greedy=greedy, allow_code=allow_code)
        announce(_announcement(app.name, listening, token if token_env is None else None))
        # A request that is being generated when the signal comes is still answered.
        config = uvicorn.Config(app.starlette(), log_level="warning", lifespan="off", timeout_graceful_shutdown=10)
        try:
            return _run(uvicorn.Server(config), listening)
        finally:
            engine.close()


def make_app(
    run_or_model: str | Path, *, token: str | None = None, greedy: bool = False, allow_code: Sequence[str] = ()
) -> tuple[Any, Engine]:
    """The application of a run or model, and its engine, which is to be closed in the end.

    Args:
      run_or_model, greedy, allow_code: as for `serve`.
      token: what requests must bear; None for none.
    """
    from lapwing.api._serving_app import App

    path = checked_path(run_or_model, "the run or model")
    is_run = (path / "recipe.toml").is_file()
    overrides = ["generation.name=transformers"]
    plan, shop = plan_and_shop(str(run_or_model), None if is_run else _GAME, overrides, allow_code=allow_code)
    settings = plan.generation.settings
    reader = _ModelReader(plan, shop)

    def make(sampling: Sampling) -> Any:
        return build.make_generator(plan, shop, ends=reader.ends, **sampling._asdict())

    defaults = Sampling(settings["temperature"], greedy or settings["greedy"], settings["max_tokens"], ())
    engine = Engine(make)
    name = path.resolve().name if path.is_dir() else str(run_or_model)
    return App(engine, reader, name=name, defaults=defaults, token=token), engine


class _ModelReader:
    """Reads dialogues as the run's agent does."""

    def __init__(self, plan: build.StagePlan, shop: build.Workshop) -> None:
        from lapwing.policies.escape import SpecialTokens

        # The generator decodes in its own thread.
        self._tokenizer = copy.deepcopy(shop.tokenizer)
        self._chat = build.make_chat(plan, dataclasses.replace(shop, tokenizer=self._tokenizer))
        self.ends: frozenset[int] = self._chat.ends
        parser = plan.parser.make(**plan.parser.settings)
        own = {f"{bracket}{tag}>" for tag in getattr(parser, "tags", ()) for bracket in ("<", "</")}
        self._special = SpecialTokens(self._tokenizer, own)
        config = shop.model.config.get_text_config()
        self.vocabulary: int = config.vocab_size
        self.positions: int = getattr(config, "max_position_embeddings", None) or 2**20

    def dialogue(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> np.ndarray:
        """The context of a dialogue; special tokens in its texts are only text."""
        shown: Any = [
            {**m, "content": self._special.neutral(m["content"], is_own=m["role"] in ("system", "assistant"))}
            for m in messages
        ]
        return self._chat.encode(shown, self._special.neutral_in(tools) if tools else None)

    def text(self, text: str) -> np.ndarray:
        """A text as token ids, begun as the tokenizer begins texts."""
        return np.array(self._tokenizer.encode(encodable(text)), dtype=np.int32)

    def decode(self, token: Any) -> str:
        """Token ids as text."""
        return self._chat.decode(token)


def _run(server: Any, listening: socket.socket) -> int:
    from lapwing.training.interruption import Interrupted

    try:
        server.run(sockets=[listening])
    except Interrupted as stopped:
        return stopped.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _announcement(name: str, listening: socket.socket, token: str | None) -> str:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    lines = [f"Serving '{name}' at http://{shown}:{port}/v1; Ctrl-C ends it."]
    if token is not None:
        lines.append(f"Token, shown once: {token}")
    return "\n".join(lines) + "\n"


def _token(token_env: str | None) -> str:
    if token_env is None:
        return secrets.token_urlsafe(24)
    token = os.environ.get(token_env, "").strip()
    if not token:
        raise UserError(f"The environment variable {token_env} holds no token; set it, or leave out --token-env.")
    return token


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise UserError(f"A port is a number from 0 to 65535, not {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise UserError(f"The host '{host}' is not known here; 127.0.0.1 is this machine.") from None
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror})"
        raise UserError(
            f"Port {port} of {host} {why}; choose another with --port, or --port 0 for a free one."
        ) from None
    return listening


def _package() -> Any:
    try:
        import uvicorn
    except ImportError:
        uvicorn = None
    if uvicorn is None or importlib.util.find_spec("starlette") is None:
        raise UserError('`lapwing serve` needs uvicorn and starlette: pip install "lapwing[serve]".')
    return uvicorn
