"""What an iteration played: the batch, and its episodes for those who want to read them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import column_axis
from lapwing.core.starts import start_index
from lapwing.core.types import Episode, Group


@dataclass(frozen=True)
class Rollout:
    """Played matches.

    Attributes:
      batch: all episodes, laid end to end.
      episodes: the same episodes as objects, in the same order; they may be made only when they are asked for.
    """

    batch: EpisodeBatch
    episodes: Sequence[Episode]

    @staticmethod
    def of(episodes: Sequence[Episode]) -> "Rollout":
        """A rollout of episodes that exist already."""
        return Rollout(EpisodeBatch.pack(episodes), episodes)

    def groups(self) -> list[Group]:
        """One group for each start, in the order of their numbers in the batch, as the first of the seats saw it."""
        batch, start = self.batch, start_index(self.batch)
        order = np.argsort(start, kind="stable")
        _, first = np.unique(start[order], return_index=True)
        return [self._group(at) for at in np.split(order, first[1:])] if batch.num_episodes else []

    def _group(self, at: np.ndarray) -> Group:
        """The group of these episodes of one start."""
        batch = self.batch
        own = at[batch.player[at] == batch.player[at].min()]
        index = int(batch.group[own[0]])
        others = [int(number) for number in np.unique(batch.group[at]) if number != index]
        episodes = LazyEpisodes(self.episodes.__getitem__, own)
        return Group(index, episodes, batch.column("success")[own], batch.episode_return[own], tuple(others))

    def followed_by(self, later: "Rollout") -> "Rollout":
        """This rollout and one of other matches and other groups, whose numbers go on from those here."""
        first, second = self.batch, later.batch
        moved = second.with_columns(
            group=second.group + first.group.max() + 1, match=second.match + first.match.max() + 1
        )
        # A named part of the reward, or a call of a tool, that only one of them saw is 0 in the other.
        batches = [_with_zeros(batch, {**first.extra, **second.extra}) for batch in (first, moved)]
        episodes = (self.episodes, later.episodes)
        count = len(self.episodes)

        def make(number: int) -> Episode:
            return episodes[0][number] if number < count else episodes[1][number - count]

        return Rollout(EpisodeBatch.concatenate(batches), LazyEpisodes(make, np.arange(count + len(later.episodes))))


def _with_zeros(batch: EpisodeBatch, like: Mapping[str, np.ndarray]) -> EpisodeBatch:
    length = {"E": batch.num_episodes, "N": batch.num_steps, "K": batch.num_tokens}
    missing = {n: np.zeros(length[column_axis(n)], like[n].dtype) for n in like if n not in batch.extra}
    return batch.with_columns(**missing) if missing else batch


class LazyEpisodes(Sequence[Episode]):
    """Episodes that are made when they are asked for."""

    def __init__(self, make: Callable[[int], Episode], index: np.ndarray) -> None:
        """Make the sequence.

        Args:
          make: from a number to the episode.
          index: the numbers, in order.
        """
        self._make = make
        self._index = index

    def __len__(self) -> int:
        """How many there are."""
        return len(self._index)

    @overload
    def __getitem__(self, at: int) -> Episode: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Episode]: ...
    def __getitem__(self, at: int | slice) -> Episode | Sequence[Episode]:
        """One episode, or a part of the sequence."""
        if isinstance(at, slice):
            return LazyEpisodes(self._make, self._index[at])
        return self._make(int(self._index[at]))

    def __iter__(self) -> Iterator[Episode]:
        """All of them in order."""
        return (self._make(int(number)) for number in self._index)
