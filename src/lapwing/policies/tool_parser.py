"""From the reply of a tool-using agent to a call or an answer, and back."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from lapwing.core.errors import UserError
from lapwing.core.storage import canonical_json
from lapwing.core.types import Action, Answer, Malformed, ToolCall
from lapwing.games.tools._arguments import read_json
from lapwing.games.tools.rewards import FORMAT_WEIGHT, TAG_WEIGHT, format_score, tag_score
from lapwing.policies.parsers import Invalid

# More than any sensible call; what is longer is not even read.
_LONGEST_CALL = 65_536
# A name that `without_tags` takes for one.
_NAME = re.compile(r"[^\W\d]\w*")


class ToolUse:
    """The reply holds a tool call or the answer, each between its tags; reasoning may come before it.

        <reasoning> … </reasoning> <tool> {"name": "search", "arguments": {"query": "…"}} </tool>
        <reasoning> … </reasoning> <answer> … </answer>

    With `style = "words"` a call is the name of the tool and its one argument, `<tool> search ka lo mi </tool>`, for
    models that are too small for JSON. The first pair of tags that is closed counts. Tools that do not exist, and
    arguments that they do not take, are read like any other: the game answers them with an error. A reply with neither
    a call nor an answer, or whose call is no JSON object with a name, is invalid; JSON that `read_object` does not take
    (NaN, a name given twice, nesting deeper than 64, numbers of more than 400 digits) is none.

    A model that has tags of its own for calls is read by `tool_tag = "tool_call"`. With `answer_tag = ""` a reply
    without a call is the answer, without its reasoning.

    The form of the replies of an episode can be rewarded, as in MT-GRPO: `format_weight` × the format score and
    `tags_weight` × the tag score, both means over the replies in [0, 1], are added to the training reward of the last
    step and logged as the parts `format` and `tags`. The reported, domain reward never sees them.

    Reference: MT-GRPO, Zeng et al. 2025, and its code (rewards of format and tags). https://arxiv.org/abs/2505.11821
    """

    def __init__(
        self,
        *,
        style: Literal["json", "words"] = "json",
        tool_tag: str = "tool",
        answer_tag: str = "answer",
        reasoning_tag: str = "reasoning",
        format_weight: float = FORMAT_WEIGHT,
        tags_weight: float = TAG_WEIGHT,
    ) -> None:
        """Make the parser.

        Args:
          style: how a call is written.
          tool_tag, answer_tag, reasoning_tag: names of the tags, without brackets; an empty reasoning tag for models
            that do not reason.
          format_weight, tags_weight: what a perfect score adds to the training reward of an episode.

        Raises:
          UserError: a tag is no word, two are the same, or a weight is not finite.
        """
        if style not in ("json", "words"):
            raise UserError(f"parser.style is 'json' or 'words', not '{style}'.")
        tags = [tag for tag in (tool_tag, answer_tag, reasoning_tag) if tag]
        if not tool_tag or any(not _NAME.fullmatch(tag) for tag in tags) or len(set(tags)) < len(tags):
            raise UserError(f"The parser's tags are different words without brackets, not {tags}.")
        if not all(abs(weight) < float("inf") for weight in (format_weight, tags_weight)):
            raise UserError("parser.format_weight and parser.tags_weight are finite numbers.")
        self.style = style
        self.tool_tag = tool_tag
        self.answer_tag = answer_tag
        self.reasoning_tag = reasoning_tag
        self.form_weights = {"format": format_weight, "tags": tags_weight}
        self.stop: tuple[str, ...] = tuple(f"</{tag}>" for tag in (tool_tag, answer_tag) if tag)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that no text from outside may forge."""
        return tuple(tag for tag in (self.tool_tag, self.answer_tag, self.reasoning_tag) if tag)

    def parse(self, text: str, legal: Sequence[Action] | None) -> Action | Invalid:
        """The call or the answer, or why there is neither."""
        called, answered = _inside(text, self.tool_tag), _inside(text, self.answer_tag)
        if called is not None and (answered is None or called[0] < answered[0]):
            return self._call(called[1])
        if answered is not None:
            return Answer(answered[1].strip())
        if f"<{self.tool_tag}>" in text:
            return Invalid(f"no closing </{self.tool_tag}> tag")
        if self.answer_tag:
            return Invalid(f"neither a <{self.tool_tag}> nor an <{self.answer_tag}> with its closing tag")
        bare = text.rpartition(f"</{self.reasoning_tag}>")[2].strip() if self.reasoning_tag else text.strip()
        return Answer(bare) if bare else Invalid("empty reply")

    def compose(self, action: Action) -> str:
        """The reply that stands for a call or an answer, without reasoning."""
        if isinstance(action, Answer):
            return f"<{self.answer_tag}> {action.text} </{self.answer_tag}>" if self.answer_tag else action.text
        if isinstance(action, Malformed):
            return action.reason
        assert isinstance(action, ToolCall)
        return f"<{self.tool_tag}> {self._composed(action)} </{self.tool_tag}>"

    def words(self, legal: Sequence[Action]) -> set[str]:
        """The tags; what stands between them are words of the game."""
        return {bracket for tag in self.tags for bracket in (f"<{tag}>", f"</{tag}>")}

    def form(self, replies: Sequence[str]) -> Mapping[str, float]:
        """The format score and the tag score of an episode's replies, each in [0, 1]."""
        fields = tuple(tag for tag in (self.tool_tag, self.answer_tag) if tag)
        return {
            "format": format_score(replies, reasoning=self.reasoning_tag, fields=fields),
            "tags": tag_score(replies, self.tags),
        }

    def _call(self, inside: str) -> ToolCall | Invalid:
        if len(inside) > _LONGEST_CALL:
            return Invalid(f"a call of {len(inside):,} characters; the longest that is read has {_LONGEST_CALL:,}")
        if self.style == "words":
            name, *argument = inside.split(maxsplit=1) or [""]
            said = canonical_json(argument[0].strip()) if argument else "{}"
            return ToolCall(name, said) if name else Invalid("an empty call")
        try:
            call = read_json(inside)
        except ValueError as error:
            return Invalid(str(error).replace("the arguments", "the call", 1))
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return Invalid('a call is a JSON object such as {"name": "…", "arguments": {…}}')
        return ToolCall(call["name"], canonical_json(call.get("arguments", {})))

    def _composed(self, call: ToolCall) -> str:
        if self.style == "words":
            argument = json.loads(call.arguments)
            values = argument.values() if isinstance(argument, dict) else [argument]
            return " ".join([call.name, *map(str, values)])
        # A closing tag in an argument would end the call; to JSON the two spellings are the same.
        return f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}'.replace("</", "<\\/")


def _inside(text: str, tag: str) -> tuple[int, str] | None:
    """Where the first pair of tags ends, and what it encloses; None where there is no such pair."""
    if not tag:
        return None
    opened = text.find(f"<{tag}>")
    closed = text.find(f"</{tag}>", opened) if opened >= 0 else -1
    return (closed, text[opened + len(tag) + 2 : closed]) if closed >= 0 else None
