"""What a model takes is foretold within 20 % of what is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lapwing.models.footprint import (
    activation_bytes,
    cache_bytes_per_token,
    configuration,
    footprint,
    known_sizes,
    skeleton,
)

# From the model cards.
PUBLISHED = {
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B-Instruct-2507": 4_022_468_096,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "google/gemma-2-2b-it": 2_614_341_888,
}


def load(folder: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


def test_known_models_have_the_published_numbers_of_parameters():
    assert set(known_sizes()) == set(PUBLISHED)
    for name, parameters in PUBLISHED.items():
        model = skeleton(configuration(name))
        assert sum(p.numel() for p in model.parameters()) == parameters, name
        assert all(p.is_meta for p in model.parameters())


def test_a_folder_speaks_for_itself_and_an_unknown_name_is_unknown(toy_folder):
    assert configuration(str(toy_folder("qwen2"))).hidden_size == 32
    assert configuration("nobody/knows-this") is None


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_a_skeleton_keeps_as_many_bytes_as_the_model(architecture, toy_folder):
    model = load(toy_folder(architecture))
    bones = skeleton(model.config)
    assert activation_bytes(bones, rows=3, row_tokens=24) == activation_bytes(model, rows=3, row_tokens=24)


def test_activations_grow_with_rows_and_shrink_with_checkpointing():
    bones = skeleton(configuration("Qwen/Qwen2.5-0.5B-Instruct"), dtype="bfloat16")
    one, two = (activation_bytes(bones, rows=rows, row_tokens=256) for rows in (1, 2))
    assert one < two <= 2 * one
    assert activation_bytes(bones, rows=2, row_tokens=256, checkpointing=True) < two / 5


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama", "gemma"])
def test_the_cache_of_a_token_is_what_transformers_keeps(architecture, toy_folder):
    model = load(toy_folder(architecture))
    tokens = 12  # within Gemma's window
    with torch.no_grad():
        cache = model(torch.zeros(2, tokens, dtype=torch.long), use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kept == 2 * tokens * cache_bytes_per_token(model.config, dtype="float32")


def test_bfloat16_has_masters_and_an_adapter_has_none():
    from lapwing.models.lora import LoraSettings

    sizes = {"row_tokens": 128, "batch_tokens": 256, "logit_bytes": 2**20, "cache_tokens": 1000}
    config = configuration("Qwen/Qwen2.5-0.5B-Instruct")
    whole = footprint(config, dtype="bfloat16", **sizes)
    parameters = PUBLISHED["Qwen/Qwen2.5-0.5B-Instruct"]
    assert (whole.weights, whole.masters, whole.moments) == (2 * parameters, 4 * parameters, 8 * parameters)
    assert whole.cache == 1000 * 2 * 24 * 2 * 64 * 2  # keys and values, layers, heads, width, bytes
    adapter = footprint(config, dtype="bfloat16", lora=LoraSettings(rank=8), **sizes)
    assert adapter.masters == 0
    # 24 layers; A and B of the seven linear layers, in float32.
    q, kv, mlp = 896 + 896, 896 + 128, 896 + 4864
    trained = 24 * 8 * (2 * q + 2 * kv + 3 * mlp)
    assert adapter.trainable == trained
    assert adapter.weights == 2 * parameters + 4 * trained
    assert footprint(config, dtype="bfloat16", moment_bytes=1, **sizes).moments == 2 * parameters


_MEASURE = """
import json, sys
import numpy as np, torch
from transformers import AutoConfig, AutoModelForCausalLM
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.models.footprint import footprint
from lapwing.models.lora import LoraSettings, add_adapter
from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Decision, Episode, Match, Step
from lapwing.training.learner import AdamW, Learner

torch.set_num_threads(1)
ROW, ROWS = 256, 4


def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))


def batch(seed):
    random = np.random.default_rng(seed)
    episodes = []
    for member in range(2 * ROWS):
        context, reply = (random.integers(5, 900, n).astype(np.int32) for n in (ROW // 4, 3 * ROW // 4 + 1))
        decision = Decision(action="a", valid=True, text="", context=context, token=reply, logprob=np.zeros(len(reply)))
        step = Step(decision, "a", (), 1, 1, 1, 0.0, 0.0, {})
        match = Match(game=None, seed=0, split="train", iteration=0, group=0, member=member, max_steps=1)
        episodes.append(Episode(match, 0, [step], terminated=True, truncated=False))
    return EpisodeBatch.pack(episodes)


def measure(config, dtype, lora, checkpointing, played):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before = status("VmRSS")
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    if lora:
        add_adapter(model, lora, seed=0, base="", revision=None)
    if checkpointing:
        model.activation_checkpointing_enable()
    learner = Learner(model, loss=clipped_surrogate, loss_needs=("behavior_logprob", "advantage"),
                      optimizer=AdamW(), seed=0, row_tokens=ROW, batch_tokens=ROW * ROWS)
    for _ in range(2):
        learner.update(played, np.ones(played.num_tokens), np.full(played.num_tokens, 1e-3))
    measured = status("VmHWM") - before
    foretold = footprint(config, dtype=dtype, row_tokens=ROW, batch_tokens=ROW * ROWS,
                         logit_bytes=learner.scorer.logit_bytes, cache_tokens=0, checkpointing=checkpointing, lora=lora)
    return foretold.peak / measured


def sizes(**changed):
    given = dict(vocab_size=4000, hidden_size=256, intermediate_size=1024, num_hidden_layers=4,
                 num_attention_heads=8, num_key_value_heads=2, tie_word_embeddings=True)
    return AutoConfig.for_model("qwen2", **{**given, **changed})


played = batch(0)
# What is loaded at the first use is not the model's.
small = sizes(num_hidden_layers=1, hidden_size=32, intermediate_size=32)
measure(small, "bfloat16", LoraSettings(rank=2), True, played)
cases = {
    "whole": ("float32", None, False),
    "checkpointing": ("float32", None, True),
    "adapter": ("float32", LoraSettings(rank=16), False),
    "bfloat16": ("bfloat16", None, False),
}
print(json.dumps({name: measure(sizes(), *case, played) for name, case in cases.items()}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can only be read on Linux")
def test_the_peak_of_an_update_is_foretold_within_a_fifth():
    # What is freed goes back to the system at once, so that the system's figure is what is alive.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MEASURE], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    ratios = json.loads(done.stdout.splitlines()[-1])
    assert all(0.8 <= ratio <= 1.2 for ratio in ratios.values()), ratios


@pytest.mark.slow
def test_the_disk_of_a_checkpoint_is_foretold_within_a_fifth(small_run):
    from lapwing import build
    from lapwing.api.dry_run import requirements

    read = build.read_recipe(str(small_run / "recipe.toml"))
    newest = max((small_run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    measured = sum(path.stat().st_size for path in newest.rglob("*.safetensors"))
    foretold = requirements(build.plan(read), read.seed)["checkpoint"]
    assert 0.8 <= foretold / measured <= 1.2
