"""What an update descends: a loss with its corrections, and further terms."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lapwing.training.adamw import Schedule

Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Regulariser:
    """A further term of the loss, weighted as the loss is, with its own coefficient.

    Attributes:
      name: of the loss.
      loss: keyword tensors [K] to one number per token.
      needs: the arguments that it takes.
      coefficient: over the course of the stage.
      mergeable: a token's term depends on that token alone.
    """

    name: str
    loss: Loss
    needs: tuple[str, ...]
    coefficient: Schedule
    mergeable: bool = True


@dataclass(frozen=True)
class Correction:
    """A factor of the loss, without gradient; the regularisers are not multiplied by it.

    Attributes:
      loss: keyword tensors [K] to one number of at least 0 per token.
      needs: the arguments that it takes.
      mergeable: a token's factor depends on that token alone.
    """

    loss: Loss
    needs: tuple[str, ...]
    mergeable: bool = True


class AdaptiveLoss:
    """A loss with memory: between updates its state follows what was measured.

    ℓ = loss(…, state=state),   state ← after_update(state, entropy=…)   once per update
    """

    def __init__(self, loss: Loss, settings: Mapping[str, Any]) -> None:
        """Begin with the initial state.

        Args:
          loss: from a module with `initial_state(**settings)` and `after_update(state, *, entropy, **settings)`.
          settings: of the loss.
        """
        self._module: Any = inspect.getmodule(loss)
        self._loss, self._settings = loss, dict(settings)
        self.state: dict[str, np.ndarray] = self._module.initial_state(**settings)

    def __call__(self, **tensors: torch.Tensor) -> torch.Tensor:
        """The loss of each token, [K]."""
        return self._loss(**tensors, **self._settings, state=self.state)

    def after_update(self, entropy: float) -> None:
        """An update was made.

        Args:
          entropy: mean over its tokens, nats.
        """
        self.state = self._module.after_update(self.state, entropy=entropy, **self._settings)


class Objective:
    """The loss of each token: loss · Π corrections + Σ coefficient · regulariser.

    Attributes:
      loss, corrections, regularisers: its terms.
      mergeable: it may be evaluated on any part of the tokens.
      adaptive: the terms with memory.
    """

    def __init__(
        self,
        loss: Loss,
        needs: Sequence[str],
        *,
        mergeable: bool,
        silent: bool,
        corrections: Sequence[Correction] = (),
        regularisers: Sequence[Regulariser] = (),
    ) -> None:
        """Take the terms.

        Args:
          loss: keyword tensors [K] to one number per token.
          needs: the arguments of the loss besides `logprob` that it takes, by name.
          mergeable: the loss may be evaluated on any part of the tokens.
          silent: the loss of a token whose advantage is 0 is 0, whatever the weights.
          corrections, regularisers: further factors and terms.
        """
        self.loss, self._needs, self.silent = loss, ("logprob", *needs), silent
        self.corrections, self.regularisers = tuple(corrections), tuple(regularisers)
        self.mergeable = mergeable and all(term.mergeable for term in (*corrections, *regularisers))
        self.adaptive = {
            f"{number}.{r.name}": r.loss for number, r in enumerate(regularisers) if isinstance(r.loss, AdaptiveLoss)
        }

    def active(self, progress: float) -> list[tuple[Regulariser, float]]:
        """The regularisers that count at a share of the stage, with their coefficients."""
        coefficients = [(r, r.coefficient(progress)) for r in self.regularisers]
        return [(r, c) for r, c in coefficients if c]

    def is_silent(self, progress: float) -> bool:
        """Whether tokens without advantage are nothing to learn from."""
        return self.silent and self.mergeable and not self.active(progress)

    def needs(self, active: Sequence[tuple[Regulariser, float]]) -> set[str]:
        """The arguments that all terms take together."""
        of_terms = (name for term in (*self.corrections, *(r for r, _ in active)) for name in term.needs)
        return {*self._needs, *of_terms}

    def value(self, given: Mapping[str, torch.Tensor], active: Sequence[tuple[Regulariser, float]]) -> torch.Tensor:
        """The loss of each token, [K].

        Args:
          given: all tensors that a loss may ask for.
          active: the regularisers that count, with their coefficients.
        """

        def of(term: Correction | Regulariser) -> torch.Tensor:
            return term.loss(**{name: given[name] for name in term.needs})

        total = self.loss(**{name: given[name] for name in self._needs})
        for correction in self.corrections:
            total = total * of(correction).detach()
        for regulariser, coefficient in active:
            total = total + coefficient * of(regulariser)
        return total

    def after_update(self, means: Mapping[str, float]) -> None:
        """Tell the terms with memory what was measured."""
        for term in self.adaptive.values():
            if "policy/entropy" in means:
                term.after_update(means["policy/entropy"])

    def state(self) -> dict[str, torch.Tensor]:
        """What the terms with memory remember, as tensors by name."""
        return {
            f"memory.{number}.{name}": torch.from_numpy(np.array(array))
            for number, term in self.adaptive.items()
            for name, array in term.state.items()
        }

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state` returned."""
        for number, term in self.adaptive.items():
            prefix = f"memory.{number}."
            found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            term.state = {name: tensor.numpy() for name, tensor in found.items()} or term.state
