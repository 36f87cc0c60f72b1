"""Preference pairs: the pairs of a file as groups of two episodes, to be preferred one to the other."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.core.rollout import Rollout
from lapwing.core.types import Episode, Group, Match, Verdict
from lapwing.models.chat_format import ChatFormat
from lapwing.rollout._dialogue_file import Encoder, Shuffled, Turn, as_episode, each_row
from lapwing.rollout._pair_rows import PairRow, read_pair
from lapwing.rollout.ledger import Ledger

_LARGEST_FILE = 4 * 2**30


class _Pair(NamedTuple):
    """The replies of both sides, the chosen first; what the pair weighs, and what a reward model said of both."""

    sides: tuple[list[Turn], list[Turn]]
    weight: float
    scores: tuple[float, float] | None


class PreferencePairs:
    """Collects the pairs of a file as groups of two episodes, and draws which ones: a collector and its own sampler.

        {"prompt": "…", "chosen": "…", "rejected": "…"}

    Each line is one pair, as TRL takes them. The prompt is a text or a list of messages and may be called `messages`;
    the answers are texts or lists of messages, which may be several turns. Without a prompt it is what two lists of
    messages have in common. `tools` are definitions for the chat template; `weight` > 0 says how much a pair counts, 1
    if left out; `score_chosen` and `score_rejected`, which all lines have or none, are what a reward model said. How
    dialogues become steps is told by `Demonstrations`; all replies after the prompt are learnt from.

    The chosen dialogue is an episode with outcome `weight` and success, the rejected one of the same group has outcome
    0 and none. The pairing `by_return` therefore makes the file's pairs again, and with `weighted` their weights; the
    scores are the part `score`, for `split_by_gap`. Log-probabilities and rewards are 0.

    Every epoch goes through the pairs in another order, which belongs to the seed; every iteration takes the next ones.

    Attributes:
      bad: why lines were left out, a sentence for each.
      too_long: pairs that were left out because a side has more tokens than fit; 0 before the first is drawn.
    """

    def __init__(
        self,
        *,
        path: str,
        chat: ChatFormat,
        seed: int,
        policy: Policy | None = None,
        positions: int | None = None,
        pairs: int = 32,
        max_tokens: int | None = None,
        max_bad_lines: int = 0,
    ) -> None:
        """Look through the file.

        Args:
          path: a JSONL file, plain or gzipped.
          chat: the model's chat template.
          seed: of the run.
          policy: which learns; its version is that of the episodes, which nobody's weights played.
          positions: the longest sequence that the model takes, in tokens.
          pairs: how many an iteration.
          max_tokens: leave out pairs with a side of more tokens than this; None leaves out only those beyond
            `positions`.
          max_bad_lines: how many lines that are no pairs are left out; more are refused.

        Raises:
          UserError: a number is impossible, or the file is missing, empty, has too many bad lines or scores some of
            its pairs only.
        """
        if pairs < 1:
            raise UserError(f"collector.pairs is at least 1, not {pairs}.")
        if max_tokens is not None and max_tokens < 1:
            raise UserError(f"collector.max_tokens is at least 1, not {max_tokens}; leave it out for no limit.")
        if max_bad_lines < 0:
            raise UserError(f"collector.max_bad_lines is at least 0, not {max_bad_lines}.")
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"There is no file of preference pairs {path}; collector.path names a JSONL file.")
        self.chat = chat
        self.seed = seed
        self.policy = policy
        self.pairs = pairs
        self.max_bad_lines = max_bad_lines
        self.bad: list[str] = []
        self.too_long = 0
        self.ledger = Ledger()
        self._limit = min((limit for limit in (positions, max_tokens) if limit is not None), default=None)
        self._encoder = Encoder(chat, self._limit)
        self._found: list[_Pair] | None = None
        self._order = Shuffled("preference_pairs", seed)
        # Tokens are made when they are needed.
        self._check_scores(self._each(lambda row: row.scores is not None))

    def draw(self, iteration: int) -> list[Match]:
        """Two matches for each pair of an iteration, the chosen first.

        Raises:
          UserError: no pair is short enough for the model, or the template refuses too many.
        """
        return [
            Match(
                game=None,
                seed=self.seed,
                split="train",
                iteration=iteration,
                group=group,
                member=member,
                max_steps=len(self._at(iteration, group).sides[member]),
            )
            for group in range(self.pairs)
            for member in (0, 1)
        ]

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
        """Nothing: which pairs an iteration takes follows from its number."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing is kept."""

    def notes(self) -> list[str]:
        """What a person should know of the lines that were left out."""
        found = []
        if self.bad:
            found.append(f"{self.path.name}: {len(self.bad):,} lines are left out; the first: {self.bad[0]}")
        if self.too_long:
            found.append(f"{self.path.name}: {self.too_long:,} pairs of more than {self._limit:,} tokens are left out.")
        return found

    def _check_scores(self, scored: list[bool]) -> None:
        if any(scored) and not all(scored):
            raise UserError(
                f"{self.path}: {sum(scored):,} of {len(scored):,} pairs have 'score_chosen' and 'score_rejected'; give "
                "them for all pairs or for none."
            )

    def _at(self, iteration: int, number: int) -> _Pair:
        found = self._encoded()
        return found[self._order.at(iteration * self.pairs + number, len(found))]

    def _encoded(self) -> list[_Pair]:
        if self._found is None:
            every = self._each(self._encode)
            found = [pair for pair in every if all(pair.sides)]
            self.too_long = len(every) - len(found)
            if not found:
                raise UserError(f"{self.path}: every pair has a side of more than {self._limit:,} tokens.")
            self._found = found
        return self._found

    def _encode(self, row: PairRow) -> _Pair:
        sides = self._encoder.turns(row.chosen), self._encoder.turns(row.rejected)
        return _Pair(sides, row.weight, row.scores)

    def _each(self, take: Callable[[PairRow], Any]) -> list[Any]:
        """What is made of every pair of the file."""
        rows = each_row(
            self.path,
            lambda row: take(read_pair(row)),
            max_bad_lines=self.max_bad_lines,
            largest=_LARGEST_FILE,
            of="pair",
            many="preference pairs",
        )
        self.bad = rows.bad
        return rows.found

    def _episode(self, match: Match, version: int) -> Episode:
        pair = self._at(match.iteration, match.group)
        is_chosen = match.member == 0
        return as_episode(
            self.chat,
            match,
            pair.sides[match.member],
            version,
            outcome=pair.weight if is_chosen else 0.0,
            success=is_chosen,
            parts=None if pair.scores is None else {"score": pair.scores[match.member]},
        )
