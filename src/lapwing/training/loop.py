"""The loop. Read this first: everything else is what its nouns stand for."""

from collections import ChainMap
from collections.abc import Callable, Iterator
from typing import Any

from lapwing.core.protocols import Learner
from lapwing.training.clock import Clock
from lapwing.training.credited import CreditedRollout
from lapwing.training.lessons import make_lesson
from lapwing.training.metrics import rollout_metrics
from lapwing.training.review import play_and_review
from lapwing.training.stages import Stage

Row = dict[str, Any]


def iterate(stage: Stage, learner: Learner, first: int, record: Callable[[CreditedRollout], None]) -> Iterator[Row]:
    """Play and learn; yields the metrics of each iteration once its update is done and `record` was told of it."""
    for iteration in range(first, stage.iterations):
        clock = Clock(stage.activity.enter)
        with clock("play"):
            rollout, kept, reviewed = play_and_review(stage.sampler, stage.collector, stage.draw(iteration))
            measured = stage.sampler.columns(rollout, stage.collector.collect)
        with clock("credit"):
            played = rollout.batch.with_columns(**measured)
            for annotator in stage.annotators:
                played = played.with_columns(**annotator.columns(played))
            batch = played if kept.all() else played.select(kept)
            for shape in stage.shaping:
                batch = shape(batch)
            for keep in stage.filters:
                batch = batch.select(keep(batch))
            lesson = make_lesson(stage, batch, iteration)
        with clock("update"):
            stage.play_ahead(iteration + 1)
            stage.release()
            # While a critic warms up, it learns alone.
            ready = all(critic.ready for critic in stage.critics)
            learned = [critic.learn(lesson.batch, lesson.credited) for critic in stage.critics]
            metrics = learner.update(
                lesson.batch,
                lesson.by_token,
                lesson.weight * ready,
                progress=iteration / stage.iterations,
                given=lesson.given,
            )
            stage.load(learner.version)
        record(CreditedRollout(rollout.episodes, lesson.batch, lesson.level, lesson.credited, lesson.advantage))
        yield {
            "stage": stage.name,
            "iteration": iteration,
            **rollout_metrics(played),
            **stage.collector.ledger.take(),
            **reviewed,
            "selection/episodes": lesson.episodes,
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
