"""What collectors of files share: reading every line, the order of an epoch, and dialogues as episodes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.json_lines import Row, read_lines, read_row
from lapwing.core.types import Decision, Episode, Match, Step
from lapwing.models.chat_format import ChatFormat
from lapwing.policies.escape import SpecialTokens
from lapwing.rollout._dialogues import Dialogue

_EMPTY = np.zeros(0, dtype=np.int32)


class Turn(NamedTuple):
    """A reply to be learnt: what the dialogue adds before it, how many tokens that extends, and the reply."""

    added: np.ndarray
    extends: int
    reply: np.ndarray
    asked: str


class Rows(NamedTuple):
    """What was made of the lines of a file, and why lines were left out, a sentence for each."""

    found: list[Any]
    bad: list[str]


def each_row(path: Path, take: Callable[[Row], Any], *, max_bad_lines: int, largest: int, of: str, many: str) -> Rows:
    """What is made of every line of a file; lines that are none are noted, and too many refused.

    Args:
      path: a JSONL file, plain or gzipped.
      take: makes something of a row, or raises a UserError with its place.
      max_bad_lines: how many lines are left out; more are refused.
      largest: bytes of text; nobody sees how large a packed file is.
      of, many: what a line holds, one and several, for messages.

    Raises:
      UserError: the file is empty, too large, or has too many bad lines.
    """
    found: list[Any] = []
    bad: list[str] = []
    size = 0
    for line in read_lines(path, of=of):
        size += len(line.text)
        if size > largest:
            raise UserError(f"{path} holds more than {largest // 2**30} GiB of text; split the file.")
        try:
            found.append(take(read_row(line, of=of)))
        except UserError as error:
            bad.append(str(error))
    if len(bad) > max_bad_lines:
        raise UserError(
            f"{path}: {len(bad):,} of {len(bad) + len(found):,} lines are no {many}, and "
            f"collector.max_bad_lines allows {max_bad_lines:,}; the first: {bad[0]}"
        )
    if not found:
        raise UserError(f"{path} holds no {many}; give one JSON object a line.")
    return Rows(found, bad)


class Shuffled:
    """The order in which epochs go through a file; it belongs to the seed, and every epoch has another."""

    def __init__(self, name: str, seed: int) -> None:
        """Name the random stream.

        Args:
          name: of the stream.
          seed: of the run.
        """
        self._name, self._seed = name, seed
        self._orders: dict[int, np.ndarray] = {}

    def at(self, place: int, size: int) -> int:
        """The number of the line that is taken at a place of the run.

        Args:
          place: how many were taken before.
          size: how many lines there are.
        """
        epoch, within = divmod(place, size)
        order = self._orders.get(epoch)
        if order is None:
            if len(self._orders) > 8:
                self._orders.clear()
            order = self._orders[epoch] = rng.generator(self._name, self._seed, epoch).permutation(size)
        return int(order[within])


class Encoder:
    """Turns the replies of dialogues into tokens, each in the template's own context."""

    def __init__(self, chat: ChatFormat, limit: int | None) -> None:
        """Take the template.

        Args:
          chat: the model's chat template.
          limit: tokens that a dialogue may have; None for any number.
        """
        self.chat = chat
        self.limit = limit
        self._special = SpecialTokens(chat.tokenizer)

    def turns(self, dialogue: Dialogue) -> list[Turn]:
        """The replies of a dialogue; none if it is too long.

        Raises:
          UserError: the template refuses the dialogue; the sentence names file, line and message.
        """
        messages = [self._harmless(message) for message in dialogue.messages]
        tools = self._special.neutral_in(dialogue.tools)
        turns: list[Turn] = []
        before = _EMPTY
        for at in dialogue.learnt:
            try:
                context, reply = self.chat.turn(messages[: at + 1], tools)
            except UserError as error:
                raise UserError(f"{dialogue.where}, message {at + 1}: {error}") from error
            if self.limit is not None and len(context) + len(reply) > self.limit:
                return []
            extends = len(before) if np.array_equal(context[: len(before)], before) else 0
            turns.append(Turn(context[extends:], extends, reply, messages[at - 1]["content"]))
            before = np.concatenate([context, reply])
        return turns

    def _harmless(self, message: Any) -> Any:
        # The assistant's messages may call tools by special tokens; what others wrote is data.
        if message["role"] == "assistant":
            return message
        return {**message, "content": self._special.neutral(message["content"])}


def as_episode(
    chat: ChatFormat,
    match: Match,
    turns: list[Turn],
    version: int,
    *,
    outcome: float = 0.0,
    success: bool | None = None,
    parts: Mapping[str, float] | None = None,
) -> Episode:
    """The replies of a dialogue as an episode whose log-probabilities and rewards are 0.

    Args:
      chat: the model's chat template.
      match: that the dialogue stands for.
      turns: its replies.
      version: of the weights.
      outcome, success: of the episode.
      parts: named parts of the reward of its last step.
    """
    steps: list[Step] = []
    before = _EMPTY
    for turn in turns:
        context = np.concatenate([before[: turn.extends], turn.added])
        steps.append(_step(turn, context, chat.read(turn.reply), (parts or {}) if turn is turns[-1] else {}))
        before = np.concatenate([context, turn.reply])
    return Episode(
        match=match,
        player=0,
        steps=steps,
        terminated=True,
        truncated=False,
        outcome=outcome,
        success=success,
        policy_version=version,
    )


def _step(turn: Turn, context: np.ndarray, text: str, parts: Mapping[str, float]) -> Step:
    decision = Decision(
        action=text,
        valid=True,
        text=text,
        context=context,
        token=turn.reply,
        logprob=np.zeros(len(turn.reply)),
        extends=turn.extends,
    )
    return Step(
        decision=decision,
        action=text,
        view=turn.asked,
        # There is no game whose states could be the same.
        view_key=0,
        action_key=0,
        next_view_key=0,
        reward=0.0,
        domain_reward=0.0,
        parts=parts,
    )
