"""Chat templates that write contents as they are: what they write around them is rendered once."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lapwing.core.types import Message

# Dialogues of so many sequences of roles are remembered.
_FRAMES = 1024
_MARK = re.compile("\0([0-9]+)\0")
_ALL = "messages"
_RESERVED = frozenset({_ALL, "loop"})
_LOOP = frozenset({"first", "last", "index", "index0", "revindex", "revindex0", "length"})
_FILTERS = frozenset({"capitalize", "count", "length", "lower", "string", "title", "trim", "upper"})


class Frames:
    """What a template writes around contents, by the roles of a dialogue.

    Attributes:
      render: the template itself; it must write contents verbatim.
    """

    def __init__(self, render: Callable[[Sequence[Message]], str]) -> None:
        """Know no dialogue."""
        self.render = render
        self._known: dict[tuple[str, ...], tuple[list[str], list[tuple[int, int]]]] = {}

    def __call__(self, messages: Sequence[Message]) -> str:
        """A dialogue as the template writes it; one whose messages hold more than a role and a text is rendered.

        Raises:
          UserError: the template refuses the dialogue.
        """
        if any([len(message) != 2 or type(message.get("content")) is not str for message in messages]):
            return self.render(messages)
        roles = tuple([message["role"] for message in messages])
        found = self._known.get(roles)
        if found is None:
            if len(self._known) >= _FRAMES:
                self._known.clear()
            found = self._known[roles] = self._framed(roles)
        pieces, places = found
        pieces = pieces.copy()
        for place, number in places:
            pieces[place] = messages[number]["content"]
        return "".join(pieces)

    def _framed(self, roles: Sequence[str]) -> tuple[list[str], list[tuple[int, int]]]:
        """Texts and, at every second place, contents; and for each such place the number of its message."""
        text = self.render([Message(role=role, content=f"\0{n}\0") for n, role in enumerate(roles)])
        pieces = _MARK.split(text)
        return pieces, [(place, int(pieces[place])) for place in range(1, len(pieces), 2)]


def is_verbatim(tokenizer: Any) -> bool:
    """Whether the tokenizer's chat template writes contents of messages as they are, and does nothing else with them.

    It is read off the template's syntax: a content may be written, alone or joined to other texts, and that is all. A
    template that looks at contents, trims them, or hands messages on to what is not understood here is none.
    """
    from jinja2 import Environment, TemplateSyntaxError
    from transformers import PreTrainedTokenizerBase

    template = tokenizer.chat_template
    # A class of its own may do anything with a dialogue.
    applies = getattr(type(tokenizer), "apply_chat_template", None)
    if applies is not PreTrainedTokenizerBase.apply_chat_template or not isinstance(template, str) or "\0" in template:
        return False
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except TemplateSyntaxError:  # as for a tag that only transformers knows
        return False
    return _are_blind(tree.body, frozenset())


def _are_blind(statements: Iterable[Any], names: frozenset[str]) -> bool:
    """Whether statements of a template do nothing with contents but write them; `names` are messages."""
    return all(_is_blind(statement, names) for statement in statements)


def _is_blind(statement: Any, names: frozenset[str]) -> bool:
    from jinja2 import nodes

    match statement:
        case nodes.Output():
            return all(_is_value(value, names, is_written=True) for value in statement.nodes)
        case nodes.If():
            bodies = (statement.body, statement.elif_, statement.else_)
            return _is_value(statement.test, names) and all(_are_blind(body, names) for body in bodies)
        case nodes.For(target=nodes.Name(name=name), recursive=False) if _is_dialogue(statement.iter, names):
            inner = names | {name}
            is_filtered = statement.test is None or _is_value(statement.test, inner)
            is_blind = _are_blind(statement.body, inner) and _are_blind(statement.else_, names)
            return name not in _RESERVED and is_filtered and is_blind
        case nodes.Assign(target=nodes.Name(name=name)):
            return name not in names | _RESERVED and _is_value(statement.node, names)
        case nodes.Break() | nodes.Continue():
            return True
        case _:
            return False


def _is_dialogue(value: Any, names: frozenset[str]) -> bool:
    """Whether an expression gives all messages, or a part of them by their places."""
    from jinja2 import nodes

    match value:
        case nodes.Getitem(node=part, arg=nodes.Slice()):
            return _is_dialogue(part, names) and _is_value(value.arg, names)
        case _:
            return isinstance(value, nodes.Name) and value.name == _ALL


def _is_value(value: Any, names: frozenset[str], *, is_written: bool = False) -> bool:
    """Whether an expression gives the same whatever the contents are, or is written and holds them as they are."""
    from jinja2 import nodes

    match value:
        case nodes.Name(name=name):
            return name not in names | _RESERVED
        case nodes.Getattr(node=of, attr=key) | nodes.Getitem(node=of, arg=nodes.Const(value=str(key))):
            return _is_entry(of, key, names, is_written)
        case nodes.Filter(name="length" | "count", node=nodes.Name(name=name), args=[]) if name == _ALL:
            return True
        case nodes.Filter(name=name) if name not in _FILTERS:
            return False
        case nodes.Call(node=nodes.Name(name="raise_exception"), args=[nodes.Const()]):
            return True
        case nodes.Add() | nodes.Concat():
            return all(_is_value(part, names, is_written=is_written) for part in value.iter_child_nodes())
        case nodes.CondExpr():
            parts = [part for part in (value.expr1, value.expr2) if part is not None]
            is_same = all(_is_value(part, names, is_written=is_written) for part in parts)
            return _is_value(value.test, names) and is_same
        case _:
            return isinstance(value, _pure()) and all(_is_value(part, names) for part in value.iter_child_nodes())


def _is_entry(of: Any, key: str, names: frozenset[str], is_written: bool) -> bool:
    """As `_is_value`, for what stands under a name in something."""
    from jinja2 import nodes

    match of:
        case nodes.Name(name="loop"):
            return key in _LOOP
        case nodes.Getitem(node=nodes.Name(name=name), arg=place) if name == _ALL:
            is_message = not isinstance(place, nodes.Slice) and _is_value(place, names)
        case _:
            is_message = isinstance(of, nodes.Name) and of.name in names
    if is_message:
        # A method of it would give all that it holds.
        return is_written if key == "content" else not hasattr(dict, key)
    return _is_value(of, names)


def _pure() -> tuple[type[Any], ...]:
    """The expressions that give the same for the same parts."""
    from jinja2 import nodes

    joined = (nodes.BinExpr, nodes.UnaryExpr, nodes.Compare, nodes.Operand, nodes.Test, nodes.Filter)
    return (*joined, nodes.Literal, nodes.Pair, nodes.Getattr, nodes.Getitem, nodes.Slice)
