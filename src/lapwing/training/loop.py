"""The loop. Read this first: everything else is what its nouns stand for."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError
from lapwing.core.types import Episode, Group
from lapwing.training.clock import Clock
from lapwing.training.learner import Learner
from lapwing.training.metrics import rollout_metrics
from lapwing.training.stages import Stage

Row = dict[str, Any]


def iterate(stage: Stage, learner: Learner, first: int, on_episodes: Callable[[list[Episode]], None]) -> Iterator[Row]:
    """Play and learn; yields the metrics of each iteration once its update is done."""
    for iteration in range(first, stage.iterations):
        clock = Clock()
        with clock("play"):
            matches = stage.sampler.draw(iteration)
            episodes = stage.collector.play(matches)
        if not episodes:
            raise LapwingError(f"No match of iteration {iteration} met its deadline; raise deadline_seconds.")
        with clock("credit"):
            accepted = [group for group in _groups(episodes) if stage.sampler.review(group)]
            played = EpisodeBatch.pack(episodes)
            for annotator in stage.annotators:
                played = played.with_columns(**annotator.columns(played))
            batch = played.select(np.isin(played.group, [group.index for group in accepted]))
            for shape in stage.shaping:
                batch = shape(batch)
            for keep in stage.filters:
                batch = batch.select(keep(batch))
            advantage = stage.credit(batch)
            for modulate in stage.modulation:
                advantage = modulate(batch, advantage)
            selection = stage.selection(batch, advantage, rng.generator("selection", stage.seed, iteration))
            weight = stage.aggregation(batch, selection)
        with clock("update"):
            per_token = advantage if stage.credit_level == "token" else batch.spread(advantage)
            metrics = learner.update(batch, per_token, weight, progress=iteration / stage.iterations)
            stage.load(learner.version)
        on_episodes(episodes)
        yield {
            "stage": stage.name,
            "iteration": iteration,
            **rollout_metrics(episodes, played),
            "rollout/dropped": len(matches) - len(episodes),
            "selection/episodes": int((selection.count > 0).sum()),
            **metrics,
            **clock.seconds,
            **({"fault": learner.fault} if learner.fault else {}),
        }


def _groups(episodes: list[Episode]) -> list[Group]:
    """Finished groups in the order in which `EpisodeBatch.pack` numbers them."""
    found: dict[tuple[int, int], list[Episode]] = {}
    for episode in episodes:
        found.setdefault((episode.match.iteration, episode.match.group), []).append(episode)
    return [Group(index, members) for index, members in enumerate(found.values())]
