"""A worker process: it steps games as it is told, and knows nothing else.

Started by `lapwing.rollout._worker_process` as two processes of one session. The first, a guard, holds no game: it
ends the whole session when the process that started it is gone, and passes on how the second one ended. The second
steps the games; it needs NumPy and them.
"""

import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from typing import Any

_LENGTH = struct.Struct("<Q")
# What PR_SET_PDEATHSIG is called in linux/prctl.h.
_PARENT_DEATH_SIGNAL = 1


def main(tasks: int, answers: int) -> None:
    """Fork the worker and guard it.

    Args:
      tasks, answers: numbers of the open pipes.
    """
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        try:
            _become_worker(guard)
            serve(tasks, answers)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    for number in (tasks, answers):
        os.close(number)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    _, status = os.waitpid(worker, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)


def _end_with_the_starter() -> None:
    # Nothing is ever written to this pipe; it ends when the process that holds the other end does.
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def _become_worker(guard: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != guard:  # it died before that
            os._exit(1)
    import faulthandler
    import resource

    # A crash says where it was, and so does a worker that is asked what it is doing.
    faulthandler.enable(all_threads=False)
    faulthandler.register(signal.SIGUSR1, all_threads=False)
    # A core file for every crash would fill the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]


def serve(tasks: int, answers: int) -> None:
    """Do what the frames say that come from one pipe, and answer on the other, until the first one ends.

    Args:
      tasks, answers: numbers of the pipes.
    """
    from lapwing.rollout._worker_tasks import Tasks

    for number in (tasks, answers):
        os.set_inheritable(number, False)
    mine = os.getpid()

    def say(message: Any) -> None:
        if os.getpid() != mine:  # a game has forked, and its child came back
            os._exit(1)
        _write(answers, pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    work = Tasks(say)
    with os.fdopen(tasks, "rb") as frames:
        while head := frames.read(_LENGTH.size):
            message = frames.read(_LENGTH.unpack(head)[0])
            if not work.do(pickle.loads(message)):
                break
    os.killpg(0, signal.SIGKILL)


def _write(pipe: int, content: bytes) -> None:
    rest = memoryview(_LENGTH.pack(len(content)) + content)
    while rest:
        rest = rest[os.write(pipe, rest) :]
