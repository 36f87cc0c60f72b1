"""Preference pairs: the pairs of a file as groups of two episodes, to be preferred one to the other."""

from typing import NamedTuple

from lapwing.core.errors import UserError
from lapwing.core.json_lines import Row
from lapwing.core.protocols import Policy
from lapwing.core.types import Episode, Match
from lapwing.models.chat_format import ChatFormat
from lapwing.rollout._dialogue_file import Turn, as_episode
from lapwing.rollout._file_collector import FileCollector
from lapwing.rollout._pair_rows import read_pair


class _Pair(NamedTuple):
    """The replies of both sides, the chosen first; what the pair weighs, and what a reward model said of both."""

    sides: tuple[list[Turn], list[Turn]]
    weight: float
    scores: tuple[float, float] | None


class PreferencePairs(FileCollector):
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

    _one, _several, _all, _longest = "pair", "pairs", "preference pairs", "pair has a side of"

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
        super().__init__(
            path=path,
            chat=chat,
            seed=seed,
            policy=policy,
            positions=positions,
            size=pairs,
            max_tokens=max_tokens,
            max_bad_lines=max_bad_lines,
        )
        self.pairs = pairs
        self._check_scores(self._each(lambda row: read_pair(row).scores is not None))

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

    def _check_scores(self, scored: list[bool]) -> None:
        if any(scored) and not all(scored):
            raise UserError(
                f"{self.path}: {sum(scored):,} of {len(scored):,} pairs have 'score_chosen' and 'score_rejected'; give "
                "them for all pairs or for none."
            )

    def _encode(self, row: Row) -> _Pair | None:
        pair = read_pair(row)
        sides = self._encoder.turns(pair.chosen), self._encoder.turns(pair.rejected)
        return _Pair(sides, pair.weight, pair.scores) if all(sides) else None

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
