"""Text from outside is data: nothing in it may be taken for a tag or for a special token."""

import re
from collections.abc import Collection
from typing import Any

# Whatever looks like a tag, also with attributes, or unfinished at the end of a cut text. No blank is looked over, so
# that a text is escaped word by word, and a vocabulary of words can be escaped as the texts are.
_TAG = re.compile(r"<(?=/?([^\W\d]|\|))")


def without_tags(text: str) -> str:
    """The text, from a corpus, a tool or a person, with every `<` that begins a tag or a chat marker as `&lt;`."""
    return _TAG.sub("&lt;", text)


class SpecialTokens:
    """The texts that a tokenizer reads as special tokens, and how to take their meaning from them."""

    def __init__(self, tokenizer: Any, own: Collection[str] = ()) -> None:
        """Collect them.

        Args:
          tokenizer: of transformers.
          own: texts that the agent's side of a dialogue may use, special or not: the tags of its parser.
        """
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        texts = {str(text) for text in tokenizer.all_special_tokens}
        texts |= {str(token) for token in added if getattr(token, "special", False)}
        unknown = tokenizer.unk_token or ""
        # In GPT-2 and its kin it is the end of a text as well, or the padding that is one in Qwen, and nothing may
        # become that.
        others = (tokenizer.bos_token, tokenizer.eos_token, getattr(tokenizer, "pad_token", None))
        self._unknown: str = "" if unknown in others else unknown
        texts -= {self._unknown, ""}
        self._all = _any_of(texts)
        self._foreign = _any_of(texts - set(own))

    def neutral(self, text: str, *, is_own: bool = False) -> str:
        """The text without special tokens: each becomes the unknown token, or is taken apart where there is none.

        Args:
          text: from anywhere.
          is_own: it is of the agent's side, and keeps what that may use.
        """
        pattern = self._foreign if is_own else self._all
        text = text.replace("\0", "")
        while pattern is not None and pattern.search(text):
            text = pattern.sub(self._replacement, text)
        return text

    def neutral_in(self, value: Any) -> Any:
        """A JSON value whose texts and names are without special tokens."""
        if isinstance(value, str):
            return self.neutral(value)
        if isinstance(value, dict):
            return {self.neutral(name): self.neutral_in(part) for name, part in value.items()}
        return [self.neutral_in(part) for part in value] if isinstance(value, list) else value

    def _replacement(self, found: re.Match[str]) -> str:
        if self._unknown:
            return self._unknown
        # A token of blanks would only grow.
        return f"{found[0][0]} {found[0][1:]}" if len(found[0]) > 1 and found[0].strip() else ""


def _any_of(texts: Collection[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None
