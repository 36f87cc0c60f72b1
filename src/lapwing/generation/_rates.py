"""How fast requests may be sent: a sliding window over the last minute, and what the server said itself."""

from collections import deque
from dataclasses import dataclass

_WINDOW_SECONDS = 60.0


@dataclass(slots=True)
class Sent:
    """A request in the window; `tokens` is an estimate until the server has counted."""

    at: float
    tokens: int


class Rates:
    """In no 60 seconds are more requests or tokens sent than allowed, and none before the server allows it."""

    def __init__(self, requests_per_minute: int | None = None, tokens_per_minute: int | None = None) -> None:
        """Begin with an empty window; None is no limit."""
        self._requests = requests_per_minute
        self._tokens = tokens_per_minute
        self._window: deque[Sent] = deque()
        self._not_before = 0.0

    def wait(self, now: float, tokens: int) -> float:
        """Seconds until a request of so many tokens may be sent; 0 is at once.

        A request that is larger than the limit is sent once the window is empty: it could never be sent otherwise.

        Args:
          now: of a clock that never goes back, in seconds.
          tokens: prompt and reply together, estimated.
        """
        while self._window and self._window[0].at <= now - _WINDOW_SECONDS:
            self._window.popleft()
        until = self._not_before
        if self._requests is not None and len(self._window) >= self._requests:
            until = max(until, self._window[len(self._window) - self._requests].at + _WINDOW_SECONDS)
        if self._tokens is not None:
            over = sum(sent.tokens for sent in self._window) + tokens - self._tokens
            for sent in self._window:
                if over <= 0:
                    break
                over -= sent.tokens
                until = max(until, sent.at + _WINDOW_SECONDS)
        return max(0.0, until - now)

    def note(self, now: float, tokens: int) -> Sent:
        """A request is sent; correct the `tokens` of what is returned when they are known."""
        sent = Sent(now, tokens)
        if self._requests is not None or self._tokens is not None:
            self._window.append(sent)
        return sent

    def hold(self, until: float) -> None:
        """Send nothing before this time: the server said so."""
        self._not_before = max(self._not_before, until)
