"""Context policies: how much of an episode the model reads before it decides.

A context policy turns a view and the memory of the episode into messages. The memory is a tuple of
(messages of the view, reply text), one entry for each earlier step that is kept; for `CurrentPlan` it is the subgoal,
for `Summary` and `Scratchpad` the text that is carried on.
"""

from lapwing.core.errors import UserError
from lapwing.core.types import Memory, Message
from lapwing.policies.parsers import between, carried_line, plan_line, read_plan


class StateOnly:
    """The current view and nothing before it: prompts repeat, and cost does not grow with the episode."""

    append_only = False
    keeps_memory = False

    def messages(self, now: list[Message], memory: Memory) -> list[Message]:
        """The messages of the current view."""
        return now

    def remember(self, memory: Memory, now: list[Message], reply: str) -> Memory:
        """Nothing is kept."""
        return None


class LastK:
    """The last k views with the replies that they got, and the current view."""

    append_only = False
    keeps_memory = True

    def __init__(self, *, k: int = 2) -> None:
        """Make the context policy.

        Args:
          k: how many earlier steps are shown, at least 1.

        Raises:
          UserError: k is below 1.
        """
        if k < 1:
            raise UserError(f"context.k is the number of earlier steps shown, at least 1, not {k}.")
        self.k = k

    def messages(self, now: list[Message], memory: Memory) -> list[Message]:
        """The kept steps as a dialogue, then the current view; a system message is shown once."""
        return _dialogue(now, memory)

    def remember(self, memory: Memory, now: list[Message], reply: str) -> Memory:
        """Keep the last k steps."""
        return (*(memory or ()), (_without_system(now), reply))[-self.k :]


class Transcript:
    """The whole episode so far as one dialogue that is only ever appended to.

    Replies stay the tokens that were sampled: the next context is the last one, its reply and what is added.
    """

    append_only = True
    keeps_memory = True

    def messages(self, now: list[Message], memory: Memory) -> list[Message]:
        """All earlier steps as a dialogue, then the current view; a system message is shown once."""
        return _dialogue(now, memory)

    def remember(self, memory: Memory, now: list[Message], reply: str) -> Memory:
        """Keep everything."""
        return (*(memory or ()), (_without_system(now), reply))


class CurrentPlan:
    """The current view and, at its end, the subgoal that is followed; nothing else of what was before.

    The subgoal is the one of the last reply that switched, or of the first reply; a reply that keeps, or switches
    without a subgoal, leaves it as it is. Before the first reply no subgoal is shown.
    """

    append_only = False
    keeps_memory = True

    def messages(self, now: list[Message], memory: Memory) -> list[Message]:
        """The messages of the current view; the last one ends with the subgoal between its tags."""
        return _with_line(now, plan_line(memory)) if memory else now

    def remember(self, memory: Memory, now: list[Message], reply: str) -> Memory:
        """Keep the subgoal that is to be followed, as text."""
        switch, subgoal = read_plan(reply)
        return subgoal if subgoal and (switch or not memory) else (memory or "")

    def current(self, memory: Memory) -> str:
        """The subgoal that is followed; empty if there is none yet."""
        return memory or ""


class Summary:
    """The current view and, at its end, the summary that the model wrote last; nothing else of what was before.

    The summary is what the last reply that had one holds between `<summary>` and `</summary>`; a reply without the
    tags, or with nothing between them, leaves it as it is. Before the first one nothing is shown. It is a part of the
    reply and trained on like the rest of it; the parser `notes` composes such replies for a warm start.
    """

    append_only = False
    keeps_memory = True
    carries = "summary"

    def __init__(self, *, max_characters: int = 600) -> None:
        """Make the context policy.

        Args:
          max_characters: a longer summary is cut after the last word that fits; at least 1.

        Raises:
          UserError: `max_characters` is below 1.
        """
        self.max_characters = _checked_length(max_characters)

    def messages(self, now: list[Message], memory: Memory) -> list[Message]:
        """The messages of the current view; the last one ends with the summary between its tags."""
        return _with_line(now, carried_line("summary", memory)) if memory else now

    def remember(self, memory: Memory, now: list[Message], reply: str) -> Memory:
        """Keep the summary of this reply, or the one before it."""
        return _cut(between(reply, "summary") or "", self.max_characters) or memory or ""

    def current(self, memory: Memory) -> str:
        """The summary that is carried; empty if there is none yet."""
        return memory or ""


class Scratchpad:
    """The current view and, at its end, the notes that the model keeps; nothing else of what was before.

    A reply overwrites the notes with what stands between `<notes>` and `</notes>`, word for word, and wipes them if
    nothing stands there; a reply without the tags leaves them as they are. Empty notes are not shown. They are a part
    of the reply and trained on like the rest of it; the parser `notes` with `tag = "notes"` composes such replies for
    a warm start.
    """

    append_only = False
    keeps_memory = True
    carries = "notes"

    def __init__(self, *, max_characters: int = 600) -> None:
        """Make the context policy.

        Args:
          max_characters: longer notes are cut after the last word that fits; at least 1.

        Raises:
          UserError: `max_characters` is below 1.
        """
        self.max_characters = _checked_length(max_characters)

    def messages(self, now: list[Message], memory: Memory) -> list[Message]:
        """The messages of the current view; the last one ends with the notes between their tags."""
        return _with_line(now, carried_line("notes", memory)) if memory else now

    def remember(self, memory: Memory, now: list[Message], reply: str) -> Memory:
        """Keep the notes of this reply if it has any tags for them, else those before it."""
        written = between(reply, "notes")
        return memory or "" if written is None else _cut(written, self.max_characters)

    def current(self, memory: Memory) -> str:
        """The notes that are carried; empty if there are none."""
        return memory or ""


def _checked_length(max_characters: int) -> int:
    if max_characters < 1:
        raise UserError(f"context.max_characters is at least 1, not {max_characters}.")
    return max_characters


def _cut(text: str, length: int) -> str:
    """The words that fit into so many characters; a single word that does not is cut itself."""
    if len(text) <= length:
        return text
    whole, blank, _ = text[: length + 1].rpartition(" ")
    return whole.rstrip() if blank else text[:length]


def _with_line(now: list[Message], line: str) -> list[Message]:
    """The messages of a view, the last one with a further line at its end."""
    last = now[-1]
    return [*now[:-1], Message(role=last["role"], content=f"{last['content']} {line}")]


def _without_system(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message["role"] != "system"]


def _dialogue(now: list[Message], memory: Memory) -> list[Message]:
    system = [message for message in now if message["role"] == "system"]
    past: list[Message] = []
    for shown, reply in memory or ():
        past += [*shown, Message(role="assistant", content=reply)]
    return [*system, *past, *_without_system(now)]
