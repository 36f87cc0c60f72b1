"""The tokens of words, looked up: for tokenizers whose words at blanks have nothing to do with each other."""

import re
from typing import Any

# Blanks to Python, and none to a tokenizer.
_SEPARATORS = re.compile("[\x1c-\x1f]")
_WORDS = 1 << 16


class WordTable:
    """Gives the tokens of texts whose words are known, at a sixth of the tokenizer's time.

    A word is known once the tokenizer has shown that it is one token, and not the unknown one.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Know no word.

        Args:
          tokenizer: for which `is_by_words` holds.
        """
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without any that begin or end it."""
        words, known = text.split(), self._known
        try:
            found = [known[word] for word in words]
        except KeyError:
            self._learn({word for word in words if word not in known})
            return self._tokenizer.encode(text, add_special_tokens=False)
        if _SEPARATORS.search(text):
            return self._tokenizer.encode(text, add_special_tokens=False)
        return found

    def _learn(self, words: set[str]) -> None:
        if len(self._known) > _WORDS:
            self._known.clear()
        for word in words:
            token = self._tokenizer.encode(word, add_special_tokens=False)
            if len(token) == 1 and token[0] != self._tokenizer.unk_token_id:
                self._known[word] = token[0]


def is_by_words(tokenizer: Any) -> bool:
    """Whether the tokens of a text are those of its words, split at blanks, one after the other."""
    from tokenizers import models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if type(tokenizer) is not PreTrainedTokenizerFast:  # another class may do more to a text
        return False
    backend = tokenizer.backend_tokenizer
    is_plain = isinstance(backend.model, models.WordLevel) and backend.normalizer is None
    # What is added is found before a text is split, so that it must not reach over a blank.
    are_words = all(len(str(added).split()) == 1 for added in tokenizer.added_tokens_decoder.values())
    return is_plain and are_words and isinstance(backend.pre_tokenizer, pre_tokenizers.WhitespaceSplit)
