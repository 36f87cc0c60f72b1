"""A dialogue with tools as plain text: for a person who takes the agent's place at a terminal."""

import json
from typing import Any

from lapwing.core.clean_text import printable
from lapwing.core.types import Action, Answer, Ask, Episode, ToolCall, ToolResult
from lapwing.games.tools.dialogue import ToolGame, ToolView, typed
from lapwing.policies.parsers import Invalid


def told(view: ToolView) -> str:
    """What is new to the person: at first the question and the tools, later the last result or error."""
    if view.turns:
        result = view.turns[-1].result
        return "" if result is None else _marked(result)
    rows = [(_usage(tool), tool["description"]) for tool in _tools(view)]
    rows.append(("answer TEXT", "End the match with this answer."))
    width = max(len(usage) for usage, _ in rows)
    described = [f"  {usage.ljust(width)}   {printable(text).partition(chr(10))[0]}".rstrip() for usage, text in rows]
    return "\n".join([f"Question: {_indented(view.question)}", *described])


def replies(view: ToolView, parser: Any) -> str:
    """What an agent writes for a call and for the answer: "<tool> search QUERY </tool> or <answer> TEXT </answer>"."""
    calls = [parser.compose(ToolCall(tool["name"], json.dumps(_placeholders(tool)))) for tool in _tools(view)[:1]]
    return " or ".join([*calls, parser.compose(Answer("TEXT"))])


def prompt(view: ToolView) -> str:
    """How many calls are left."""
    left = view.calls_left
    return "no call left, answer" if left == 0 else f"{left} call{'' if left == 1 else 's'} left"


def read_line(text: str, ask: Ask) -> Action | Invalid:
    """The call or the answer that was typed; a line that would be lost to the person is refused with how to type."""
    view: ToolView = ask.view
    tools = _tools(view)
    action = typed(text, [tool["name"] for tool in tools])
    if isinstance(action, Answer):
        return action
    if view.calls_left == 0:
        return Invalid("No call is left: type answer TEXT.")
    if isinstance(action, ToolCall) and (action.arguments != "{}" or not _required(_tool(tools, action.name))):
        return action
    return Invalid(f"Type {', '.join(_usage(tool) for tool in tools)} or answer TEXT.")


def ending(game: ToolGame, episode: Episode) -> str:
    """Whether the answer was right, what would have been, and each part of the reward with what it paid."""
    right = printable(game.right_answer(episode.steps[0].state.task))
    lines = ["Right." if episode.success else f"Not right.{right and f' The right answer: {right}'}"]
    totals: dict[str, float] = {}
    for step in episode.steps:
        for name, value in step.parts.items():
            totals[name] = totals.get(name, 0.0) + value
    paid = {**game.turn_weights, **game.outcome_weights}
    width = max(map(len, totals), default=0)
    for name, value in totals.items():
        pays = f"   pays {paid[name] * value + 0.0:+g}" if name in paid else ""
        lines.append(f"  {name.ljust(width)}   {f'{value:g}'.rjust(8)}{pays}")
    return "\n".join(lines)


def _marked(result: ToolResult) -> str:
    return f"{'result' if result.ok else 'error'}: {_indented(result.text)}"


def _indented(text: str) -> str:
    """Further lines begin with blanks, so that none of them looks like a line of ours."""
    return printable(text).replace("\n", "\n  ")


def _tools(view: ToolView) -> list[dict[str, Any]]:
    return [json.loads(text)["function"] for text in view.tools]


def _tool(tools: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(tool for tool in tools if tool["name"] == name)


def _required(tool: dict[str, Any]) -> list[str]:
    return tool["parameters"].get("required", [])


def _placeholders(tool: dict[str, Any]) -> dict[str, str]:
    return {name: name.upper() for name in _required(tool)}


def _usage(tool: dict[str, Any]) -> str:
    """How a call is typed: one argument as it is, others as JSON."""
    required = _required(tool)
    if len(required) == 1:
        return f"{tool['name']} {required[0].upper()}"
    described = ", ".join(f"{json.dumps(name)}: …" for name in required)
    return f"{tool['name']} {{{described}}}" if required else tool["name"]
