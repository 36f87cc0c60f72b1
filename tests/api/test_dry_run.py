"""What a dry run says, and that it needs neither network nor weights."""

import functools
import socket
import sys

import pytest
import torch

from lapwing import build, cli
from lapwing.api.dry_run import describe, requirements, size_text

QWEN = "frozen_lake_qwen2.5_3b"


@functools.cache
def foretold(name, *overrides):
    read = build.read_recipe(name, overrides=overrides)
    return requirements(build.plan(read), read.seed)


def test_a_published_model_is_planned_without_network(monkeypatch, capsys):
    # Whoever connects to anything is told here, whatever becomes of it.
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    monkeypatch.setattr(socket.socket, "connect_ex", lambda _, address: asked.append(address) or 1)
    monkeypatch.setattr(sys, "argv", ["lapwing", "train", QWEN, "--dry-run"])
    assert cli.main() == 0
    assert asked == []
    said = capsys.readouterr().out
    assert "3,085,938,688 parameters, all trained, bfloat16" in said
    assert 'name = "Qwen/Qwen2.5-3B-Instruct"' in said
    for line in ("weights", "float32 masters", "optimiser", "gradients", "activations", "key-value cache", "disk"):
        assert f"\n# {line} " in said


def test_the_parts_add_up():
    found = foretold(QWEN)
    standing = found["weights"] + found["masters"] + found["moments"]
    assert found["peak"] == standing + max(found["cache"], found["gradients"] + found["activations"])
    assert found["disk"] == 3 * found["checkpoint"]
    assert (found["episodes"], found["steps"], found["reply_tokens"]) == (32, 256, 256 * 256)


def test_an_adapter_takes_a_fraction():
    whole, adapter = foretold(QWEN), foretold(QWEN, "model.lora.rank=32")
    assert adapter["trainable"] == 59_867_136
    assert adapter["masters"] == 0
    assert adapter["peak"] < whole["peak"] / 4


def test_a_reference_is_a_second_copy_unless_an_adapter_can_be_switched_off():
    kl = ("annotate.0.name=reference_logprob", "regularisers.0.name=kl_k3", "regularisers.0.coefficient=0.1")
    assert foretold(QWEN, *kl)["reference"] == foretold(QWEN)["weights"]
    assert foretold(QWEN, *kl, "model.lora.rank=8")["reference"] == 0


SELF_PLAY = ("game={name='tic_tac_toe'}", "policy.renderer={name='grid'}", "iterations=100")


def test_past_versions_are_counted_in_memory_and_on_disk():
    own = foretold(QWEN, *SELF_PLAY, "opponents.1={name='self'}")
    pool = foretold(QWEN, *SELF_PLAY, "opponents.1={name='past', every=10, size=4}")
    assert own["past"] == 0
    # Four copies in bfloat16.
    assert pool["past"] == 4 * 2 * 3_085_938_688
    assert pool["peak"] == own["peak"] + pool["past"]
    assert pool["checkpoint"] == own["checkpoint"] + pool["past"]
    assert pool["disk"] == 3 * pool["checkpoint"]
    assert f"past versions    {size_text(pool['past'])}\n" in describe(pool)
    # No more than there will be: those of iterations 0, 40 and 80.
    few = foretold(QWEN, *SELF_PLAY, "opponents.1={name='past', every=40, size=50}")
    assert few["past"] == 3 * 2 * 3_085_938_688


def test_past_versions_of_an_adapter_are_adapters():
    pool = foretold(QWEN, *SELF_PLAY, "opponents.1={name='past', every=1, size=5}", "model.lora.rank=32")
    # In float32.
    assert pool["past"] == 5 * 4 * 59_867_136


def test_eight_bit_moments_take_a_quarter():
    assert foretold(QWEN, "optimizer.state=8bit")["moments"] == foretold(QWEN)["moments"] / 4


def test_a_file_of_demonstrations_is_not_played(tmp_path):
    file = tmp_path / "demos.jsonl"
    file.write_text("{}\n")
    clone = ("credit", "selection", "aggregation", "loss", "sampler")
    recipe = build.as_recipe(
        {
            "stage": [
                {
                    **{k: v for k, v in build.read_recipe(QWEN).stages[-1].items() if k not in clone},
                    "collector": {"name": "demonstrations", "path": str(file), "episodes": 12},
                    "loss": {"name": "negative_log_likelihood"},
                }
            ]
        },
        "mine",
    )
    found = requirements(build.plan(recipe), 0)
    assert found["cache"] == 0
    assert "at most 12 episodes from a file" in describe(found)


# Fails when only the groups that are drawn are counted, and not those that a review asks for.
@pytest.mark.parametrize(
    ("recipe", "episodes"),
    [
        ("frozen_lake_fixed_ghpo", 160 * 4),
        ("frozen_lake_tiny_dynamic", 16 * 32 * 10),
        ("frozen_lake_think_a2fm", 10 * (2 * 6 + 4)),
    ],
)
def test_episodes_that_reviews_ask_for_are_foretold(recipe, episodes):
    assert f"at most {episodes:,} episodes" in describe(foretold(recipe))


def test_a_file_of_pairs_is_foretold(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    found = foretold("frozen_lake_fixed_dpo", f"collector={{name='preference_pairs',path='{file}',pairs=8}}")
    assert "at most 16 episodes from a file" in describe(found)


def test_an_unknown_model_says_so():
    found = foretold(QWEN, "model.name=nobody/knows-this")
    assert not found["known"]
    assert "unknown: the sizes of nobody/knows-this are in the hub" in describe(found)


# Fails when a cache is foretold for replies that a server samples.
def test_a_server_keeps_its_cache_itself():
    assert foretold(QWEN)["cache"] > 0
    assert foretold(QWEN, "generation={name='vllm',base_url='http://localhost:8000/v1',max_tokens=64}")["cache"] == 0


# Fails when the choice that the generator makes is foretold wrongly: a small vocabulary has a cache for transcripts.
def test_a_cache_of_a_small_vocabulary_is_foretold_for_transcripts_alone():
    assert foretold("frozen_lake_think_tiny")["cache"] == 0
    assert foretold("frozen_lake_think_tiny", "policy.context.name=transcript")["cache"] > 0


@pytest.mark.slow
def test_the_cache_is_foretold_within_a_fifth(toy_folder, make_toy, tmp_path, monkeypatch):
    # A vocabulary that is decoded on slots.
    toy = make_toy(tmp_path / "toy", "qwen2", vocab_size=5000)
    overrides = [f"model.name={toy}", "model.dtype=float32", "sampler.groups=2", "sampler.group_size=8"]
    read = build.read_recipe(QWEN, overrides=[*overrides, "generation.max_tokens=64", "sampler.max_steps=1"])
    plan = build.plan(read)[-1]
    from lapwing.generation import _decoding

    caches = []

    class Watched(_decoding.SlotCache):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            caches.append(self)

    monkeypatch.setattr(_decoding, "SlotCache", Watched)
    stage = build.make_stage(plan, build.make_workshop(plan, 0))
    with torch.no_grad():
        stage.collector.collect(stage.sampler.draw(0))
    measured = max(sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers) for cache in caches)
    # The toy's tokens are shorter than those of a model that has read more than four sentences.
    monkeypatch.setattr("lapwing.api.dry_run._CHARACTERS", 2)
    assert 0.8 <= requirements([plan], 0)["cache"] / measured <= 1.2


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (40 * 2**30, "40.0 GiB"), (2**41, "2.0 TiB")],
)
def test_sizes_are_said_in_units_of_1024(number, text):
    assert size_text(number) == text


# Fails when a transcript that is longer than a forward pass is foretold as rows of the usual size.
def test_a_transcript_that_is_longer_than_a_pass_is_a_pass_of_its_own():
    from lapwing.api.dry_run import _context_tokens

    context = "policy.context.name=transcript"
    small = ("generation.batch_tokens=1024", "generation.row_tokens=1024", context)
    plan = build.plan(build.read_recipe(QWEN, overrides=small))[-1]
    longest = _context_tokens(plan) + plan.generation.settings["max_tokens"]
    assert longest > 3000
    wide = (f"generation.batch_tokens={longest}", f"generation.row_tokens={longest}", context)
    assert foretold(QWEN, *small)["activations"] == foretold(QWEN, *wide)["activations"]
