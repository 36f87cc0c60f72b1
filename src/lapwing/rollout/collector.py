"""The collector plays an iteration's matches with the learning policy."""

from collections.abc import Mapping, Sequence

from lapwing.core.errors import LapwingError
from lapwing.core.protocols import Game, Policy
from lapwing.core.rollout import Rollout
from lapwing.core.types import Episode, Match, State
from lapwing.games.game import has_exact_outcomes, outcomes
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.rollout.play import initial_state, play
from lapwing.rollout.table import Table, fits
from lapwing.rollout.table_play import play_on_table

# A table of random maps grows with every iteration; past this many states it is begun anew.
_TABLE_STATES = 5000


class LocalCollector:
    """Plays in this process, all matches in lockstep.

    Where a game's states can be enumerated and the policy reads only the current state, the prompts that a match
    may reach, breadth first and up to a bound, are announced to the generator before play, so that they are computed
    together. This changes no result.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        opponents: Mapping[int, Policy] | None = None,
        invalid: InvalidRule,
        deadline_seconds: float | None = None,
        lookahead_states: int = 32,
        tabular: bool = True,
    ) -> None:
        """Make the collector.

        Args:
          policy: the learning policy; it takes seat 0.
          opponents: the policies of the other seats.
          invalid: what happens to invalid replies.
          deadline_seconds: matches that still run after this time are given up; None waits.
          lookahead_states: how many reachable states of a start are announced; 0 for none.
          tabular: play on a table where that is possible; the episodes are the same.
        """
        self.policy = policy
        self.policies: dict[int, Policy] = {0: policy, **(opponents or {})}
        self.invalid = invalid
        self.deadline_seconds = deadline_seconds
        self.lookahead_states = lookahead_states
        self.dropped = 0
        self.tabular = tabular
        self._table: Table | None = None
        self._reachable: dict[State, list[State]] = {}

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """Play all matches; those that miss the deadline are left out and counted in `dropped`.

        Raises:
          LapwingError: no match met the deadline.
        """
        rollout = self._play_on_table(matches)
        if rollout is None:
            episodes = self._play_one_by_one(matches)
            if not episodes:
                raise LapwingError("No match met its deadline; raise deadline_seconds.")
            rollout = Rollout.of(episodes)
        return rollout

    def play(self, matches: Sequence[Match]) -> list[Episode]:
        """As `collect`, for those who want nothing but the episodes; there may be none."""
        rollout = self._play_on_table(matches)
        return self._play_one_by_one(matches) if rollout is None else list(rollout.episodes)

    def _play_on_table(self, matches: Sequence[Match]) -> Rollout | None:
        if not self.tabular or self.deadline_seconds is not None or not fits(self.policy, matches, self.invalid):
            return None
        self._announce(matches)
        self.dropped = 0
        return play_on_table(self._table_for(matches[0]), matches)

    def _play_one_by_one(self, matches: Sequence[Match]) -> list[Episode]:
        self._announce(matches)
        episodes = play(matches, self.policies, invalid=self.invalid, deadline_seconds=self.deadline_seconds)
        self.dropped = len(matches) - len(episodes)
        self._release()
        return episodes

    def _release(self) -> None:
        """Nobody goes on with these matches: what the generators keep of their contexts is in the way of the update."""
        for policy in self.policies.values():
            release = getattr(getattr(policy, "generator", None), "release", None)
            if release is not None:
                release()

    def _table_for(self, match: Match) -> Table:
        if self._table is None or self._table.game != match.game or len(self._table.states) > _TABLE_STATES:
            assert isinstance(self.policy, Agent)
            self._table = Table(match.game, self.policy, self.invalid)
        return self._table

    def _announce(self, matches: Sequence[Match]) -> None:
        policy = self.policy
        if not self.lookahead_states or not matches or not isinstance(policy, Agent) or policy.teacher is not None:
            return
        game = matches[0].game
        if policy.context.keeps_memory or not has_exact_outcomes(game) or game.num_players > 1:
            return
        prompts = {}
        for match in matches:
            if match.member == 0:
                for state in self._states(match, initial_state(match)):
                    prompt = policy.prompt(match.game.view(state, 0), None)
                    prompts[prompt.key] = prompt
        policy.generator.prefetch(list(prompts.values()))

    def _states(self, match: Match, start: State) -> list[State]:
        found = self._reachable.get(start)
        if found is None:
            if len(self._reachable) > 4096:
                self._reachable.clear()
            found = self._reachable[start] = _reachable(match.game, start, self.lookahead_states)
        return found


def _reachable(game: Game, start: State, most: int) -> list[State]:
    """States that play may reach, breadth first, as many as allowed."""
    found, seen = [start], {start}
    for state in found:
        for action in game.legal(state, 0) or ():
            for _, transition in outcomes(game, state, {0: action}):
                if not transition.terminated and transition.state not in seen and len(found) < most:
                    seen.add(transition.state)
                    found.append(transition.state)
    return found
