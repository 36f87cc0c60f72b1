"""What runs in an actor: a collector of its own, played with the learner's weights."""

import hashlib
import os
import platform
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.core.errors import UserError
from lapwing.core.types import Episode, Match
from lapwing.distributed.cluster import fetch, pack


class Opened(NamedTuple):
    """An actor is ready: where it runs, and a hash of the Lapwing that it runs."""

    host: str
    pid: int
    code: str


class Answer(NamedTuple):
    """A task was played.

    Attributes:
      edition, version, fingerprint: of the weights that it was played with.
      episodes: packed pairs of a match's position in the task and its episode, whose `match` is left out.
      count, dropped: how many matches these are of, and how many missed the deadline.
      failed, reissued: matches whose game failed, and that had to be played once more.
      faults: what went wrong in them, as plain JSON.
      past: the names of the past versions that were in the pool, by `past_sync`.
    """

    edition: int
    version: int
    fingerprint: str
    episodes: bytes
    count: int
    dropped: int
    failed: int = 0
    reissued: int = 0
    faults: tuple[dict[str, Any], ...] = ()
    past: tuple[str, ...] = ()


class Failure(NamedTuple):
    """Something was raised: its sentence, the traceback, and whether the user is to blame."""

    sentence: str
    traceback: str
    is_user_error: bool


class Player:
    """Plays whole groups; it knows nothing that it was not sent, so that another can take its place."""

    def __init__(self, make: Callable[[], tuple[Any, Any]], threads: int, uses_gpu: bool) -> None:
        """Remember how to build the collector; `open` builds it, so that what goes wrong can be told.

        Args:
          make: returns a collector and the model that it plays with.
          threads: of torch.
          uses_gpu: whether the model may be put on one.
        """
        self._make = make
        self._threads = threads
        self._uses_gpu = uses_gpu
        self._collector: Any = None
        self._model: Any = None
        self._edition = -1
        self._past: Any = None

    def open(self) -> Opened | Failure:
        """Build the collector."""
        return _guarded(self._open)

    def play(
        self, edition: int, version: int, weights: Sequence[Any], matches: Sequence[Match], past: Sequence[Any] = ()
    ) -> Answer | Failure:
        """Play matches with the given weights.

        Args:
          edition, version: of the weights; those that are loaded already are not fetched again.
          weights: the reference of the weights, within a list, so that it is not fetched unasked.
          matches: whole groups.
          past: the versions of the pool, as `past_sync.PastStore` stored them.
        """
        return _guarded(lambda: self._play(edition, version, weights[0], matches, past))

    def _open(self) -> Opened:
        if not self._uses_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        import torch

        torch.set_num_threads(self._threads)
        from lapwing.distributed.past_sync import PastLoader

        self._collector, self._model = self._make()
        self._past = PastLoader()
        return Opened(platform.node(), os.getpid(), code_hash())

    def _play(self, edition: int, version: int, weights: Any, matches: Sequence[Match], past: Sequence[Any]) -> Answer:
        from lapwing.distributed.weight_sync import fingerprint, load_weights

        if edition != self._edition:
            self._edition = -1  # between the two nobody knows what the model is
            load_weights(self._model, fetch(weights))
            self._collector.policy.version = version
            self._edition = edition
        # Memos would make the last bits of a task depend on what this actor has played before.
        forget = getattr(getattr(self._collector.policy, "generator", None), "forget", None)
        if forget is not None:
            forget()
        pool = self._past.load(getattr(self._collector, "past", None), past)
        position = {id(match): n for n, match in enumerate(matches)}
        collector = self._collector
        played = [(position[id(e.match)], _bare(e)) for e in collector.play(matches)]
        says = (self._edition, collector.policy.version, fingerprint(self._model))
        lost = collector.ledger.take()
        return Answer(
            *says,
            pack(played),
            len({place for place, _ in played}),
            collector.dropped,
            lost["rollout/failed"],
            lost["rollout/reissued"],
            tuple(collector.take_faults()),
            pool,
        )


def _bare(episode: Episode) -> Episode:
    """The episode without what the other side has, or could do nothing with."""
    if not episode.match.game.restorable:
        for step in episode.steps:
            step.state = None
    episode.match = None  # pyright: ignore[reportAttributeAccessIssue]
    return episode


def code_hash() -> str:
    """A hash of the source of Lapwing, as this process imports it."""
    root = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def _guarded(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return Failure(str(error) or type(error).__name__, traceback.format_exc(), isinstance(error, UserError))
