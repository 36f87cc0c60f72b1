"""Play on several ranks: each plays its groups, and all hold what all have played."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from lapwing.core.errors import NothingPlayedError
from lapwing.core.rollout import Rollout
from lapwing.core.types import Episode, Match
from lapwing.distributed.ranks import Ranks
from lapwing.policies.past_versions import PastVersions
from lapwing.rollout.ledger import Ledger
from lapwing.rollout.watch import Watch


class Player(Protocol):
    """Plays this rank's matches, as `LocalCollector` does."""

    ledger: Ledger
    safe_point: Callable[[], None]

    @property
    def past(self) -> PastVersions | None:
        """The pool of past versions of the policy, where seats play with one."""
        ...

    def take_faults(self) -> list[dict[str, Any]]:
        """What went wrong since this was asked last."""
        ...

    def waiting_for(self) -> str:
        """What is being waited for."""
        ...

    def play(self, matches: Sequence[Match]) -> list[Episode]:
        """The episodes of the matches that met their deadline, in the order of the matches."""
        ...


class Share(NamedTuple):
    """What a rank has played.

    Attributes:
      episodes: with the places of their matches.
      lost: how many matches were lost, by metric.
      faults: why, as plain JSON.
    """

    episodes: list[tuple[int, Episode]]
    lost: dict[str, int]
    faults: list[dict[str, Any]]


class ShardedCollector:
    """Deals the groups of an iteration out to the ranks and puts their episodes together in the order of the matches.

    Chance is keyed by names, so that the episodes are those of one process, up to the last bits of a model whose
    prompts are batched otherwise. Groups stay whole: their members share prompts.
    """

    def __init__(self, player: Player, ranks: Ranks) -> None:
        """Make the collector.

        Args:
          player: plays this rank's matches.
          ranks: the processes that share the play.
        """
        self.player = player
        self.ranks = ranks
        self.ledger = Ledger()
        self._watch = Watch()
        self._failed = 0

    @property
    def past(self) -> PastVersions | None:
        """The pool of past versions of the policy; every rank copies the same weights at the same moment."""
        return self.player.past

    @property
    def safe_point(self) -> Callable[[], None]:
        """Is called once in every round of this rank's play."""
        return self.player.safe_point

    @safe_point.setter
    def safe_point(self, call: Callable[[], None]) -> None:
        """From now on this is called."""
        self.player.safe_point = call

    def waiting_for(self) -> str:
        """What this rank waits for."""
        return self.player.waiting_for()

    def take_faults(self) -> list[dict[str, Any]]:
        """What went wrong on any rank since this was asked last."""
        return self._watch.take_faults()

    def close(self) -> None:
        """End what the player runs elsewhere."""
        close = getattr(self.player, "close", None)
        if close is not None:
            close()

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """Play all matches; those that miss the deadline, and those whose game fails, are left out and counted.

        Raises:
          LapwingError: no match met the deadline, or too many failed in their game.
        """
        episodes = self.play(matches)
        self._watch.judge(len(matches), self._failed)
        if not episodes:
            raise NothingPlayedError("No match met its deadline; raise deadline_seconds.")
        return Rollout.of(episodes)

    def play(self, matches: Sequence[Match]) -> list[Episode]:
        """As `collect`, for those who want nothing but the episodes; there may be none."""
        if not matches:
            return []
        self.ranks.place = f"iteration {matches[0].iteration}"
        if self.past is not None:
            # Not by the player: a rank that has no match here keeps the pool that all others keep.
            self.past.note(matches[0].iteration)
        owner = _owners(matches, self.ranks.size)
        mine = [number for number, rank in enumerate(owner) if rank == self.ranks.rank]
        numbers = {id(matches[number]): number for number in mine}
        episodes = self.player.play([matches[number] for number in mine]) if mine else []
        played = [(numbers[id(episode.match)], episode) for episode in episodes]
        lost = self.player.ledger.take() if mine else {}
        faults = self.player.take_faults() if mine else []
        # Every rank has the matches already, and their games with them.
        sent = Share([(number, _without_match(episode)) for number, episode in played], lost, faults)
        task = self.ledger.issue(len(matches))
        shares = self.ranks.gather(sent, f"the episodes of {len(matches)} matches")
        everything = [
            entry
            for rank, share in enumerate(shares)
            for entry in (played if rank == self.ranks.rank else share.episodes)
        ]
        self._failed = failed = sum(share.lost.get("rollout/failed", 0) for share in shares)
        self.ledger.reissued += sum(share.lost.get("rollout/reissued", 0) for share in shares)
        self._watch.add_faults([fault for share in shares for fault in share.faults])
        count = len({number for number, _ in everything})
        self.ledger.finish(
            task,
            matches=len(matches),
            episodes=count,
            dropped=len(matches) - count - failed,
            failed=failed,
        )
        for number, episode in everything:
            episode.match = matches[number]
        return [episode for _, episode in sorted(everything, key=lambda entry: entry[0])]


def _owners(matches: Sequence[Match], size: int) -> list[int]:
    """The rank that plays each match: groups are dealt out in turn."""
    groups: dict[tuple[str, int, int], int] = {}
    return [groups.setdefault((match.split, match.iteration, match.group), len(groups)) % size for match in matches]


def _without_match(episode: Episode) -> Episode:
    return Episode(
        match=None,  # pyright: ignore[reportArgumentType]
        player=episode.player,
        steps=episode.steps,
        terminated=episode.terminated,
        truncated=episode.truncated,
        outcome=episode.outcome,
        success=episode.success,
        final_context=episode.final_context,
        policy_version=episode.policy_version,
        final_view=episode.final_view,
        opponent_version=episode.opponent_version,
    )
