"""A deadline for functions that cannot be interrupted."""

import contextvars
import threading
from collections.abc import Callable

from lapwing.core.types import ToolResult
from lapwing.games.tools._arguments import error_result

MAX_ABANDONED = 8


class Deadline:
    """Runs calls of one tool in threads of their own, and abandons those that take too long.

    An abandoned thread goes on until its function returns. When 8 of them are still running, calls are refused, so
    that a tool that always hangs does not fill the machine with threads.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._abandoned: list[threading.Thread] = []
        self._lock = threading.Lock()

    def run(self, body: Callable[[], ToolResult]) -> ToolResult:
        """Return what `body` returns, or an error result at the deadline; what it raises is raised here."""
        with self._lock:
            self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
            if len(self._abandoned) >= MAX_ABANDONED:
                return error_result(
                    f"the tool is not available: {len(self._abandoned)} earlier calls passed their deadline and "
                    "are still running"
                )
        results: list[ToolResult] = []
        faults: list[BaseException] = []

        def work() -> None:
            try:
                results.append(body())
            except BaseException as fault:  # handed to the caller, who decides
                faults.append(fault)

        # The context carries what the caller set, such as NumPy's error state.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="tool call", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            return error_result(f"the tool is not available: {error}")
        try:
            thread.join(self.seconds)
        finally:
            if thread.is_alive():
                with self._lock:
                    self._abandoned.append(thread)
        if faults:
            raise faults[0]
        return results[0] if results else error_result(f"the tool gave no answer within {self.seconds:g} seconds")


def is_duration(seconds: object) -> bool:
    """Whether it is a number of seconds that one can wait for."""
    return isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds <= threading.TIMEOUT_MAX
