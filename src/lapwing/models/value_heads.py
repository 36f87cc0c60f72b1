"""A critic: linear value heads on the body of a language model, with an optimiser of its own."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.ragged import lengths_to_splits
from lapwing.models.finite import why_not_step
from lapwing.models.scorer import hidden_states
from lapwing.models.tree import grow, parts
from lapwing.models.value_loss import value_loss
from lapwing.stats.explained_variance import explained_variance


@dataclass(frozen=True)
class CriticSettings:
    """How a critic learns.

    Attributes:
      learning_rate: of its AdamW, constant; above 0.
      clip: how far a value may move from what it was when the episodes were played before its loss stops pulling it
        further, in units of reward; 0 lets it move freely.
      epochs: how often a batch is gone through.
      minibatches: updates an epoch; the episodes are split among them at random.
      clip_norm: longest gradient; longer ones are shortened to it.
      trunk: "copy" has a body of its own, which begins as a copy of the policy's and learns with the heads; "shared"
        reads the policy's hidden states and leaves them as they are.
      warm_up: iterations at the start in which the critic learns and the policy waits.
    """

    learning_rate: float = 1e-3
    clip: float = 0.2
    epochs: int = 1
    minibatches: int = 1
    clip_norm: float = 1.0
    trunk: Literal["copy", "shared"] = "copy"
    warm_up: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.learning_rate < math.inf:
            raise UserError(f"A critic's learning_rate is a finite number above 0, not {self.learning_rate}.")
        if not self.clip >= 0.0:
            raise UserError(f"A critic's clip is above 0, or 0 for none, not {self.clip}.")
        if not self.clip_norm > 0.0:
            raise UserError(f"A critic's clip_norm is above 0, not {self.clip_norm}.")
        if self.epochs < 1 or self.minibatches < 1:
            raise UserError("A critic's epochs and minibatches are at least 1.")
        if self.warm_up < 0:
            raise UserError(f"A critic's warm_up is at least 0 iterations, not {self.warm_up}.")


class Reads(NamedTuple):
    """R places at which a head is read: the row, and the token of the row that has been seen last, int64 [R]."""

    row: np.ndarray
    position: np.ndarray


class Lesson(NamedTuple):
    """What a head should say at R places: its value when it was last read and its target, float64 [R].

    `episode` [R] numbers what is not split among minibatches.
    """

    reads: Reads
    episode: np.ndarray
    behavior_value: np.ndarray
    target: np.ndarray


class ValueHeads:
    """Reads one value per head and place, and learns them.

    V_h(x) = w_h · hidden(x) + b_h

    The hidden state is that of the last token seen, after the body's final norm. Heads begin at 0, so that a critic
    that has learnt nothing says 0 everywhere. A body of its own begins with the policy's weights, which follow from
    the run's seed. Rows that share a beginning are computed once.
    """

    def __init__(
        self,
        model: Any,
        heads: Sequence[str],
        *,
        seed: int,
        settings: CriticSettings,
        row_tokens: int = 160,
        batch_tokens: int = 16384,
    ) -> None:
        """Make the critic.

        Args:
          model: the causal language model of the policy.
          heads: their names.
          seed: of the run, for the split into minibatches.
          settings: how it learns.
          row_tokens: aim for the tokens of one packed row.
          batch_tokens: tokens, padding included, that one forward pass may hold.
        """
        self.heads = tuple(heads)
        self.seed = seed
        self.settings = settings
        self.row_tokens = row_tokens
        self.batch_tokens = batch_tokens
        self.shares = settings.trunk == "shared"
        body = model.base_model
        self._body = body if self.shares else copy.deepcopy(body).float().requires_grad_(True).eval()
        device = next(body.parameters()).device
        width = model.get_output_embeddings().weight.shape[1]
        self._weight = torch.nn.Parameter(torch.zeros(len(self.heads), width, device=device))
        self._bias = torch.nn.Parameter(torch.zeros(len(self.heads), device=device))
        self.parameters = [self._weight, self._bias, *([] if self.shares else self._body.parameters())]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.learning_rate, weight_decay=0.0, fused=True)
        self.updates = 0
        self.iterations = 0

    @property
    def ready(self) -> bool:
        """Whether the warm-up is over."""
        return self.iterations >= self.settings.warm_up

    def values(self, rows: Sequence[np.ndarray], reads: Mapping[str, Reads]) -> dict[str, np.ndarray]:
        """Read heads without gradients.

        Args:
          rows: token sequences, each with at least one token.
          reads: where to read, by head.

        Returns:
          float64 [R] by head, in units of reward.
        """
        found = {name: np.zeros(len(places.row)) for name, places in reads.items()}
        joined = _join(self.heads, reads)
        result = np.concatenate([np.zeros(0), *found.values()])
        with torch.no_grad():
            for chosen, value in self._micro_batches(rows, joined):
                result[chosen] = value.double().cpu().numpy()
        splits = lengths_to_splits(np.array([len(places.row) for places in reads.values()]))
        return {name: result[low:high] for name, low, high in zip(reads, splits[:-1], splits[1:], strict=True)}

    def fit(self, rows: Sequence[np.ndarray], lessons: Mapping[str, Lesson]) -> dict[str, float]:
        """Learn from a batch: the mean value loss of each head, summed over the heads.

        Args:
          rows: token sequences, each with at least one token.
          lessons: places and targets, by head.

        Returns:
          Metrics by name, without prefix: of each head `<head>_loss` and `<head>_explained_variance` (of the values
          before this update), and `gradient_norm` and `nonfinite` of all.
        """
        totals = {f"{name}_loss": 0.0 for name, lesson in lessons.items() if len(lesson.target)}
        totals |= {"gradient_norm": 0.0, "nonfinite": 0.0}
        updates = 0
        for epoch in range(self.settings.epochs):
            for part in self._parts(lessons, epoch):
                updates += self._one_update(rows, part, totals)
        self.iterations += 1
        metrics = {name: total if name == "nonfinite" else total / max(updates, 1) for name, total in totals.items()}
        for name, lesson in lessons.items():
            if len(lesson.target):
                metrics[f"{name}_explained_variance"] = explained_variance(lesson.behavior_value, lesson.target)
        return metrics

    def _parts(self, lessons: Mapping[str, Lesson], epoch: int) -> list[dict[str, Lesson]]:
        lessons = {name: lesson for name, lesson in lessons.items() if len(lesson.target)}
        parts = self.settings.minibatches
        if parts == 1 or not lessons:
            return [lessons] if lessons else []
        episodes = np.unique(np.concatenate([lesson.episode for lesson in lessons.values()]))
        order = rng.generator("critic", self.seed, self.updates, epoch).permutation(len(episodes))
        part_of = np.empty(len(episodes), dtype=np.int64)
        part_of[order] = np.arange(len(episodes)) % parts
        found = []
        for part in range(min(parts, len(episodes))):
            chosen = {n: np.isin(lesson.episode, episodes[part_of == part]) for n, lesson in lessons.items()}
            found.append({n: _take(lesson, chosen[n]) for n, lesson in lessons.items() if chosen[n].any()})
        return found

    def _one_update(self, rows: Sequence[np.ndarray], lessons: Mapping[str, Lesson], totals: dict[str, float]) -> int:
        self.optimizer.zero_grad(set_to_none=True)
        joined = _join(self.heads, {name: lesson.reads for name, lesson in lessons.items()})
        behavior = np.concatenate([lesson.behavior_value for lesson in lessons.values()])
        target = np.concatenate([lesson.target for lesson in lessons.values()])
        size = np.bincount(joined.head, minlength=len(self.heads))
        losses = torch.zeros(len(self.heads), device=self._bias.device)
        for chosen, value in self._micro_batches(rows, joined):
            head = torch.from_numpy(joined.head[chosen]).to(value.device)
            loss = value_loss(
                value=value,
                behavior_value=_tensor(behavior[chosen], value),
                target=_tensor(target[chosen], value),
                clip=self.settings.clip or None,
            ) / _tensor(size[joined.head[chosen]], value)
            loss.sum().backward()
            losses.index_add_(0, head, loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm))
        is_finite = math.isfinite(norm) and bool(torch.isfinite(losses).all())
        names = [f"number {index}" for index in range(len(self.parameters))]
        if not is_finite or why_not_step(self.optimizer, self.parameters, names, min(norm, self.settings.clip_norm)):
            # A non-finite gradient would destroy the weights; keep the last good ones and go on.
            self.optimizer.zero_grad(set_to_none=True)
            totals["nonfinite"] += 1
            return 0
        self.optimizer.step()
        self.updates += 1
        totals["gradient_norm"] += norm
        for name in lessons:
            totals[f"{name}_loss"] += float(losses[self.heads.index(name)])
        return 1

    def _micro_batches(self, rows: Sequence[np.ndarray], reads: "_Joined") -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Which of the reads each forward pass holds, and their values; every read in exactly one."""
        needed, row = np.unique(reads.row, return_inverse=True)
        if len(needed) == 0:
            return
        tree = grow([rows[i] for i in needed], row_tokens=self.row_tokens)
        offset = lengths_to_splits(np.array([len(node) for node in tree.node]))[:-1]
        node = np.concatenate(tree.node)[offset[row.reshape(-1)] + reads.position]
        for part in parts(tree, node, batch_tokens=self.batch_tokens):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.shares):
                hidden = hidden_states(self._body, part.tree, part.nodes).float()
            values = torch.nn.functional.linear(hidden, self._weight, self._bias)
            yield part.chosen, values[torch.from_numpy(part.inverse), torch.from_numpy(reads.head[part.chosen])]

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, moments and counts as tensors by name, for an exact resume."""
        tensors = {"counts": torch.tensor([self.updates, self.iterations], dtype=torch.int64)}
        for index, parameter in enumerate(self.parameters):
            # On the device a checkpoint would take as much again as what it saves.
            tensors[f"weight.{index}"] = parameter.detach().to("cpu", copy=True)
            for name, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).detach().to("cpu", copy=True)
        return tensors

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state` returned."""
        self.updates, self.iterations = (int(count) for count in tensors["counts"])
        for index, parameter in enumerate(self.parameters):
            with torch.no_grad():
                parameter.copy_(tensors[f"weight.{index}"])
            prefix = f"optimizer.{index}."
            found: dict[str, Any] = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if found:
                # Checkpoints are read into the host's memory.
                moved = {name: tensor.to(parameter.device, copy=True) for name, tensor in found.items()}
                self.optimizer.state[parameter] = moved


class _Joined(NamedTuple):
    """The reads of several heads laid end to end; `head` says which, as a number."""

    row: np.ndarray
    position: np.ndarray
    head: np.ndarray


def _join(heads: Sequence[str], reads: Mapping[str, Reads]) -> _Joined:
    none = [np.zeros(0, dtype=np.int64)]
    return _Joined(
        row=np.concatenate(none + [places.row for places in reads.values()]),
        position=np.concatenate(none + [places.position for places in reads.values()]),
        head=np.concatenate(none + [np.full(len(places.row), heads.index(name)) for name, places in reads.items()]),
    )


def _take(lesson: Lesson, chosen: np.ndarray) -> Lesson:
    reads = Reads(lesson.reads.row[chosen], lesson.reads.position[chosen])
    return Lesson(reads, lesson.episode[chosen], lesson.behavior_value[chosen], lesson.target[chosen])


def _tensor(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(like.device)
