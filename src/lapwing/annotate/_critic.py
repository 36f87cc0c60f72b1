"""What the critics share: settings, where heads are read, what they learn from, their state."""

import abc
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from lapwing.annotate._rows import Rows
from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.columns import column_axis
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.ragged import reverse_discounted_sum
from lapwing.models.value_heads import CriticSettings, Lesson, Reads, ValueHeads


class LearnedValues(abc.ABC):
    """An annotator whose columns are values of a critic that learns beside the policy.

    Its targets are `advantage + value` where the credit reads its columns, with the advantage as the credit gave it,
    before any modulation; otherwise the discounted return from the step to the end of its episode, the outcome
    included.
    """

    name: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    advantage_axis: ClassVar[Literal["N", "K"]]
    final_head: ClassVar[str | None] = None

    def __init__(
        self,
        model: Any,
        credit: Callable[[EpisodeBatch], np.ndarray] | None = None,
        credit_needs: tuple[str, ...] = (),
        *,
        seed: int,
        learning_rate: float = 1e-3,
        clip: float = 0.2,
        epochs: int = 1,
        minibatches: int = 1,
        clip_norm: float = 1.0,
        trunk: Literal["copy", "shared"] = "copy",
        warm_up: int = 0,
        discount: float = 1.0,
    ) -> None:
        """Make the critic.

        Args:
          model: the causal language model of the policy, with the weights that the main stage begins with.
          credit: the stage's credit with its settings.
          credit_needs: the columns that it reads.
          seed: of the run.
          learning_rate: of the critic's own AdamW, constant, above 0.
          clip: bound on how far one iteration moves a value, in units of reward; 0 for none.
          epochs: how often the critic goes through a batch.
          minibatches: its updates an epoch; the episodes are split among them at random.
          clip_norm: longest gradient; longer ones are shortened to it.
          trunk: "copy" of the policy's body, which learns, or the policy's hidden states, "shared" and left alone.
          warm_up: iterations at the start of the stage in which the critic learns and the policy does not.
          discount: γ of the return, per step, in [0, 1]; it plays no part where targets are `advantage + value`.

        Raises:
          UserError: a setting is out of its range.
        """
        settings = self.check(
            discount=discount,
            learning_rate=learning_rate,
            clip=clip,
            epochs=epochs,
            minibatches=minibatches,
            clip_norm=clip_norm,
            trunk=trunk,
            warm_up=warm_up,
        )
        self.discount = discount
        # Targets are values, in units of reward, and a normalised advantage is not.
        self.in_units_of_reward: Callable[[EpisodeBatch], np.ndarray] | None = None
        if isinstance(credit, functools.partial) and credit.keywords.get("normalise", False):
            self.in_units_of_reward = functools.partial(credit, **{"normalise": False})
        self.credited = bool(set(self.heads) & set(credit_needs))
        self.critic = ValueHeads(model, self.heads, seed=seed, settings=settings)

    @staticmethod
    def check(*, discount: float, **settings: Any) -> CriticSettings:
        """Refuse settings out of their range, without a model.

        Raises:
          UserError: one is.
        """
        if not 0.0 <= discount <= 1.0:
            raise UserError(f"A critic's discount is in [0, 1], not {discount}.")
        return CriticSettings(**settings)

    @abc.abstractmethod
    def _reads(self, batch: EpisodeBatch, rows: Rows) -> dict[str, Reads]:
        """Where each head is read, one place for each element of its column."""

    @abc.abstractmethod
    def _taught(self, batch: EpisodeBatch, advantage: np.ndarray, head: str) -> tuple[np.ndarray, np.ndarray]:
        """The elements of a head's column that learn, and the advantage of each."""

    @property
    def ready(self) -> bool:
        """Whether the warm-up is over."""
        return self.critic.ready

    def columns(self, batch: EpisodeBatch) -> dict[str, np.ndarray]:
        """The values of every head, and where there is one the value after each episode that a limit cut; float64."""
        rows = Rows()
        reads = self._reads(batch, rows)
        values = self.critic.values(rows.sequences, reads)
        if self.final_head is not None:
            has_context = np.diff(batch.final_context_splits) > 0
            cut = np.flatnonzero(batch.truncated & ~batch.terminated & has_context)
            ends = Rows()
            row = ends.of_ends(batch, cut)
            after = self.critic.values(ends.sequences, {self.final_head: Reads(row, ends.last(row))})
            values["final_value"] = np.zeros(batch.num_episodes)
            values["final_value"][cut] = after[self.final_head]
        return values

    def learn(self, batch: EpisodeBatch, advantage: np.ndarray) -> dict[str, float]:
        """Move the critic towards its targets.

        Args:
          batch: with the critic's columns as they were when the episodes were played.
          advantage: what the credit gave, before any modulation, [N] or [K].

        Returns:
          Metrics by name.

        Raises:
          LapwingError: the credit reads the critic's columns, and its level is not that of the columns.
        """
        expected = {"N": batch.num_steps, "K": batch.num_tokens}[self.advantage_axis]
        if not self.credited:
            advantage = np.zeros(expected)
        elif self.in_units_of_reward is not None and batch.num_episodes:
            advantage = self.in_units_of_reward(batch)
        if len(advantage) != expected:
            raise LapwingError(f"The critic '{self.name}' needs an advantage [{self.advantage_axis}], not another.")
        rows = Rows()
        reads = self._reads(batch, rows)
        returns = reverse_discounted_sum(merged_reward(batch), self.discount, batch.step_splits)
        lessons: dict[str, Lesson] = {}
        for head in self.heads:
            element, credit = self._taught(batch, advantage, head)
            known = batch.column(head, needed_by=self.name)[element]
            step = element if column_axis(head) == "N" else batch.step_of_token[element]
            lessons[head] = Lesson(
                Reads(reads[head].row[element], reads[head].position[element]),
                episode=batch.episode_of_step[step],
                behavior_value=known,
                target=known + credit if self.credited else returns[step],
            )
        metrics = self.critic.fit(rows.sequences, lessons)
        # What is not of one head is of this critic.
        own = {name: f"{self.name}_{name}" for name in ("gradient_norm", "nonfinite")}
        return {f"critic/{own.get(name, name)}": number for name, number in metrics.items()}

    def state(self) -> dict[str, Any]:
        """Weights, moments and counts as tensors by name, for an exact resume."""
        return self.critic.state()

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self.critic.restore(tensors)
