"""Agents that never look at the game: what it pays them is its floor, and a game that pays them well is broken.

A reply that stands for no legal action plays the first legal one, as recipes have it unless they say otherwise; in a
game with tools it is an unreadable reply; in a game that takes any text it is the text.
"""

from collections.abc import Sequence
from typing import Any

from lapwing.core.types import Action, Ask, Decision, Memory
from lapwing.games.tools.dialogue import ToolGame
from lapwing.policies.baselines import Random, plain_decision
from lapwing.policies.parsers import Invalid, Tags
from lapwing.policies.renderers import Grid, ToolDialogue
from lapwing.policies.tool_parser import ToolUse

__all__ = ["Echo", "NoOp", "Random", "Spam", "null_agents"]

# Longer prompts are not repeated whole.
_MOST_WORDS = 2_000


class _Talker:
    """Replies with a text that is read by the parser of the game's kind."""

    version = 0

    def reply(self, prompt: str, legal: Sequence[Action] | None, step: int) -> str:
        """What it says."""
        raise NotImplementedError

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """Decide every ask; the memory counts the steps."""
        return [(self._decide(ask), (ask.memory or 0) + 1) for ask in asks]

    def _decide(self, ask: Ask) -> Decision:
        talks = isinstance(ask.game, ToolGame)
        renderer: Any = ToolDialogue() if talks else Grid(instructions=True)
        prompt = "\n".join(message["content"] for message in renderer.messages(ask.view))
        text = self.reply(prompt, ask.legal, ask.memory or 0)
        if ask.legal is None and not talks:
            return plain_decision(text.strip(), text=text)
        found = (ToolUse() if talks else Tags()).parse(text, ask.legal)
        if isinstance(found, Invalid):
            return plain_decision(None, valid=False, text=text, reason=found.reason)
        return plain_decision(found, text=text)


class NoOp(_Talker):
    """Says nothing."""

    def reply(self, prompt: str, legal: Sequence[Action] | None, step: int) -> str:
        """The empty reply."""
        return ""


class Echo(_Talker):
    """Says what it was told, as it is and as an answer."""

    def reply(self, prompt: str, legal: Sequence[Action] | None, step: int) -> str:
        """The prompt, in the tags that replies have."""
        if legal is None:
            return f"<answer>{prompt}</answer>"
        return f"<action>{prompt}</action>"


class Spam(_Talker):
    """Says everything that could be meant in one reply; what it says first goes round from step to step."""

    def reply(self, prompt: str, legal: Sequence[Action] | None, step: int) -> str:
        """Every legal action, or every word of the prompt as an answer."""
        said = list(dict.fromkeys(prompt.split()))[:_MOST_WORDS] if legal is None else list(legal)
        if not said:
            return ""
        first = step % len(said)
        tag = "answer" if legal is None else "action"
        return "".join(f"<{tag}>{one}</{tag}>" for one in (*said[first:], *said[:first]))


def null_agents(legal: Sequence[Action] | None) -> dict[str, Any]:
    """The agents by name; random play needs legal actions to draw from.

    Args:
      legal: those of a start of the game, or None where any text is one.
    """
    found: dict[str, Any] = {"no_op": NoOp(), "echo": Echo(), "spam": Spam()}
    return found if legal is None else {"random": Random(), **found}
