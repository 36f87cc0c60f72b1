"""A model from an ordinary folder learns to cross the lake, whole and by LoRA, and leaves as an ordinary folder."""

import pytest
import torch

import lapwing
from lapwing import build
from lapwing.api.export import export
from lapwing.api.loading import plan_and_shop
from lapwing.core.errors import UserError

pytestmark = pytest.mark.slow

SETTINGS = (
    *("iterations=30", "checkpoint_every=30", "optimizer.learning_rate=1e-3"),
    *("generation.max_tokens=6", "generation.cache=true"),
    *("evaluation.episodes=60", "evaluation.development_episodes=20", "evaluation.every=30"),
)
# It learns the reply format, and a little of where to go, from a player that errs in six of ten moves.
TAUGHT = (
    *("warm_start.iterations=80", "warm_start.policy.teacher.expert=optimal"),
    "warm_start.policy.teacher.expert_share=0.4",
)


@pytest.fixture(scope="module")
def whole(make_toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    toy = make_toy(folder / "toy", "qwen2", hidden=64)
    overrides = [f"model.name={toy}", *SETTINGS, *TAUGHT]
    return lapwing.train("frozen_lake_fixed_tiny", run=folder / "run", overrides=overrides)


@pytest.fixture(scope="module")
def adapted(whole, tmp_path_factory):
    """An adapter on what the other run had cloned."""
    overrides = [
        *(f"model.name={whole.path / 'checkpoints' / '0' / 'model'}", "model.lora.rank=16"),
        *(*SETTINGS, "optimizer.learning_rate=4e-3", "warm_start.iterations=1"),
        "warm_start.optimizer.learning_rate=1e-6",
    ]
    path = tmp_path_factory.mktemp("adapted") / "run"
    return lapwing.train("frozen_lake_fixed_tiny", run=path, overrides=overrides)


def logits_of(model):
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        return model.eval()(ids).logits


def in_process(run):
    _, shop = plan_and_shop(str(run.path), None, ())
    return shop.model


def check_gain(run):
    trained, untrained = (run.evaluation["policies"][name]["success"] for name in ("trained", "untrained"))
    assert trained["low"] > untrained["high"] + 0.3
    assert trained["mean"] > 0.7


def test_training_all_weights_is_a_clear_gain(whole):
    check_gain(whole)


def test_training_an_adapter_is_a_clear_gain(adapted):
    check_gain(adapted)


def test_a_whole_model_leaves_as_a_folder_with_the_same_logits(whole, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = export(whole.path, tmp_path / "export")
    exported = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    assert torch.equal(logits_of(exported), logits_of(in_process(whole)))
    assert AutoTokenizer.from_pretrained(folder).chat_template
    card = (folder / "README.md").read_text("utf-8")
    assert "library_name: transformers" in card
    # An export is no run, although it brings the recipe.
    result = lapwing.evaluate(
        folder,
        game="frozen_lake",
        episodes=2,
        overrides=[
            "policy.parser={name='bare'}",
            "policy.renderer={name='coordinates', nearby=0}",
            "game.map_name=4x4",
        ],
    )
    assert result["episodes"] == 2


# PEFT asks transformers by an old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_leaves_for_peft_and_merged(adapted, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from lapwing.models.lora import merged

    model = in_process(adapted)
    folder = export(adapted.path, tmp_path / "adapter", adapter=True)
    assert not (folder / "model.safetensors").exists()
    plan = build.plan(build.read_recipe(str(adapted.path / "recipe.toml")))[-1]
    base = AutoModelForCausalLM.from_pretrained(plan.model.name, dtype="float32")
    assert torch.equal(logits_of(PeftModel.from_pretrained(base, folder)), logits_of(model))

    folder = export(adapted.path, tmp_path / "merged")
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    assert torch.equal(logits_of(whole), logits_of(merged(model)))
    card = (folder / "README.md").read_text("utf-8")
    assert "library_name: transformers" in card
    assert "| LoRA | rank 16, alpha 32" in card


def test_an_export_refuses_what_it_cannot_do(whole, tmp_path):
    with pytest.raises(UserError, match="trained without LoRA"):
        export(whole.path, tmp_path / "a", adapter=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("")
    with pytest.raises(UserError, match="is not empty; name a new folder"):
        export(whole.path, tmp_path / "b")
    with pytest.raises(UserError, match="--push takes OWNER/NAME"):
        export(whole.path, tmp_path / "c", push="name")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "c").exists()


def test_a_hub_that_cannot_be_reached_leaves_the_folder(whole, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="hub did not take me/lake"):
        export(whole.path, tmp_path / "d", push="me/lake")
    assert (tmp_path / "d" / "README.md").is_file()
