"""The learner: from a batch with advantages and weights to new weights of the model."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.protocols import Ranks
from lapwing.models.distinct import DistinctReplies
from lapwing.models.finite import first_nonfinite, why_not_step
from lapwing.models.recompute import recomputing
from lapwing.models.scorer import Scored, Scorer
from lapwing.training.adamw import AdamW, Schedule, make_optimizer
from lapwing.training.master_weights import Masters, MasterWeights, on_host
from lapwing.training.objective import Correction, Loss, Objective, Regulariser
from lapwing.training.tokens import Sums, Tokens, Totals, heard, truncated_behavior

__all__ = ["AdamW", "Learner", "Regulariser", "Schedule"]


class Learner:
    """Updates a model by the gradient of Σ weight · loss over the tokens of a batch.

    Identical context–reply pairs, and shared prefixes, go through the model once; the loss is still evaluated for
    every token, so that this is exact for any loss. A loss that is MERGEABLE (a token's loss depends on that token
    alone) is taken apart into micro-batches; any other is differentiated by log-probability first, over the whole
    batch, and then carried through the micro-batches. Several ranks with the same batch and the same weights each
    score a share of the pairs; since the loss is a sum, so is its gradient.
    """

    def __init__(  # noqa: PLR0913 (each is a choice of its own)
        self,
        model: torch.nn.Module,
        *,
        loss: Loss,
        loss_needs: Sequence[str] = (),
        mergeable: bool = True,
        silent: bool = False,
        split: str = "episode",
        corrections: Sequence[Correction] = (),
        regularisers: Sequence[Regulariser] = (),
        optimizer: AdamW | None = None,
        seed: int,
        temperature: float = 1.0,
        batch_tokens: int = 16384,
        row_tokens: int = 160,
        max_ratio: float | None = 2.0,
        max_lag: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Make the learner.

        Args:
          model: a causal language model of transformers; it is changed in place.
          loss: keyword tensors [K] to one number per token.
          loss_needs: the arguments of the loss besides `logprob` that it takes, by name.
          mergeable: the loss may be evaluated on any part of the tokens.
          silent: the loss of a token whose advantage is 0 is 0, whatever the weights: unless a regulariser is active,
            steps of nothing but such tokens need not go through the model, and do not.
          split: what minibatches leave together, the tokens of an "episode" or those of a "group".
          corrections, regularisers: further factors and terms of the loss.
          optimizer: its settings.
          seed: of the run, for the split into minibatches.
          temperature: of sampling.
          batch_tokens, row_tokens: sizes of a forward pass and of a packed row, in tokens.
          max_ratio: where older weights played, the ratio begins at most here; at least 1, None for no bound.
          max_lag: batches that episodes may have been played ahead; with 0 the weights of now played. Other versions
            are an error. None allows any.
          ranks: the processes that make each update together; None for this one alone.
        """
        if max_ratio is not None and not max_ratio >= 1.0:
            raise UserError(f"max_ratio is a bound of at least 1, or left out for none, not {max_ratio}.")
        self.model = model
        self.objective = Objective(
            loss, loss_needs, mergeable=mergeable, silent=silent, corrections=corrections, regularisers=regularisers
        )
        self.split = split
        self.settings = optimizer or AdamW()
        self.seed = seed
        self.max_ratio = max_ratio
        self.max_lag = max_lag
        self.ranks = ranks
        # Is called before every micro-batch, and may raise: the update is given up, and its gradients are dropped.
        self.safe_point: Callable[[], None] = _go_on
        self.scorer = Scorer(model, temperature=temperature, row_tokens=row_tokens, batch_tokens=batch_tokens)
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._names, self.parameters = [name for name, _ in trained], [p for _, p in trained]
        self.masters = self._make_masters()
        self.optimizer = make_optimizer(self.settings, self.masters.weights)
        self.learning_rate = Schedule(
            self.settings.learning_rate,
            self.settings.learning_rate * self.settings.final_share,
            hold=self.settings.hold,
        )
        self.version = 0
        self.fault = ""
        self._began: list[int] = []
        self._means: dict[str, float] = {}
        self._average = [w.detach().clone() for w in self.masters.weights] if self.settings.average else None

    def _make_masters(self) -> Masters:
        return MasterWeights(self.parameters)

    def update(
        self,
        batch: EpisodeBatch,
        advantage: np.ndarray,
        weight: np.ndarray,
        *,
        progress: float = 0.0,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, float]:
        """Go through a batch `epochs` times in `minibatches` updates each.

        Args:
          batch: E episodes; `policy_version` says which weights played.
          advantage: [K], one number per token.
          weight: [K], of each token's loss.
          progress: share of the stage that is done, for the schedules.
          given: further arguments of the loss by name, such as pairs of episodes.

        Returns:
          Metrics by name; means are over all tokens that went through the model.

        Raises:
          LapwingError: other weights played than should have.
        """
        self.fault = ""
        self._check_versions(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(progress)
        counts = np.zeros(batch.num_steps, dtype=bool)
        counts[batch.step_of_token[weight != 0]] = True
        steps = np.flatnonzero(counts)
        totals = Totals(self.learning_rate(progress), self.scorer)
        if len(steps) == 0:
            return totals.metrics(skipped=True)
        version, fresh = self.version, self.settings.epochs * self.settings.minibatches == 1
        if not fresh:
            batch = self._with_behavior(batch)
        for epoch in range(self.settings.epochs):
            parts = self._minibatches(batch, steps, epoch)
            for part in parts:
                if self.objective.is_silent(progress):
                    part = heard(batch, part, advantage)
                # Each part stands for the whole batch, so that its weights count as often as there are parts.
                tokens = Tokens(
                    batch,
                    part,
                    advantage,
                    weight * len(parts),
                    version=version,
                    fresh=fresh,
                    max_ratio=self.max_ratio,
                    ranks=self.ranks,
                    given=given,
                )
                self._one_update(tokens, progress, totals)
                if self.fault:
                    return totals.metrics()
        return totals.metrics()

    def _check_versions(self, batch: EpisodeBatch) -> None:
        """Refuse episodes of weights with which none of the last batches began, nor this one."""
        if self.max_lag is None:
            return
        self._began = [*self._began, self.version][-self.max_lag - 1 :]
        odd = sorted(set(np.unique(batch.policy_version).tolist()) - set(self._began))
        if odd:
            raise LapwingError(
                f"Episodes were played with version {odd[0]} of the weights instead of {self._began}: the learner's "
                "weights did not reach the policy (a stage's load was not called, or failed). Nothing was learnt from "
                "these episodes; go on from the last checkpoint with lapwing resume."
            )

    def _with_behavior(self, batch: EpisodeBatch) -> EpisodeBatch:
        """Recompute the log-probabilities under the weights that played while these are current."""
        replies = DistinctReplies(batch, np.arange(batch.num_steps), ranks=self.ranks)
        logprob = np.empty(batch.num_tokens)
        logprob[replies.index] = replies.score(self.scorer)["logprob"]
        stale = torch.from_numpy((batch.policy_version < self.version)[batch.step_of_token])
        sampler = torch.from_numpy(batch.sampler_logprob.astype(np.float64))
        behavior = truncated_behavior(torch.from_numpy(logprob), sampler, stale, self.max_ratio)
        return batch.with_columns(behavior_logprob=behavior.numpy())

    def _minibatches(self, batch: EpisodeBatch, steps: np.ndarray, epoch: int) -> list[np.ndarray]:
        if self.settings.minibatches == 1:
            return [steps]
        together = batch.episode_of_step[steps]
        if self.split == "group":
            together = batch.group[together]
        lots, lot_of = np.unique(together, return_inverse=True)
        order = rng.generator("minibatches", self.seed, self.version, epoch).permutation(len(lots))
        part_of = np.empty(len(lots), dtype=np.int64)
        part_of[order] = np.arange(len(lots)) % self.settings.minibatches
        parts = [steps[part_of[lot_of] == part] for part in range(self.settings.minibatches)]
        return [part for part in parts if len(part)]

    def _one_update(self, tokens: Tokens, progress: float, totals: Totals) -> None:
        # Dropout would make the trained policy another than the one that played.
        self.model.eval()
        self.fault = tokens.not_finite()
        if not self.fault:
            try:
                norm = self._gradient(tokens, progress, totals)
                self.fault = self.fault or self._why_not_step(norm)
            except BaseException:
                self._drop_gradient()
                raise
        if self.fault:
            # What is not finite would destroy the weights: keep the last good ones and go on.
            self._drop_gradient()
            totals.nonfinite += 1
            return
        self.optimizer.step()
        # Fused kernels change tensors behind the back of torch's count of changes, by which generators go.
        torch.autograd.graph.increment_version(self.masters.weights)
        self.masters.copy_back()
        self.version += 1
        self.objective.after_update(self._means)
        totals.gradient_norm += norm
        totals.updates += 1
        if self._average is not None:
            # Early averages follow the weights closely, so that the start is forgotten.
            decay = min(self.settings.average, self.version / (self.version + 10))
            for average, weight in zip(self._average, self.masters.weights, strict=True):
                average.lerp_(weight.detach(), 1.0 - decay)

    def _gradient(self, tokens: Tokens, progress: float, totals: Totals) -> float:
        """Leave the clipped gradient in the master weights; its length before. What is not finite becomes `fault`."""
        sums = self._accumulate(tokens, self.objective.active(progress))
        totals.sums.merge(sums)
        self._means = sums.means()
        if self.ranks is not None:
            self.masters.sum_over(self.ranks)
        norm = self.masters.clip_gradient(self.settings.clip_norm)
        if sums.number["nonfinite"]:
            self.fault = sums.fault
        elif not math.isfinite(norm):
            name = first_nonfinite([weight.grad for weight in self.masters.weights], self._names)
            self.fault = f"the gradient of {name} is not finite" if name else "the length of the gradient is not finite"
        return norm

    def _why_not_step(self, norm: float) -> str:
        """As the function of that name; all ranks agree."""
        fault = why_not_step(self.optimizer, self.masters.weights, self._names, min(norm, self.settings.clip_norm))
        if self.ranks is not None and self.ranks.sum(np.array([float(bool(fault))]))[0]:
            return fault or "the weights or moments of another rank are not finite"
        return fault

    def _drop_gradient(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for parameter in self.parameters:
            parameter.grad = None

    def _accumulate(self, tokens: Tokens, active: Sequence[tuple[Regulariser, float]]) -> Sums:
        """Leave the gradient in the master weights; what is logged of the tokens of all ranks."""
        if not self.objective.mergeable:
            return self._carry_through(tokens, active)
        sums = self._through(tokens, True, lambda scored, sums: self._backward(tokens, scored, active, sums))
        if self.ranks is not None:
            sums.over(self.ranks, tokens.num_pairs)
        return sums

    def _through(self, tokens: Tokens, entropy: bool, backward: Callable[[Scored, Sums], None]) -> Sums:
        """Score tokens and go back, micro-batch by micro-batch; once more in smaller ones where memory runs out."""
        while True:
            with contextlib.suppress(torch.OutOfMemoryError):
                return self._micro_batches(tokens, entropy, backward)
            # Nothing that the failed pass allocated is held any more.
            self.scorer.shrink()

    def _micro_batches(self, tokens: Tokens, entropy: bool, backward: Callable[[Scored, Sums], None]) -> Sums:
        self._drop_gradient()
        sums, cells, packed = Sums(), self.scorer.cells, self.scorer.tokens
        with recomputing(self.model), self.masters.accumulating():
            self.safe_point()
            for scored in tokens.scored(self.scorer, entropy=entropy):
                backward(scored, sums)
                self.safe_point()
        sums.number["cells"] = self.scorer.cells - cells
        sums.number["padding"] = sums.number["cells"] - (self.scorer.tokens - packed)
        return sums

    def _backward(
        self, tokens: Tokens, scored: Scored, active: Sequence[tuple[Regulariser, float]], sums: Sums
    ) -> None:
        if len(scored.index) == 0:
            # A pass of a rank that has fewer pairs than others: its part of the exchange, and nothing to learn.
            scored.logprob.sum().backward()
            return
        given = tokens.arguments(scored)
        total = self.objective.value(given, active)
        loss = (given["weight"] * total).sum()
        loss.backward()
        sums.add(given, loss.detach())
        if not bool(torch.isfinite(loss.detach())) and not sums.fault:
            sums.fault = tokens.fault(given, total, scored)

    def _carry_through(self, tokens: Tokens, active: Sequence[tuple[Regulariser, float]]) -> Sums:
        """Every rank evaluates the loss on all tokens, and carries the gradient through its share of the model."""
        want_entropy = "token_entropy" in self.objective.needs(active)
        columns = tokens.score(self.scorer, want=("logprob", "entropy"))
        device = self.parameters[0].device
        logprob = torch.tensor(columns["logprob"], dtype=torch.float32, device=device, requires_grad=True)
        entropy = torch.tensor(columns["entropy"], dtype=torch.float32, device=device, requires_grad=want_entropy)
        sums = Sums()
        # Losses of whole sequences take the tokens as they follow each other.
        order = np.argsort(tokens.index)
        at = torch.from_numpy(order).to(device)
        self._backward(tokens, Scored(order, logprob[at], entropy[at]), active, sums)

        def carry(scored: Scored, _: Sums) -> None:
            at = torch.from_numpy(scored.index).to(device)
            assert logprob.grad is not None
            carried = (logprob.grad[at] * scored.logprob).sum()
            if entropy.grad is not None and scored.entropy is not None:
                carried = carried + (entropy.grad[at] * scored.entropy).sum()
            carried.backward()

        sums.merge(self._through(tokens, want_entropy, carry))
        return sums

    def finish(self) -> None:
        """End a stage: the weights become their running average, if one is kept."""
        if self._average is not None:
            with torch.no_grad():
                for weight, average in zip(self.masters.weights, self._average, strict=True):
                    weight.copy_(average)
            self.masters.copy_back()

    def state(self) -> dict[str, torch.Tensor]:
        """Master weights, moments, step counts and averages as host tensors by name, for an exact resume."""
        tensors = self.masters.state() | self.objective.state()
        for index, weight in enumerate(self.masters.weights):
            for name, value in self.optimizer.state.get(weight, {}).items():
                tensors[f"optimizer.{index}.{name}"] = on_host(torch.as_tensor(value))
            if self._average is not None:
                tensors[f"average.{index}"] = on_host(self._average[index])
        return tensors

    def restore(self, tensors: Mapping[str, torch.Tensor], version: int) -> None:
        """Take back what `state` returned."""
        self.version = version
        self.masters.restore(tensors)
        self.objective.restore(tensors)
        for index, weight in enumerate(self.masters.weights):
            prefix = f"optimizer.{index}."
            own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            # Checkpoints are read into the host's memory.
            found = {name: _as_saved(tensor, weight.device) for name, tensor in own.items()}
            if found:
                self.optimizer.state[weight] = found
            if self._average is not None:
                self._average[index].copy_(tensors[f"average.{index}"])


def _go_on() -> None:
    pass


def _as_saved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor | int:
    """Some optimisers count their steps with a tensor, others with an integer of Python."""
    is_integer = tensor.dim() == 0 and tensor.dtype == torch.int64
    return int(tensor) if is_integer else tensor.to(device, copy=True)
