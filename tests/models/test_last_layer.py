"""The last layer at the wanted tokens only: the same hidden states and the same gradients as the whole pass."""

import copy
import threading

import numpy as np
import pytest
import torch
import transformers as hf

from lapwing.models.last_layer import last_layer_at
from lapwing.models.lora import LoraSettings
from lapwing.models.pretrained import pretrained_model
from lapwing.models.recompute import recomputing
from lapwing.models.scorer import Scorer, hidden_states
from lapwing.models.tree import grow

RNG = np.random.default_rng(11)
START = RNG.integers(3, 40, size=30)
# Two rows with branches and one without; longer than the windows below.
SEQUENCES = [START, np.append(START[:20], [9, 8, 7]), RNG.integers(3, 40, size=26), RNG.integers(3, 40, size=34)]
TREE = grow(SEQUENCES, row_tokens=34)
CHAINS = grow(SEQUENCES[2:], row_tokens=20)
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, {}),
    "biases": (hf.Qwen2ForCausalLM, hf.Qwen2Config, {}),
    "normed heads": (hf.Qwen3ForCausalLM, hf.Qwen3Config, {"head_dim": 8}),
    "the upper layers have a window": (
        hf.Qwen2ForCausalLM,
        hf.Qwen2Config,
        {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8},
    ),
    "every layer has a window": (hf.MistralForCausalLM, hf.MistralConfig, {"sliding_window": 8}),
    "every second layer has a window": (
        hf.Gemma2ForCausalLM,
        hf.Gemma2Config,
        {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8},
    ),
    "two rotations": (hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, {"head_dim": 8, "sliding_window": 8}),
    "experts": (hf.Qwen3MoeForCausalLM, hf.Qwen3MoeConfig, {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2}),
    "sinks and experts": (
        hf.GptOssForCausalLM,
        hf.GptOssConfig,
        {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    ),
    "parallel blocks": (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, {}),
}
# Their last layers take the keys and values of an earlier one; their layers lie elsewhere.
OTHERS = {
    "shared keys": (
        hf.Gemma3nForCausalLM,
        hf.Gemma3nTextConfig,
        {
            "head_dim": 8,
            "num_kv_shared_layers": 1,
            "vocab_size_per_layer_input": 60,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        },
    ),
    "layers by another name": (hf.GPT2LMHeadModel, hf.GPT2Config, {}),
    "a decoder in the body": (hf.OPTForCausalLM, hf.OPTConfig, {"ffn_dim": 64, "word_embed_proj_dim": 32}),
}


def build(kind):
    make, config, further = (KINDS | OTHERS)[kind]
    torch.manual_seed(0)
    return make(config(**{**SIZES, **further})).eval()


def wanted(tree):
    """Nodes in no order: several in the first row, one in the second, the last of each row among them."""
    first = [7, tree.size[0] - 1, 3, 12, 3]
    return np.array([*first, *(b * tree.width + size - 1 for b, size in enumerate(tree.size.tolist()) if b)])[
        ::-1
    ].copy()


def whole(body, tree, nodes):
    """The hidden states by plain calls: each sequence alone."""
    found = {}
    for sequence, node in zip(tree._sequences, tree.node, strict=True):
        hidden = body(input_ids=torch.from_numpy(sequence)[None], use_cache=False).last_hidden_state[0]
        found |= dict(zip(node.tolist(), hidden, strict=True))
    return torch.stack([found[node] for node in nodes.tolist()])


def gradients(model, hidden):
    model.zero_grad()
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=hidden.shape)).to(hidden.dtype)
    (hidden * weight).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model, tree):
    nodes = wanted(tree)
    found, expected = hidden_states(model.base_model, tree, nodes), whole(model.base_model, tree, nodes)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    one, other = gradients(model, found), gradients(model, expected)
    assert set(one) == set(other)
    for name, gradient in other.items():
        torch.testing.assert_close(one[name], gradient, atol=1e-5 * float(1 + gradient.abs().max()), rtol=1e-4)


class Counted:
    """How many tokens go through the feed-forward network of a body's last layer."""

    def __init__(self, body):
        self.tokens = 0
        body.layers[-1].mlp.register_forward_hook(self._count)

    def _count(self, module, given, output):
        self.tokens += given[0].numel() // given[0].shape[-1]


@pytest.mark.parametrize("tree", [TREE, CHAINS], ids=["branches", "chains"])
@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_are_those_of_each_sequence_alone(kind, tree):
    # Fails when a mask keeps the rows of other queries, positions are not chosen along, or what is padding is chosen.
    model = build(kind)
    assert_same(model, tree)
    counted = Counted(model.base_model)
    hidden_states(model.base_model, tree, wanted(tree))
    assert counted.tokens == 5 * len(tree.size), "five places in each row"


@pytest.mark.parametrize("kind", OTHERS)
def test_bodies_that_are_built_otherwise_are_asked_as_a_whole(kind):
    model = build(kind)
    assert last_layer_at(model.base_model, torch.zeros(1, 1, dtype=torch.int64), **inputs(9)) is None
    assert_same(model, TREE)


def inputs(length):
    token = torch.arange(length)[None] + 3
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
    return {"input_ids": token, "position_ids": torch.arange(length)[None], "attention_mask": mask}


def test_where_most_is_wanted_the_whole_pass_is_made():
    model = build("llama")
    assert last_layer_at(model.base_model, torch.tensor([[0, 1, 2, 3, 4]]), **inputs(9)) is None
    assert last_layer_at(model.base_model, torch.tensor([[8, 1, 2, 3]]), **inputs(9)).shape == (1, 4, 32)


@pytest.mark.parametrize("causal", [False, True], ids=["with a mask", "without"])
def test_one_place_of_one_row(causal):
    # Fails when a single query, which sees all that is there without a mask, is asked without one.
    body = build("biases").base_model
    given = inputs(9)
    expected = body(**given, use_cache=False).last_hidden_state[0, 4]
    found = last_layer_at(body, torch.tensor([[4]]), **{**given, **({"attention_mask": None} if causal else {})})
    torch.testing.assert_close(found[0, 0], expected, atol=1e-5, rtol=1e-5)


def test_layers_that_are_computed_again_are_called_as_they_are(toy_folder):
    # Fails when what was found out before checkpointing was switched on is believed afterwards.
    model = hf.AutoModelForCausalLM.from_pretrained(toy_folder("qwen2")).eval()
    assert last_layer_at(model.base_model, torch.tensor([[8]]), **inputs(9)) is not None
    model.activation_checkpointing_enable()
    assert last_layer_at(model.base_model, torch.tensor([[8]]), **inputs(9)) is not None, "nothing goes backward"
    with recomputing(model):
        assert last_layer_at(model.base_model, torch.tensor([[8]]), **inputs(9)) is None
        assert_same(model, TREE)


def test_layers_that_wait_elsewhere_are_called_as_they_are():
    body = build("llama").base_model
    assert last_layer_at(body, torch.tensor([[8]]), **inputs(9)) is not None
    body.layers[-1]._hf_hook = object()
    assert last_layer_at(body, torch.tensor([[8]]), **inputs(9)) is None


def test_nothing_is_tried_where_other_processes_would_have_to_try_it_too():
    # What was known before the weights were spread holds: tests/distributed/test_ranks.py compares the updates.
    body, other = (build("llama").base_model for _ in range(2))
    assert last_layer_at(other, torch.tensor([[8]]), **inputs(9)) is not None
    for each in (body, other):
        each.layers[-1].mlp.up_proj.weight.full_tensor = None
    assert last_layer_at(body, torch.tensor([[8]]), **inputs(9)) is None
    assert last_layer_at(other, torch.tensor([[8]]), **inputs(9)) is not None


def test_dropout_is_drawn_once():
    model = build("llama").train()
    assert last_layer_at(model.base_model, torch.tensor([[8]]), **inputs(9)) is None
    assert last_layer_at(model.eval().base_model, torch.tensor([[8]]), **inputs(9)) is not None


class Odd(hf.LlamaForCausalLM):
    """Adds the sum of all tokens to each after its layers, so that it needs them all."""

    def __init__(self, config):
        super().__init__(config)
        self.model.norm.register_forward_hook(lambda _, given, output: output + given[0].sum(1, keepdim=True))


def test_a_body_that_gives_something_else_is_left_alone():
    torch.manual_seed(0)
    model = Odd(hf.LlamaConfig(**SIZES)).eval()
    given = inputs(9)
    before = model.base_model(**given, use_cache=False).last_hidden_state
    assert last_layer_at(model.base_model, torch.tensor([[8]]), **given) is None
    assert not model.base_model.layers[-1]._forward_pre_hooks
    torch.testing.assert_close(model.base_model(**given, use_cache=False).last_hidden_state, before)


def test_two_threads_at_once():
    # Fails when what is wanted is shared by threads, or both put a hook on the layer.
    model = build("llama")
    trees = [TREE, CHAINS]
    expected = [whole(model.base_model, tree, wanted(tree)) for tree in trees]
    gate, wrong = threading.Barrier(2), []

    def ask(number):
        gate.wait()
        for _ in range(10):
            found = hidden_states(model.base_model, trees[number], wanted(trees[number]))
            wrong.append(float((found - expected[number]).abs().max().detach()))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 20
    assert max(wrong) < 1e-5
    assert len(model.base_model.layers[-1]._forward_pre_hooks) == 1


def test_other_calls_of_the_model_and_its_weights_stay_as_they_were():
    model, other = build("llama"), build("llama")
    hidden_states(model.base_model, TREE, wanted(TREE))
    token = torch.from_numpy(START)[None]
    torch.testing.assert_close(model(token).logits, other(token).logits)
    assert set(model.state_dict()) == set(other.state_dict())
    torch.testing.assert_close(
        model.generate(token, max_new_tokens=4, do_sample=False),
        other.generate(token, max_new_tokens=4, do_sample=False),
    )


def test_a_pass_that_fails_leaves_nothing_behind():
    model = build("llama")
    hidden_states(model.base_model, TREE, wanted(TREE))
    with pytest.raises(IndexError):
        last_layer_at(model.base_model, torch.tensor([[8]]), **{**inputs(9), "input_ids": torch.full((1, 9), 999)})
    assert model.base_model(torch.from_numpy(START)[None]).last_hidden_state.shape[1] == len(START)


def test_copies_go_their_own_way():
    # Fails when the copy's layer asks the original's weights.
    model = build("llama")
    hidden_states(model.base_model, TREE, wanted(TREE))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    assert_same(twin, TREE)
    assert_same(model, TREE)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("architecture", ["qwen2", "gemma"])
def test_adapters_get_the_same_gradient(architecture, toy_folder):
    model, _ = pretrained_model(
        path=str(toy_folder(architecture)), lora=LoraSettings(rank=4, alpha=8), seed=3, device="cpu", dtype="float32"
    )
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    assert_same(model, TREE)


def test_the_tiny_model_learns_from_replies_as_with_whole_passes(make_model, monkeypatch):
    contexts, replies = [START, START[:20], SEQUENCES[3]], [START[:3], START[5:6], START[7:12]]
    found = []
    for share in (0.5, -1.0):
        monkeypatch.setattr("lapwing.models.last_layer._MOST", share)
        model = make_model(seed=2)
        for part in Scorer(model).micro_batches(contexts, replies, entropy=True):
            (part.logprob.sum() + part.entropy.sum()).backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
