"""Demonstrations: the dialogues of a file as episodes, for cloning."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.core.rollout import Rollout
from lapwing.core.types import Group, Match, Verdict
from lapwing.models.chat_format import ChatFormat
from lapwing.rollout._dialogue_file import Encoder, Shuffled, Turn, as_episode, each_row
from lapwing.rollout._dialogues import Dialogue, read_dialogue
from lapwing.rollout.ledger import Ledger

# Of a packed file nobody sees how large it is.
_LARGEST_FILE = 4 * 2**30


class Demonstrations:
    """Collects the dialogues of a file as episodes, and draws which ones: a collector and its own sampler.

        {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}, …]}

    Each line is one dialogue, as TRL and OpenAI's fine-tuning take them; `{"prompt": …, "completion": …}`, with texts
    or lists of messages, is read as well, and so are `tools`, `tool_calls` and messages of the role tool, which the
    chat template writes. A message of the assistant is a step: its context is the template's own rendering of what
    stands before it, its reply what the template writes for it, up to the end of the turn. A step whose context
    continues the last context and reply token for token extends them; where the template writes earlier turns anew (a
    thinker's) it begins afresh. A message of weight 0, or in a prompt, is context only.

    Every epoch goes through the dialogues in another order, which belongs to the seed; every iteration takes the next
    ones. Log-probabilities are 0 and rewards 0: the loss is `negative_log_likelihood`, without credit.

    Attributes:
      bad: why lines were left out, a sentence for each.
      too_long: dialogues that were left out because they have more tokens than fit; 0 before the first is drawn.
    """

    def __init__(
        self,
        *,
        path: str,
        chat: ChatFormat,
        seed: int,
        policy: Policy | None = None,
        positions: int | None = None,
        episodes: int = 64,
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
          episodes: dialogues an iteration.
          max_tokens: leave out dialogues of more tokens than this; None leaves out only those beyond `positions`.
          max_bad_lines: how many lines that are no demonstrations are left out; more are refused.

        Raises:
          UserError: a number is impossible, or the file is missing, empty or has too many bad lines.
        """
        if episodes < 1:
            raise UserError(f"collector.episodes is at least 1, not {episodes}.")
        if max_tokens is not None and max_tokens < 1:
            raise UserError(f"collector.max_tokens is at least 1, not {max_tokens}; leave it out for no limit.")
        if max_bad_lines < 0:
            raise UserError(f"collector.max_bad_lines is at least 0, not {max_bad_lines}.")
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"There is no file of demonstrations {path}; collector.path names a JSONL file.")
        self.chat = chat
        self.seed = seed
        self.policy = policy
        self.episodes = episodes
        self.max_bad_lines = max_bad_lines
        self.bad: list[str] = []
        self.too_long = 0
        self.ledger = Ledger()
        self._limit = min((limit for limit in (positions, max_tokens) if limit is not None), default=None)
        self._encoder = Encoder(chat, self._limit)
        self._found: list[list[Turn]] | None = None
        self._order = Shuffled("demonstrations", seed)
        # Tokens are made when they are needed: a warm start that is cached needs none.
        self._each(lambda _: None)

    def draw(self, iteration: int) -> list[Match]:
        """A match for each dialogue of an iteration.

        Raises:
          UserError: no dialogue is short enough for the model, or the template refuses too many.
        """
        return [
            Match(
                game=None,
                seed=self.seed,
                split="train",
                iteration=iteration,
                group=group,
                member=0,
                max_steps=len(self._at(iteration, group)),
            )
            for group in range(self.episodes)
        ]

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """The dialogues that these matches stand for, in their order."""
        version = 0 if self.policy is None else self.policy.version
        task = self.ledger.issue(len(matches))
        rollout = Rollout.of([as_episode(self.chat, m, self._at(m.iteration, m.group), version) for m in matches])
        self.ledger.finish(task, matches=len(matches), episodes=len(rollout.episodes), dropped=0)
        return rollout

    def review(self, group: Group) -> Verdict:
        """Accept everything: what is in the file is to be learnt."""
        return Verdict()

    def columns(self, rollout: Rollout, collect: Callable[[Sequence[Match]], Rollout]) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing: which dialogues an iteration takes follows from its number."""
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
                f"{self.path.name}: {self.too_long:,} dialogues of more than {self._limit:,} tokens are left out."
            )
        return found

    def _at(self, iteration: int, number: int) -> list[Turn]:
        dialogues = self._dialogues()
        return dialogues[self._order.at(iteration * self.episodes + number, len(dialogues))]

    def _dialogues(self) -> list[list[Turn]]:
        if self._found is None:
            self.too_long = 0
            encoded = self._each(self._encoder.turns)
            found = [turns for turns in encoded if turns]
            self.too_long = len(encoded) - len(found)
            if not found:
                raise UserError(f"{self.path}: every dialogue has more than {self._limit:,} tokens.")
            self._found = found
        return self._found

    def _each(self, take: Callable[[Dialogue], Any]) -> list[Any]:
        """What is made of every dialogue of the file."""
        rows = each_row(
            self.path,
            lambda row: take(read_dialogue(row)),
            max_bad_lines=self.max_bad_lines,
            largest=_LARGEST_FILE,
            of="dialogue",
            many="demonstrations",
        )
        self.bad = rows.bad
        return rows.found
