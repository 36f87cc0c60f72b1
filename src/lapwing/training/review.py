"""Play what a sampler draws, and have it review what came of it, until it asks for nothing more."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lapwing.core.errors import LapwingError, NothingPlayedError
from lapwing.core.protocols import Collector, Sampler
from lapwing.core.rollout import Rollout
from lapwing.core.types import Match


class Reviewed(NamedTuple):
    """What an iteration played, and what the sampler made of it.

    Attributes:
      rollout: all that was played, round after round.
      kept: episodes of the groups that are trained on, bool [E].
      metrics: of the review, by name; none for a sampler that tells none.
    """

    rollout: Rollout
    kept: np.ndarray
    metrics: dict[str, float]


def play_and_review(sampler: Sampler, collector: Collector, matches: Sequence[Match]) -> Reviewed:
    """Play matches, review their groups, play together all that the reviews ask for, and so on.

    Args:
      sampler: reviews the groups, in the order of their numbers.
      collector: plays.
      matches: that the sampler drew for the iteration.

    Raises:
      LapwingError: the sampler asks for a group that was played already.
    """
    rollout: Rollout | None = None
    accepted: list[int] = []
    dropped = 0
    seen: set[tuple[int, int]] = set()
    rounds = replayed = 0
    while matches:
        groups = dict.fromkeys((match.iteration, match.group) for match in matches)
        if not seen.isdisjoint(groups):
            raise LapwingError(f"{type(sampler).__name__} asked for a group under a number that was played already.")
        seen.update(groups)
        replayed += len(groups) if rounds else 0
        rounds += 1
        try:
            played = collector.collect(matches)
        except NothingPlayedError:
            if rollout is None:
                raise
            break  # what was played before is enough to go on with
        before = 0 if rollout is None else int(rollout.batch.group.max()) + 1
        verdicts = [(group, sampler.review(group)) for group in played.groups()]
        for group, verdict in verdicts:
            accepted += [before + index for index in (group.index, *group.others) if verdict.accept]
            dropped += not verdict.accept
        matches = [match for _, verdict in verdicts for match in verdict.replay]
        rollout = played if rollout is None else rollout.followed_by(played)
    if rollout is None:
        raise LapwingError("The sampler drew no matches.")
    counts = {
        "sampler/rounds": rounds,
        "sampler/replayed_groups": replayed,
        "sampler/dropped_groups": dropped,
    }
    return Reviewed(rollout, np.isin(rollout.batch.group, accepted), _metrics(sampler, rollout, counts))


def _metrics(sampler: Sampler, rollout: Rollout, counts: dict[str, int]) -> dict[str, float]:
    told = getattr(sampler, "metrics", None)
    if told is None:
        return {}
    success = rollout.batch.column("success")
    known = success[~np.isnan(success)]
    unfiltered = {"sampler/unfiltered_success": float(known.mean())} if len(known) else {}
    return {**counts, **unfiltered, **told()}
