"""The tokens of an update as the arguments of losses, and the sums that are logged of them."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from lapwing.core.batch import EpisodeBatch
from lapwing.core.protocols import Ranks
from lapwing.models.distinct import DistinctReplies
from lapwing.models.scorer import Scored, Scorer

_MEANS = ("entropy", "kl", "clip_share", "stale_share", "truncated_share")


def truncated_behavior(
    logprob: torch.Tensor, sampler_logprob: torch.Tensor, stale: torch.Tensor, max_ratio: float | None
) -> torch.Tensor:
    """The ratio's denominator, given the log-probabilities under the weights with which the update begins.

        behavior = logprob                                  of what these weights played
        behavior = max(sampler, logprob − log max_ratio)    of what older weights played

    so that ratios begin at 1, and at most at `max_ratio` where the weights that played are gone.

    Reference: Espeholt et al. 2018, "IMPALA", section 4.1 (the bound ρ̄). https://arxiv.org/abs/1802.01561

    Args:
      logprob: under the weights with which the update begins, [K], nats.
      sampler_logprob: as sampled, [K], nats.
      stale: older weights played, [K].
      max_ratio: bound of the ratio, at least 1; None for none.

    Returns:
      [K], nats.
    """
    if not bool(stale.any()):
        return logprob
    older = sampler_logprob
    if max_ratio is not None:
        older = torch.maximum(sampler_logprob, logprob - math.log(max_ratio))
    return torch.where(stale, older, logprob)


class Tokens(DistinctReplies):
    """The tokens of some steps, as the arguments of losses."""

    def __init__(
        self,
        batch: EpisodeBatch,
        steps: np.ndarray,
        advantage: np.ndarray,
        weight: np.ndarray,
        *,
        version: int,
        fresh: bool,
        max_ratio: float | None = None,
        ranks: Ranks | None = None,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Take the columns.

        Args:
          batch: E episodes.
          steps: numbers of the steps.
          advantage, weight: [K], of every token of the batch.
          version: of the weights with which the batch's updates begin.
          fresh: the model still has these weights, so that `behavior_logprob` follows from what is scored.
          max_ratio: bound of the ratio of tokens that older weights played.
          ranks: the processes that share the pairs.
          given: further arguments of the loss by name.
        """
        super().__init__(batch, steps, ranks=ranks)
        self._batch = batch
        episode_of_token = batch.episode_of_step[batch.step_of_token]
        self._columns = {
            "advantage": advantage,
            "weight": weight,
            "sampler_logprob": batch.sampler_logprob,
            "behavior_logprob": batch.behavior_logprob,
            **({"reference_logprob": batch.extra["reference_logprob"]} if "reference_logprob" in batch.extra else {}),
        }
        self._indices = {"step_of_token": batch.step_of_token, "episode_of_token": episode_of_token}
        self._per_episode = {
            "group_of_episode": batch.group,
            "success": batch.extra.get("success"),
            "return_of_episode": batch.episode_return.astype(np.float32),
            **(given or {}),
        }
        self._stale = (batch.policy_version < version)[batch.step_of_token]
        self.fresh = fresh
        self.max_ratio = max_ratio

    def not_finite(self) -> str:
        """Which column is not finite, and where; empty where all are.

        What the current weights say of the tokens is no column; see `fault`.
        """
        for name, column in self._columns.items():
            if name == "behavior_logprob" and self.fresh:
                continue  # what the batch holds is not read
            bad = np.flatnonzero(~np.isfinite(column[self.index]))
            if len(bad):
                return f"the {name} is not finite at {self._place(int(self.index[bad].min()))}"
        return ""

    def fault(self, given: Mapping[str, torch.Tensor], loss: torch.Tensor, scored: Scored) -> str:
        """What made a loss non-finite, and at which token.

        Args:
          given: the arguments of the loss.
          loss: of each token, [K′].
          scored: the tokens.
        """
        at = self.index[scored.index]
        numbers = {"log-probability": given["logprob"], "entropy": given.get("token_entropy"), "loss": loss}
        for name, values in numbers.items():
            bad = [] if values is None else np.flatnonzero(~torch.isfinite(values.detach()).cpu().numpy())
            if len(bad):
                return f"the {name} is not finite at {self._place(int(at[bad].min()))}"
        return "the sum of the tokens' losses is not finite"

    def _place(self, token: int) -> str:
        """Where a token of the batch stands, for people."""
        step, episode = (int(self._indices[name][token]) for name in ("step_of_token", "episode_of_token"))
        batch = self._batch
        match, group, player = (int(column[episode]) for column in (batch.match, batch.group, batch.player))
        in_reply, in_episode = token - batch.token_splits[step], step - batch.step_splits[episode]
        where = f"token {in_reply} of step {in_episode} of match {match}"
        return f"{where} (group {group}, player {player}; number {token} of the batch)"

    def arguments(self, scored: Scored) -> dict[str, torch.Tensor]:
        """All tensors that a loss may ask for, for the tokens that were scored, and `stale`."""
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
        given["stale"] = torch.from_numpy(self._stale[at]).to(device)
        given["logprob"] = scored.logprob
        if self.fresh:
            # These are the weights that played (all but what is stale), and this is their log-probability, to the
            # last bit.
            given["behavior_logprob"] = truncated_behavior(
                scored.logprob.detach(), given["sampler_logprob"], given["stale"], self.max_ratio
            )
        if scored.entropy is not None:
            given["token_entropy"] = scored.entropy
        return given


def heard(batch: EpisodeBatch, steps: np.ndarray, advantage: np.ndarray) -> np.ndarray:
    """The steps with a token whose advantage is not 0; one at least: the optimiser steps on a zero gradient too."""
    speaks = np.zeros(batch.num_steps, dtype=bool)
    speaks[batch.step_of_token[advantage != 0]] = True
    found = steps[speaks[steps]]
    return found if len(found) else steps[:1]


class Sums:
    """Running sums of what is logged, over the tokens of one update or of several."""

    def __init__(self) -> None:
        self.fault = ""
        self.gap_max = 0.0
        self.number: dict[str, float] = dict.fromkeys(
            ("loss", "nonfinite", "tokens", "current", "gap", "cells", "padding", *_MEANS), 0.0
        )

    def add(self, given: Mapping[str, torch.Tensor], loss: torch.Tensor) -> None:
        """Count the tokens of one forward pass; every one of them counts the same, whatever its weight in the loss.

        Args:
          given: the arguments of the loss.
          loss: its weighted sum over these tokens.
        """
        with torch.no_grad():
            if not torch.isfinite(loss):
                self.number["nonfinite"] += 1.0
                return  # the means stay numbers
            log_ratio = given["logprob"] - given["behavior_logprob"]
            ratio, stale = log_ratio.exp(), given["stale"]
            # What the sampler of older weights said is no measure of how well sampler and trainer agree.
            gap = (given["sampler_logprob"] - given["behavior_logprob"]).abs().masked_fill(stale, 0.0)
            add = {
                "loss": loss,
                # k3 of the weights that played against the current ones: exp(−x) + x − 1 ≥ 0.
                "kl": ((-log_ratio).exp() + log_ratio - 1.0).sum(),
                "clip_share": ((ratio - 1.0).abs() > 0.2).sum(),
                "gap": gap.sum(),
                "stale_share": stale.sum(),
                "truncated_share": (stale & (given["behavior_logprob"] > given["sampler_logprob"])).sum(),
            }
            if "token_entropy" in given:
                add["entropy"] = given["token_entropy"].sum()
            for name, value in add.items():
                self.number[name] += float(value)
            self.number["tokens"] += len(stale)
            self.number["current"] += len(stale) - float(add["stale_share"])
            self.gap_max = max(self.gap_max, float(gap.max()))

    def merge(self, others: "Sums") -> None:
        """Add other sums to these."""
        self.fault = self.fault or others.fault
        self.gap_max = max(self.gap_max, others.gap_max)
        for name, value in others.number.items():
            self.number[name] += value

    def over(self, ranks: Ranks, pairs: int) -> None:
        """Replace the sums of this rank's share of some pairs by those of all ranks."""
        names = list(self.number)
        # A largest number by sums alone: each rank writes its own to the places of its pairs.
        largest = np.zeros(pairs)
        largest[ranks.share(pairs)] = self.gap_max
        total = ranks.sum(np.concatenate([np.array([self.number[name] for name in names]), largest]))
        self.number = dict(zip(names, total[: len(names)].tolist(), strict=True))
        self.gap_max = float(total[len(names) :].max(initial=0.0))
        if self.number["nonfinite"] and not self.fault:
            self.fault = "the loss is not finite on another rank"

    def means(self) -> dict[str, float]:
        """Means over the tokens, and the padding, by the name of their metric; empty where there were none."""
        tokens, current = self.number["tokens"], self.number["current"]
        if not tokens:
            return {}
        means = {f"policy/{name}": self.number[name] / tokens for name in _MEANS}
        if self.number["cells"]:
            means["update/padding_share"] = self.number["padding"] / self.number["cells"]
        if current:
            means |= {"policy/gap": self.number["gap"] / current, "policy/gap_max": self.gap_max}
        return means


class Totals:
    """What is logged of the updates with one batch."""

    def __init__(self, learning_rate: float, scorer: Scorer) -> None:
        self.learning_rate = learning_rate
        self._scorer, self._failures = scorer, scorer.out_of_memory
        self.sums = Sums()
        self.updates = 0
        self.nonfinite = 0
        self.gradient_norm = 0.0

    def metrics(self, *, skipped: bool = False) -> dict[str, float]:
        """All of it by the name of its metric.

        Args:
          skipped: there was nothing to learn from.
        """
        return {
            **self.sums.means(),
            "update/loss": self.sums.number["loss"] / max(self.updates + self.nonfinite, 1),
            "update/gradient_norm": self.gradient_norm / max(self.updates, 1),
            "update/learning_rate": self.learning_rate,
            "update/count": float(self.updates),
            "update/skipped": float(skipped),
            "update/nonfinite": float(self.nonfinite),
            "update/out_of_memory": float(self._scorer.out_of_memory - self._failures),
        }
