"""The collector plays an iteration's matches with the learning policy."""

from collections.abc import Mapping, Sequence

from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Episode, Match, State
from lapwing.games.game import has_exact_outcomes, outcomes
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.rollout.play import initial_state, play


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
    ) -> None:
        """Make the collector.

        Args:
          policy: the learning policy; it takes seat 0.
          opponents: the policies of the other seats.
          invalid: what happens to invalid replies.
          deadline_seconds: matches that still run after this time are given up; None waits.
          lookahead_states: how many reachable states of a start are announced; 0 for none.
        """
        self.policy = policy
        self.policies: dict[int, Policy] = {0: policy, **(opponents or {})}
        self.invalid = invalid
        self.deadline_seconds = deadline_seconds
        self.lookahead_states = lookahead_states
        self.dropped = 0
        self._reachable: dict[State, list[State]] = {}

    def play(self, matches: Sequence[Match]) -> list[Episode]:
        """Play all matches; those that miss the deadline are left out and counted in `dropped`."""
        self._announce(matches)
        episodes = play(matches, self.policies, invalid=self.invalid, deadline_seconds=self.deadline_seconds)
        self.dropped = len(matches) - len(episodes)
        return episodes

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
