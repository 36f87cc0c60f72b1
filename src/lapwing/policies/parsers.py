"""Parsers and composers: from a reply to an action, and from an action to a reply."""

from collections.abc import Sequence
from dataclasses import dataclass

from lapwing.core.types import Action


@dataclass(frozen=True, slots=True)
class Invalid:
    """The reply stands for no legal action; `reason` says why."""

    reason: str


class Bare:
    """The reply is the name of the action and nothing else."""

    stop: tuple[str, ...] = ()

    def parse(self, text: str, legal: Sequence[Action] | None) -> Action | Invalid:
        """The action, or why there is none; blanks around it and upper case do not matter."""
        return _match(text, legal)

    def compose(self, action: Action) -> str:
        """The reply that stands for an action."""
        return str(action)

    def words(self, legal: Sequence[Action]) -> set[str]:
        """The words of all replies."""
        return {word for action in legal for word in self.compose(action).split()}


class Tags:
    """The action stands between `<action>` and `</action>`; thinking and a plan may come before it.

    What is between the first opening and the next closing tag counts, stripped and in lower case; anything else
    (no tag, several words) is invalid.
    """

    stop: tuple[str, ...] = ("</action>",)

    def __init__(self, *, think: bool = False, plan: bool = False) -> None:
        """Make the parser.

        Args:
          think: composed replies open with `<think>`; parsing never requires it.
          plan: composed replies name the move in `<plan>`; parsing never requires it.
        """
        self.think = think
        self.plan = plan

    def parse(self, text: str, legal: Sequence[Action] | None) -> Action | Invalid:
        """The action, or why there is none."""
        _, opened, rest = text.partition("<action>")
        inside, closed, _ = rest.partition("</action>")
        if not opened:
            return Invalid("no <action> tag")
        if not closed:
            return Invalid("no closing </action> tag")
        return _match(inside, legal)

    def compose(self, action: Action) -> str:
        """The reply that stands for an action, with a one-line thought and plan where these are on."""
        parts = [f"<action> {action} </action>"]
        if self.plan:
            parts.insert(0, f"<plan> {action} </plan>")
        if self.think:
            parts.insert(0, f"<think> go {action} </think>")
        return " ".join(parts)

    def words(self, legal: Sequence[Action]) -> set[str]:
        """The words of all replies."""
        return {word for action in legal for word in self.compose(action).split()}


def _match(text: str, legal: Sequence[Action] | None) -> Action | Invalid:
    wanted = text.strip().lower()
    if legal is None:
        return wanted if wanted else Invalid("empty reply")
    for action in legal:
        if str(action).lower() == wanted:
            return action
    return Invalid("empty reply" if not wanted else f"'{wanted[:40]}' is no legal action")
