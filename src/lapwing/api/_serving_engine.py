"""One thread that generates for all requests: what arrives while it is busy is its next batch."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import NamedTuple

from lapwing.core.protocols import Generator
from lapwing.core.types import Completion, Request

# Generators that are kept ready, one for each way to sample: what they remember of a model is of use to them alone.
_READY = 4


class Sampling(NamedTuple):
    """How replies are drawn; requests that agree in it are generated together."""

    temperature: float
    greedy: bool
    max_tokens: int
    stop: tuple[str, ...]


class Busy(Exception):
    """More replies are waiting than the engine takes."""


class _Job(NamedTuple):
    requests: Sequence[Request]
    sampling: Sampling
    result: Future[list[Completion]]


class Engine:
    """Generates in a thread of its own."""

    def __init__(self, make: Callable[[Sampling], Generator], *, most_waiting: int = 1024) -> None:
        """Start the thread.

        Args:
          make: the generator that samples in a given way; all share one model.
          most_waiting: replies that may wait; what comes on top is refused.
        """
        self._make = lru_cache(maxsize=_READY)(make)
        self._most_waiting = most_waiting
        self._waiting = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.batches: list[int] = []
        self._thread = threading.Thread(target=self._work, name="lapwing-serve", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[Request], sampling: Sampling) -> Future[list[Completion]]:
        """Queue requests; their completions come together.

        Raises:
          Busy: too many replies are waiting.
        """
        with self._lock:
            if self._waiting + len(requests) > self._most_waiting:
                raise Busy
            self._waiting += len(requests)
        job = _Job(requests, sampling, Future())
        self._jobs.put(job)
        return job.result

    def close(self) -> None:
        """End the thread once it has done what it was asked before."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            arrived, is_over = self._arrived()
            together: dict[Sampling, list[_Job]] = {}
            for job in arrived:
                together.setdefault(job.sampling, []).append(job)
            for sampling, jobs in together.items():
                self._generate(sampling, jobs)
            if is_over:
                return

    def _arrived(self) -> tuple[list[_Job], bool]:
        """Wait for a job, then take all that are there; True at the end."""
        job = self._jobs.get()
        found: list[_Job] = []
        while job is not None:
            found.append(job)
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return found, False
        return found, True

    def _generate(self, sampling: Sampling, jobs: list[_Job]) -> None:
        # A client that left cancels its future.
        live = [job for job in jobs if job.result.set_running_or_notify_cancel()]
        requests = [request for job in live for request in job.requests]
        self.batches.append(len(requests))
        del self.batches[:-100]
        try:
            completions = iter(self._make(sampling).generate(requests) if requests else [])
            for job in live:
                job.result.set_result([next(completions) for _ in job.requests])
        except Exception as error:  # of one batch: the thread goes on with the next
            for job in live:
                if not job.result.done():
                    job.result.set_exception(error)
        finally:
            with self._lock:
                self._waiting -= sum(len(job.requests) for job in jobs)
