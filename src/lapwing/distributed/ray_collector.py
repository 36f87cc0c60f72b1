"""The collector that spreads whole groups of matches over Ray actors."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from lapwing.core.errors import NothingPlayedError, UserError
from lapwing.core.rollout import Rollout
from lapwing.core.types import Episode, Match
from lapwing.distributed.cluster import Cluster, require_ray, unpack
from lapwing.distributed.crew import Crew, Limits, Task
from lapwing.distributed.past_sync import PastStore
from lapwing.distributed.weight_sync import fingerprint, pack_weights
from lapwing.policies.past_versions import PastVersions
from lapwing.rollout.ledger import Ledger
from lapwing.rollout.watch import Watch


class _Weights(NamedTuple):
    reference: Any
    fingerprint: str


class RayCollector:
    """Plays on Ray actors, each with a collector and a copy of the model of its own.

    Whole groups are given out as tasks and come back whole, in the order of the matches. All chance and all replies
    are keyed, so that the episodes are those that a `LocalCollector` plays: the same tokens, and log-probabilities up
    to rounding, whoever plays what and however often an actor dies meanwhile.

    The learner's weights are stored once after each `publish`, and actors load them with the first task that needs
    them. Each answer names the version of the weights and a fingerprint, which is compared with the learner's. Past
    versions of the policy, where it has a pool of them, go the same way, each once.

    Actors that die or hang are replaced, and their tasks are given out again. The counts in `ledger` are audited
    after every collection.

    Attributes:
      past: the learner's pool of past versions, where seats play with one; what actors build has a pool of its own.
    """

    def __init__(
        self,
        make: Callable[[], tuple[Any, Any]],
        model: Any,
        *,
        actors: int = 2,
        cpus_per_actor: float = 1.0,
        gpus_per_actor: float = 0.0,
        address: str | None = None,
        chunk: int | None = None,
        timeout_seconds: float = 600.0,
        max_deaths: int = 3,
        death_minutes: float = 10.0,
        ahead: int = 0,
        max_lag: int = 1,
    ) -> None:
        """Make the collector; the cluster is joined and the actors are made when `start` or play asks for them.

        Args:
          make: builds, in an actor, a collector and the model that it plays with; it can be pickled.
          model: the learner's; its trainable tensors are what actors are sent.
          actors: processes that play.
          cpus_per_actor, gpus_per_actor: what each reserves; parts are possible. Torch gets as many threads.
          address: None starts a cluster on this machine; "auto" or "ray://host:port" joins one.
          chunk: least number of matches in a task, filled up to whole groups; None makes as many tasks as actors.
          timeout_seconds: an actor that needs longer for a task is replaced.
          max_deaths: actors that may be lost in the place of one, or over one task, within `death_minutes`; one more
            stops the run.
          death_minutes: see there.
          ahead: iterations, 0 or 1, that are played with the weights of now while the learner updates.
          max_lag: episodes whose weights were published more often since are dropped and played again.

        Raises:
          UserError: a setting is impossible, or Ray is not installed.
        """
        _check(actors, cpus_per_actor, gpus_per_actor, chunk, ahead, max_lag)
        _check_patience(timeout_seconds, max_deaths, death_minutes)
        require_ray()
        self.actors = actors
        self.ahead = ahead
        self.max_lag = max_lag
        self.dropped = 0
        self.ledger = Ledger()
        self._watch = Watch()
        self._failed = 0
        self.safe_point: Callable[[], None] = _go_on
        self.past: PastVersions | None = None
        self._make = make
        self._model = model
        self._past_store = PastStore()
        self._resources = (cpus_per_actor, gpus_per_actor)
        self._address = address
        self._chunk = chunk
        # What is played ahead waits behind what is played now; else an actor gets its next task when it is free.
        depth = 2**31 if ahead else 1
        self._limits = Limits(timeout_seconds, max_deaths, death_minutes, depth)
        self._cluster: Cluster | None = None
        self._crew: Crew | None = None
        self._begun: list[tuple[Sequence[Match], list[Task]]] = []
        self._edition = 0
        self._version = 0
        self._weights: _Weights | None = None
        self._weight_bytes = 0
        self._before = (0, 0.0)

    def __enter__(self) -> "RayCollector":
        """Nothing starts before it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """As `close`."""
        self.close()

    def start(self) -> None:
        """Join the cluster and make the actors, if that has not been done.

        Raises:
          UserError: there is no such cluster, or it has no room for the actors.
        """
        self._started()

    def publish(self, version: int) -> None:
        """The learner's weights are now of this version; tasks from now on are played with them."""
        self._edition += 1
        self._version = version
        self._weights = None

    def begin(self, matches: Sequence[Match]) -> None:
        """Play matches with the weights of now while this process does something else.

        Args:
          matches: the very list that `collect` or `play` will be asked for later.
        """
        with self._or_close():
            self._begun.append((matches, self._issue(matches)))

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """Play all matches; those that miss the deadline, and those whose game fails, are left out and counted.

        Raises:
          UserError: as raised in an actor; or the cluster has no room.
          LapwingError: no match met the deadline; too many failed in their game; or as `Crew.finish` says.
        """
        episodes = self.play(matches)
        self._watch.judge(len(matches), self._failed)
        if not episodes:
            raise NothingPlayedError("No match met its deadline; raise deadline_seconds.")
        return Rollout.of(episodes)

    def play(self, matches: Sequence[Match]) -> list[Episode]:
        """As `collect`, for those who want nothing but the episodes; there may be none."""
        with self._or_close():
            tasks = self._taken(matches)
            self._started().finish(tasks, self.safe_point)
        episodes = sorted((at for task in tasks for at in _episodes(task, matches)), key=lambda pair: pair[0])
        answers = [task.answer for task in tasks if task.answer is not None]
        self.dropped = sum(answer.dropped for answer in answers)
        self._failed = sum(answer.failed for answer in answers)
        self._watch.add_faults([fault for answer in answers for fault in answer.faults])
        self.ledger.audit()
        return [episode for _, episode in episodes]

    def waiting_for(self) -> str:
        """What is being waited for; other threads may ask."""
        crew = self._crew
        return "nothing" if crew is None else crew.waiting_for()

    def take_faults(self) -> list[dict[str, Any]]:
        """What went wrong since this was asked last, as plain JSON."""
        return self._watch.take_faults()

    @property
    def metrics(self) -> dict[str, float]:
        """Counts since the collector was made, as `lapwing.training.metrics` describes them."""
        deaths, waited = self._totals()
        return {
            "rollout/stale": float(self.ledger.stale),
            "collector/deaths": float(deaths),
            "collector/reissued": float(self.ledger.reissued),
            "collector/duplicates": float(self.ledger.duplicates),
            "collector/weight_bytes": float(self._weight_bytes + self._past_store.bytes),
            "collector/wait_seconds": waited,
        }

    def close(self) -> None:
        """End the actors, and the cluster if it was started here; what was begun and not asked for is dropped."""
        for _, tasks in self._begun:
            self._discard(tasks)
        self.ledger.fail_all()
        self._begun = []
        self._weights = None
        self._past_store.forget()
        self._before = self._totals()
        crew, self._crew = self._crew, None
        cluster, self._cluster = self._cluster, None
        with contextlib.ExitStack() as stack:
            if cluster is not None:
                stack.callback(cluster.close)
            if crew is not None:
                crew.close()

    @contextlib.contextmanager
    def _or_close(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # What is half done is of no use to anybody, and nothing may run on.
            self.close()
            raise

    def _discard(self, tasks: Sequence[Task]) -> int:
        return sum(self.ledger.discard(task.number, episodes=task.answer.count if task.answer else 0) for task in tasks)

    def _totals(self) -> tuple[int, float]:
        deaths, waited = self._before
        return (deaths, waited) if self._crew is None else (deaths + self._crew.deaths, waited + self._crew.waited)

    def _started(self) -> Crew:
        if self._crew is None:
            cpus, gpus = self._resources
            self._cluster = Cluster(self._address)
            try:
                self._cluster.check(self.actors, cpus, gpus)
                self._crew = Crew(
                    self._cluster,
                    self.ledger,
                    self._make,
                    actors=self.actors,
                    cpus=cpus,
                    gpus=gpus,
                    limits=self._limits,
                )
            except BaseException:
                self._cluster.close()
                raise
        return self._crew

    def _taken(self, matches: Sequence[Match]) -> list[Task]:
        """The tasks of matches that were begun and are young enough, or new ones."""
        for number, (begun, tasks) in enumerate(self._begun):
            if begun is matches:
                del self._begun[number]
                if self._edition - tasks[0].edition <= self.max_lag:
                    return tasks
                self.ledger.stale += self._discard(tasks)
        return self._issue(matches)

    def _issue(self, matches: Sequence[Match]) -> list[Task]:
        if not matches:
            return []
        crew = self._started()
        weights = self._current_weights()
        assert self._cluster is not None
        past = self._past_store.sent(self.past, matches[0].iteration, self._cluster.put)
        tasks = [
            Task(
                self.ledger.issue(len(where)),
                [matches[n] for n in where],
                where,
                self._edition,
                self._version,
                *weights,
                past,
            )
            for where in _chunks(matches, self._chunk or math.ceil(len(matches) / self.actors))
        ]
        crew.add(tasks)
        return tasks

    def _current_weights(self) -> _Weights:
        if self._weights is None:
            assert self._cluster is not None
            packed = pack_weights(self._model)
            self._weight_bytes += sum(one.data.nbytes for one in packed.values())
            self._weights = _Weights(self._cluster.put(packed), fingerprint(self._model))
        return self._weights


def _go_on() -> None:
    pass


def _chunks(matches: Sequence[Match], least: int) -> list[list[int]]:
    """Numbers of matches, group after group; a chunk is closed when it holds at least so many."""
    groups: dict[tuple[int, str, int, int], list[int]] = {}
    for number, match in enumerate(matches):
        groups.setdefault((match.seed, match.split, match.iteration, match.group), []).append(number)
    chunks: list[list[int]] = []
    for group in groups.values():
        if not chunks or len(chunks[-1]) >= least:
            chunks.append([])
        chunks[-1] += group
    return chunks


def _episodes(task: Task, matches: Sequence[Match]) -> list[tuple[int, Episode]]:
    """The episodes of a finished task with the places of their matches."""
    assert task.answer is not None
    found = []
    for position, episode in unpack(task.answer.episodes):
        episode.match = matches[task.where[position]]
        found.append((task.where[position], episode))
    return found


def _check(actors: int, cpus: float, gpus: float, chunk: int | None, ahead: int, max_lag: int) -> None:
    if actors < 1:
        raise UserError(f"collector.actors is at least 1, not {actors}.")
    if not 0.0 <= cpus < math.inf or not 0.0 <= gpus < math.inf or cpus + gpus == 0:
        raise UserError(
            f"collector.cpus_per_actor ({cpus}) and collector.gpus_per_actor ({gpus}) are at least 0, and not both 0."
        )
    if chunk is not None and chunk < 1:
        raise UserError(f"collector.chunk is at least 1 match, not {chunk}; leave it out for a task per actor.")
    if ahead not in (0, 1):
        raise UserError(f"collector.ahead is 0 or 1 iterations, not {ahead}.")
    if max_lag < ahead:
        raise UserError(f"collector.max_lag = {max_lag} would drop every episode that is played {ahead} ahead.")


def _check_patience(timeout_seconds: float, max_deaths: int, death_minutes: float) -> None:
    if not 0.0 < timeout_seconds < math.inf:
        raise UserError(f"collector.timeout_seconds is a finite number above 0, not {timeout_seconds}.")
    if max_deaths < 0:
        raise UserError(f"collector.max_deaths is at least 0, not {max_deaths}.")
    if not 0.0 < death_minutes < math.inf:
        raise UserError(f"collector.death_minutes is a finite number above 0, not {death_minutes}.")
