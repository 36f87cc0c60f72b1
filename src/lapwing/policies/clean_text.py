"""What a renderer returned, made fit to be read: texts, and none without end."""

from lapwing.core.types import Message

# About 50,000 tokens of English, more than most models read; nothing of a view that fits is touched.
MOST_CHARS = 200_000


def capped(messages: list[Message], most: int = MOST_CHARS) -> list[Message]:
    r"""The messages with what is too long cut out of the middle, visibly.

        "aaaa…zzzz" of 300,000 characters  →  150,000 of them "\n[100,000 characters left out]\n" 50,000 of them

    The end stays because the format of the reply is asked for there. Contents that are no texts are written as such.

    Args:
      messages: as a renderer returns them.
      most: characters of one message that stay.
    """
    if all([isinstance(m["content"], str) and len(m["content"]) <= most for m in messages]):
        return messages
    return [Message(role=m["role"], content=_cut(str(m["content"]), most)) for m in messages]


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end]}\n[{len(text) - most:,} characters left out]\n{text[len(text) - end :]}"
