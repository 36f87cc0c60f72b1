"""Where a hint stands in a dialogue."""

from lapwing.core.types import Message
from lapwing.policies.clean_text import capped


def with_hint(messages: list[Message], hint: str) -> list[Message]:
    """A dialogue with a hint as the first line of its first message of the user, whatever renders it.

    Args:
      messages: of the context policy.
      hint: any text; empty for none.
    """
    if not hint:
        return messages
    at = next((number for number, message in enumerate(messages) if message["role"] == "user"), len(messages))
    if at == len(messages):
        return [*messages, Message(role="user", content=hint)]
    hinted = Message(role="user", content=f"{hint}\n{messages[at]['content']}")
    return capped([*messages[:at], hinted, *messages[at + 1 :]])
