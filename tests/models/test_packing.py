import pytest
import torch
import transformers as hf

from lapwing.core.errors import UserError
from lapwing.models.packing import check_packing

_SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def build(make, config, **further):
    torch.manual_seed(0)
    return make(config(**{**_SIZES, **further})).eval()


@pytest.mark.parametrize(
    ("make", "config", "further"),
    [
        (hf.LlamaForCausalLM, hf.LlamaConfig, {"intermediate_size": 64}),
        (hf.GPT2LMHeadModel, hf.GPT2Config, {}),
        (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, {"intermediate_size": 64}),
        (hf.MixtralForCausalLM, hf.MixtralConfig, {"intermediate_size": 64, "num_key_value_heads": 2}),
    ],
    ids=["rotations", "learnt positions", "parallel blocks", "experts"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoders_whose_layers_attend_pass(make, config, further, dtype):
    check_packing(build(make, config, **further).to(dtype), "toy")


# Fails when what a broken model raises is let through, or positions that are not asked for are not missed.
@pytest.mark.parametrize(
    ("make", "config", "further"),
    [
        (hf.MambaForCausalLM, hf.MambaConfig, {}),
        (hf.BloomForCausalLM, hf.BloomConfig, {}),
        (hf.MptForCausalLM, hf.MptConfig, {"n_layers": 2, "n_heads": 4, "d_model": 32}),
        (hf.BartForCausalLM, hf.BartConfig, {"d_model": 32, "decoder_layers": 1, "decoder_attention_heads": 4}),
        (hf.RecurrentGemmaForCausalLM, hf.RecurrentGemmaConfig, {"intermediate_size": 64}),
    ],
    ids=["states", "distances", "distances without an error", "the half of an encoder–decoder", "states and windows"],
)
@pytest.mark.filterwarnings("ignore")
def test_other_architectures_are_refused_with_one_sentence(make, config, further):
    with pytest.raises(UserError, match=r"packed (sequences|trees)") as refused:
        check_packing(build(make, config, **further), "toy")
    assert "\n" not in str(refused.value)


class Deaf(hf.LlamaForCausalLM):
    """Attends to everything before, whatever the mask says."""

    def __init__(self, config):
        super().__init__(config)
        plain = self.model.forward
        self.model.forward = lambda *args, attention_mask=None, position_ids=None, **rest: plain(*args, **rest)


class Scaled(hf.LlamaForCausalLM):
    """Does more after its head than we know of."""

    def forward(self, *args, **settings):
        output = super().forward(*args, **settings)
        output.logits = output.logits * 3.0
        return output


@pytest.mark.parametrize("make", [Deaf, Scaled])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_ignores_the_mask_or_scales_its_logits_is_refused(make, dtype):
    model = build(make, hf.LlamaConfig, intermediate_size=64).to(dtype)
    with pytest.raises(UserError, match="cannot be trained on packed sequences"):
        check_packing(model, "toy")


def test_running_out_of_memory_is_no_property_of_the_architecture():
    model = build(hf.LlamaForCausalLM, hf.LlamaConfig, intermediate_size=64)

    def full(*args, position_ids=None, **settings):
        raise torch.OutOfMemoryError("no room")

    model.model.forward = full
    with pytest.raises(torch.OutOfMemoryError):
        check_packing(model, "toy")
