"""The loop. Read this first: everything else is what its nouns stand for."""

from collections import ChainMap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection
from lapwing.training.clock import Clock
from lapwing.training.credited import CreditedRollout
from lapwing.training.learner import Learner
from lapwing.training.metrics import rollout_metrics
from lapwing.training.stages import Stage

Row = dict[str, Any]


def iterate(stage: Stage, learner: Learner, first: int, record: Callable[[CreditedRollout], None]) -> Iterator[Row]:
    """Play and learn; yields the metrics of each iteration once its update is done and `record` was told of it."""
    for iteration in range(first, stage.iterations):
        clock = Clock(stage.activity.enter)
        with clock("play"):
            matches = stage.draw(iteration)
            rollout = stage.collector.collect(matches)
            measured = stage.sampler.columns(rollout, stage.collector.collect)
        with clock("credit"):
            accepted = [group.index for group in rollout.groups() if stage.sampler.review(group)]
            played = rollout.batch.with_columns(**measured)
            for annotator in stage.annotators:
                played = played.with_columns(**annotator.columns(played))
            kept = np.isin(played.group, accepted)
            batch = played if kept.all() else played.select(kept)
            for shape in stage.shaping:
                batch = shape(batch)
            for keep in stage.filters:
                batch = batch.select(keep(batch))
            credited = stage.credit(batch) if batch.num_episodes else np.zeros(0)
            advantage, selection, weight = _weigh(stage, batch, credited, iteration)
        with clock("update"):
            stage.play_ahead(iteration + 1)
            stage.release()
            # While a critic warms up, it learns alone.
            ready = all(critic.ready for critic in stage.critics)
            learned = [critic.learn(batch, credited) for critic in stage.critics]
            per_token = advantage if stage.credit_level == "token" else batch.spread(advantage)
            metrics = learner.update(batch, per_token, weight * ready, progress=iteration / stage.iterations)
            stage.load(learner.version)
        record(CreditedRollout(rollout.episodes, batch, stage.credit_level, credited, advantage))
        yield {
            "stage": stage.name,
            "iteration": iteration,
            **rollout_metrics(played),
            **stage.collector.ledger.take(),
            "selection/episodes": int((selection.count > 0).sum()),
            **metrics,
            **dict(ChainMap(*learned)),
            **getattr(stage.collector, "metrics", {}),
            **clock.seconds,
            "faults": _faults(stage, learner),
        }


def _faults(stage: Stage, learner: Learner) -> list[dict[str, Any]]:
    """What went wrong in an iteration: games that failed, an update that was left out."""
    of_games = getattr(stage.collector, "take_faults", list)()
    of_update = f"update left out, weights kept: {learner.fault}"
    return [*of_games, *([{"kind": "update", "text": of_update}] if learner.fault else [])]


def _weigh(
    stage: Stage, batch: EpisodeBatch, advantage: np.ndarray, iteration: int
) -> tuple[np.ndarray, Selection, np.ndarray]:
    """Advantage, selection and weight; empty where review and filters left no episode, so that no update is made."""
    if batch.num_episodes == 0:
        return advantage, Selection(np.zeros(0, dtype=np.int64), np.zeros(0)), np.zeros(0)
    for modulate in stage.modulation:
        advantage = modulate(batch, advantage)
    selection = stage.selection(batch, advantage, rng.generator("selection", stage.seed, iteration))
    return advantage, selection, stage.aggregation(batch, selection)
