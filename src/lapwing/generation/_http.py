"""JSON over HTTP with the standard library: timeouts, and a bounded number of further attempts."""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from lapwing.core import rng
from lapwing.core.errors import LapwingError, UserError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_LARGEST_ANSWER = 256 * 2**20


class JSONServer:
    """A server that is spoken to in JSON."""

    def __init__(self, base_url: str, *, token_env: str, timeout_seconds: float, retries: int) -> None:
        """Remember how.

        Args:
          base_url: scheme, host and port.
          token_env: the environment variable with the bearer token; nothing is sent if it is not set.
          timeout_seconds: for one answer.
          retries: further attempts after a connection error, a timeout, 429 or 5xx.

        Raises:
          UserError: the address is none, or a number is impossible.
        """
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.password or url.query:
            raise UserError("base_url is an address such as http://127.0.0.1:8000, without user, password or query.")
        if not timeout_seconds > 0 or retries < 0:
            raise UserError("timeout_seconds is above 0, and retries is at least 0.")
        self.base_url = base_url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.retries = retries
        self._token_env = token_env

    def get(self, path: str) -> Any:
        """What GET answers."""
        return self._persist("GET", path, None, retries=self.retries)

    def post(self, path: str, body: Any, *, retries: int | None = None) -> Any:
        """What POST answers.

        Args:
          path: after the base address.
          body: as JSON.
          retries: instead of the server's.

        Raises:
          UserError: the server refused the request.
          LapwingError: no attempt was answered.
        """
        return self._persist("POST", path, body, retries=self.retries if retries is None else retries)

    def _persist(self, method: str, path: str, body: Any, *, retries: int) -> Any:
        said = ""
        for attempt in range(retries + 1):
            if attempt:
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1))
                time.sleep(pause * (0.5 + 0.5 * rng.unit(rng.fold(time.monotonic_ns(), "retry"))))
            try:
                return self._once(method, path, body)
            except urllib.error.HTTPError as error:
                with error:
                    said = f"HTTP {error.code}: {_words(error.read(4096))}"
                if error.code != 429 and error.code < 500:
                    raise UserError(f"{self.base_url}{path} refused a request ({said}).") from None
            except (OSError, http.client.HTTPException) as error:
                # The outer error hides a timeout in its reason.
                said = f"{getattr(error, 'reason', None) or error or type(error).__name__}"
        raise LapwingError(f"{self.base_url}{path} did not answer in {retries + 1} attempts ({said}).")

    def _once(self, method: str, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        if token := os.environ.get(self._token_env):
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        request = urllib.request.Request(self.base_url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=self.timeout_seconds) as answer:
            text = answer.read(_LARGEST_ANSWER + 1)
        if len(text) > _LARGEST_ANSWER:
            raise LapwingError(f"{self.base_url}{path} answered with more than {_LARGEST_ANSWER} bytes.")
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text.decode(errors="replace")  # loading an adapter answers in plain text


def _words(text: bytes) -> str:
    """The server's own words on one line."""
    words = text.decode(errors="replace")
    try:
        found = json.loads(words)
        found = found.get("error", found.get("detail", found)) if isinstance(found, dict) else found
        words = str(found.get("message", found) if isinstance(found, dict) else found)
    except (ValueError, RecursionError):
        pass
    return " ".join(words.split())[:300] or "no reason given"
