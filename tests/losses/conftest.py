"""What the tests of several losses share: softmaxes over three tokens, through which gradients are checked."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch

Loss = Callable[[torch.Tensor], torch.Tensor]
_STEP = 1e-5


class ThreeTokens:
    """K tokens, each drawn from a softmax over three tokens of its own.

    Attributes:
      behavior_logprob: such that the tokens have the ratios that were asked for, [K].
    """

    def __init__(self, ratio: Sequence[float]) -> None:
        generator = torch.Generator().manual_seed(len(ratio))
        self._logits = torch.randn(len(ratio), 3, generator=generator, dtype=torch.float64)
        self._token = torch.arange(len(ratio)) % 3
        self.behavior_logprob = self._logprob(self._logits) - torch.tensor(ratio, dtype=torch.float64).log()

    def _logprob(self, logits):
        return logits.log_softmax(1).gather(1, self._token[:, None])[:, 0]

    def logprob(self) -> torch.Tensor:
        """Of the tokens, with gradient."""
        return self._logprob(self._logits).requires_grad_()

    def values(self, loss: Loss) -> list[float]:
        return loss(self._logprob(self._logits)).tolist()

    def _differences(self, function) -> torch.Tensor:
        """Central finite differences by the logits of a function of the log-probabilities, [K, 3] by its shape."""
        slopes = []
        for place in range(self._logits.numel()):
            moved = torch.zeros_like(self._logits).view(-1)
            moved[place] = _STEP
            above, below = (function(self._logprob(self._logits + sign * moved.view(-1, 3))) for sign in (1, -1))
            slopes.append((above - below) / (2 * _STEP))
        return torch.stack(slopes)

    def _autograd(self, loss: Loss) -> torch.Tensor:
        logits = self._logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(self._logprob(logits)).sum(), logits)
        return gradient.view(-1)

    def assert_coefficients(self, loss: Loss, coefficient: Sequence[float]) -> None:
        """Autograd gives Σ coefficient_k ∇logprob_k, where the ∇logprob come from finite differences.

        With stop-gradients the value is no guide to the gradient: the intended one is its coefficients.
        """
        intended = self._differences(lambda logprob: logprob) @ torch.tensor(coefficient, dtype=torch.float64)
        torch.testing.assert_close(self._autograd(loss), intended, atol=1e-6, rtol=0)

    def assert_slope_of_the_value(self, loss: Loss) -> None:
        """Autograd gives the finite differences of the value: nothing is stopped that should not be."""
        slopes = self._differences(lambda logprob: loss(logprob).sum())
        torch.testing.assert_close(self._autograd(loss), slopes, atol=1e-6, rtol=0)


@pytest.fixture
def three_tokens() -> Callable[[Sequence[float]], ThreeTokens]:
    """From ratios to tokens that have them."""
    return ThreeTokens


@pytest.fixture
def layout() -> Callable[[Sequence[Sequence[int]]], dict[str, torch.Tensor]]:
    """From the number of tokens of each step of each episode to `step_of_token` and `episode_of_token`."""

    def make(tokens: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        steps = [count for episode in tokens for count in episode]
        step_of_token = torch.repeat_interleave(torch.arange(len(steps)), torch.tensor(steps))
        episode_of_step = torch.repeat_interleave(
            torch.arange(len(tokens)), torch.tensor([len(episode) for episode in tokens])
        )
        return {"step_of_token": step_of_token, "episode_of_token": episode_of_step[step_of_token]}

    return make


@pytest.fixture
def logs() -> Callable[[Sequence[float]], torch.Tensor]:
    """Logarithms of numbers, in double precision."""
    return lambda numbers: torch.tensor([math.log(number) for number in numbers], dtype=torch.float64)
