"""Packed trees give every architecture what it gives each sequence alone, also beyond a sliding window."""

import numpy as np
import pytest
import torch
import transformers as hf

from lapwing.core.errors import UserError
from lapwing.models.masks import attention_masks, is_causal
from lapwing.models.pretrained import pretrained_model
from lapwing.models.scorer import Scorer, hidden_states
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


CHAINS = grow([np.array([1, 2, 3, 4]), np.array([1, 2]), np.array([5, 6])], row_tokens=1)
BRANCHES = grow([np.array([1, 2, 3]), np.array([1, 4])])


def test_rows_without_branches_need_no_mask_where_attention_is_causal():
    config, like = hf.LlamaConfig(num_hidden_layers=1), torch.zeros(1)
    assert attention_masks(config, CHAINS, like, causal=True) is None
    assert attention_masks(config, CHAINS, like).shape == (2, 1, 4, 4)
    assert attention_masks(config, BRANCHES, like, causal=True).shape == (1, 1, 4, 4)


@pytest.mark.parametrize(("window", "has_mask"), [(4, False), (3, True)])
def test_only_rows_within_the_window_need_no_mask(window, has_mask):
    # Fails when a layer with a window goes without a mask beyond it; the deepest of four tokens sees three above it.
    config, like = hf.Gemma2Config(sliding_window=window, num_hidden_layers=2), torch.zeros(1)
    masks = attention_masks(config, CHAINS, like, causal=True)
    assert masks["full_attention"] is None
    assert (masks["sliding_attention"] is not None) == has_mask
    alone = attention_masks(hf.MistralConfig(sliding_window=window), CHAINS, like, causal=True)
    assert (alone is not None) == has_mask


@pytest.mark.parametrize("where", ["two rotations", "the upper layers", "every layer", "scaled logits"])
def test_rows_of_unequal_length_without_a_mask_are_each_sequence_alone(where):
    # Fails when padding begins another sequence in the eyes of the model, or a window is forgotten.
    make, config, further = _WINDOWS[where]
    torch.manual_seed(0)
    model = make(config(**{**_SIZES, **further})).eval()
    assert is_causal(model.base_model)
    sequences = [sequence % 295 + 3 for sequence in (START, START[:12], np.append(START[:5] + 1, [7]))]
    tree = grow(sequences, row_tokens=1)
    assert tree.is_chain.all()
    assert len(set(tree.size.tolist())) == 2
    found = hidden_states(model.base_model, tree, np.concatenate(tree.node))
    plain = [model.base_model(torch.from_numpy(s)[None], use_cache=False).last_hidden_state[0] for s in sequences]
    torch.testing.assert_close(found, torch.cat(plain), atol=1e-5, rtol=1e-5)


class Forward(hf.LlamaForCausalLM):
    """Attends to what comes later, too, unless a mask forbids it."""

    def __init__(self, config):
        super().__init__(config)
        for layer in self.model.layers:
            layer.self_attn.is_causal = False


def test_attention_that_is_not_causal_by_itself_keeps_its_mask():
    torch.manual_seed(0)
    sizes = {name: size for name, size in _SIZES.items() if name != "sliding_window"}
    model = Forward(hf.LlamaConfig(**sizes)).eval()
    assert not is_causal(model.base_model)
    np.testing.assert_allclose(
        Scorer(model, row_tokens=1).score(CONTEXTS, REPLIES)["logprob"],
        plain_scores(sizes),
        atol=1e-5,
    )
    assert not is_causal(hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, attn_implementation="eager")).base_model)


def plain_scores(sizes):
    torch.manual_seed(0)
    return alone(hf.LlamaForCausalLM(hf.LlamaConfig(**sizes)).eval(), CONTEXTS, REPLIES)
