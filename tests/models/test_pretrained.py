import json
import shutil
import struct
import time
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lapwing.annotate._frozen import with_earlier_weights
from lapwing.core.errors import LapwingError, UserError
from lapwing.models.pretrained import load_folder, load_in_place, pretrained_model, quiet

ARCHITECTURES = ("qwen2", "qwen3", "llama", "gemma")
IDS = torch.tensor([[5, 9, 200, 31, 77, 8, 120, 64, 3, 18, 250, 90]])


def load(folder, **settings):
    return pretrained_model(path=str(folder), **{"device": "cpu", **settings})


@pytest.fixture
def folder(toy_folder, tmp_path):
    """A folder that a test may break."""
    return shutil.copytree(toy_folder("qwen2"), tmp_path / "toy")


def change(file, **entries):
    """Change entries of a JSON file; None removes one."""
    data = {**json.loads(file.read_text()), **entries}
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_four_architectures_load_as_transformers_loads_them(architecture, toy_folder):
    from transformers import AutoModelForCausalLM

    model, tokenizer = load(toy_folder(architecture))
    plain = AutoModelForCausalLM.from_pretrained(toy_folder(architecture))
    assert type(model) is type(plain)
    assert model.dtype == torch.float32
    assert not model.training
    assert torch.equal(model(IDS).logits, plain(IDS).logits)
    assert tokenizer.chat_template
    # Gemma 2 caps what its attention sees, which sdpa cannot.
    assert model.config._attn_implementation == ("eager" if architecture == "gemma" else "sdpa")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_mode_computes_what_evaluation_mode_does(architecture, make_toy, tmp_path):
    # Fails when dropout is left as the folder says, or checkpointing computes anything else.
    dropout = {"attention_dropout": 0.5}
    model, _ = load(make_toy(tmp_path / "toy", architecture, **dropout), gradient_checkpointing=True)

    def run():
        model.zero_grad()
        output = model(IDS, labels=IDS, use_cache=False)
        output.loss.backward()
        return [output.logits, *(parameter.grad.clone() for parameter in model.parameters())]

    evaluation = run()
    layer = model.model.layers[0]
    calls = []
    layer.input_layernorm.register_forward_pre_hook(lambda *_: calls.append(layer.training))
    training = [tensor for _ in range(2) for tensor in (model.train(), run())[1]]
    assert all(torch.equal(a, b) for a, b in zip(training, evaluation * 2, strict=True))
    # Each layer is computed a second time on the way back.
    assert calls == [True] * 4


def test_dropout_modules_do_nothing(tmp_path, toy_folder):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    AutoTokenizer.from_pretrained(toy_folder("qwen2")).save_pretrained(tmp_path)
    # Its dropout is 0.1 in three places.
    config = GPT2Config(vocab_size=420, n_embd=32, n_layer=1, n_head=4, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    model, _ = load(tmp_path)
    assert torch.equal(model.train()(IDS).logits, model.eval()(IDS).logits)


def test_a_number_format_can_be_chosen(toy_folder):
    assert load(toy_folder("llama"), dtype="bfloat16")[0].dtype == torch.bfloat16
    assert load(toy_folder("llama"))[0].dtype == torch.float32


def test_attention_can_be_chosen(toy_folder):
    assert load(toy_folder("llama"), attention="eager")[0].config._attn_implementation == "eager"
    with pytest.raises(UserError, match="flash_attention_2 takes no mask"):
        load(toy_folder("llama"), attention="flash_attention_2")
    with pytest.raises(UserError, match="could not be loaded"):
        load(toy_folder("gemma"), attention="sdpa")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "mps", "cuda:-1"])
def test_a_device_of_no_kind_is_refused(device, toy_folder):
    with pytest.raises(UserError, match=r"model\.device is 'auto'"):
        load(toy_folder("qwen2"), device=device)


def test_a_device_that_is_not_there_is_refused(toy_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="there is no 'cuda:2' on this machine, which has 2 CUDA devices"):
        load(toy_folder("qwen2"), device="cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="there is no 'cuda' on this machine, which has 0 CUDA devices"):
        load(toy_folder("qwen2"), device="cuda")


def test_a_tokenizer_without_a_token_for_padding_works(toy_folder, tmp_path):
    folder = shutil.copytree(toy_folder("llama"), tmp_path / "toy")
    change(folder / "tokenizer_config.json", pad_token=None)
    change(folder / "config.json", pad_token_id=None)
    change(folder / "generation_config.json", pad_token_id=None)
    model, tokenizer = load(folder)
    assert tokenizer.pad_token is None
    assert torch.isfinite(model(IDS).logits).all()


def test_a_folder_without_a_tokenizer_is_refused(folder):
    # Transformers makes an empty one, and games would fail much later.
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UserError, match="has no tokenizer; put its tokenizer files"):
        load(folder)


def test_a_tokenizer_without_a_chat_template_is_refused(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        load(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match="do not fit"):
        load(folder)


def test_settings_of_sampling_that_could_not_be_saved_again_are_mended(folder, tmp_path):
    # Llama 2 was published so: a temperature beside greedy decoding.
    change(folder / "generation_config.json", temperature=0.6, top_p=0.9, do_sample=False)
    model, _ = load(folder)
    model.generation_config.max_new_tokens = 5
    model.save_pretrained(tmp_path / "again")


class Canary:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


# F25; more kinds and the other files of a folder: tests/faults/test_foreign_files.py.
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused_and_not_opened(name, folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**weights, "evil": Canary(tmp_path / "canary")}, folder / name)
    with pytest.raises(UserError, match=rf"are pickles \({name}\)"):
        load(folder)
    assert not (tmp_path / "canary").exists()


def test_pickles_beside_safetensors_are_not_opened(folder, tmp_path):
    torch.save({"evil": Canary(tmp_path / "canary")}, folder / "pytorch_model.bin")
    load(folder)
    assert not (tmp_path / "canary").exists()


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        load(folder)


# F26. Fails when the header is read before its length is checked.
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(struct.pack("<Q", 2**40) + b"{}", id="a header larger than the file"),
        pytest.param(struct.pack("<Q", 8_000_000) + b"{" + b" " * 7_999_998 + b"}", id="a header of 8 MB"),
    ],
)
def test_a_safetensors_file_with_an_impossible_header_is_refused_at_once(content, folder):
    (folder / "model.safetensors").write_bytes(content)
    started = time.process_time()
    with pytest.raises(UserError, match="is damaged or no safetensors file"):
        load(folder)
    assert time.process_time() - started < 10


def test_weights_that_are_cut_off_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"is damaged .*its tensors take \d+ bytes, and it holds \d+"):
        load(folder)


def test_weights_that_lack_a_tensor_are_refused(folder):
    # Fails when transformers fills it with random numbers.
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights, model\.layers\.1\.mlp\.up_proj\.weight first"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_broken_file_gives_one_sentence(name, folder):
    (folder / name).write_text("{")
    with pytest.raises(UserError, match=r"could not be loaded|is no JSON") as refused:
        load(folder)
    assert "\n" not in str(refused.value)


_CODE = """
from pathlib import Path
from torch.nn import Dropout
from transformers import LlamaConfig, LlamaForCausalLM

Path({canary!r}).touch()


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.drop = Dropout(0.5)
"""


def test_code_of_a_model_runs_only_when_it_is_trusted(toy_folder, tmp_path, monkeypatch):
    # Transformers copies such code into its cache.
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, canary = shutil.copytree(toy_folder("llama"), tmp_path / "own"), tmp_path / "canary"
    (folder / "own.py").write_text(_CODE.format(canary=str(canary)))
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    change(folder / "config.json", model_type="own", architectures=["OwnModel"], auto_map=own)
    with pytest.raises(UserError, match=r"Python code of its own.*--trust-remote-code"):
        load(folder)
    assert not canary.exists()
    model, _ = load(folder, trust_remote_code=True)
    assert type(model).__name__ == "OwnModel"
    assert model.drop.p == 0.0
    assert canary.exists()


def test_an_architecture_without_a_language_model_is_refused(folder):
    change(folder / "config.json", model_type="t5", architectures=["T5ForConditionalGeneration"])
    with pytest.raises(UserError, match=r"'.*toy' could not be loaded"):
        load(folder)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"holds no model: it has no config\.json"):
        load_folder(tmp_path)


def some_experts(seed):
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "moe_intermediate_size": 8, "head_dim": 8}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1}
    experts: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2}
    config = Qwen3MoeConfig(vocab_size=64, num_hidden_layers=2, max_position_embeddings=64, **sizes, **heads, **experts)
    return Qwen3MoeForCausalLM(config).eval()


def same(one, other):
    other = dict(other.named_parameters())
    return all(torch.equal(parameter, other[name]) for name, parameter in one.named_parameters())


# Fails when names in a file are taken for those of the model: experts are saved one by one and computed together.
def test_experts_are_loaded_again(tmp_path):
    model, other = some_experts(0), some_experts(1)
    with quiet():
        model.save_pretrained(tmp_path)
    load_in_place(other, tmp_path)
    assert same(model, other)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    frozen, _ = with_earlier_weights(other, tmp_path)
    assert same(model, frozen)


def test_weights_of_another_architecture_do_not_fit(toy_folder, tmp_path):
    model, _ = load(toy_folder("qwen2"))
    with pytest.raises(LapwingError, match="do not fit the model"):
        load_in_place(model, toy_folder("gemma"))
    with pytest.raises(LapwingError, match="holds no weights"):
        load_in_place(model, tmp_path)
