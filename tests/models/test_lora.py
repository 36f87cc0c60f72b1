import json

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lapwing.annotate.reference_logprob import ReferenceLogprob
from lapwing.core.errors import UserError
from lapwing.models import lora
from lapwing.models.lora import LoraSettings
from lapwing.models.pretrained import load_folder, pretrained_model
from lapwing.models.scorer import Scorer
from lapwing.testing import episodes
from lapwing.training.checkpoint import save_model

ARCHITECTURES = ("qwen2", "qwen3", "llama", "gemma")
IDS = torch.tensor([[5, 9, 200, 31, 77, 8, 120, 64, 3, 18, 250, 90]])


# PEFT asks transformers by an older name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def load(folder, **settings):
    given = {"lora": LoraSettings(rank=4, alpha=8), "seed": 3, "device": "cpu", "dtype": "float32", **settings}
    return pretrained_model(path=str(folder), **given)


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def train(model, seed=0, steps=2):
    """Move every weight that learns."""
    torch.manual_seed(seed)
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learns, lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        optimizer.step()
    for parameter in learns:
        parameter.data += 0.02 * torch.randn_like(parameter)


@pytest.fixture(params=ARCHITECTURES)
def trained(request, toy_folder):
    """A model of each architecture with an adapter that has learnt, its tokenizer, and its base's folder."""
    folder = toy_folder(request.param)
    model, tokenizer = load(folder)
    train(model)
    return model, tokenizer, folder


def test_a_fresh_adapter_changes_nothing_and_only_it_learns(toy_folder):
    # Fails when the base is not frozen, or B does not begin at 0.
    base, _ = load(toy_folder("qwen2"), lora=None)
    model, _ = load(toy_folder("qwen2"))
    assert type(model) is type(base)
    assert torch.equal(logits(model), logits(base))
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, _ in lora.adapter_parameters(model)}
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in learns}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    train(model)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == learns


def test_the_first_weights_follow_from_the_seed(toy_folder):
    def first(seed):
        torch.manual_seed(int(torch.randint(1000, ())))
        return [parameter for _, parameter in lora.adapter_parameters(load(toy_folder("qwen2"), seed=seed)[0])]

    pairs = list(zip(first(1), first(1), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(not torch.equal(a, b) for a, b in zip(first(1), first(2), strict=True))


@pytest.mark.parametrize(("rslora", "scale"), [(False, 8 / 4), (True, 8 / 2)], ids=["α over r", "α over √r"])
def test_the_scale_of_the_adapter(toy_folder, rslora, scale):
    model, _ = load(toy_folder("qwen2"), lora=LoraSettings(rank=4, alpha=8, targets=("q_proj",), rslora=rslora))
    train(model)
    layer = model.model.layers[0].self_attn.q_proj
    x = torch.randn(3, 32)
    own = x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
    torch.testing.assert_close(layer(x), layer.base_layer(x) + scale * own)


def test_the_adapter_stays_in_float32_on_a_base_in_bfloat16(toy_folder, tmp_path):
    model, tokenizer = load(toy_folder("qwen2"), dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert {parameter.dtype for _, parameter in lora.adapter_parameters(model)} == {torch.float32}
    train(model)
    save_model(tmp_path / "a", model, tokenizer, max_tokens=4)
    again, _ = load_folder(tmp_path / "a", device="cpu", dtype="bfloat16")
    assert torch.equal(logits(again), logits(model))
    base = AutoModelForCausalLM.from_pretrained(toy_folder("qwen2"), dtype=torch.bfloat16)
    assert torch.equal(logits(PeftModel.from_pretrained(base, tmp_path / "a").eval()), logits(model))


def test_peft_loads_the_saved_adapter_to_the_last_bit(trained, tmp_path):
    # Fails when the keys lack PEFT's prefix, or the scale is not written.
    model, tokenizer, folder = trained
    save_model(tmp_path / "adapter", model, tokenizer, max_tokens=7)
    written = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= written
    assert not {"config.json", "model.safetensors"} & written
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(folder)
    assert config["target_modules"] == sorted(config["target_modules"])
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert torch.equal(logits(PeftModel.from_pretrained(base, tmp_path / "adapter").eval()), logits(model))
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")), logits(model))


def test_a_saved_adapter_loads_again_and_goes_on_learning(trained, tmp_path):
    model, tokenizer, _ = trained
    save_model(tmp_path / "adapter", model, tokenizer, max_tokens=7)
    again, words = load_folder(tmp_path / "adapter", lora=LoraSettings(rank=4, alpha=8), device="cpu")
    assert torch.equal(logits(again), logits(model))
    assert again.generation_config.max_new_tokens == 7
    assert words.get_vocab() == tokenizer.get_vocab()
    learns = {name for name, parameter in again.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, _ in lora.adapter_parameters(again)}
    save_model(tmp_path / "again", again, words, max_tokens=7)
    for name in ("adapter_config.json", "adapter_model.safetensors", "generation_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "adapter" / name).read_bytes()


def test_the_merged_folder_is_the_merged_model_to_the_last_bit(trained, tmp_path):
    model, tokenizer, _ = trained
    before = logits(model)
    merged = lora.merged(model)
    assert torch.equal(logits(model), before)  # it stays as it is
    torch.testing.assert_close(logits(merged), before, atol=1e-4, rtol=1e-4)
    lora.save_merged(model, tokenizer, tmp_path / "merged")
    files = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
    assert not any(name.startswith("adapter") for name in files)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(logits(loaded), logits(merged))


def test_merging_copies_only_what_the_adapter_touches(toy_folder):
    model, _ = load(toy_folder("llama"))
    merged = lora.merged(model)
    assert merged.model.embed_tokens.weight is model.model.embed_tokens.weight
    assert merged.lm_head.weight is model.lm_head.weight
    assert not lora.has_adapter(merged)


def batch_and_scores(model):
    """Two episodes of two steps, and what the scorer says of them under the model as it is."""
    rng = np.random.default_rng(0)
    tokens = [[[int(t) for t in rng.integers(5, 300, size=3)] for _ in range(2)] for _ in range(2)]
    batch = episodes([[0, 1], [0, 0]], tokens_per_step=3, token=tokens)
    contexts = [batch.context(n) for n in range(batch.num_steps)]
    replies = [batch.token[batch.token_splits[n] : batch.token_splits[n + 1]] for n in range(batch.num_steps)]
    return batch, Scorer(model).score(contexts, replies)["logprob"]


@pytest.mark.parametrize("warm", [False, True], ids=["the bare base", "an adapter that had learnt"])
def test_the_reference_is_that_of_a_second_copy_to_the_last_bit(warm, toy_folder, tmp_path):
    # Fails when the reference is always the bare base, or the adapter that learns is not switched back.
    model, tokenizer = load(toy_folder("gemma"))
    if warm:
        train(model)
    save_model(tmp_path / "0", model, tokenizer, max_tokens=4)
    copy, _ = load_folder(tmp_path / "0", device="cpu")
    reference = ReferenceLogprob(model, weights=tmp_path / "0")
    train(model, seed=1)
    batch, now = batch_and_scores(model)
    _, expected = batch_and_scores(copy)
    requires = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    found = reference.columns(batch)["reference_logprob"]
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - now).max() > 1e-3
    np.testing.assert_array_equal(batch_and_scores(model)[1], now)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == requires
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, _ in lora.adapter_parameters(model)}
    # What is saved is the adapter that learns, also while the reference is beside it.
    save_model(tmp_path / "1", model, tokenizer, max_tokens=4)
    np.testing.assert_array_equal(batch_and_scores(load_folder(tmp_path / "1", device="cpu")[0])[1], now)


def test_the_reference_is_no_second_copy(toy_folder, tmp_path):
    model, tokenizer = load(toy_folder("qwen2"))
    train(model)
    save_model(tmp_path / "0", model, tokenizer, max_tokens=4)
    before = {id(parameter) for parameter in model.parameters()}
    reference = ReferenceLogprob(model, weights=tmp_path / "0")
    assert reference._scorer.model is model
    added = [name for name, parameter in model.named_parameters() if id(parameter) not in before]
    assert added == [name for name, _ in lora.adapter_parameters(model, lora.REFERENCE)]


def test_a_twin_has_earlier_weights_on_the_same_base(toy_folder, tmp_path):
    model, tokenizer = load(toy_folder("qwen3"), gradient_checkpointing=True)
    save_model(tmp_path / "0", model, tokenizer, max_tokens=4)
    first = logits(model)
    train(model)
    now = logits(model)
    twin = lora.twin(model, tmp_path / "0")
    assert torch.equal(logits(twin), first)
    assert torch.equal(logits(model), now)
    own = {name for name, _ in lora.adapter_parameters(model)}
    pairs = zip(model.named_parameters(), twin.named_parameters(), strict=True)
    assert {name for (name, mine), (_, other) in pairs if mine is not other} == own
    assert all(parameter.requires_grad for _, parameter in lora.adapter_parameters(model))


def test_layers_may_be_named(toy_folder):
    model, _ = load(toy_folder("qwen2"), lora=LoraSettings(targets="q_proj"))
    assert {name.split(".")[4] for name, _ in lora.adapter_parameters(model)} == {"q_proj"}


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens", "q_prj"])
def test_layers_that_are_not_linear_ones_of_the_body_are_refused(toy_folder, name):
    with pytest.raises(UserError, match=f"no linear layer '{name}'"):
        load(toy_folder("qwen3"), lora=LoraSettings(targets=("v_proj", name)))


@pytest.mark.parametrize("settings", [{"rank": 0}, {"alpha": 0}, {"targets": ()}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match="lora"):
        LoraSettings(**settings)


def test_an_adapter_of_another_kind_than_the_recipe_says_is_refused(toy_folder, tmp_path):
    model, tokenizer = load(toy_folder("qwen2"))
    save_model(tmp_path / "adapter", model, tokenizer, max_tokens=4)
    with pytest.raises(UserError, match=r"\(4, 8, False\), and model.lora says \(8, 8, False\)"):
        load_folder(tmp_path / "adapter", lora=LoraSettings(rank=8, alpha=8), device="cpu")


def test_a_base_that_moved_is_found_where_the_recipe_says_and_one_that_is_gone_is_named(make_toy, tmp_path):
    base = make_toy(tmp_path / "toy", "qwen2", layers=1)
    model, tokenizer = load(base)
    save_model(tmp_path / "adapter", model, tokenizer, max_tokens=4)
    (tmp_path / "elsewhere").mkdir()
    moved = base.rename(tmp_path / "elsewhere" / "toy")
    again, _ = load_folder(tmp_path / "adapter", base=str(moved), lora=LoraSettings(rank=4, alpha=8), device="cpu")
    assert torch.equal(logits(again), logits(model))
    other = make_toy(tmp_path / "elsewhere" / "another", "qwen2", layers=1, seed=1)
    with pytest.raises(UserError, match="is gone"):
        load_folder(tmp_path / "adapter", base=str(other), device="cpu")


@pytest.mark.parametrize("change", ["a weight less", "a weight more", "another size"])
def test_weights_that_do_not_fit_are_refused(toy_folder, tmp_path, change):
    model, tokenizer = load(toy_folder("qwen2"))
    save_model(tmp_path / "adapter", model, tokenizer, max_tokens=4)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    first = sorted(tensors)[0]
    if change == "a weight less":
        del tensors[first]
    elif change == "a weight more":
        tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"] = torch.ones(3)
    else:
        tensors[first] = torch.ones(2, 2)
    save_file(tensors, file)
    with pytest.raises(UserError, match="does not fit"):
        lora.load_adapter(model, tmp_path / "adapter")


def test_without_peft_the_install_command_is_named(toy_folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match=r'pip install "lapwing\[lora\]"'):
        load(toy_folder("qwen2"))
