"""Past versions of the policy on their way from the learner's pool to actors, each once."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lapwing.core.errors import LapwingError
from lapwing.distributed.cluster import fetch
from lapwing.distributed.weight_sync import fingerprint_of, pack_tensors, unpack_tensors
from lapwing.policies.past_versions import PastVersions, Version


class Sent(NamedTuple):
    """A version of the pool, as a task names it.

    Attributes:
      number: no two versions that a learner stored have the same, so that an actor knows those that it has.
      iteration: after which its weights were taken.
      reference: of the packed weights, within a list, so that it is not fetched unasked.
      fingerprint: of the weights.
    """

    number: int
    iteration: int
    reference: list[Any]
    fingerprint: str

    @property
    def name(self) -> str:
        """What both sides compare."""
        return f"{self.iteration}: {self.fingerprint}"


class PastStore:
    """The learner's side: every version of the pool is stored when the first task names it.

    Attributes:
      bytes: that were stored so far.
    """

    def __init__(self) -> None:
        """Nothing is stored yet."""
        self.bytes = 0
        self._count = 0
        self._stored: list[tuple[Version, Sent]] = []

    def sent(self, past: PastVersions | None, iteration: int, put: Callable[[Any], Any]) -> tuple[Sent, ...]:
        """The versions that an iteration is played with.

        Args:
          past: the pool, if there is one.
          iteration: that begins; the weights of now join the pool if it is their turn.
          put: stores an object for all actors and returns its reference.
        """
        if past is None:
            return ()
        past.note(iteration)
        known = {id(version): sent for version, sent in self._stored}
        self._stored = [(one, known.get(id(one)) or self._store(one, put)) for one in past.versions]
        return tuple(sent for _, sent in self._stored)

    def forget(self) -> None:
        """The store is gone, with all that was in it."""
        self._stored = []

    def _store(self, version: Version, put: Callable[[Any], Any]) -> Sent:
        packed = pack_tensors(version.weights)
        self.bytes += sum(one.data.nbytes for one in packed.values())
        self._count += 1
        return Sent(self._count, version.iteration, [put(packed)], fingerprint_of(version.weights))


class PastLoader:
    """An actor's side: versions are fetched when a task names them, and dropped when none does."""

    def __init__(self) -> None:
        """Nothing is there yet."""
        self._loaded: dict[int, tuple[Version, str]] = {}

    def load(self, past: PastVersions | None, sent: Iterable[Sent]) -> tuple[str, ...]:
        """Put the versions of a task into an actor's pool.

        Args:
          past: the pool of the actor's collector, if it has one.
          sent: what the task names.

        Returns:
          The names of what is in the pool now.
        """
        if past is None:
            return ()
        self._loaded = {one.number: self._loaded.get(one.number) or _fetched(one) for one in sent}
        past.restore([version for version, _ in self._loaded.values()])
        # As the learner's own: memos would make the last bits of a task depend on what was played before.
        past.forget()
        return tuple(name for _, name in self._loaded.values())


def check(who: str, found: tuple[str, ...], sent: Iterable[Sent]) -> None:
    """Compare the pool that somebody played with, by `PastLoader.load`, with the learner's.

    Raises:
      LapwingError: they differ.
    """
    expected = tuple(one.name for one in sent)
    if found != expected:
        raise LapwingError(
            f"The past versions of {who} are not the learner's: {', '.join(found) or 'none'} in place of "
            f"{', '.join(expected) or 'none'}."
        )


def _fetched(sent: Sent) -> tuple[Version, str]:
    weights = unpack_tensors(fetch(sent.reference[0]))
    return Version(sent.iteration, weights), sent._replace(fingerprint=fingerprint_of(weights)).name
