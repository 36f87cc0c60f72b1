"""Train on several processes that torchrun started: `[stage.learner] name = "accelerate"`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lapwing.core.errors import UserError

if TYPE_CHECKING:
    from lapwing.distributed.ranks import Ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Accelerate:
    """How several processes train one model.

    Every rank runs the same loop with the same seed: it plays its share of the groups, exchanges episodes, computes
    credit for all of them, and differentiates its share of the context–reply pairs. Gradients are summed, so that the
    update is that of one process up to the order of additions.

    Attributes:
      ranks: processes, as torchrun starts them.
      strategy: "ddp" keeps all weights, gradients and moments on every rank; "fsdp" shards the weights that are
        trained, their gradients and moments over the ranks (FSDP2), beside a whole copy on each rank for play.
      timeout_seconds: how long a rank waits for the others before it gives up.
    """

    ranks: int
    strategy: Literal["ddp", "fsdp"] = "ddp"
    timeout_seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise UserError(f"learner.ranks is at least 1, not {self.ranks}.")
        if self.strategy not in ("ddp", "fsdp"):
            raise UserError(f"learner.strategy is ddp or fsdp, not {self.strategy!r}.")
        if not 0.0 < self.timeout_seconds < math.inf:
            raise UserError(f"learner.timeout_seconds is a finite number above 0, not {self.timeout_seconds}.")

    def start(self, command: str, *, resumed: bool = False) -> "Team":
        """Meet the other ranks.

        Args:
          command: what follows `lapwing` on the command line.
          resumed: the run goes on, perhaps with another number of ranks.

        Raises:
          UserError: the processes are not those that are asked for, or cannot meet.
        """
        from lapwing.distributed.ranks import check_ranks, join

        check_ranks(self.ranks, command, resumed=resumed)
        return Team(join(self.timeout_seconds), self.strategy)


class Team:
    """The ranks of a run, and what a stage and a session are given so that they work on all of them."""

    def __init__(self, ranks: "Ranks", strategy: str) -> None:
        """Put ranks and strategy together."""
        self.ranks = ranks
        self.strategy = strategy

    @property
    def was_restarted(self) -> bool:
        """Whether torchrun started the ranks again after one of them had died."""
        from lapwing.distributed.ranks import was_restarted

        return was_restarted()

    def on_first(self, call: Callable[[], T], what: str) -> T:
        """Let rank 0 do something for all.

        Args:
          call: what rank 0 does; its result travels to the others.
          what: it is, for error messages.

        Raises:
          UserError: it did, on every rank.
        """
        result, sentence = None, None
        if self.ranks.rank == 0:
            try:
                result = call()
            except UserError as error:
                sentence = str(error)
        result, sentence = self.ranks.broadcast((result, sentence), what)
        if sentence is not None:
            raise UserError(sentence)
        return result  # pyright: ignore[reportReturnType]

    def leave(self) -> None:
        """End the exchange between the ranks; each goes on alone."""
        self.ranks.leave()

    def learner(self, model: Any, **settings: Any) -> Any:
        """A learner that makes each update on all ranks.

        Args:
          model: a causal language model, with the same weights on every rank.
          settings: of `Learner`.
        """
        from lapwing.distributed.rank_learner import RankLearner

        return RankLearner(model, ranks=self.ranks, is_sharded=self.strategy == "fsdp", **settings)

    def collector(self, local: Any) -> Any:
        """A collector whose matches all ranks play together.

        Args:
          local: plays this rank's matches.
        """
        from lapwing.distributed.sharded_collector import ShardedCollector

        return ShardedCollector(local, self.ranks)

    def coordinator(self) -> Any:
        """For the session."""
        from lapwing.distributed.coordinator import RankCoordinator

        return RankCoordinator(self.ranks)
