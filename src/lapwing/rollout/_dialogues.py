"""Dialogues as files of demonstrations hold them: one JSON object a line."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from lapwing.core.errors import UserError, nearest
from lapwing.core.json_lines import Row, shown

_ROLES = ("system", "user", "assistant", "tool")
# What other programs call the same.
_SAME_ROLE = {"developer": "system", "function": "tool"}


class Dialogue(NamedTuple):
    """A dialogue of a file.

    Attributes:
      where: it stands, as "demos.jsonl, line 3".
      messages: as chat templates take them.
      tools: definitions of tools; None where there are none.
      learnt: which messages are replies to be learnt.
    """

    where: str
    messages: list[Any]
    tools: list[Any] | None
    learnt: tuple[int, ...]


def read_dialogue(row: Row) -> Dialogue:
    """The dialogue of a row: `messages`, or `prompt` and `completion`, with `tools` where there are any.

    All of the assistant's messages are learnt, but none of a prompt, and none whose `weight` is 0.

    Raises:
      UserError: it is no dialogue with a reply to learn; the sentence names file, line and message.
    """
    where, value = row
    if value.get("messages") is not None:
        prompt, completion = [], _listed(value["messages"], where, "messages")
    elif value.get("prompt") is not None and value.get("completion") is not None:
        prompt = _listed(_as_messages(value["prompt"], "user"), where, "prompt")
        completion = _listed(_as_messages(value["completion"], "assistant"), where, "completion")
    else:
        has = f"it has {shown(', '.join(sorted(value)))}" if value else "it is empty"
        raise UserError(f"{where} has neither 'messages' nor 'prompt' and 'completion'; {has}.")
    raw = [*prompt, *completion]
    messages = [_message(one, f"{where}, message {n}") for n, one in enumerate(raw, 1)]
    learnt = tuple(
        n for n in range(len(prompt), len(raw)) if messages[n]["role"] == "assistant" and _counts(raw[n], where)
    )
    if not learnt:
        raise UserError(f"{where} holds no message of the assistant to be learnt.")
    if learnt[0] == 0:
        raise UserError(f"{where} begins with a message of the assistant; put what it answers before it.")
    return Dialogue(where, messages, _tools(value.get("tools"), where), learnt)


def _as_messages(value: Any, role: str) -> Any:
    return [{"role": role, "content": value}] if isinstance(value, str) else value


def _listed(value: Any, where: str, name: str) -> list[dict[str, Any]]:
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return value
    raise UserError(f"{where}: '{name}' is a list of messages with role and content, not {shown(value)}.")


def _message(given: dict[str, Any], where: str) -> dict[str, Any]:
    message = {name: value for name, value in given.items() if value is not None and name != "weight"}
    role = message.get("role")
    role = _SAME_ROLE.get(role, role) if isinstance(role, str) else role
    if role not in _ROLES:
        offered = nearest(role, _ROLES) if isinstance(role, str) else f"valid names: {', '.join(_ROLES)}"
        raise UserError(f"{where}: there is no role {shown(role)}; {offered}")
    if "content" not in message and not (role == "assistant" and message.get("tool_calls")):
        raise UserError(f"{where} has no 'content'.")
    message["role"] = role
    message["content"] = _text(message.get("content", ""), where)
    if "tool_calls" in message:
        message["tool_calls"] = _calls(message["tool_calls"], where)
    return message


def _text(content: Any, where: str) -> str:
    """The text of a message; one that is given in parts may have no others."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "".join(part["text"] for part in content)
    raise UserError(f"{where}: 'content' is a text, not {shown(content)}.")


def _calls(calls: Any, where: str) -> list[dict[str, Any]]:
    """The calls of tools with their arguments as objects, which templates write as JSON themselves."""
    if not isinstance(calls, list) or not all(isinstance(one, dict) for one in calls):
        raise UserError(f"{where}: 'tool_calls' is a list of objects, not {shown(calls)}.")
    return [_call(one) for one in calls]


def _call(call: dict[str, Any]) -> dict[str, Any]:
    inner = call.get("function")
    if isinstance(inner, dict):
        return {**call, "function": _call(inner)}
    arguments = call.get("arguments")
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments)
        except (ValueError, RecursionError):
            return call
        return {**call, "arguments": read} if isinstance(read, dict) else call
    return call


def _counts(message: dict[str, Any], where: str) -> bool:
    weight = message.get("weight", 1)
    if weight not in (0, 1):
        raise UserError(f"{where}: the 'weight' of a message is 0 or 1, not {shown(weight)}.")
    return weight == 1


def _tools(tools: Any, where: str) -> list[Any] | None:
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: 'tools' is no JSON; give a list of definitions.") from error
    if tools is None or (isinstance(tools, Sequence) and not tools):
        return None
    if not isinstance(tools, list) or not all(isinstance(one, dict) for one in tools):
        raise UserError(f"{where}: 'tools' is a list of definitions, not {shown(tools)}.")
    return tools
