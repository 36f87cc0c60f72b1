"""The learner: from a batch with advantages and weights to new weights of the model."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError
from lapwing.models.distinct import DistinctReplies
from lapwing.models.scorer import Scored, Scorer

Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Schedule:
    """A number over the course of a stage: `start` until `hold`, then a straight line to `end` at `until`.

    Attributes:
      start, end: first and last value.
      hold, until: shares of the stage in [0, 1], hold ≤ until.
    """

    start: float
    end: float
    hold: float = 0.0
    until: float = 1.0

    def __call__(self, progress: float) -> float:
        """The value at a share of the stage."""
        if progress <= self.hold:
            return self.start
        if progress >= self.until:
            return self.end
        return self.start + (self.end - self.start) * (progress - self.hold) / (self.until - self.hold)


@dataclass(frozen=True)
class Regulariser:
    """A further term of the loss, weighted as the loss is, with its own coefficient.

    Attributes:
      name: of the loss.
      loss: keyword tensors [K] to one number per token.
      needs: the arguments that it takes.
      coefficient: over the course of the stage.
    """

    name: str
    loss: Loss
    needs: tuple[str, ...]
    coefficient: Schedule


@dataclass(frozen=True)
class AdamW:
    """AdamW with gradient clipping, a learning-rate schedule and an average of the weights.

    Attributes:
      learning_rate: at the start, above 0.
      final_share: the learning rate ends at this share of its start.
      hold: share of the stage before it begins to fall, along a straight line.
      betas: decay of the two moments.
      eps: added to the root of the second moment.
      weight_decay: decoupled, per update.
      clip_norm: longest gradient; longer ones are shortened to it.
      epochs: how often a batch is gone through.
      minibatches: updates an epoch; the episodes are split among them at random.
      average: decay of a running average of the weights, per update; the average is what the stage ends with.
        0 keeps none.
    """

    learning_rate: float = 5e-4
    final_share: float = 0.03
    hold: float = 0.2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 0.5
    epochs: int = 1
    minibatches: int = 1
    average: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.learning_rate < math.inf:
            raise UserError(f"optimizer.learning_rate is a finite number above 0, not {self.learning_rate}.")
        if not 0.0 <= self.final_share <= 1.0 or not 0.0 <= self.hold <= 1.0:
            raise UserError("optimizer.final_share and optimizer.hold are shares in [0, 1].")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise UserError(f"optimizer.betas are decays in [0, 1), not {self.betas}.")
        if not self.clip_norm > 0.0:
            raise UserError(f"optimizer.clip_norm is above 0, not {self.clip_norm}.")
        if self.eps < 0.0 or self.weight_decay < 0.0:
            raise UserError("optimizer.eps and optimizer.weight_decay are at least 0.")
        if self.epochs < 1 or self.minibatches < 1:
            raise UserError("optimizer.epochs and optimizer.minibatches are at least 1.")
        if not 0.0 <= self.average < 1.0:
            raise UserError(f"optimizer.average is a decay in [0, 1), not {self.average}.")


class Learner:
    """Updates a model by the gradient of Σ weight · loss over the tokens of a batch.

    Identical context–reply pairs, and shared prefixes, go through the model once; the loss is still evaluated for
    every token, so that this is exact for any loss. A loss that is MERGEABLE (a token's loss depends on that token
    alone) is taken apart into micro-batches; any other is differentiated by log-probability first, over the whole
    batch, and then carried through the micro-batches.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        loss: Loss,
        loss_needs: Sequence[str] = (),
        mergeable: bool = True,
        regularisers: Sequence[Regulariser] = (),
        optimizer: AdamW | None = None,
        seed: int,
        temperature: float = 1.0,
        batch_tokens: int = 16384,
        row_tokens: int = 160,
    ) -> None:
        """Make the learner.

        Args:
          model: a causal language model of transformers; it is changed in place.
          loss: keyword tensors [K] to one number per token.
          loss_needs: the arguments of the loss besides `logprob` that it takes, by name.
          mergeable: the loss may be evaluated on any part of the tokens.
          regularisers: further terms.
          optimizer: its settings.
          seed: of the run, for the split into minibatches.
          temperature: of sampling.
          batch_tokens, row_tokens: sizes of a forward pass and of a packed row, in tokens.
        """
        self.model = model
        self.loss = loss
        self.loss_needs = tuple(loss_needs)
        self.mergeable = mergeable
        self.regularisers = tuple(regularisers)
        self.settings = optimizer or AdamW()
        self.seed = seed
        self.scorer = Scorer(model, temperature=temperature, row_tokens=row_tokens, batch_tokens=batch_tokens)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self.settings.learning_rate,
            betas=self.settings.betas,
            eps=self.settings.eps,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        self.learning_rate = Schedule(
            self.settings.learning_rate,
            self.settings.learning_rate * self.settings.final_share,
            hold=self.settings.hold,
        )
        self.version = 0
        self.fault = ""
        self._average = [p.detach().clone() for p in self.parameters] if self.settings.average else None

    def update(
        self, batch: EpisodeBatch, advantage: np.ndarray, weight: np.ndarray, *, progress: float = 0.0
    ) -> dict[str, float]:
        """Go through a batch `epochs` times in `minibatches` updates each.

        Args:
          batch: E episodes.
          advantage: [K], one number per token.
          weight: [K], of each token's loss.
          progress: share of the stage that is done, for the schedules.

        Returns:
          Metrics by name; means are over all tokens that went through the model.
        """
        self.fault = ""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(progress)
        counts = np.zeros(batch.num_steps, dtype=bool)
        counts[batch.step_of_token[weight != 0]] = True
        steps = np.flatnonzero(counts)
        totals = _Totals()
        if len(steps) == 0:
            return totals.metrics(self.learning_rate(progress), skipped=True)
        updates = self.settings.epochs * self.settings.minibatches
        if updates > 1:
            batch = self._with_behavior(batch)
        for epoch in range(self.settings.epochs):
            parts = self._minibatches(batch, steps, epoch)
            for part in parts:
                # Each part stands for the whole batch, so that its weights count as often as there are parts.
                self._one_update(
                    _Tokens(batch, part, advantage, weight * len(parts), fresh=updates == 1), progress, totals
                )
                if self.fault:
                    return totals.metrics(self.learning_rate(progress))
        return totals.metrics(self.learning_rate(progress))

    def _with_behavior(self, batch: EpisodeBatch) -> EpisodeBatch:
        """Recompute the log-probabilities under the weights that played while these are current."""
        replies = DistinctReplies(batch, np.arange(batch.num_steps))
        logprob = np.empty(batch.num_tokens)
        logprob[replies.index] = replies.to_all(self.scorer.score(replies.contexts, replies.replies)["logprob"])
        return batch.with_columns(behavior_logprob=logprob)

    def _minibatches(self, batch: EpisodeBatch, steps: np.ndarray, epoch: int) -> list[np.ndarray]:
        if self.settings.minibatches == 1:
            return [steps]
        episodes, episode_of = np.unique(batch.episode_of_step[steps], return_inverse=True)
        order = rng.generator("minibatches", self.seed, self.version, epoch).permutation(len(episodes))
        part_of = np.empty(len(episodes), dtype=np.int64)
        part_of[order] = np.arange(len(episodes)) % self.settings.minibatches
        parts = [steps[part_of[episode_of] == part] for part in range(self.settings.minibatches)]
        return [part for part in parts if len(part)]

    def _one_update(self, tokens: "_Tokens", progress: float, totals: "_Totals") -> None:
        # Dropout would make the trained policy another than the one that played.
        self.model.eval()
        self.optimizer.zero_grad(set_to_none=True)
        coefficients = [(r, r.coefficient(progress)) for r in self.regularisers]
        active = [(r, c) for r, c in coefficients if c]
        want_entropy = any("token_entropy" in r.needs for r, _ in active) or "token_entropy" in self.loss_needs
        finite = True
        if self.mergeable:
            for scored in tokens.scored(self.scorer, entropy=True):
                loss = self._loss(tokens, scored, active)
                loss.backward()
                totals.add(tokens, scored, loss)
                finite = finite and tokens.is_finite(scored, loss, totals)
        else:
            finite = self._carry_through(tokens, active, want_entropy, totals)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm))
        if not (finite and math.isfinite(norm)):
            # A non-finite gradient would destroy the weights; keep the last good ones and go on.
            self.optimizer.zero_grad(set_to_none=True)
            totals.nonfinite += 1
            self.fault = totals.fault or "the gradient is not finite"
            return
        self.optimizer.step()
        self.version += 1
        totals.gradient_norm += norm
        totals.updates += 1
        if self._average is not None:
            # Early averages follow the weights closely, so that the start is forgotten.
            decay = min(self.settings.average, self.version / (self.version + 10))
            for average, parameter in zip(self._average, self.parameters, strict=True):
                average.lerp_(parameter.detach(), 1.0 - decay)

    def _loss(self, tokens: "_Tokens", scored: Scored, active: Sequence[tuple[Regulariser, float]]) -> torch.Tensor:
        given = tokens.arguments(scored)
        total = self.loss(**{name: given[name] for name in ("logprob", *self.loss_needs)})
        for regulariser, coefficient in active:
            total = total + coefficient * regulariser.loss(**{name: given[name] for name in regulariser.needs})
        return (given["weight"] * total).sum()

    def _carry_through(
        self, tokens: "_Tokens", active: Sequence[tuple[Regulariser, float]], want_entropy: bool, totals: "_Totals"
    ) -> bool:
        distinct = self.scorer.score(tokens.contexts, tokens.replies, want=("logprob", "entropy"))
        columns = {name: tokens.to_all(values) for name, values in distinct.items()}
        device = self.parameters[0].device
        leaves = Scored(
            np.arange(len(columns["logprob"])),
            torch.tensor(columns["logprob"], dtype=torch.float32, device=device, requires_grad=True),
            torch.tensor(columns["entropy"], dtype=torch.float32, device=device, requires_grad=want_entropy),
        )
        loss = self._loss(tokens, leaves, active)
        loss.backward()
        totals.add(tokens, leaves, loss)
        for scored in tokens.scored(self.scorer, entropy=want_entropy):
            at = torch.from_numpy(scored.index).to(device)
            assert leaves.logprob.grad is not None
            carried = (leaves.logprob.grad[at] * scored.logprob).sum()
            if want_entropy and leaves.entropy is not None and leaves.entropy.grad is not None:
                assert scored.entropy is not None
                carried = carried + (leaves.entropy.grad[at] * scored.entropy).sum()
            carried.backward()
        return tokens.is_finite(leaves, loss, totals)

    def finish(self) -> None:
        """End a stage: the weights become their running average, if one is kept."""
        if self._average is not None:
            with torch.no_grad():
                for parameter, average in zip(self.parameters, self._average, strict=True):
                    parameter.copy_(average)

    def state(self) -> dict[str, torch.Tensor]:
        """Moments, step counts and averages as tensors by name, for an exact resume."""
        tensors: dict[str, torch.Tensor] = {}
        for index, parameter in enumerate(self.parameters):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).detach().clone()
            if self._average is not None:
                tensors[f"average.{index}"] = self._average[index].clone()
        return tensors

    def restore(self, tensors: Mapping[str, torch.Tensor], version: int) -> None:
        """Take back what `state` returned."""
        self.version = version
        for index, parameter in enumerate(self.parameters):
            prefix = f"optimizer.{index}."
            found: dict[str, Any] = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if found:
                self.optimizer.state[parameter] = {name: tensor.clone() for name, tensor in found.items()}
            if self._average is not None:
                self._average[index].copy_(tensors[f"average.{index}"])


class _Tokens(DistinctReplies):
    """The tokens of some steps, as the arguments of losses."""

    def __init__(
        self, batch: EpisodeBatch, steps: np.ndarray, advantage: np.ndarray, weight: np.ndarray, *, fresh: bool
    ) -> None:
        super().__init__(batch, steps)
        episode_of_token = batch.episode_of_step[batch.step_of_token]
        self._columns = {
            "advantage": advantage,
            "weight": weight,
            "sampler_logprob": batch.sampler_logprob,
            "behavior_logprob": batch.behavior_logprob,
            **({"reference_logprob": batch.extra["reference_logprob"]} if "reference_logprob" in batch.extra else {}),
        }
        self._indices = {"step_of_token": batch.step_of_token, "episode_of_token": episode_of_token}
        self._per_episode = {"group_of_episode": batch.group, "success": batch.extra.get("success")}
        self.fresh = fresh

    def is_finite(self, scored: Scored, loss: torch.Tensor, totals: "_Totals") -> bool:
        """Whether a loss is finite; if not, the first token that broke it is named in `totals.fault`."""
        if bool(torch.isfinite(loss.detach())):
            return True
        at = self.index[scored.index]
        bad = ~torch.isfinite(scored.logprob.detach()).cpu().numpy()
        for name in ("advantage", "weight", "behavior_logprob"):
            bad |= ~np.isfinite(self._columns[name][at])
        token = at[np.argmax(bad)]
        step = self._indices["step_of_token"][token]
        episode = self._indices["episode_of_token"][token]
        totals.fault = f"the loss is not finite at token {token} (step {step}, episode {episode} of the batch)"
        return False

    def arguments(self, scored: Scored) -> dict[str, torch.Tensor]:
        """All tensors that a loss may ask for, for the tokens that were scored."""
        device = scored.logprob.device
        at = self.index[scored.index]
        given = {
            name: torch.from_numpy(column[at].astype(np.float32)).to(device) for name, column in self._columns.items()
        }
        given |= {name: torch.from_numpy(column[at]).to(device) for name, column in self._indices.items()}
        given |= {
            name: torch.tensor(column, device=device)
            for name, column in self._per_episode.items()
            if column is not None
        }
        given["logprob"] = scored.logprob
        if self.fresh:
            # These are the weights that played, and this is their log-probability, to the last bit.
            given["behavior_logprob"] = scored.logprob.detach()
        if scored.entropy is not None:
            given["token_entropy"] = scored.entropy
        return given


class _Totals:
    """Running sums of what is logged."""

    def __init__(self) -> None:
        self.fault = ""
        self.updates = 0
        self.nonfinite = 0
        self.gradient_norm = 0.0
        self.loss = 0.0
        self._weight = 0.0
        self._sums = dict.fromkeys(("entropy", "kl", "clip_share", "gap"), 0.0)
        self._gap_max = 0.0

    def add(self, tokens: _Tokens, scored: Scored, loss: torch.Tensor) -> None:
        with torch.no_grad():
            given = tokens.arguments(scored)
            # Every token that is trained on counts the same here, whatever its weight in the loss.
            weight = torch.ones_like(given["weight"])
            log_ratio = scored.logprob - given["behavior_logprob"]
            gap = (given["sampler_logprob"] - given["behavior_logprob"]).abs()
            ratio = log_ratio.exp()
            if not torch.isfinite(loss):
                return  # counted in `nonfinite`; the means stay numbers
            self.loss += float(loss)
            self._weight += float(weight.sum())
            if scored.entropy is not None:
                self._sums["entropy"] += float((weight * scored.entropy).sum())
            # k3 of the weights that played against the current ones: exp(−x) + x − 1 ≥ 0.
            self._sums["kl"] += float((weight * ((-log_ratio).exp() + log_ratio - 1.0)).sum())
            self._sums["clip_share"] += float((weight * ((ratio - 1.0).abs() > 0.2)).sum())
            self._sums["gap"] += float((weight * gap).sum())
            self._gap_max = max(self._gap_max, float(gap.max()))

    def metrics(self, learning_rate: float, *, skipped: bool = False) -> dict[str, float]:
        mean = {f"policy/{name}": value / self._weight for name, value in self._sums.items()} if self._weight else {}
        if self._weight:
            mean["policy/gap_max"] = self._gap_max
        return {
            **mean,
            "update/loss": self.loss / max(self.updates + self.nonfinite, 1),
            "update/gradient_norm": self.gradient_norm / max(self.updates, 1),
            "update/learning_rate": learning_rate,
            "update/count": float(self.updates),
            "update/skipped": float(skipped),
            "update/nonfinite": float(self.nonfinite),
        }
