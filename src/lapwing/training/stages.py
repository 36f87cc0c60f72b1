"""A stage: one row of independent choices, ready to run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError
from lapwing.core.pair_batch import PairBatch
from lapwing.core.protocols import Annotator, Collector, Critic, Learner, Policy, RemoteCollector, Sampler
from lapwing.core.types import Match, Selection
from lapwing.training.alarms import Alarms
from lapwing.training.heartbeat import Activity


@dataclass
class Stage:
    """What the loop needs to play and learn.

    Attributes:
      name: of the stage; "main" is the last.
      iterations, seed: play-and-learn cycles; of the run.
      sampler, collector, policy, others: who draws, plays and decides, and policies with weights of their own.
      shaping, …, aggregation: the pipeline, with settings bound; credit_level: "step" or "token", the advantage's axis.
      make_learner, make_annotators: with a fresh optimiser; given the Hugging Face folder of the reference weights.
      annotators, alarms: add columns to what was played; look at every row of metrics.
      forget, release: tell the generator that the weights changed, and that the update wants its memory.
      pairs: makes pairs of episodes to learn from, in place of credit, modulation, selection and aggregation.
      checkpoint_every, checkpoints_kept, evaluate_every: iterations between checkpoints, how many stay, evaluations.
    """

    name: str
    iterations: int
    seed: int
    sampler: Sampler
    collector: Collector
    policy: Policy
    credit: Callable[[EpisodeBatch], np.ndarray]
    credit_level: str
    selection: Callable[[EpisodeBatch, np.ndarray, np.random.Generator], Selection]
    aggregation: Callable[[EpisodeBatch, Selection], np.ndarray]
    make_learner: Callable[[], Learner]
    forget: Callable[[], None]
    release: Callable[[], None] = lambda: None
    others: Sequence[Policy] = ()
    make_annotators: Callable[[Path], list[Annotator]] = lambda _: []
    annotators: Sequence[Annotator] = ()
    shaping: Sequence[Callable[[EpisodeBatch], EpisodeBatch]] = ()
    filters: Sequence[Callable[[EpisodeBatch], np.ndarray]] = ()
    modulation: Sequence[Callable[[EpisodeBatch, np.ndarray], np.ndarray]] = ()
    pairs: Callable[[EpisodeBatch], PairBatch] | None = None
    checkpoint_every: int = 50
    checkpoints_kept: int = 2
    evaluate_every: int = 0
    alarms: Alarms = field(default_factory=Alarms)
    activity: Activity = field(default_factory=Activity)
    _begun: dict[int, list[Match]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.remote and self.remote.ahead and getattr(self.sampler, "adaptive", True):
            raise UserError(
                "collector.ahead = 1 draws matches before those of the last iteration are reviewed, but this sampler "
                "draws by what it reviewed ('pcl', or sampler.revisit above 0); set ahead to 0, or draw otherwise."
            )

    @property
    def remote(self) -> RemoteCollector | None:
        """The collector, if it plays elsewhere."""
        return self.collector if isinstance(self.collector, RemoteCollector) else None

    @property
    def critics(self) -> list[Critic]:
        """The annotators that learn."""
        return [annotator for annotator in self.annotators if isinstance(annotator, Critic)]

    def load(self, version: int) -> None:
        """The model's weights changed in place to this version: forget what was computed with the old ones."""
        for policy in (self.policy, *self.others):
            policy.version = version
        self.forget()
        if self.remote:
            self.remote.publish(version)

    def draw(self, iteration: int) -> list[Match]:
        """The matches of an iteration, which may have been begun already."""
        return self._begun.pop(iteration, None) or self.sampler.draw(iteration)

    def play_ahead(self, iteration: int) -> None:
        """Begin an iteration with the weights of now, if the collector is to; none across a checkpoint."""
        # A run that is resumed at a checkpoint plays the iteration after it with new weights; so must every other.
        if self.remote and self.remote.ahead and iteration < self.iterations and iteration % self.checkpoint_every:
            self._begun[iteration] = self.sampler.draw(iteration)
            self.remote.begin(self._begun[iteration])

    def close(self) -> None:
        """End what the collector runs elsewhere."""
        self._begun.clear()
        getattr(self.collector, "close", lambda: None)()
