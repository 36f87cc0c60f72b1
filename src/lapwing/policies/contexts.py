"""Context policies: how much of an episode the model reads before it decides.

A context policy turns a view and the memory of the episode into messages. The memory is a tuple of
(messages of the view, reply text), one entry for each earlier step that is kept; for `CurrentPlan` it is the subgoal.
"""

from lapwing.core.errors import UserError
from lapwing.core.types import Memory, Message
from lapwing.policies.parsers import plan_line, read_plan


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
        if not memory:
            return now
        last = now[-1]
        return [*now[:-1], Message(role=last["role"], content=f"{last['content']} {plan_line(memory)}")]

    def remember(self, memory: Memory, now: list[Message], reply: str) -> Memory:
        """Keep the subgoal that is to be followed, as text."""
        switch, subgoal = read_plan(reply)
        return subgoal if subgoal and (switch or not memory) else (memory or "")

    def current(self, memory: Memory) -> str:
        """The subgoal that is followed; empty if there is none yet."""
        return memory or ""


def _without_system(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message["role"] != "system"]


def _dialogue(now: list[Message], memory: Memory) -> list[Message]:
    system = [message for message in now if message["role"] == "system"]
    past: list[Message] = []
    for shown, reply in memory or ():
        past += [*shown, Message(role="assistant", content=reply)]
    return [*system, *past, *_without_system(now)]
