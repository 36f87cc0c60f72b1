"""What the tests of losses of pairs share: a pair of replies of a policy over three tokens."""

import math

import pytest
import torch

# Of two contexts; the reference is another policy.
LOGITS = torch.tensor([[0.4, -0.3, 0.1], [-0.2, 0.5, 0.0]], dtype=torch.float64)
REFERENCE = torch.tensor([[0.0, 0.2, -0.1], [0.3, 0.0, -0.4]], dtype=torch.float64)
# Context and token of each step; the two replies share a step.
CHOSEN = ((0, 0), (1, 1), (1, 1))
REJECTED = ((0, 2), (1, 1))


def reply(logits, steps):
    return sum(torch.log_softmax(logits[context], 0)[token] for context, token in steps)


def of_softmax(logits):
    """All arguments of a loss of one pair, by name; those of the policy have a gradient."""
    with torch.no_grad():
        kept = {"chosen_reference": reply(REFERENCE, CHOSEN), "rejected_reference": reply(REFERENCE, REJECTED)}
    divergence = sum(
        (reply(logits, (step,)) - reply(REFERENCE, (step,))).detach() * reply(logits, (step,)) for step in CHOSEN
    )
    found = {
        **kept,
        "chosen_logprob": reply(logits, CHOSEN),
        "rejected_logprob": reply(logits, REJECTED),
        "chosen_divergence": divergence,
        "chosen_length": torch.tensor(float(len(CHOSEN))),
        "rejected_length": torch.tensor(float(len(REJECTED))),
        "margin": torch.tensor(0.3),
    }
    return {name: value.to(torch.float64).reshape(1) for name, value in found.items()}


def _gradient(loss, names, **settings):
    logits = LOGITS.clone().requires_grad_()
    given = of_softmax(logits)
    (found,) = torch.autograd.grad(loss(**{name: given[name] for name in names}, **settings).sum(), logits)
    return found


def _differences(loss, names, step=1e-6, **settings):
    """The gradient of a loss that has no stop-gradient, by central differences."""

    def value(logits):
        given = of_softmax(logits)
        return float(loss(**{name: given[name] for name in names}, **settings).sum())

    found = torch.zeros_like(LOGITS)
    for at in range(LOGITS.numel()):
        moved = torch.zeros_like(LOGITS)
        moved.view(-1)[at] = step
        found.view(-1)[at] = (value(LOGITS + moved) - value(LOGITS - moved)) / (2 * step)
    return found


def _score(steps):
    """∇ log π of a reply: Σ 1_token − π."""
    found = torch.zeros_like(LOGITS)
    for context, token in steps:
        found[context] += torch.eye(3, dtype=torch.float64)[token] - torch.softmax(LOGITS[context], 0)
    return found


@pytest.fixture
def gradient():
    """The gradient of a loss of one pair with respect to the logits of its policy."""
    return _gradient


@pytest.fixture
def differences():
    return _differences


@pytest.fixture
def scores():
    """∇ log π of the chosen and of the rejected reply."""
    return _score(CHOSEN), _score(REJECTED)


@pytest.fixture
def softmax_pair():
    """All arguments of a loss for the pair, without gradient."""
    return {name: value.detach() for name, value in of_softmax(LOGITS).items()}


@pytest.fixture
def published():
    """The pair of the published numbers: −10 against −11 and −12 against −11.5 nats, 5 tokens each."""
    numbers = {
        "chosen_logprob": -10.0,
        "rejected_logprob": -12.0,
        "chosen_reference": -11.0,
        "rejected_reference": -11.5,
        "chosen_length": 5.0,
        "rejected_length": 5.0,
    }
    return {name: torch.tensor([number], dtype=torch.float64) for name, number in numbers.items()}


@pytest.fixture
def sigmoid():
    return lambda x: 1.0 / (1.0 + math.exp(-x))
