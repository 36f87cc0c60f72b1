"""Secrets stay in the environment; nobody listens and nobody calls unless asked."""

import ctypes
import json
import multiprocessing
import os
import socket
import sys
from pathlib import Path

import pytest

import lapwing
from lapwing import build
from lapwing.core.errors import UserError

# As tests/faults/test_resume.py: forked from one server that has imported everything slow.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        *("lapwing.api", "lapwing.training.session", "lapwing.models.tiny", "lapwing.report.page"),
        *("lapwing.evaluation.evaluate", "lapwing.rollout.collector", "lapwing.generation.transformers"),
        *("torch._dynamo", "transformers.models.llama.modeling_llama", "transformers.convert_slow_tokenizer"),
        *("matplotlib.figure", "matplotlib.style", "scipy.stats"),
    ]
)

# Where people keep keys, and the names that our own settings have by default.
NAMES = ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_SERVER_TOKEN")
CANARIES = {name: f"canary{number}x7Qb9pLw3Zk5Tn2Vd8" for number, name in enumerate(NAMES)}


def leaks(*places):
    """The files, or texts, that hold a canary as it is, in base64 or in hexadecimal."""
    import base64

    secrets = [secret.encode() for secret in CANARIES.values()]
    # The middle of base64 depends on where it begins, up to the third byte.
    packed = [base64.b64encode(secret[at:])[:-4] for secret in secrets for at in range(3)]
    forms = [*secrets, *packed, *(secret.hex().encode() for secret in secrets)]
    found = []
    for place in places:
        files = [file for file in place.rglob("*") if file.is_file()] if isinstance(place, Path) else [place]
        for file in files:
            content = file.read_bytes() if isinstance(file, Path) else str(file).encode("utf-8", "replace")
            if any(form in content for form in forms):
                found.append(file)
    return found


def test_a_canary_is_found_in_every_form(tmp_path):
    # Fails when the search finds nothing, so that the tests below could not fail.
    import base64

    secret = CANARIES["HF_TOKEN"].encode()
    for number, content in enumerate((secret, base64.b64encode(b"ab" + secret + b"c"), secret.hex().encode(), b"none")):
        (tmp_path / f"{number}").write_bytes(b"\0" + content + b"\0")
    assert len(leaks(tmp_path)) == 3
    assert leaks("a" + CANARIES["HF_TOKEN"]) != []


# ---------------------------------------------------------------------------------------------------------------------
# F66, F67 and F68 at once: a run in a process without a network, with keys in its environment.

_NEW_NETWORK = 0x4000_0000
_LISTENING = "0A"


def listening():
    """Addresses that anybody listens on, as /proc has them; in a network of our own these are our own processes."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        rows = [row.split() for row in Path(table).read_text().splitlines()[1:]]
        found += [row[1] for row in rows if row[3] == _LISTENING]
    return found


def train_alone(folder, overrides, told):
    """Train in this process, which has keys and no network, and write down what it asked of the network."""
    alone = ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK) == 0
    os.environ.update(CANARIES)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.pop(name, None)
    asked, seen = [], []

    def listen(event, arguments):
        if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
            asked.append(f"{event} {arguments}")

    sys.addaudithook(listen)
    with (told / "said").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        sys.argv = ["lapwing", "train", "frozen_lake_tiny", "--run", str(folder)]
        from lapwing.console import Progress, show_result

        with Progress() as progress:

            def watch(row):
                progress.watch(row)
                seen.extend(listening() if alone else ())

            show_result(lapwing.train("frozen_lake_tiny", run=folder, overrides=overrides, watch=watch))
        sys.stdout.flush()
    (told / "told").write_text(json.dumps({"alone": alone, "asked": asked, "listening": seen}))


@pytest.fixture(scope="module")
def trained_alone(tmp_path_factory, small, small_run):
    """A run of the small recipe in such a process, and what it said and asked for."""
    folder, told = tmp_path_factory.mktemp("alone") / "run", tmp_path_factory.mktemp("told")
    process = PROCESSES.Process(target=train_alone, args=(folder, small, told))
    process.start()
    process.join(timeout=180)
    assert process.exitcode == 0, (told / "said").read_text()
    return folder, (told / "said").read_text(), json.loads((told / "told").read_text())


# Fails when the environment, or what a process was started with, is written into a manifest, a log or a page.
def test_f66_no_key_of_the_environment_is_in_a_run_or_in_what_it_said(trained_alone):
    folder, said, _ = trained_alone
    assert "report:" in said
    assert leaks(folder, said) == []


# Fails when anything asks the hub, a name server or a meter of usage: there the results would differ, or it is heard.
def test_f68_a_run_asks_nothing_of_the_network_and_is_the_same_without_one(trained_alone, small_run, what_counts):
    folder, _, told = trained_alone
    assert told["asked"] == []
    assert what_counts(folder) == what_counts(small_run)
    if not told["alone"]:
        pytest.skip("this machine does not let a process leave the network; what it asked for was heard all the same")


# Fails when a server is started that nobody asked for.
def test_f67_nobody_listens_while_a_run_trains(trained_alone):
    _, _, told = trained_alone
    assert [event for event in told["asked"] if event.startswith("socket.bind")] == []
    assert told["listening"] == []


def test_what_a_process_asks_of_the_network_is_heard():
    # Fails when the hook of the tests above hears nothing.
    heard, is_on = [], True
    sys.addaudithook(lambda event, arguments: heard.append(event) if is_on and event.startswith("socket.") else None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
        port = f"{server.getsockname()[1]:04X}"
        assert f"0100007F:{port}" in listening()
    is_on = False
    assert {"socket.bind", "socket.connect"} <= set(heard)


# Fails when `serve` listens on all interfaces by default. With a token of its own: tests/api/test_serving.py.
def test_f67_what_is_served_is_on_this_machine_alone_unless_it_is_asked_for(small_run, monkeypatch):
    from lapwing.api import serving

    found = []

    def run(server, listening_socket):
        found.append(listening_socket.getsockname())
        return 0

    monkeypatch.setattr(serving, "_run", run)
    said = []
    assert serving.serve(small_run, port=0, announce=said.append) == 0
    assert found[0][0] == "127.0.0.1"
    assert "http://127.0.0.1:" in said[0]


# ---------------------------------------------------------------------------------------------------------------------
# F66: evaluations at a server, exports, endpoints, messages.


@pytest.fixture
def keys(monkeypatch):
    for name, secret in CANARIES.items():
        monkeypatch.setenv(name, secret)


@pytest.fixture
def echoing(run_app):
    """A server that repeats the key that it was sent in what it says; gives its address and what it heard."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    heard = []

    async def chat(request):
        heard.append(request.headers["authorization"])
        if (await request.json())["model"] == "refuses":
            return JSONResponse({"error": {"message": f"no access for {heard[-1]}", "code": "x"}}, 400)
        message = {"role": "assistant", "content": "<action>RIGHT</action>"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return JSONResponse({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    with run_app(Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])) as address:
        yield address, heard


def lapwing_says(words, monkeypatch, capsys):
    from lapwing import cli

    monkeypatch.setattr(sys, "argv", ["lapwing", *map(str, words)])
    code = cli.main()
    said = capsys.readouterr()
    return code, said.out + said.err


# Fails when the key is part of a setting, of a result or of an error's text.
@pytest.mark.parametrize("model", ["answers", "refuses"])
def test_f66_a_key_that_is_sent_to_a_server_comes_back_in_nothing(
    model, echoing, keys, small_run, tmp_path, monkeypatch, capsys, caplog
):
    address, heard = echoing
    caplog.set_level(0)
    sets = [f"generation={{name='openai_api', base_url='{address}', retries=0}}"]
    code, said = lapwing_says(
        ["eval", model, "--game", "frozen_lake", "--episodes", 2, "--json", *(w for s in sets for w in ("--set", s))],
        monkeypatch,
        capsys,
    )
    assert code == (2 if model == "refuses" else 0), said
    assert heard
    assert set(heard) == {f"Bearer {CANARIES['OPENAI_API_KEY']}"}
    assert leaks(said, caplog.text) == []
    assert ("***" in said) == (model == "refuses")


# Fails when an export takes more along than the model, its card and its recipe.
def test_f66_no_key_is_in_an_export(keys, trained_alone, tmp_path):
    from lapwing.api.export import export

    folder, _, _ = trained_alone
    export(folder, tmp_path / "export")
    assert {file.name for file in (tmp_path / "export").iterdir()} >= {"README.md", "recipe.toml", "model.safetensors"}
    assert leaks(tmp_path) == []


# Fails when the token that was given is announced, or an answer of the server holds it.
def test_f66_the_token_of_an_endpoint_is_never_repeated(keys, small_run, serving, caplog):
    import urllib.error
    import urllib.request

    from lapwing.api import serving as module

    caplog.set_level(0)
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_run", lambda server, listening_socket: 0)
        module.serve(small_run, port=0, token_env="MY_SERVER_TOKEN", announce=said.append)
    token = CANARIES["MY_SERVER_TOKEN"]
    answers = []
    with serving(small_run, token=token) as (address, _):
        for given in (token, token[:-1], "x"):
            request = urllib.request.Request(f"{address}/models", headers={"Authorization": f"Bearer {given}"})
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    answers.append((answer.status, answer.read(), str(answer.headers)))
            except urllib.error.HTTPError as error:
                answers.append((error.code, error.read(), str(error.headers)))
    assert [status for status, *_ in answers] == [200, 401, 401]
    assert leaks(*said, *map(str, answers), caplog.text) == []


SECRET = "sk-proj-canary0x7Qb9pLw3Zk5Tn2Vd8"


# Fails when a setting is looked up, or repeated in a sentence, before it is looked at for secrets.
@pytest.mark.parametrize(
    "override",
    [
        f"generation.api_key='{SECRET}'",
        f"generation.api_key={SECRET}",
        "generation.token='abcdefgh12345678'",
        f"generation.extra_body={{headers = {{Authorization = 'Bearer {SECRET}'}}}}",
        f"generation.api_key_env='{SECRET}'",
        "generation.password='x'",
        "generation.base_url='http://me:canary0x7Qb9pLw3Zk5Tn2Vd8@host/v1'",
        "model.name='https://me:canary0x7Qb9pLw3Zk5Tn2Vd8@host/org/model'",
        f"model.name='{SECRET}'",
        f"annotate=[{{name = 'value', secret = '{SECRET}'}}]",
        "warm_start.model.hf_token='hf_canary0x7Qb9pLw3Zk5Tn2Vd8'",
    ],
)
def test_f66_a_recipe_that_holds_a_key_is_refused_with_where_it_belongs(override, tmp_path, monkeypatch, capsys):
    code, said = lapwing_says(
        ["train", "frozen_lake_tiny", "--run", tmp_path / "run", "--set", override], monkeypatch, capsys
    )
    assert code == 2
    assert "looks like a key or a password" in said
    assert "environment variable" in said
    assert "canary" not in said
    assert not (tmp_path / "run").exists()
    key, _, value = override.partition("=")
    stage = "warm_start" if key.startswith("warm_start.") else "main"
    section, _, setting = key.removeprefix("warm_start.").partition(".")
    if setting:
        table = f"[stage.{section}]\n{setting} = {value if value[0] in '{[' else repr(value.strip(chr(39)))}\n"
        text = f'extends = "frozen_lake_tiny"\n[[stage]]\nname = "{stage}"\n{table}'
        (tmp_path / "recipe.toml").write_text(text)
        with pytest.raises(UserError, match="looks like a key or a password") as refused:
            build.read_recipe(str(tmp_path / "recipe.toml"))
        assert "canary" not in str(refused.value)


# Fails when a name alone makes a secret: fields of rows have names too, and files have paths.
@pytest.mark.parametrize(
    "override",
    [
        "generation.api_key_env='MY_SERVER_KEY_2'",
        "generation.max_tokens=12",
        "model.name='org/sk-model-7b'",
        "model.name='org/hf_model'",
        "generation.base_url='http://127.0.0.1:8000/v1'",
        "game.key='answer'",
        "game.reward_key='score_of_the_answer'",
    ],
)
def test_f66_what_is_no_secret_is_let_through(override):
    build.read_recipe("frozen_lake_tiny", overrides=[override])


def test_f66_the_shipped_recipes_hold_no_secret():
    for name in build.recipe_names():
        build.read_recipe(name)
