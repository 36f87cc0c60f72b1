"""Packed trees give every architecture what it gives each sequence alone, also beyond a sliding window."""

import numpy as np
import pytest
import torch
import transformers as hf

from lapwing.core.errors import UserError
from lapwing.models.masks import attention_masks
from lapwing.models.pretrained import pretrained_model
from lapwing.models.scorer import Scorer
from lapwing.models.tree import grow

RNG = np.random.default_rng(7)
START = RNG.integers(5, 300, size=24)
# Contexts share beginnings that are longer than the window of 16 (8 below), and one is shorter than it.
CONTEXTS = [START, START[:12], np.concatenate([START, RNG.integers(5, 300, size=20)]), RNG.integers(5, 300, size=5)]
REPLIES = [RNG.integers(5, 300, size=length) for length in (20, 6, 7, 30)]


def alone(model, contexts, replies):
    """Log-probabilities by plain calls of the model, one whole sequence at a time."""
    found = []
    for context, reply in zip(contexts, replies, strict=True):
        ids = torch.from_numpy(np.concatenate([context, reply]))[None]
        with torch.no_grad():
            rows = torch.log_softmax(model(input_ids=ids).logits[0, len(context) - 1 : -1].float(), dim=-1)
        found.append(rows.gather(1, ids[0, len(context) :, None])[:, 0])
    return torch.cat(found).numpy()


# Fails when sliding layers get the mask of the others, or the window is counted along the row instead of in depth.
@pytest.mark.parametrize("row_tokens", [20, 400], ids=["a row each", "one row"])
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama", "gemma"])
def test_the_four_architectures_score_as_each_sequence_alone(architecture, row_tokens, toy_folder):
    model, _ = pretrained_model(path=str(toy_folder(architecture)), device="cpu")
    found = Scorer(model, row_tokens=row_tokens).score(CONTEXTS, REPLIES)["logprob"]
    np.testing.assert_allclose(found, alone(model, CONTEXTS, REPLIES), atol=1e-5)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama", "gemma"])
def test_bfloat16_agrees_up_to_its_rounding(architecture, toy_folder):
    model, _ = pretrained_model(path=str(toy_folder(architecture)), device="cpu", dtype="bfloat16")
    found = Scorer(model).score(CONTEXTS, REPLIES)["logprob"]
    np.testing.assert_allclose(found, alone(model, CONTEXTS, REPLIES), atol=0.1)


_SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "sliding_window": 8,
}
_WINDOWS = {
    "every second layer": (hf.Gemma2ForCausalLM, hf.Gemma2Config, {"head_dim": 8, "query_pre_attn_scalar": 8}),
    "two rotations": (hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, {"head_dim": 8, "num_hidden_layers": 6}),
    "the upper layers": (hf.Qwen2ForCausalLM, hf.Qwen2Config, {"use_sliding_window": True, "max_window_layers": 1}),
    "every layer": (hf.MistralForCausalLM, hf.MistralConfig, {}),
    "scaled logits": (hf.Cohere2ForCausalLM, hf.Cohere2Config, {"logit_scale": 2.0}),
    "sinks and experts": (
        hf.GptOssForCausalLM,
        hf.GptOssConfig,
        {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
}


@pytest.mark.parametrize("where", sorted(_WINDOWS))
def test_windows_of_other_architectures(where):
    make, config, further = _WINDOWS[where]
    torch.manual_seed(0)
    model = make(config(**{**_SIZES, **further})).eval()
    contexts, replies = [c % 295 + 3 for c in CONTEXTS], [r % 295 + 3 for r in REPLIES]
    expected = alone(model, contexts, replies)
    np.testing.assert_allclose(Scorer(model).score(contexts, replies)["logprob"], expected, atol=1e-5)
    # The window matters here: without it the numbers are others.
    model.config.sliding_window = 1000
    assert np.abs(alone(model, contexts, replies) - expected).max() > 1e-3


def test_a_window_of_two_by_hand():
    # Row: a b c, and d after a. With w = 2 a token sees itself and its parent only.
    tree = grow([np.array([1, 2, 3]), np.array([1, 4])])
    config = hf.Gemma2Config(sliding_window=2, num_hidden_layers=2)
    masks = attention_masks(config, tree, torch.zeros(1))
    whole = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]
    near = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]]
    assert set(masks) == {"full_attention", "sliding_attention"}
    np.testing.assert_array_equal(masks["full_attention"][0, 0] == 0, np.array(whole, dtype=bool))
    np.testing.assert_array_equal(masks["sliding_attention"][0, 0] == 0, np.array(near, dtype=bool))


def test_a_batch_within_the_window_has_one_mask():
    tree = grow([np.array([1, 2, 3])])
    masks = attention_masks(hf.Gemma2Config(sliding_window=3, num_hidden_layers=2), tree, torch.zeros(1))
    assert masks["full_attention"] is masks["sliding_attention"]


def test_layers_that_keep_a_state_are_refused():
    config = hf.Qwen3NextConfig(num_hidden_layers=4)
    with pytest.raises(UserError, match="layers of type linear_attention"):
        attention_masks(config, grow([np.array([1])]), torch.zeros(1))
