"""Seats with weights of their own: each set of weights is treated as if its episodes were all that was played."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import column_axis
from lapwing.core.protocols import Annotator, Critic
from lapwing.core.ragged import take_segments
from lapwing.core.types import Selection

Array = np.ndarray


class Share(NamedTuple):
    """The episodes of one set of weights.

    Attributes:
      number: of the set.
      batch: its episodes alone.
      at: where its episodes, steps and tokens are in the whole batch, by axis.
    """

    number: int
    batch: EpisodeBatch
    at: Mapping[str, Array]


@dataclass(frozen=True)
class BySeat:
    """Which seats share weights.

    The methods of a stage are made once for each set, with a memory of their own, and see the episodes of that set
    alone; what they return is put together again. An update is thereby the same as if the others had not been there.
    Where all seats share one set of weights the methods are what they are without this.

    Attributes:
      sets: the seats of each set of weights; the first set has seat 0.
      credit_axis: of advantages, "N" or "K".
    """

    sets: Sequence[Sequence[int]]
    credit_axis: str = "N"

    def shares(self, batch: EpisodeBatch) -> list[Share]:
        """The share of each set; one may have no episode."""
        return [self._share(number, batch, own) for number, own in enumerate(self.sets)]

    def _share(self, number: int, batch: EpisodeBatch, own: Sequence[int]) -> Share:
        episodes = np.flatnonzero(np.isin(batch.player, list(own)))
        steps, _ = take_segments(batch.step_splits, episodes)
        tokens, _ = take_segments(batch.token_splits, steps)
        return Share(number, batch.select(episodes), {"E": episodes, "N": steps, "K": tokens})

    def method(self, make: Callable[[], Callable[..., Any]], axis: str) -> Callable[..., Any]:
        """A credit, a modulation, a filter or an aggregation.

        Args:
          make: makes it, with its settings bound.
          axis: of its result, "E", "N" or "K".
        """
        return self._each(make, _on_axis(axis))

    def shaping(self, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """A shaping, which returns a batch."""
        return self._each(make, _reassembled)

    def selection(self, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """A selection; each set draws as if it were alone."""
        return self._each(make, _selected)

    def _each(self, make: Callable[[], Callable[..., Any]], together: "_Together") -> Callable[..., Any]:
        return make() if len(self.sets) == 1 else Methods(self, [make() for _ in self.sets], together)

    def annotators(self, made: Sequence[Sequence[Annotator]]) -> list[Annotator]:
        """The annotators of a stage.

        Args:
          made: those of each set, in the same order.
        """
        if len(self.sets) == 1:
            return list(made[0])
        return [
            SeatCritics(self, same) if all(isinstance(one, Critic) for one in same) else SeatAnnotators(self, same)
            for same in zip(*made, strict=True)
        ]

    def named(self, metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """The metrics of each set under `<name>:<lowest seat>`."""
        return {
            f"{name}:{min(own)}": value
            for own, found in zip(self.sets, metrics, strict=True)
            for name, value in found.items()
        }


# From the whole batch and what each set returned to one result.
_Together = Callable[[EpisodeBatch, Sequence[tuple[Share, Any]]], Any]


class Methods:
    """One method of the pipeline for each set of weights.

    Attributes:
      methods: in the order of the sets.
    """

    def __init__(
        self,
        by_seat: BySeat,
        methods: Sequence[Callable[..., Any]],
        together: "_Together",
    ) -> None:
        """Take the methods.

        Args:
          by_seat: which seats share weights.
          methods: in the order of the sets.
          together: puts what the methods returned together.
        """
        self.by_seat = by_seat
        self.methods = tuple(methods)
        self._together = together

    def __call__(self, batch: EpisodeBatch, *given: Any) -> Any:
        """What each method makes of its episodes, and of its share of the further arguments."""
        shares = [share for share in self.by_seat.shares(batch) if share.batch.num_episodes]
        found = [(share, self._of(share, given)) for share in shares]
        return self._together(batch, found) if found else self.methods[0](batch, *given)

    def _of(self, share: Share, given: Sequence[Any]) -> Any:
        own = (_share_of(argument, share, self.by_seat.credit_axis) for argument in given)
        return self.methods[share.number](share.batch, *own)


def _share_of(argument: Any, share: Share, credit_axis: str) -> Any:
    """A set's share of an argument that goes with a batch: a selection, a source of chance or an advantage."""
    if isinstance(argument, Selection):
        return Selection(argument.count[share.at["E"]], argument.factor[share.at["E"]])
    if isinstance(argument, np.random.Generator):
        return copy.deepcopy(argument)
    return argument[share.at[credit_axis]]


def _scattered(batch: EpisodeBatch, axis: str, found: Sequence[tuple[Share, Array]]) -> Array:
    length = {"E": batch.num_episodes, "N": batch.num_steps, "K": batch.num_tokens}[axis]
    whole = np.zeros(length, dtype=np.result_type(*(values for _, values in found)))
    for share, values in found:
        whole[share.at[axis]] = values
    return whole


def _on_axis(axis: str) -> _Together:
    return lambda batch, found: _scattered(batch, axis, [(share, np.asarray(values)) for share, values in found])


def _selected(batch: EpisodeBatch, found: Sequence[tuple[Share, Selection]]) -> Selection:
    return Selection(
        _scattered(batch, "E", [(share, one.count) for share, one in found]),
        _scattered(batch, "E", [(share, one.factor) for share, one in found]),
    )


def _reassembled(_: EpisodeBatch, found: Sequence[tuple[Share, EpisodeBatch]]) -> EpisodeBatch:
    """The shaped batches as one, its episodes in the order of before."""
    order = np.argsort(np.concatenate([share.at["E"] for share, _ in found]), kind="stable")
    return EpisodeBatch.concatenate([shaped for _, shaped in found]).select(order)


class SeatAnnotators:
    """One annotator for each set of weights."""

    def __init__(self, by_seat: BySeat, annotators: Sequence[Any]) -> None:
        """Take the annotators, in the order of the sets."""
        self.by_seat = by_seat
        self.each = tuple(annotators)

    def columns(self, batch: EpisodeBatch) -> dict[str, Array]:
        """The columns of each by its own weights."""
        shares = [share for share in self.by_seat.shares(batch) if share.batch.num_episodes]
        found = [(share, self.each[share.number].columns(share.batch)) for share in shares]
        return {
            name: _scattered(batch, column_axis(name), [(share, columns[name]) for share, columns in found])
            for name in found[0][1]
        }


class SeatCritics(SeatAnnotators):
    """One critic for each set of weights."""

    @property
    def ready(self) -> bool:
        """Whether the policies may learn; their critics warm up together."""
        return all(critic.ready for critic in self.each)

    def learn(self, batch: EpisodeBatch, advantage: Array) -> dict[str, float]:
        """Each learns from its own episodes; plain names are of seat 0."""
        found = [
            self.each[share.number].learn(share.batch, advantage[share.at[self.by_seat.credit_axis]])
            for share in self.by_seat.shares(batch)
        ]
        return found[0] | self.by_seat.named(found)

    def state(self) -> dict[str, Any]:
        """The tensors of all by name; those of seat 0 as if it were alone."""
        return all_tensors(self.by_seat, [critic.state() for critic in self.each])

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        for critic, own in zip(self.each, own_tensors(self.by_seat, tensors), strict=True):
            critic.restore(own)


def all_tensors(by_seat: BySeat, states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The states of several sets of weights as one; that of the first set keeps its names."""
    found = dict(states[0])
    for own, state in zip(by_seat.sets[1:], states[1:], strict=True):
        found |= {f"{seat_folder(min(own))}.{name}": tensor for name, tensor in state.items()}
    return found


def own_tensors(by_seat: BySeat, tensors: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `all_tensors` put together, set by set."""
    prefixes = [f"{seat_folder(min(own))}." for own in by_seat.sets[1:]]
    first = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(prefixes))}
    others = [{n.removeprefix(p): t for n, t in tensors.items() if n.startswith(p)} for p in prefixes]
    return [first, *others]


def seat_folder(seat: int) -> str:
    """The folder of a checkpoint that holds the weights of a seat other than 0."""
    return f"seat_{seat}"
