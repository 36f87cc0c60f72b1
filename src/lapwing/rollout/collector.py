"""The collector plays an iteration's matches with the learning policy."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import NothingPlayedError
from lapwing.core.protocols import Game, Policy
from lapwing.core.rollout import Rollout
from lapwing.core.types import Episode, Match, State
from lapwing.games.game import has_exact_outcomes, outcomes
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.past_versions import PastVersions
from lapwing.rollout.arena import Arena, GameFault, Here, from_game, initial_state
from lapwing.rollout.ledger import Ledger, count_matches
from lapwing.rollout.play import play
from lapwing.rollout.table import Table, fits
from lapwing.rollout.table_play import play_on_table
from lapwing.rollout.watch import Watch

# A table of random maps grows with every iteration; past this many states it is begun anew.
_TABLE_STATES = 5000
# Nobody looks at the batch of episodes that were asked for without one.
_NO_BATCH = cast(EpisodeBatch, None)


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
        learners: Sequence[int] = (0,),
        invalid: InvalidRule,
        deadline_seconds: float | None = None,
        lookahead_states: int = 32,
        tabular: bool = True,
        arena: Arena | None = None,
    ) -> None:
        """Make the collector.

        Args:
          policy: the learning policy; it takes seat 0.
          opponents: the policies of the other seats; the learning policy may be among them.
          learners: the seats whose episodes are learnt from.
          invalid: what happens to invalid replies of the seats that learn.
          deadline_seconds: matches that still run after this time are given up; None waits.
          lookahead_states: how many reachable states of a start are announced; 0 for none.
          tabular: play on a table where that is possible; the episodes are the same.
          arena: where the games are stepped; None for this process. Elsewhere there is no table and nothing is
            announced, because both step the games here.
        """
        self.policy = policy
        self.policies: dict[int, Policy] = {0: policy, **(opponents or {})}
        self.learners = tuple(learners)
        self.invalid = invalid
        self.deadline_seconds = deadline_seconds
        self.lookahead_states = lookahead_states
        self.dropped = 0
        self.ledger = Ledger()
        self.watch = Watch()
        self.arena: Arena = Here() if arena is None else arena
        self.tabular = tabular
        self._table: Table | None = None
        self._reachable: dict[State, list[State]] = {}

    @property
    def past(self) -> PastVersions | None:
        """The pool of past versions of the policy, where seats play with one."""
        return next((policy for policy in self.policies.values() if isinstance(policy, PastVersions)), None)

    @property
    def is_here(self) -> bool:
        """Whether the games are stepped in this process."""
        return isinstance(self.arena, Here)

    @property
    def safe_point(self) -> Callable[[], None]:
        """Is called once in every round of play; it may raise, and the collector may be used again."""
        return self.watch.safe_point

    @safe_point.setter
    def safe_point(self, call: Callable[[], None]) -> None:
        """From now on this is called."""
        self.watch.safe_point = call

    def waiting_for(self) -> str:
        """What is being waited for; other threads may ask."""
        return str(self.watch)

    def take_faults(self) -> list[dict[str, Any]]:
        """What went wrong since this was asked last, as plain JSON."""
        return self.watch.take_faults()

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """Play all matches; those that miss the deadline, and those whose game fails, are left out and counted.

        Raises:
          LapwingError: no match met the deadline; or all failed, or more than half of those played lately.
        """
        rollout = self._played(matches)
        self.watch.judge(len(matches), self.watch.failed)
        if not rollout.episodes:
            raise NothingPlayedError("No match met its deadline; raise deadline_seconds.")
        return rollout

    def play(self, matches: Sequence[Match]) -> list[Episode]:
        """As `collect`, for those who want nothing but the episodes; there may be none, whatever the reason."""
        return list(self._played(matches, packed=False).episodes)

    def _played(self, matches: Sequence[Match], *, packed: bool = True) -> Rollout:
        task = self.ledger.issue(len(matches))
        reissued = self.arena.reissued
        try:
            rollout = self._play_on_table(matches) or self._play_one_by_one(matches, packed)
        except BaseException:
            self.ledger.discard(task, episodes=0)
            raise
        finally:
            self.ledger.reissued += self.arena.reissued - reissued
            self.watch.end()
        # Episodes of a table are made when they are asked for; there one seat plays.
        several = len(self.learners) > 1
        count = count_matches(rollout.episodes) if several else len(rollout.episodes)
        failed = self.watch.failed
        self.dropped = len(matches) - count - failed
        self.ledger.finish(task, matches=len(matches), episodes=count, dropped=self.dropped, failed=failed)
        self.ledger.audit()
        return rollout

    def _play_on_table(self, matches: Sequence[Match]) -> Rollout | None:
        can = self.tabular and self.is_here and self.deadline_seconds is None
        if not can or not fits(self.policy, matches, self.invalid):
            return None
        self.watch.begin(len(matches))
        self.watch.enter("play on a table")
        try:
            # What follows a first token can be announced once it is known what replies look like.
            later = getattr(self.policy, "generator").max_tokens > 1  # noqa: B009
            if not later:
                self._announce(matches)
            announce = (lambda: self._announce(matches)) if later else (lambda: None)
            return play_on_table(self._table_for(matches[0]), matches, self.watch, announce)
        except GameFault:
            # One by one, only the matches fail that meet it.
            self._table = None
            return None

    def _play_one_by_one(self, matches: Sequence[Match], packed: bool) -> Rollout:
        if self.past is not None and matches:
            self.past.note(matches[0].iteration)
        if self.is_here:
            with contextlib.suppress(GameFault):
                self._announce(matches)
        episodes = play(
            matches,
            self.policies,
            learners=self.learners,
            invalid=self.invalid,
            deadline_seconds=self.deadline_seconds,
            arena=self.arena,
            watch=self.watch,
        )
        self._release()
        return Rollout.of(episodes) if packed and episodes else Rollout(_NO_BATCH, episodes)

    def _release(self) -> None:
        """Nobody goes on with these matches: what the generators keep of their contexts is in the way of the update."""
        frozen = [one for policy in self.policies.values() for one in getattr(policy, "frozen", ())]
        for policy in (*self.policies.values(), *frozen):
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
            if match.member == 0 and (match.guidance is None or not match.guidance.hint):
                with from_game():
                    views = [game.view(state, 0) for state in self._states(match, initial_state(match))]
                for view in views:
                    prompt = policy.prompt(view, None)
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
