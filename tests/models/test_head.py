"""Scores from hidden states, a few nodes at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lapwing.models.head import Squash, score_tokens
from lapwing.models.scorer import Scorer

ARCHITECTURES = ("qwen2", "qwen3", "llama", "gemma")
RANDOM = np.random.default_rng(0)
NODES, TOKENS, WIDTH, VOCABULARY = 7, 12, 3, 11
# One node predicts no token, one the same token twice.
NODE = np.array([0, 6, 1, 1, 5, 4, 2, 2, 2, 0, 6, 4])
TOKEN = np.array([3, 1, 0, 0, 9, 10, 2, 7, 2, 4, 5, 1])
PER_NODE = 16 * VOCABULARY


def head_of(*, bias=False, dtype=torch.float64, kind=torch.nn.Linear, **config):
    torch.manual_seed(0)
    head = kind(WIDTH, VOCABULARY, bias=bias, dtype=dtype)
    return SimpleNamespace(get_output_embeddings=lambda: head, config=SimpleNamespace(**config)), head


def scores(model, hidden, logit_bytes, *, entropy=True, temperature=0.7):
    return score_tokens(model, hidden, NODE, TOKEN, temperature=temperature, entropy=entropy, logit_bytes=logit_bytes)


class Adapted(torch.nn.Linear):
    """A head that does more than multiply."""

    def forward(self, x):
        return super().forward(x) + super().forward(x.square())


SETTINGS = {
    "plain": {},
    "a bias": {"bias": True},
    "a cap": {"final_logit_softcapping": 0.8},
    "a divisor": {"logits_scaling": 3.0},
    "a scale": {"logit_scale": 0.3},
    "all of them": {"bias": True, "final_logit_softcapping": 0.8, "logits_scaling": 3.0, "logit_scale": 2.0},
    "a module of its own": {"kind": Adapted, "bias": True, "final_logit_softcapping": 0.8},
}


@pytest.mark.parametrize("entropy", [True, False], ids=["with entropy", "without"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_values_and_gradients_in_chunks_are_those_of_the_whole(settings, entropy):
    # Fails when a slope of the squash is left out, a chunk's tokens are those of its neighbour, or the temperature is
    # applied to the values only.
    model, head = head_of(**settings)
    hidden = torch.from_numpy(RANDOM.normal(size=(NODES, WIDTH))).requires_grad_()
    weights = torch.from_numpy(RANDOM.normal(size=(2, TOKENS)))
    found = []
    for logit_bytes in (10**9, 2 * PER_NODE, 1):
        logprob, entropies = scores(model, hidden, logit_bytes, entropy=entropy)
        assert (entropies is None) != entropy
        loss = (weights[0] * logprob).sum()
        if entropies is not None:
            loss = loss + (weights[1] * entropies).sum()
        gradients = torch.autograd.grad(loss, [hidden, *head.parameters()])
        found.append([logprob.detach(), *gradients, *([] if entropies is None else [entropies.detach()])])
    for some in found[1:]:
        for one, other in zip(some, found[0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("settings", [SETTINGS["plain"], SETTINGS["all of them"]], ids=["plain", "all of them"])
def test_the_gradient_in_chunks_is_that_of_finite_differences(settings):
    model, head = head_of(**settings)
    hidden = torch.from_numpy(RANDOM.normal(size=(NODES, WIDTH))).requires_grad_()
    given = list(head.parameters())

    def by_chunks(hidden, *parameters):
        for parameter, value in zip(("weight", "bias"), parameters, strict=False):
            delattr(head, parameter)
            setattr(head, parameter, value)
        return scores(model, hidden, 2 * PER_NODE)

    assert torch.autograd.gradcheck(by_chunks, [hidden, *(p.detach().clone().requires_grad_() for p in given)])


def test_a_gradient_that_nobody_wants_is_not_computed():
    # Fails when the weight of a frozen head gets a gradient, or the entropy's absent gradient is used.
    model, head = head_of()
    head.requires_grad_(False)
    hidden = torch.from_numpy(RANDOM.normal(size=(NODES, WIDTH))).requires_grad_()
    scores(model, hidden, PER_NODE)[0].sum().backward()
    by_logprob = hidden.grad.clone()
    assert head.weight.grad is None
    hidden.grad = None
    scores(model, hidden, 10**9, entropy=False)[0].sum().backward()
    torch.testing.assert_close(by_logprob, hidden.grad)


def test_the_head_s_gradient_is_summed_in_float32():
    # 512 chunks whose gradients differ a thousandfold: in bfloat16 the small ones would vanish beside the first.
    nodes = 512
    head = torch.nn.Linear(1, 4, bias=False, dtype=torch.bfloat16)
    model = SimpleNamespace(get_output_embeddings=lambda: head, config=SimpleNamespace())
    hidden = torch.full((nodes, 1), 2.0**-8, dtype=torch.bfloat16)
    hidden[0] = 1.0
    settings = {"temperature": 1.0, "entropy": False}
    token = np.zeros(nodes, dtype=np.int64)
    gradients = []
    for logit_bytes in (1, 10**9):
        head.weight.grad = None
        score_tokens(model, hidden, np.arange(nodes), token, logit_bytes=logit_bytes, **settings)[0].sum().backward()
        gradients.append(head.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=2**-7, atol=0)


def test_the_squash_is_that_of_the_models(toy_model):
    # Gemma caps its logits: the plain model's and ours agree.
    model = toy_model("gemma")
    ids = torch.arange(3, 11)[None]
    hidden = model.base_model(ids).last_hidden_state
    ours = Squash.of(model.config)(model.get_output_embeddings()(hidden))
    assert model.config.final_logit_softcapping
    torch.testing.assert_close(ours, model(ids).logits)


@pytest.fixture
def toy_model(toy_folder):
    from transformers import AutoModelForCausalLM

    return lambda architecture: AutoModelForCausalLM.from_pretrained(toy_folder(architecture)).eval()


class Largest(TorchDispatchMode):
    """The most rows that any tensor as wide as the vocabulary had, the head's own transposed weight left out."""

    def __init__(self, weight):
        super().__init__()
        self.shape, self.rows = weight.T.shape, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.shape[1:] == self.shape[1:] and tensor.shape != self.shape:
                self.rows = max(self.rows, tensor.shape[0])
        return result


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_is_scored_without_all_logits_at_once(toy_model, architecture):
    # Fails when the chunks are put together before the tokens are chosen, or an architecture's logits are not capped.
    model = toy_model(architecture)
    weight = model.get_output_embeddings().weight
    contexts = [RANDOM.integers(3, 60, size=size).astype(np.int32) for size in (5, 9, 14, 5)]
    replies = [RANDOM.integers(3, 60, size=size).astype(np.int32) for size in (6, 1, 9, 7)]
    weights = torch.from_numpy(RANDOM.normal(size=(2, 23))).float()
    found = []
    for logit_bytes in (10**9, 4 * 16 * len(weight)):
        model.zero_grad()
        with Largest(weight) as largest:
            (scored,) = Scorer(model, logit_bytes=logit_bytes).micro_batches(contexts, replies, entropy=True)
            assert scored.entropy is not None
            at = torch.from_numpy(scored.index)
            (weights[0, at] * scored.logprob + weights[1, at] * scored.entropy).sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append((largest.rows, scored.logprob.detach(), scored.entropy.detach(), gradients))
    assert found[0][0] == 23
    assert found[1][0] == 4
    for one, other in zip(found[1][1:3], found[0][1:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert found[1][3].keys() == found[0][3].keys()
    for name, gradient in found[0][3].items():
        torch.testing.assert_close(found[1][3][name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_the_backward_pass_keeps_no_logits():
    # Fails when autograd saves what each chunk computed.
    kept = []
    for settings in (SETTINGS["plain"], SETTINGS["a module of its own"]):
        model, head = head_of(**settings)
        hidden = torch.from_numpy(RANDOM.normal(size=(NODES, WIDTH))).requires_grad_()
        saved: list[torch.Tensor] = []

        def keep(tensor, saved=saved):
            saved.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            scores(model, hidden, PER_NODE)
        kept.append([t for t in saved if t.shape[-1:] == (VOCABULARY,) and t.data_ptr() != head.weight.data_ptr()])
    assert kept == [[], []]
