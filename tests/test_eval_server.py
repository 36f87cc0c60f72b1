"""Games played through OpenAI-compatible servers that the tests start."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import tomli_w

from lapwing import api, cli

TOKEN = "canary-token-of-eval"


@pytest.fixture
def lapwing(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAPWING_TEST_KEY", TOKEN)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["lapwing", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        code = cli.main()
        return code, *capsys.readouterr()

    return run


def through(address, **settings):
    given = {"name": "openai_api", "base_url": address, "api_key_env": "LAPWING_TEST_KEY", **settings}
    return [word for name, value in given.items() for word in ("--set", f"generation.{name}={value}")]


def test_a_run_plays_through_its_server_as_it_plays_here(lapwing, serving, small_run, tmp_path):
    with serving(small_run, token=TOKEN) as (address, _):
        words = ["eval", small_run, "--episodes", "12", "--json", "--set", "model.name=small"]
        code, out, err = lapwing(*words, *through(address, price_in=1.0, price_out=2.0))
    assert (code, err) == (0, "")
    assert TOKEN not in out
    result = json.loads(out)
    here = api.evaluate(small_run, episodes=12)["policies"]["trained_greedy"]
    # The local greedy policy and the one at the server decide alike, and the server counts the same tokens.
    assert result["policies"]["trained_greedy"] == here
    assert set(result["policies"]) == {"trained", "trained_greedy"}
    used = result["usage"]
    assert used["cost"] == pytest.approx((used["prompt_tokens"] + 2 * used["completion_tokens"]) / 1e6)
    assert result["policies"]["trained"]["tokens_per_step"]["mean"] >= 1.0


def test_a_model_that_is_only_a_name_here_plays_through_a_server(lapwing, serving, toy_folder):
    with serving(toy_folder("qwen2"), token=TOKEN) as (address, _):
        words = ["eval", "qwen2", "--game", "frozen_lake", "--episodes", "2", "--json", "--set", "sampler.max_steps=2"]
        code, out, err = lapwing(*words, *through(address, max_tokens=8))
    assert code == 0, err
    result = json.loads(out)
    assert result["policies"]["trained"]["tokens_per_step"]["mean"] == 8.0
    assert result["policies"]["trained"]["valid"]["mean"] == 0.0  # weights at random


def test_a_wrong_key_and_an_unknown_model_end_with_2_and_one_sentence(lapwing, serving, small_run, monkeypatch):
    with serving(small_run, token="another") as (address, _):
        words = ["eval", "small", "--game", "frozen_lake", "--episodes", "2"]
        code, out, err = lapwing(*words, *through(address))
        assert (code, out) == (2, "")
        assert "LAPWING_TEST_KEY is refused" in err
        monkeypatch.setenv("LAPWING_TEST_KEY", "another")
        code, _, err = lapwing("eval", "large", *words[2:], *through(address))
    assert code == 2
    assert "knows no model 'large'" in err
    assert err.count("\n") == 1
    assert TOKEN not in err


def test_nothing_of_a_server_can_be_trained(lapwing, tmp_path):
    code, _, err = lapwing("train", "frozen_lake_tiny", "--run", "here", *through("http://127.0.0.1:9/v1"), "--set",
                           "generation.max_tokens=8")  # fmt: skip
    assert code == 2
    assert "generation" in err
    assert list(tmp_path.iterdir()) == []


def two_players(address):
    """A recipe in which a model at a server plays against the one that learns."""
    opponent = {"name": "openai_api", "model": "qwen2", "base_url": address, "api_key_env": "LAPWING_TEST_KEY"}
    return {
        "name": "against_a_server",
        "stage": [
            {
                "name": "main",
                "iterations": 1,
                "game": {"name": "tic_tac_toe"},
                "opponents": {"1": {**opponent, "max_tokens": 4}},
                "model": {"name": "tiny", "hidden": 16, "layers": 1, "heads": 2, "intermediate": 16},
                "generation": {"max_tokens": 1},
                "sampler": {"groups": 1, "group_size": 2, "max_steps": 4},
                "credit": {"name": "grpo"},
                "loss": {"name": "policy_gradient"},
                "evaluation": {"episodes": 2},
            }
        ],
    }


def test_training_against_a_model_at_a_server_keeps_its_key_out_of_the_run(lapwing, serving, toy_folder, tmp_path):
    with serving(toy_folder("qwen2"), token=TOKEN) as (address, engine):
        (tmp_path / "mine.toml").write_text(tomli_w.dumps(two_players(address)))
        code, out, err = lapwing("train", "mine.toml", "--dry-run")
        assert code == 0
        assert engine.batches == []  # a plan asks nobody
        code, out, err = lapwing("train", "mine.toml", "--run", "here")
        assert sum(engine.batches) > 2
    assert code == 0, err
    files = [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)
    assert TOKEN not in out + err
    assert 'api_key_env = "LAPWING_TEST_KEY"' in (tmp_path / "here" / "recipe.toml").read_text()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def serving_by_transformers(folder):
    # It takes no port 0, so that another process may be faster.
    for _ in range(3):
        port = free_port()
        process = start_transformers(folder, port)
        if is_up(process, port):
            break
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def start_transformers(folder, port):
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "--host", "127.0.0.1", "--device", "cpu"], env=environment)


def is_up(process, port):
    end = time.monotonic() + 200
    while process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30).close()
            return True
        if time.monotonic() > end:
            process.kill()
        time.sleep(0.2)
    return False


@pytest.mark.slow
def test_the_server_of_transformers_plays_as_the_model_plays_here(lapwing, toy_folder):
    folder = toy_folder("llama")
    words = ["eval", folder, "--game", "frozen_lake", "--episodes", "2", "--json", "--set", "sampler.max_steps=2"]
    with serving_by_transformers(folder) as address:
        code, out, _ = lapwing(*words, *through(address, max_tokens=8, send_seed="false"))
    assert code == 0
    _, out_here, _ = lapwing(*words, "--set", "generation.max_tokens=8")
    here, there = (json.loads(text)["policies"]["trained_greedy"] for text in (out_here, out))
    assert there == here
