"""Text from outside, made safe for what reads it next: encoders, files and terminals."""

import re

# Control characters but tab and newline, those that turn the direction of the text around them, halves of characters,
# and what is no character at all.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """The text with U+FFFD for every character that could steer a terminal, hide in a page, or not be written at all.

    Args:
      text: from anywhere; tabs and newlines stay.
    """
    return text if text.isprintable() and text.isascii() else _UNSHOWN.sub("\ufffd", text)


def encodable(text: str) -> str:
    """The text with "?" for every lone surrogate, which no file, socket or tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode("utf-8")
