"""Texts word by word, for models that have one token a word."""

import re


def split_words(text: str) -> list[str]:
    """Words, numbers and marks, each by itself."""
    return re.findall(r"-?\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]|_", text)
