"""Play on several ranks: each plays its groups, and all hold what all have played."""

from collections.abc import Sequence
from typing import Protocol

from lapwing.core.errors import LapwingError
from lapwing.core.rollout import Rollout
from lapwing.core.types import Episode, Match
from lapwing.distributed.ranks import Ranks


class Player(Protocol):
    """Plays matches in this process."""

    def play(self, matches: Sequence[Match]) -> list[Episode]:
        """The episodes of the matches that met their deadline, in the order of the matches."""
        ...


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

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """Play all matches; those that miss the deadline are left out.

        Raises:
          LapwingError: no match met the deadline.
        """
        episodes = self.play(matches)
        if not episodes:
            raise LapwingError("No match met its deadline; raise deadline_seconds.")
        return Rollout.of(episodes)

    def play(self, matches: Sequence[Match]) -> list[Episode]:
        """As `collect`, for those who want nothing but the episodes; there may be none."""
        if not matches:
            return []
        self.ranks.place = f"iteration {matches[0].iteration}"
        owner = _owners(matches, self.ranks.size)
        mine = [number for number, rank in enumerate(owner) if rank == self.ranks.rank]
        numbers = {id(matches[number]): number for number in mine}
        episodes = self.player.play([matches[number] for number in mine]) if mine else []
        played = [(numbers[id(episode.match)], episode) for episode in episodes]
        # Every rank has the matches already, and their games with them.
        sent = [(number, _without_match(episode)) for number, episode in played]
        found = self.ranks.gather(sent, f"the episodes of {len(matches)} matches")
        everything = [
            entry for rank, part in enumerate(found) for entry in (played if rank == self.ranks.rank else part)
        ]
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
    )
