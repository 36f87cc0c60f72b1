"""A language agent whose model is asked over the network, in messages and text."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lapwing.core.types import Ask, Decision, Memory, Message
from lapwing.generation.openai_api import OpenAIAPI, Reply
from lapwing.policies.agent import ContextPolicy, Parser, Renderer
from lapwing.policies.clean_text import capped
from lapwing.policies.parsers import Invalid

_NO_TOKENS = np.zeros(0, dtype=np.int32)
_NO_LOGPROBS = np.zeros(0)


class ChatAgent:
    """Renders a view, asks a server, parses its reply: an agent to measure and to play against, not to train.

    The tokens of the server are not ours: decisions carry text and how many tokens the server counted, and their token
    arrays are empty. The server writes the chat template, so that a text from outside is only as harmless there as the
    renderer makes it. Definitions of tools are shown as text in a system message, and results of tools as messages of
    the user, which every server takes.
    """

    def __init__(self, *, renderer: Renderer, context: ContextPolicy, parser: Parser, client: OpenAIAPI) -> None:
        """Make the agent.

        Args:
          renderer, context, parser: as a local agent has them.
          client: asks the server.
        """
        self.renderer = renderer
        self.context = context
        self.parser = parser
        self.client = client
        self.version = 0
        self._tools: Any = getattr(renderer, "tools", None)
        self._planner: Any = parser if getattr(parser, "plans", False) else None

    def greedily(self) -> "ChatAgent":
        """The same agent with greedy decoding."""
        return ChatAgent(
            renderer=self.renderer, context=self.context, parser=self.parser, client=self.client.greedily()
        )

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """Decide every ask; the server is asked for all replies at once."""
        shown = [capped(self.renderer.messages(ask.view)) for ask in asks]
        dialogues = [self._dialogue(ask, now) for ask, now in zip(asks, shown, strict=True)]
        replies = self.client.complete(dialogues, [ask.key for ask in asks])
        return [self._decide(*parts) for parts in zip(asks, shown, replies, strict=True)]

    def form_rewards(self, replies: Sequence[str]) -> dict[str, tuple[float, float]]:
        """What the form of an episode's replies is worth: for each part its score and its weight."""
        judge: Any = self.parser
        scores = judge.form(replies) if hasattr(judge, "form") else {}
        return {name: (score, judge.form_weights[name]) for name, score in scores.items()}

    def _dialogue(self, ask: Ask, now: list[Message]) -> list[Message]:
        messages = self.context.messages(now, ask.memory)
        tools = None if self._tools is None else self._tools(ask.view)
        if tools:
            listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
            messages = _with_system(messages, f"Tools, one definition a line:\n{listed}")
        return [Message(role=_ROLES.get(m["role"], m["role"]), content=m["content"]) for m in messages]

    def _decide(self, ask: Ask, now: list[Message], reply: Reply) -> tuple[Decision, Memory]:
        parsed = self.parser.parse(reply.text, ask.legal)
        valid = not isinstance(parsed, Invalid)
        decision = Decision(
            action=parsed if valid else None,
            valid=valid,
            text=reply.text,
            context=_NO_TOKENS,
            token=_NO_TOKENS,
            logprob=_NO_LOGPROBS,
            reason="" if valid else parsed.reason,
            stop_reason=self._stop_reason(reply),
            switch=None if self._planner is None else self._planner.read_plan(reply.text).switch,
            num_tokens=reply.completion_tokens,
            num_context_tokens=reply.prompt_tokens,
        )
        memory = self.context.remember(ask.memory, now, reply.text) if self.context.keeps_memory else None
        return decision, memory

    def _stop_reason(self, reply: Reply) -> str:
        if self.parser.stop and reply.text.endswith(self.parser.stop):
            return "stop"
        return "length" if reply.finish_reason == "length" else "end"


_REPLY_FORMAT = "Reply with one legal move, spelled as above, between <action> and </action>."
# A server takes the role "tool" only after a call in its own format.
_ROLES = {"tool": "user"}


def _with_system(messages: list[Message], text: str) -> list[Message]:
    if messages and messages[0]["role"] == "system":
        first = Message(role="system", content=f"{messages[0]['content']}\n\n{text}")
        return [first, *messages[1:]]
    return [Message(role="system", content=text), *messages]


def openai_opponent(*, model: str, **settings: Any) -> ChatAgent:
    """A model at a server in another seat: it reads rules and coordinates, and answers with `<action>` tags.

    Args:
      model: its name at the server.
      settings: of `OpenAIAPI`.
    """
    from lapwing.policies.contexts import StateOnly
    from lapwing.policies.parsers import Tags
    from lapwing.policies.renderers import Coordinates

    parser = Tags(think=True)
    return ChatAgent(
        renderer=Coordinates(instructions=True, reply_format=_REPLY_FORMAT),
        context=StateOnly(),
        parser=parser,
        client=OpenAIAPI(model=model, stop=parser.stop, **settings),
    )
