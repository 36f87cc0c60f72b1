"""Several processes that train one model together: how they meet, and what they exchange."""

import datetime
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.device_mesh import init_device_mesh

from lapwing.core.errors import LapwingError, UserError

T = TypeVar("T")

# Gradients travel in buckets of so many numbers: large enough for the bandwidth, small beside the model.
_BUCKET = 1 << 24


class Ranks:
    """The processes of one run, numbered from 0; all make the same calls in the same order.

    Every call waits until all ranks have made it. One that waits longer than the timeout, or whose neighbour died,
    raises an error that names the rank that is behind and what that rank last took part in.

    Attributes:
      rank: the number of this process; 0 alone writes files and speaks.
      size: how many there are.
      device: where this process keeps its model.
      place: where the run is, for error messages, as "iteration 3".
    """

    def __init__(self, store: Any, rank: int, size: int, device: torch.device, timeout_seconds: float) -> None:
        """Take part; the process group exists already.

        Args:
          store: a key–value store of torch that all ranks share.
          rank, size: of this process.
          device: where its model is.
          timeout_seconds: how long a call waits for the other ranks.
        """
        self.rank = rank
        self.size = size
        self.device = device
        self.timeout_seconds = timeout_seconds
        self.place = "the start"
        self._store = store
        self._calls = 0

    def share(self, count: int) -> slice:
        """Which of 0 … count − 1 are this rank's: one stretch, the stretches equal to within one."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, numbers: np.ndarray) -> np.ndarray:
        """The sum over the ranks, float64, the same bits on each."""
        total = torch.from_numpy(np.array(numbers, dtype=np.float64))
        self.exchange("the sums of an update", lambda: dist.all_reduce(total))
        return total.numpy()

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Replace `grad` of each parameter by its sum over the ranks, in float32; None counts as zeros."""
        for bucket in _buckets(parameters):
            flat = torch.cat(
                [
                    torch.zeros_like(p, dtype=torch.float32).reshape(-1)
                    if p.grad is None
                    else p.grad.float().reshape(-1)
                    for p in bucket
                ]
            )
            self.exchange("the gradients of an update", lambda flat=flat: dist.all_reduce(flat), flat.device)
            for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                summed = part.view_as(parameter).to(parameter.dtype)
                if parameter.grad is None:
                    parameter.grad = summed.clone()
                else:
                    parameter.grad.copy_(summed)

    def largest(self, number: int, what: str) -> int:
        """The largest of the ranks' numbers.

        Args:
          number: of this rank.
          what: is being asked, for error messages.
        """
        found = torch.tensor(number, dtype=torch.int64)
        self.exchange(what, lambda: dist.all_reduce(found, op=dist.ReduceOp.MAX))
        return int(found)

    def gather(self, thing: T, what: str) -> list[T]:
        """The things of all ranks, in the order of the ranks.

        Args:
          thing: of this rank; it is pickled on the way, between processes of this run only.
          what: is being exchanged, for error messages.
        """
        found: list[Any] = [None] * self.size
        self.exchange(what, lambda: dist.all_gather_object(found, thing))
        return found

    def broadcast(self, thing: T, what: str) -> T:
        """What rank 0 gave, on every rank.

        Args:
          thing: of rank 0; that of the others is not looked at.
          what: is being sent, for error messages.
        """
        found: list[Any] = [thing]
        self.exchange(what, lambda: dist.broadcast_object_list(found, src=0))
        return found[0]

    def mesh(self) -> Any:
        """The ranks in a row, as torch's sharding wants them."""
        return init_device_mesh(self.device.type, (self.size,))

    def leave(self) -> None:
        """End the exchange; what a rank does from here on it does alone."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def exchange(self, what: str, call: Callable[[], T], device: torch.device | None = None) -> T:
        """Make a call in which all ranks take part.

        Args:
          what: is being exchanged, for error messages.
          call: ends when all ranks have made it.
          device: where its tensors are; the CPU if left out.

        Returns:
          What the call returned.

        Raises:
          LapwingError: another rank is missing.
        """
        self._calls += 1
        started = time.monotonic()
        try:
            self._store.set(f"rank {self.rank}", json.dumps([self._calls, f"{what} ({self.place})"]))
            if device is not None and device.type != "cpu":
                # What runs on a device returns before it is done: a rank that is missing is found out here.
                dist.all_reduce(torch.zeros(()))
            return call()
        except RuntimeError as error:
            if not _is_about_another_rank(error):
                raise
            raise LapwingError(self._explain(what, time.monotonic() - started, error)) from error

    def _explain(self, what: str, seconds: float, error: RuntimeError) -> str:
        behind = []
        for rank in range(self.size):
            calls, last = self._last_of(rank)
            if rank != self.rank and calls < self._calls:
                behind.append(f"rank {rank}, which last took part in {last}")
        waited = seconds >= 0.9 * self.timeout_seconds
        happened = f"waited {seconds:.0f} s for" if waited else "lost"
        others = " and ".join(behind) or "another rank"
        advice = (
            "if it was only slow, raise learner.timeout_seconds"
            if waited
            else "look for that rank's own message; the run goes on from its last checkpoint with lapwing resume"
        )
        # Without the place in the source of the library that says so.
        reason = _first_line(error).rpartition("] ")[2].partition(". ")[0]
        return f"Rank {self.rank} {happened} {others}, at {what} ({self.place}); {advice}. ({reason})"

    def _last_of(self, rank: int) -> tuple[int, str]:
        key = f"rank {rank}"
        try:
            if not self._store.check([key]):
                return 0, "nothing"
            calls, last = json.loads(self._store.get(key))
        except RuntimeError:
            return 0, "nothing that could be found out"
        return int(calls), str(last)


def _is_about_another_rank(error: RuntimeError) -> bool:
    """Whether a call failed because of its partners; gloo has no error class of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _buckets(parameters: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    buckets: list[list[torch.Tensor]] = []
    size = 0
    for parameter in parameters:
        if not buckets or size + parameter.numel() > _BUCKET:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.numel()
    return buckets


def started_ranks() -> int | None:
    """How many processes torchrun (or another launcher) started for this run; None where there was no launcher."""
    if "RANK" not in os.environ:
        return None
    return int(os.environ.get("WORLD_SIZE", "1"))


def was_restarted() -> bool:
    """Whether torchrun started this process again after one of its ranks had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def check_ranks(asked: int | None, command: str, *, resumed: bool = False) -> None:
    """Refuse a run whose processes are not those that its recipe asks for.

    Args:
      asked: the recipe's `learner.ranks`; None where it says nothing of ranks.
      command: what follows `lapwing` on the command line, to say how to start it.
      resumed: a run that goes on may do so with another number of ranks.

    Raises:
      UserError: they are not.
    """
    started = started_ranks()
    if asked is None:
        if started is not None and started > 1:
            raise UserError(
                f"{started} processes were started, and the recipe says nothing of ranks, so that each would train a "
                f"run of its own in one folder; add --set learner.name=accelerate --set learner.ranks={started}, or "
                f"start one process: lapwing {command}"
            )
        return
    if started == asked or (started is None and asked == 1) or (resumed and started is not None):
        return
    found = "no launcher started this process" if started is None else f"{started} were started"
    raise UserError(
        f"The recipe asks for {asked} {'rank' if asked == 1 else 'ranks'} and {found}; start it with "
        f"torchrun --standalone --nproc-per-node {asked} -m -- lapwing {command}"
    )


def join(timeout_seconds: float = 600.0) -> Ranks:
    """Meet the other processes that the launcher started; a process without a launcher is a rank of its own.

    Ranks on GPUs exchange tensors by NCCL and all else by gloo; on CPUs everything goes by gloo.

    Args:
      timeout_seconds: how long a rank waits for the others, here and in every later exchange.

    Returns:
      The ranks.

    Raises:
      UserError: accelerate is missing, or the processes cannot meet.
    """
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise UserError('Several ranks need accelerate: pip install "lapwing[accelerate]"') from error
    timeout = datetime.timedelta(seconds=timeout_seconds)
    on_gpu = torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    if started_ranks() is None:
        store, rank, size = HashStore(), 0, 1
    else:
        store, rank, size = _rendezvous(timeout)
    with warnings.catch_warnings():
        # Accelerate says how many threads it chose where nobody had.
        warnings.simplefilter("ignore")
        try:
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
            device = torch.device(str(PartialState(cpu=not on_gpu, backend=backend).device))
        except RuntimeError as error:
            raise UserError(f"The ranks could not meet ({_first_line(error)}); {_where()}.") from error
    return Ranks(PrefixStore("lapwing", store), rank, size, device, timeout_seconds)


def _rendezvous(timeout: datetime.timedelta) -> tuple[Any, int, int]:
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(rendezvous("env://", timeout=timeout))
    except (RuntimeError, ValueError) as error:
        raise UserError(f"The ranks could not meet ({_first_line(error)}); {_where()}.") from error
    # After a restart the launcher's store still holds the addresses of the dead.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"attempt {attempt}", store), rank, size


def _where() -> str:
    address, port = os.environ.get("MASTER_ADDR", "nowhere"), os.environ.get("MASTER_PORT", "none")
    return f"rank 0 is looked for at {address}, port {port}, as torchrun's --rdzv-endpoint or MASTER_ADDR says"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
