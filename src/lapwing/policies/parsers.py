"""Parsers and composers: from a reply to an action, and from an action to a reply.

A parser whose `spans` is True also says which characters of a reply are its thought, its switch, its subgoal and its
action (`sections`), and the batch gets the column `span`. One whose `plans` is True also reads a subgoal and whether
it is new (`read_plan`), and the batch gets the column `switch`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.types import Action

# What the column `span` calls the text between the tags of this name.
SPANS = {"think": 1, "switch": 2, "subgoal": 3, "action": 4, "answer": 5}

KEEP, SWITCH = "KEEP", "SWITCH"
# Tags of a text that a reply carries to the next step.
CARRIED = ("summary", "notes")


@dataclass(frozen=True, slots=True)
class Invalid:
    """The reply stands for no legal action; `reason` says why."""

    reason: str


class Plan(NamedTuple):
    """What a reply says of its plan: whether it is to be followed from now on, and the subgoal (empty: none)."""

    switch: bool
    subgoal: str


class Bare:
    """The reply is the name of the action and nothing else; any text, where a game takes any."""

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

    What is between the first opening and the next closing tag counts, stripped; upper case does not matter, except
    where a game takes any text. Anything else (no tag, several words) is invalid.
    """

    stop: tuple[str, ...] = ("</action>",)

    def __init__(self, *, think: bool = False, plan: bool = False, spans: bool = False) -> None:
        """Make the parser.

        Args:
          think: composed replies open with `<think>`; parsing never requires it.
          plan: composed replies name the move in `<plan>`; parsing never requires it.
          spans: give the batch the column `span`: 1 for tokens of the thought, 4 for tokens of the action.
        """
        self.think = think
        self.plan = plan
        self.spans = spans

    def parse(self, text: str, legal: Sequence[Action] | None) -> Action | Invalid:
        """The action, or why there is none."""
        return _tagged_action(text, legal)

    def sections(self, text: str) -> list[tuple[int, int, int]]:
        """The (first character, end, span) of the thought and the action, without their tags."""
        return _sections(text, ("think", "action"))

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


class Hierarchical:
    """The reply says whether it follows a new subgoal, which one, and the action, each between its tags.

        <switch> SWITCH </switch> <subgoal> door </subgoal> <action> right </action>

    The action is read as `Tags` reads it. Of each name the first pair of tags counts. SWITCH begins a new segment
    with the subgoal that follows; anything else between the tags, and no tags at all, is KEEP, which goes on with
    the current subgoal, whatever subgoal it repeats. The first step of an episode begins a segment in any case. The
    context policy `current_plan` shows the model the subgoal that it follows.

    The batch gets the columns `switch` and `span`: 2, 3 and 4 for tokens that hold a character of the switch, the
    subgoal and the action, 0 for the rest, tags included. A reply whose tags of some name are missing or not closed
    has no such tokens.

    Composed replies (cloning) only teach the format: a subgoal is drawn from `subgoals`, each with the same
    probability, at the first step and with probability `switch_share` at every later one; other steps keep and
    repeat the current subgoal, which they know from `current_plan` (with another context policy all of them switch).
    `compose`, which is told of no current subgoal, switches to the first one.

    Reference: HiPER. https://arxiv.org/abs/2602.16165
    """

    PRODUCES = ("switch", "span")

    stop: tuple[str, ...] = ("</action>",)
    spans = True
    plans = True

    def __init__(
        self,
        *,
        subgoals: tuple[str, ...] = ("key", "door", "goal"),
        switch_share: float = 0.5,
        include_tags: bool = False,
    ) -> None:
        """Make the parser.

        Args:
          subgoals: what composed replies choose from; parsing takes any text.
          switch_share: share of the later steps at which composed replies switch, in [0, 1].
          include_tags: count tags as part of what they enclose.

        Raises:
          UserError: there is no subgoal, one is empty or holds a tag, or the share is no probability.
        """
        if not subgoals or any(not goal.strip() or "<" in goal for goal in subgoals):
            raise UserError(f"parser.subgoals are texts that are not empty and hold no '<', not {list(subgoals)}.")
        if not 0.0 <= switch_share <= 1.0:
            raise UserError(f"parser.switch_share is a probability in [0, 1], not {switch_share}.")
        self.subgoals = tuple(subgoals)
        self.switch_share = switch_share
        self.include_tags = include_tags

    def parse(self, text: str, legal: Sequence[Action] | None) -> Action | Invalid:
        """The action, or why there is none; a reply without a plan can be valid."""
        return _tagged_action(text, legal)

    def sections(self, text: str) -> list[tuple[int, int, int]]:
        """The (first character, end, span) of the switch, the subgoal and the action."""
        return _sections(text, ("switch", "subgoal", "action"), include_tags=self.include_tags)

    def read_plan(self, text: str) -> Plan:
        """Whether the reply switches, and the subgoal that it names."""
        return read_plan(text)

    def compose(self, action: Action) -> str:
        """The reply that switches to the first subgoal and stands for an action."""
        return _planned(SWITCH, self.subgoals[0], action)

    def compose_after(self, action: Action, current: str, key: int, *, shown: str = "") -> str:
        """The reply that stands for an action at a step whose random stream has this key.

        Args:
          action: what is done.
          current: the subgoal followed so far; empty if there is none.
          key: of the decision.
          shown: the text of the view, which does not matter here.
        """
        drawn = rng.generator("plan", key)
        if current and drawn.random() >= self.switch_share:
            return _planned(KEEP, current, action)
        return _planned(SWITCH, self.subgoals[int(drawn.integers(len(self.subgoals)))], action)

    def words(self, legal: Sequence[Action]) -> set[str]:
        """The words of all replies."""
        texts = [_planned(KEEP, goal, action) for goal in self.subgoals for action in legal]
        return {SWITCH, *(word for text in texts for word in text.split())}


class Notes:
    """The reply carries a text to the next step between its tags, and then says the action.

        <summary> key is left </summary> <action> right </action>

    The action is read as `Tags` reads it; the text is read by the context policy of the same tag, `summary` or
    `scratchpad`, which shows it in the next context. A reply without the text can be valid. The text is made of reply
    tokens like all others: what is trained on the action is trained on it.

    Composed replies (cloning) get their text from `lexicon`. With `composed = "copied"` they teach what is worth
    carrying: the last `length` words of the view that are in the lexicon, and where the view has none, what was
    carried before. With "drawn" they teach the format alone: `length` words drawn with equal probability at the first
    step and with probability 1 − `keep_share` at every later one; other steps repeat the text that is carried. Without
    a lexicon the text is a log: the last `length` words of what was done.
    """

    stop: tuple[str, ...] = ("</action>",)

    def __init__(
        self,
        *,
        tag: str = "summary",
        lexicon: tuple[str, ...] = (),
        composed: Literal["copied", "drawn"] = "copied",
        length: int = 1,
        keep_share: float = 0.5,
    ) -> None:
        """Make the parser.

        Args:
          tag: what encloses the text: "summary" with the context policy `summary`, "notes" with `scratchpad`.
          lexicon: words that composed texts are made of; parsing takes any text.
          composed: "copied" from what is shown, or "drawn".
          length: words of a composed text, at least 1.
          keep_share: share of the later steps at which a drawn text is repeated, in [0, 1].

        Raises:
          UserError: a word is empty, has blanks or holds a tag, or a number is impossible.
        """
        if tag not in CARRIED:
            raise UserError(f"parser.tag is {' or '.join(CARRIED)}, not '{tag}'.")
        if any(len(word.split()) != 1 or "<" in word for word in lexicon):
            raise UserError(f"parser.lexicon holds single words without '<', not {list(lexicon)}.")
        if composed not in ("copied", "drawn"):
            raise UserError(f"parser.composed is 'copied' or 'drawn', not '{composed}'.")
        if length < 1:
            raise UserError(f"parser.length is a number of words of at least 1, not {length}.")
        if not 0.0 <= keep_share <= 1.0:
            raise UserError(f"parser.keep_share is a probability in [0, 1], not {keep_share}.")
        self.tag = tag
        self.lexicon = tuple(lexicon)
        self.composed = composed
        self.length = length
        self.keep_share = keep_share

    def parse(self, text: str, legal: Sequence[Action] | None) -> Action | Invalid:
        """The action, or why there is none; a reply without a text can be valid."""
        return _tagged_action(text, legal)

    def compose(self, action: Action) -> str:
        """The longest composed reply that stands for an action."""
        word = max(self.lexicon, key=len) if self.lexicon else str(action)
        return self._reply([word] * self.length, action)

    def compose_after(self, action: Action, current: str, key: int, *, shown: str = "") -> str:
        """The reply that stands for an action at a step whose random stream has this key.

        Args:
          action: what is done.
          current: the text that is carried; empty if there is none yet.
          key: of the decision.
          shown: the text of the view.
        """
        if not self.lexicon:
            return self._reply([*current.split(), *str(action).split()][-self.length :], action)
        if self.composed == "copied":
            seen = [word for word in shown.split() if word in self.lexicon][-self.length :]
            return self._reply(seen or current.split(), action)
        drawn = rng.generator("notes", key)
        if current and drawn.random() < self.keep_share:
            return self._reply([current], action)
        picks = drawn.integers(len(self.lexicon), size=self.length)
        return self._reply([self.lexicon[int(pick)] for pick in picks], action)

    def words(self, legal: Sequence[Action]) -> set[str]:
        """The words of all replies."""
        return {*self.lexicon, *(word for action in legal for word in self.compose(action).split())}

    def _reply(self, words: Sequence[str], action: Action) -> str:
        return f"{carried_line(self.tag, ' '.join(words))} <action> {action} </action>"


def _planned(switch: str, subgoal: str, action: Action) -> str:
    return f"<switch> {switch} </switch> {plan_line(subgoal)} <action> {action} </action>"


def read_plan(text: str) -> Plan:
    """Whether a reply switches, and the subgoal that it names; both by the first pair of tags."""
    return Plan((between(text, "switch") or "").upper() == SWITCH, between(text, "subgoal") or "")


def carried_line(tag: str, text: str) -> str:
    """A text between its tags: in replies that carry it on, and in contexts that show it."""
    return f"<{tag}> {text} </{tag}>"


def plan_line(subgoal: str) -> str:
    """A subgoal between its tags: in replies, and in contexts that show the current one."""
    return carried_line("subgoal", subgoal)


def _tagged_action(text: str, legal: Sequence[Action] | None) -> Action | Invalid:
    _, opened, rest = text.partition("<action>")
    inside, closed, _ = rest.partition("</action>")
    if not opened:
        return Invalid("no <action> tag")
    if not closed:
        return Invalid("no closing </action> tag")
    return _match(inside, legal)


def between(text: str, name: str) -> str | None:
    """What the first pair of tags encloses, stripped; None where there is no such pair."""
    _, opened, rest = text.partition(f"<{name}>")
    inside, closed, _ = rest.partition(f"</{name}>")
    return inside.strip() if opened and closed else None


def _sections(text: str, names: Sequence[str], *, include_tags: bool = False) -> list[tuple[int, int, int]]:
    found = []
    for name in names:
        inside = between(text, name)
        if inside is None:
            continue
        opened = text.index(f"<{name}>")
        if include_tags:
            closing = f"</{name}>"
            found.append((opened, text.index(closing, opened) + len(closing), SPANS[name]))
        elif inside:
            # The blanks around belong to the tags, which a word-level tokenizer writes with the blank before them.
            first = text.index(inside, opened + len(name) + 2)
            found.append((first, first + len(inside), SPANS[name]))
    return found


def _match(text: str, legal: Sequence[Action] | None) -> Action | Invalid:
    said = text.strip()
    if legal is None:
        return said if said else Invalid("empty reply")
    wanted = said.lower()
    for action in legal:
        if str(action).lower() == wanted:
            return action
    return Invalid("empty reply" if not wanted else f"'{wanted[:40]}' is no legal action")
