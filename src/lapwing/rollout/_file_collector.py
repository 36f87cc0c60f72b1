"""What collectors that read a file share: the file is looked through once, and iterations take what comes next."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.json_lines import Row
from lapwing.core.protocols import Policy
from lapwing.core.rollout import Rollout
from lapwing.core.types import Episode, Group, Match, Verdict
from lapwing.models.chat_format import ChatFormat
from lapwing.rollout._dialogue_file import Encoder, Shuffled, each_row
from lapwing.rollout.ledger import Ledger

# Of a packed file nobody sees how large it is.
_LARGEST_FILE = 4 * 2**30


class FileCollector:
    """Collects what the lines of a file hold, and draws which of it: a collector and its own sampler.

    Attributes:
      bad: why lines were left out, a sentence for each.
      too_long: how many were left out because they have more tokens than fit; 0 before the first is drawn.
    """

    # What a line holds, one and several, how all of them together are called, and of what each has too many tokens.
    _one, _several, _all, _longest = "line", "lines", "lines", "line has"

    def __init__(
        self,
        *,
        path: str,
        chat: ChatFormat,
        seed: int,
        policy: Policy | None,
        positions: int | None,
        size: int,
        max_tokens: int | None,
        max_bad_lines: int,
    ) -> None:
        """Check the numbers; the file is looked through by who knows its rows."""
        if max_tokens is not None and max_tokens < 1:
            raise UserError(f"collector.max_tokens is at least 1, not {max_tokens}; leave it out for no limit.")
        if max_bad_lines < 0:
            raise UserError(f"collector.max_bad_lines is at least 0, not {max_bad_lines}.")
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"There is no file of {self._all} {path}; collector.path names a JSONL file.")
        self.chat = chat
        self.seed = seed
        self.policy = policy
        self.max_bad_lines = max_bad_lines
        self.bad: list[str] = []
        self.too_long = 0
        self.ledger = Ledger()
        self._size = size
        self._limit = min((limit for limit in (positions, max_tokens) if limit is not None), default=None)
        self._encoder = Encoder(chat, self._limit)
        self._found: list[Any] | None = None
        self._order = Shuffled(self._all.replace(" ", "_"), seed)

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """The dialogues that these matches stand for, in their order."""
        version = 0 if self.policy is None else self.policy.version
        task = self.ledger.issue(len(matches))
        rollout = Rollout.of([self._episode(match, version) for match in matches])
        self.ledger.finish(task, matches=len(matches), episodes=len(rollout.episodes), dropped=0)
        return rollout

    def review(self, group: Group) -> Verdict:
        """Accept everything: what is in the file is to be learnt."""
        return Verdict()

    def columns(self, rollout: Rollout, collect: Callable[[Sequence[Match]], Rollout]) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing: what an iteration takes follows from its number."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing is kept."""

    def notes(self) -> list[str]:
        """What a person should know of the lines that were left out."""
        found = []
        if self.bad:
            found.append(f"{self.path.name}: {len(self.bad):,} lines are left out; the first: {self.bad[0]}")
        if self.too_long:
            found.append(
                f"{self.path.name}: {self.too_long:,} {self._several} of more than {self._limit:,} tokens are left out."
            )
        return found

    def _episode(self, match: Match, version: int) -> Episode:
        raise NotImplementedError

    def _encode(self, row: Row) -> Any:
        """What is learnt from a row; None where it has too many tokens."""
        raise NotImplementedError

    def _at(self, iteration: int, number: int) -> Any:
        found = self._encoded()
        return found[self._order.at(iteration * self._size + number, len(found))]

    def _encoded(self) -> list[Any]:
        # Tokens are made when they are needed: a warm start that is cached needs none.
        if self._found is None:
            every = self._each(self._encode)
            found = [one for one in every if one is not None]
            self.too_long = len(every) - len(found)
            if not found:
                raise UserError(f"{self.path}: every {self._longest} more than {self._limit:,} tokens.")
            self._found = found
        return self._found

    def _each(self, take: Callable[[Row], Any]) -> list[Any]:
        """What is made of every row of the file."""
        rows = each_row(
            self.path,
            take,
            max_bad_lines=self.max_bad_lines,
            largest=_LARGEST_FILE,
            of=self._one,
            many=self._all,
        )
        self.bad = rows.bad
        return rows.found
