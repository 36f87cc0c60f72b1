"""What an update learns from: advantages with weights, or pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection
from lapwing.training.stages import Stage


@dataclass(frozen=True)
class Lesson:
    """The arguments of an update.

    Attributes:
      batch: E episodes with N steps and K tokens.
      credited: the advantage as the credit gave it, [N] or [K].
      advantage: the same after the modulations.
      level: "step" or "token", the axis of both.
      weight: of each token's loss, [K].
      episodes: how many are learnt from.
      given: further arguments of the loss by name.
    """

    batch: EpisodeBatch
    credited: np.ndarray
    advantage: np.ndarray
    level: str
    weight: np.ndarray
    episodes: int
    given: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def by_token(self) -> np.ndarray:
        """The advantage of each token, [K]."""
        return self.advantage if self.level == "token" else self.batch.spread(self.advantage)


def make_lesson(stage: Stage, batch: EpisodeBatch, iteration: int) -> Lesson:
    """Credit, modulate, select and weigh what was played; or pair it, in a stage that learns from pairs.

    Args:
      stage: its choices.
      batch: what the filters left, perhaps nothing, so that no update is made.
      iteration: of the stage.
    """
    if stage.pairs is not None:
        return _paired(stage, batch)
    credited = stage.credit(batch) if batch.num_episodes else np.zeros(0)
    if batch.num_episodes == 0:
        return Lesson(batch, credited, credited, stage.credit_level, np.zeros(0), 0)
    advantage = credited
    for modulate in stage.modulation:
        advantage = modulate(batch, advantage)
    selection: Selection = stage.selection(batch, advantage, rng.generator("selection", stage.seed, iteration))
    weight = stage.aggregation(batch, selection)
    return Lesson(batch, credited, advantage, stage.credit_level, weight, int((selection.count > 0).sum()))


def _paired(stage: Stage, batch: EpisodeBatch) -> Lesson:
    """Every token of an episode that is in a pair weighs the same; a loss of pairs takes its weight back itself."""
    assert stage.pairs is not None
    if batch.num_episodes == 0:
        return Lesson(batch, np.zeros(0), np.zeros(0), "step", np.zeros(0), 0)
    pairs = stage.pairs(batch)
    batch = pairs.batch
    in_pair = np.zeros(batch.num_episodes, dtype=bool)
    in_pair[pairs.chosen] = in_pair[pairs.rejected] = True
    counts = in_pair[batch.episode_of_step[batch.step_of_token]]
    weight = counts / max(int(counts.sum()), 1)
    given = {"chosen": pairs.chosen, "rejected": pairs.rejected}
    given |= {"pair_weight": pairs.weight, "pair_margin": pairs.margin}
    nothing = np.zeros(batch.num_steps)
    return Lesson(batch, nothing, nothing, "step", weight, int(in_pair.sum()), given)
