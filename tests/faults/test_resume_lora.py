"""A run with LoRA: its checkpoints are PEFT folders, and it resumes to the last bit."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import lapwing
from lapwing import build
from lapwing.core.errors import LapwingError
from lapwing.core.storage import read_json, write_json
from lapwing.models.pretrained import load_folder


@pytest.fixture(scope="module")
def overrides(toy_folder):
    """The default recipe on a toy Qwen2 with LoRA and a penalty towards the weights after the warm start."""
    return (
        *("iterations=4", "checkpoint_every=2", "warm_start.iterations=2", "optimizer.epochs=2"),
        *("sampler.groups=2", "sampler.group_size=4", "sampler.max_steps=4", "warm_start.sampler.groups=2"),
        *("warm_start.sampler.max_steps=4", "generation.max_tokens=4", "optimizer.learning_rate=5e-3"),
        *("evaluation.episodes=4", "evaluation.development_episodes=4", "evaluation.every=2", "evaluation.transfer=[]"),
        # A toy is never right, and learns from its penalties alone.
        *("credit={name='reinforce'}", "selection={name='all_episodes'}"),
        "annotate=[{name='reference_logprob'}]",
        "regularisers=[{name='kl_k3', coefficient=0.5}]",
        f"model.name='{toy_folder('qwen2')}'",
        "model.lora={rank=4, alpha=8, targets=['q_proj', 'v_proj', 'up_proj']}",
    )


@pytest.fixture(scope="module")
def finished(overrides, tmp_path_factory):
    """A run that nothing interrupted; tests only read it."""
    return lapwing.train("frozen_lake_tiny", run=tmp_path_factory.mktemp("runs") / "lora", overrides=overrides).path


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([[7, 30, 211, 5]])).logits


# Fails when the adapter's weights are not loaded, or the reference is the bare base after the resume.
def test_a_run_with_lora_that_was_killed_equals_one_that_was_not(finished, tmp_path, what_counts):
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "4")
    for name in ("evaluation.json", "report.html"):
        (run / name).unlink()
    write_json(run / "manifest.json", read_json(run / "manifest.json") | {"status": "running"})
    lapwing.resume(run)
    assert read_json(run / "manifest.json")["resumed_at"] == [2]
    assert what_counts(run) == what_counts(finished)


def test_the_adapter_after_the_warm_start_is_kept_and_gives_the_same_bits(finished, overrides, tmp_path, what_counts):
    again = lapwing.train("frozen_lake_tiny", run=tmp_path / "again", overrides=overrides).path
    assert read_json(again / "manifest.json")["warm_start_cached"]
    assert what_counts(again) == what_counts(finished)


def test_checkpoints_are_peft_folders_and_only_the_adapter_has_moments(finished, toy_folder):
    last = finished / "checkpoints" / "4"
    assert not (last / "model" / "config.json").exists()
    model, _ = load_folder(last / "model", device="cpu")
    assert torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(last / "model")))
    assert not torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(toy_folder("qwen2"))))
    adapter = load_file(last / "model" / "adapter_model.safetensors")
    assert len(adapter) == 2 * 2 * 3  # A and B, two layers, three targets
    moments = [t for name, t in load_file(last / "state" / "learner.safetensors").items() if name.endswith("exp_avg")]
    assert sorted(t.shape for t in moments) == sorted(t.shape for t in adapter.values())


def test_the_untrained_policy_is_what_the_main_stage_began_with_on_the_same_base(finished):
    # Fails when the evaluation takes the bare base, or the trained adapter, for the untrained policy.
    plan = build.plan(build.read_recipe(str(finished / "recipe.toml")))[-1]
    first, last = (finished / "checkpoints" / name / "model" for name in ("0", "4"))
    shop = build.make_workshop(plan, 0, weights=last)
    before = build.make_earlier_workshop(plan, shop, first)
    assert torch.equal(logits(before.model), logits(build.make_workshop(plan, 0, weights=first).model))
    assert not torch.equal(logits(before.model), logits(shop.model))
    assert before.model.model.embed_tokens.weight is shop.model.model.embed_tokens.weight
    assert "untrained" in read_json(finished / "evaluation.json")["policies"]


@pytest.mark.slow
def test_a_stage_that_begins_from_a_run_with_lora_goes_on_from_its_adapter(finished, overrides, tmp_path):
    run = lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=overrides, start_from=finished).path
    first, last = (
        p / "model" / "adapter_model.safetensors" for p in (run / "checkpoints/0", finished / "checkpoints/4")
    )
    assert first.read_bytes() == last.read_bytes()


def test_a_recipe_that_no_longer_has_lora_does_not_fit_its_run(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    write_json(run / "manifest.json", read_json(run / "manifest.json") | {"status": "running"})
    recipe = (run / "recipe.toml").read_text("utf-8")
    at = recipe.rindex("[stage.model.lora]")
    (run / "recipe.toml").write_text(recipe[:at] + recipe[recipe.index("[stage.generation]", at) :], encoding="utf-8")
    with pytest.raises(LapwingError, match="are those of an adapter"):
        lapwing.resume(run, accept_changes=True)
