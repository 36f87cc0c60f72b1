"""A tokenizer's chat template: from messages to the tokens of a context, and what it writes around a reply."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.clean_text import encodable
from lapwing.core.errors import UserError
from lapwing.core.types import Message
from lapwing.models.verbatim import Frames, is_verbatim
from lapwing.models.word_table import WordTable, is_by_words

# Stands for a reply in a rendered dialogue. No text from outside holds a NUL once it is neutral.
REPLY = "\0reply\0"

# What the switch for thoughts is called: by Qwen and SmolLM; by DeepSeek and Granite.
_SWITCHES = ("enable_thinking", "thinking")
_ASKED, _ASKED_NEXT, _RULES = "first question", "next question", "the rules"
# What may stand before the turn that is probed. Only the last of a thinker's turns may show its thoughts.
_EARLIER = (
    (),
    (("one", "two"),),
    (("one", "<think>\nhm\n</think>\n\ntwo"),),
    (("three", "a longer reply\nof two lines"), ("four", "")),
)


class _Around(NamedTuple):
    """What a template writes around a reply.

    Attributes:
      lead: blanks between the generation prompt and a reply.
      opening: what the generation prompt says already and no earlier turn shows.
      tail: from the end of a reply to the next one, with `_ASKED_NEXT` between them.
      last: after the last reply of a dialogue.
    """

    lead: str
    opening: str
    tail: str
    last: str


class ChatFormat:
    """Turns messages into tokens by a tokenizer's chat template, and knows where the template ends a reply.

    What templates differ in is found out by trying them on a few short dialogues. A system message that a template
    refuses, hides or moves from turn to turn is put before the first user message; user messages that it does not take
    one after the other are joined.

    A context that is only ever appended to, context(n) = context(n−1) ⊕ reply(n−1) ⊕ added(n), keeps the tokens of
    replies as they were sampled. A model that thinks therefore sees its earlier thoughts in it, which many templates
    leave out when they render a dialogue anew.

    Attributes:
      tokenizer: of transformers.
      ends: the tokens that end a reply: the template's, the tokenizer's and those given.
      turn_end: the one that the template puts after a reply, and that a composed reply ends with.
      opened: how a reply begins in the generation prompt already, as "<think>" does for some models; else empty.
    """

    def __init__(self, tokenizer: Any, *, thinking: bool | None = None, ends: Iterable[int] = ()) -> None:
        """Try the template.

        Args:
          tokenizer: of transformers, with a chat template.
          thinking: what the template's switch for thoughts is set to; None leaves it alone.
          ends: further tokens that end a reply, such as those of the model's generation settings.

        Raises:
          UserError: there is no template, it has no such switch, it refuses a single question, or nothing ends a reply.
        """
        if not tokenizer.chat_template:
            raise UserError("The tokenizer has no chat template; choose an instruction-tuned model.")
        self.tokenizer = tokenizer
        self._table = WordTable(tokenizer) if is_by_words(tokenizer) else None
        self._unknown: int | None = tokenizer.unk_token_id
        self._folds_system = self._joins_users = False
        self._switch: dict[str, bool] = {}
        self._render([_user(_ASKED)])
        if thinking is not None:
            self._switch = {self._switch_name(): thinking}
        self._joins_users = not self._shows([_user(_ASKED), _user(_ASKED_NEXT)])
        self._folds_system = not self._shows([_system(_RULES), _user(_ASKED)])
        around = self._around()
        if isinstance(around, str) and not self._folds_system:
            # Some templates put the rules into the newest message, whichever that is.
            self._folds_system = True
            folded = self._around()
            around, self._folds_system = (around, False) if isinstance(folded, str) else (folded, True)
        known = {int(token) for token in ends} | {tokenizer.eos_token_id} - {None}
        end = self._turn_end(around, known)
        if end is None and not known:
            raise UserError("Neither the tokenizer nor its chat template says which token ends a reply.")
        self.turn_end: int = end if end is not None else tokenizer.eos_token_id or min(known)
        self.ends = frozenset({self.turn_end, *known})
        self._why_not = around if isinstance(around, str) else "" if end is not None else "no token ends a turn"
        self._lead = "" if isinstance(around, str) else around.lead
        self._pad = "" if isinstance(around, str) or end is None else _blanks_before(around.tail)
        self.opened = "" if isinstance(around, str) else _opened(around.opening)
        self._fits_tools: bool | None = None
        # Most of the time of a short prompt is the template's.
        self._frames = Frames(self._render) if is_verbatim(tokenizer) else None

    def text(self, messages: Sequence[Message], tools: Any = None) -> str:
        """A dialogue as the model reads it, up to where its reply begins.

        Args:
          messages: system, user, assistant and tool; a message may hold what else the template knows.
          tools: definitions of tools for the template.

        Raises:
          UserError: the template refuses the dialogue.
        """
        if tools is None and self._frames is not None:
            return self._frames(messages)
        return self._render(messages, tools=tools)

    def encode(self, messages: Sequence[Message], tools: Any = None) -> np.ndarray:
        """The tokens of `text`, int32; a template that begins with a token for that begins with one.

        Raises:
          UserError: the template refuses the dialogue, or the vocabulary lacks a word.
        """
        return self._tokens(self.text(messages, tools))

    def added(self, messages: Sequence[Message], last: int, tools: Any = None) -> np.ndarray:
        """What a dialogue adds to a reply, up to where the next one begins, int32.

        A reply that was cut gets its end; one that sampled any of the tokens that end a reply is not ended twice.

        Args:
          messages: the dialogue, with REPLY as the content of the reply.
          last: the last token of the reply.
          tools: definitions of tools for the template.

        Raises:
          UserError: the template writes a dialogue with tools in a way that cannot be appended to.
        """
        if tools and self._fits_tools is None:
            self._fits_tools = not isinstance(self._around(tools), str)
        if tools and not self._fits_tools:
            raise UserError(_cannot_append("it writes the tools anew at every turn"))
        found = self._ids(self.text(messages, tools).rpartition(REPLY)[2])
        if last in self.ends:
            found = found[self._length_of_end(found) :]
        return np.array(found, dtype=np.int32)

    def check_append_only(self) -> None:
        """Refuse a template whose dialogues cannot be appended to, turn by turn.

        Raises:
          UserError: it is such a template; the sentence says what it does.
        """
        if self._why_not:
            raise UserError(_cannot_append(self._why_not))

    def reply(self, text: str, *, is_ended: bool = True) -> np.ndarray:
        """The tokens of a composed reply, int32.

        Args:
          text: of the reply.
          is_ended: put the token after it that ends a turn.
        """
        if self.opened:
            # Inside a thought that the prompt began: go on with it, or end it.
            tag = self.opened.strip()
            begun = text.lstrip().startswith(tag)
            text = text.lstrip().removeprefix(tag).lstrip("\n") if begun else f"\n</{tag[1:]}\n\n{text}"
        if not is_ended:
            return np.array(self._ids(self._lead + text), dtype=np.int32)
        return np.array([*self._ids(self._lead + text + self._pad), self.turn_end], dtype=np.int32)

    def turn(self, messages: Sequence[Message], tools: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """The context of a dialogue's last message, which is the assistant's, and that message as a reply.

        The reply is what the template writes for the message, calls of tools included, up to the end of the turn. A
        template that shows less of a message than was said (its thought), or begins it in another way than it asks
        for it, is passed over: the reply is then the content.

        Returns:
          Context and reply as token ids, int32.

        Raises:
          UserError: the template refuses the dialogue or cannot write the calls, or an end stands within the reply.
        """
        *before, said = messages
        asked = self.text(before, tools)
        written = self._render(messages, is_asked=False, tools=tools)
        content = said.get("content") or ""
        if written.startswith(asked) and content.strip() in written[len(asked) :]:
            reply = self._tokens(written[len(asked) :])
            at = np.flatnonzero(np.isin(reply, list(self.ends)))
            reply = reply[: at[-1] + 1] if len(at) else np.append(reply, np.int32(self.turn_end))
        elif said.get("tool_calls"):
            raise UserError("The model's chat template writes a call of a tool in another way than it asks for it.")
        else:
            reply = self.reply(content)
        if np.isin(reply[:-1], list(self.ends)).any():
            raise UserError("A reply holds a token that ends replies; write it in another way.")
        return self._tokens(asked), reply

    def decode(self, token: Sequence[int] | np.ndarray) -> str:
        """The exact text of some tokens."""
        return self.tokenizer.decode(token, clean_up_tokenization_spaces=False)

    def read(self, token: np.ndarray) -> str:
        """The text of a reply: with the beginning that its prompt held already, without the token that ended it."""
        is_ended = len(token) > 0 and int(token[-1]) in self.ends
        return self.opened + self.decode(token[:-1] if is_ended else token)

    def boundaries(self, token: np.ndarray) -> list[int]:
        """Where in the text that `read` gives the first 0, 1, 2, … tokens of a reply end, in characters.

        The characters of a token are those that decoding it after its predecessors adds.
        """
        start = len(self.opened)
        pieces = [self.decode([one]) for one in token.tolist()]
        if "".join(pieces) == self.decode(token):
            return list(itertools.accumulate(map(len, pieces), initial=start))
        # Some tokens are parts of a character, or the tokenizer puts blanks between tokens.
        return [start + len(self.decode(token[:n])) for n in range(len(token) + 1)]

    def _render(self, messages: Sequence[Message], *, is_asked: bool = True, tools: Any = None) -> str:
        from jinja2 import TemplateError

        further = self._switch if tools is None else {**self._switch, "tools": tools}
        try:
            return self.tokenizer.apply_chat_template(
                self._arranged(messages), tokenize=False, add_generation_prompt=is_asked, **further
            )
        except (TemplateError, TypeError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                f"The model's chat template refuses a dialogue of {roles} ({str(error).strip() or 'no reason given'})"
                f"{_advice(messages)}."
            ) from error

    def _arranged(self, messages: Sequence[Message]) -> list[Message]:
        found = list(messages)
        if self._folds_system and found and found[0]["role"] == "system":
            found[0] = _user(found[0]["content"])
            if len(found) > 1 and found[1]["role"] == "user":
                found[:2] = [_user(f"{found[0]['content']}\n\n{found[1]['content']}")]
        if not self._joins_users:
            return found
        joined: list[Message] = []
        for message in found:
            if joined and joined[-1]["role"] == message["role"] == "user":
                joined[-1] = _user(f"{joined[-1]['content']}\n\n{message['content']}")
            else:
                joined.append(message)
        return joined

    def _ids(self, text: str) -> list[int]:
        # The template writes the token that opens a text, where there is one.
        text = encodable(text)
        return self.tokenizer.encode(text, add_special_tokens=False) if self._table is None else self._table.ids(text)

    def _tokens(self, text: str) -> np.ndarray:
        ids = self._ids(text)
        unknown = self._unknown
        if unknown is not None and unknown in ids:
            # The model may have said the unknown token itself; what must not happen is that a word becomes it.
            words = {word for word in text.split() if self.tokenizer.unk_token not in word}
            # A word of several tokens is known, though it is none itself.
            missing = sorted(word for word in words if unknown in self._ids(word))
            if missing:
                raise UserError(
                    f"The model's vocabulary lacks the words {', '.join(missing)}; it was made for another game, size "
                    "or renderer, or the game's words() do not list all that its views may hold."
                )
        return np.array(ids, dtype=np.int32)

    def _switch_name(self) -> str:
        for name in _SWITCHES:
            self._switch = {name: True}
            thinking = self._render([_user(_ASKED)])
            self._switch = {name: False}
            if self._render([_user(_ASKED)]) != thinking:
                return name
        raise UserError(
            "policy.thinking is set, but the model's chat template has no switch for thoughts "
            f"({' or '.join(_SWITCHES)}); leave it out."
        )

    def _shows(self, messages: list[Message]) -> bool:
        try:
            text = self._render(messages)
        except UserError:
            return False
        return all(message["content"] in text for message in messages)

    def _around(self, tools: Any = None) -> _Around | str:
        """What the template writes around a reply, the same whatever stands before; if it is not, why."""
        found: set[_Around] = set()
        for rules in ([], [_system(_RULES)]):
            for earlier in _EARLIER:
                before = [*rules, *(m for asked, said in earlier for m in (_user(asked), _assistant(said)))]
                try:
                    around = self._around_one([*before, _user(_ASKED)], tools)
                except UserError as error:
                    return str(error).rstrip(".")
                if isinstance(around, str):
                    return around
                found.add(around)
        return found.pop() if len(found) == 1 else "what it writes after a reply depends on what stands before"

    def _around_one(self, asked: list[Message], tools: Any) -> _Around | str:
        said = [*asked, _assistant(REPLY)]
        text = self._render([*said, _user(_ASKED_NEXT)], tools=tools)
        last = self._render(said, is_asked=False, tools=tools)
        head, _, tail = text.partition(REPLY)
        if text.count(REPLY) != 1 or last.count(REPLY) != 1 or _ASKED_NEXT not in tail:
            return "it does not show a reply as it was said"
        prompt, last = self._render(asked, tools=tools), last.partition(REPLY)[2]
        if prompt.startswith(head):
            return _Around("", prompt.removeprefix(head), tail, last)
        lead = head.removeprefix(prompt)
        if head.startswith(prompt) and not lead.strip():
            return _Around(lead, "", tail, last)
        return "it writes earlier turns in another way once a turn follows"

    def _turn_end(self, around: _Around | str, known: set[int]) -> int | None:
        """The token that the template puts after a reply; None where that is no token for it."""
        if isinstance(around, str):
            try:
                last = self._render([_user(_ASKED), _assistant(REPLY)], is_asked=False)
            except UserError:
                return None
            around = _Around("", "", last.partition(REPLY)[2], last.partition(REPLY)[2])
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).items()
        special = {*self.tokenizer.all_special_ids, *(token for token, is_one in added if is_one.special)}
        first, after_last = (self._first_token(text) for text in (around.tail, around.last))
        # A token that only begins the next turn is an end if the model is known to say it.
        return first if first in known or (first in special and first == after_last) else None

    def _first_token(self, text: str) -> int | None:
        return next((token for token in self._ids(text) if self.decode([token]).strip()), None)

    def _length_of_end(self, token: list[int]) -> int:
        for n, one in enumerate(token):
            if one in self.ends:
                return n + 1
            if self.decode([one]).strip():
                break
        return 0


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _system(text: str) -> Message:
    return Message(role="system", content=text)


def _assistant(text: str) -> Message:
    return Message(role="assistant", content=text)


def _blanks_before(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _opened(opening: str) -> str:
    """The tag at the end of a generation prompt that opens a thought and is not closed."""
    start = opening.rfind("<")
    tag = opening[start:].strip()
    is_open = start >= 0 and tag.endswith(">") and tag[1:-1].replace("_", "").isalpha()
    return opening[start:] if is_open else ""


def _cannot_append(why: str) -> str:
    return (
        f"The model's chat template cannot be appended to turn by turn ({why}); choose the context 'state_only' or "
        "'last_k'."
    )


def _advice(messages: Sequence[Message]) -> str:
    has_tool = any(message["role"] == "tool" for message in messages)
    return "; if it does not know the role tool, set policy.renderer.result_role = 'user'" if has_tool else ""
