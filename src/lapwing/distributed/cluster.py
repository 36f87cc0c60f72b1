"""The Ray cluster: the only file that knows the package `ray`."""

import contextlib
import importlib.util
import math
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from lapwing.core.errors import LapwingError, UserError

# How long others may take to give back what they hold, and a result to come over from another machine.
_FREE_SECONDS = 20.0
_FETCH_SECONDS = 300.0
_REACH_SECONDS = 5.0

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # What became of actors is ours to tell.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
_LOCAL = {
    # Despite its name this is what binds Ray's servers to the loopback interface, on Linux too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


class ActorLost(Exception):
    """An actor died, cannot be reached any more, or its answer is gone."""


def require_ray() -> None:
    """Refuse to go on without the package, before anything is built.

    Raises:
      UserError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError('The collector "ray" needs a package that is not installed: pip install "lapwing[ray]".')


def pack(value: Any) -> bytes:
    """Pickle a value, classes that no module holds included."""
    return _ray().cloudpickle.dumps(value)


def unpack(data: bytes) -> Any:
    """Take back what `pack` returned; only for what our own actors sent."""
    return pickle.loads(data)


def fetch(reference: Any) -> Any:
    """The object behind a reference.

    Raises:
      LapwingError: it did not come in time, or it is gone.
    """
    ray = _ray()
    try:
        return ray.get(reference, timeout=_FETCH_SECONDS)
    except ray.exceptions.RayError as error:
        raise LapwingError(f"The weights could not be fetched from the object store: {error}") from error


class Cluster:
    """A Ray cluster that this process started or joined, and leaves when the last user of it closes."""

    _users: ClassVar[int] = 0
    _is_ours: ClassVar[bool] = False

    def __init__(self, address: str | None = None) -> None:
        """Start or join a cluster; one that this process is in already is used as it is.

        Args:
          address: None starts one on this machine, bound to the loopback interface, without a dashboard; "auto" or
            "ray://host:port" joins one.

        Raises:
          UserError: the package is not installed, or there is no such cluster.
        """
        require_ray()
        # Some of it is read when the package is imported.
        with _environment(_QUIET | (_LOCAL if address is None else {})):
            self._ray = _ray()
            if not self._ray.is_initialized():
                _connect(address)
                Cluster._is_ours = True
        Cluster._users += 1
        self._classes: dict[type, Any] = {}
        self._is_open = True

    def close(self) -> None:
        """Leave; a cluster that was started here ends with its last user, and everything that it runs with it."""
        if self._is_open:
            self._is_open = False
            Cluster._users -= 1
            if Cluster._users == 0 and Cluster._is_ours:
                Cluster._is_ours = False
                self._ray.shutdown()

    def check(self, actors: int, cpus: float, gpus: float) -> None:
        """Compare what is asked for with what there is.

        Raises:
          UserError: the cluster cannot hold the actors, or others hold what they need.
        """
        asked = f"{actors} actor{'s' * (actors > 1)} with {_amount(cpus, gpus)} each"
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        total = self._ray.cluster_resources()
        room = sum(_room(node, cpus, gpus) for node in nodes)
        if room < actors:
            has = _amount(total.get("CPU", 0.0), total.get("GPU", 0.0), always=gpus > 0)
            raise UserError(
                f"The collector asked for {asked}; the cluster has {has}, which is room for {room:.0f}: lower "
                "collector.actors, collector.cpus_per_actor or collector.gpus_per_actor, or join a larger cluster."
            )
        end = time.monotonic() + _FREE_SECONDS
        while _room(self._ray.available_resources(), cpus, gpus) < actors:
            if time.monotonic() > end:
                raise UserError(f"The collector asked for {asked}; the cluster has them, but only {self.free()} free.")
            time.sleep(0.1)

    def free(self) -> str:
        """What nobody holds, for messages."""
        available = self._ray.available_resources()
        return _amount(available.get("CPU", 0.0), available.get("GPU", 0.0), always=True)

    def spawn(self, actor: type, *arguments: Any, cpus: float, gpus: float) -> Any:
        """Make an actor and return its handle; it is never restarted behind our back."""
        made = self._classes.get(actor)
        if made is None:
            made = self._classes[actor] = self._ray.remote(actor)
        with _sending("what makes the collector of an actor"):
            return made.options(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0).remote(*arguments)

    def call(self, handle: Any, method: str, *arguments: Any) -> Any:
        """Ask an actor for something and return the reference of its answer.

        Raises:
          UserError: an argument cannot be pickled.
        """
        with _sending("a match with its game"):
            return getattr(handle, method).remote(*arguments)

    def put(self, value: Any) -> Any:
        """Store an object for all actors and return its reference.

        Raises:
          LapwingError: the store has no room.
        """
        try:
            return self._ray.put(value)
        except self._ray.exceptions.RayError as error:
            raise LapwingError(f"The object store did not take the weights: {error}") from error

    def wait(self, references: Sequence[Any], seconds: float) -> list[Any]:
        """Those that are answered, as soon as one is; none after so many seconds."""
        if not references:
            return []
        ready, rest = self._ray.wait(list(references), num_returns=1, timeout=seconds)
        more = self._ray.wait(rest, num_returns=len(rest), timeout=0)[0] if ready and rest else []
        return [*ready, *more]

    def result(self, reference: Any) -> Any:
        """The answer behind a reference.

        Raises:
          ActorLost: there will be none.
          LapwingError: the actor could not be made, or it could not read what it was sent.
        """
        known = self._ray.exceptions
        try:
            return self._ray.get(reference, timeout=_FETCH_SECONDS)
        except known.RayTaskError as error:
            raise LapwingError(f"An actor failed outside of play:\n{error}") from error
        except known.RayActorError as error:
            if error.actor_init_failed:
                raise LapwingError(f"An actor could not be made:\n{error}") from error
            raise ActorLost(str(error)) from error
        except known.RayError as error:
            raise ActorLost(str(error)) from error

    def kill(self, handle: Any) -> None:
        """End an actor at once, whatever it is doing."""
        # It may have gone by itself.
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(handle, no_restart=True)


def _ray() -> Any:
    # A late call must fail, and not start a cluster of its own, which would listen on all interfaces and take our
    # signals. Ray reads this when it is imported.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    import ray

    return ray


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _connect(address: str | None) -> None:
    ray = _ray()
    given: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        given |= {"address": "local", "include_dashboard": False}
        # As in _LOCAL, for a package that was imported long ago.
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address)
        ray.init(**given)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        first = str(error).strip().partition("\n")[0]
        what = "A Ray cluster could not be started here" if address is None else f"There is no Ray cluster at {address}"
        raise UserError(
            f"{what} ({first}); collector.address is left out for a local one, 'auto' or 'ray://host:port' for another."
        ) from error
    finally:
        # Ray takes the signal over; a run saves its state first.
        if is_main and handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _reach(address: str | None) -> None:
    """Ray itself tries for minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()


@contextlib.contextmanager
def _sending(what: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"Actors need {what} in a form that can be pickled, and this cannot: {first}.") from error


def _room(resources: dict[str, float], cpus: float, gpus: float) -> float:
    """How many actors fit."""
    room = math.inf
    for name, each in (("CPU", cpus), ("GPU", gpus)):
        if each > 0:
            room = min(room, math.floor(resources.get(name, 0.0) / each + 1e-6))
    return room


def _amount(cpus: float, gpus: float, *, always: bool = False) -> str:
    said = f"{cpus:g} CPU{'s' * (cpus != 1)}"
    return f"{said} and {gpus:g} GPU{'s' * (gpus != 1)}" if gpus or always else said
