"""The language agent: renderer, context policy, generator and parser, driven in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from lapwing.core import rng
from lapwing.core.errors import UserError, nearest
from lapwing.core.protocols import Generator
from lapwing.core.types import Action, Ask, Completion, Decision, Guidance, Memory, Message, Prompt, Request, View
from lapwing.models.chat_format import REPLY, ChatFormat
from lapwing.policies._hints import with_hint
from lapwing.policies._restricted import Restricted
from lapwing.policies.clean_text import capped
from lapwing.policies.escape import SpecialTokens
from lapwing.policies.parsers import Invalid

_CACHE_SIZE = 200_000
_EMPTY = np.zeros(0, dtype=np.int32)

INVALID_RULES = ("default", "random_legal", "forfeit", "retry")


class Renderer(Protocol):
    """From a view to messages."""

    def messages(self, view: View) -> list[Message]:
        """The messages that show a view."""
        ...

    def words(self, view: View) -> set[str]:
        """The words that views like this one may need."""
        ...


class Parser(Protocol):
    """From a reply to an action and back.

    Optional: `spans = True` promises the method `sections`, and `plans = True` the method `read_plan`, as
    `lapwing.policies.parsers` describes them; `compose_after(action, current, key, shown=…)` composes a reply that
    depends on what the context policy carries and on the text of the view.
    """

    stop: tuple[str, ...]

    def parse(self, text: str, legal: Sequence[Action] | None) -> Action | Invalid:
        """The action, or why there is none."""
        ...

    def compose(self, action: Action) -> str:
        """The reply that stands for an action."""
        ...

    def words(self, legal: Sequence[Action]) -> set[str]:
        """The words of all replies."""
        ...


class ContextPolicy(Protocol):
    """How much of an episode the model reads."""

    append_only: bool
    keeps_memory: bool

    def messages(self, now: list[Message], memory: Memory) -> list[Message]:
        """All messages of the next context."""
        ...

    def remember(self, memory: Memory, now: list[Message], reply: str) -> Memory:
        """The memory after a reply."""
        ...


@dataclass(frozen=True)
class InvalidRule:
    """What happens when a reply stands for no legal action.

    Attributes:
      rule: "default" plays `default_action` (the first legal action if None); "random_legal" a random legal one;
        "forfeit" ends the match for the player without success; "retry" asks again, at most `retries` times in a
        row, each retry a step of its own, and then plays the default.
      penalty: subtracted from the training reward of each invalid reply; the domain reward never sees it.
      default_action: what "default" plays.
      retries: how often "retry" asks again.
    """

    rule: str = "default"
    penalty: float = 0.0
    default_action: str | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        if self.rule not in INVALID_RULES:
            raise UserError(f"There is no rule '{self.rule}' for invalid replies; {nearest(self.rule, INVALID_RULES)}")
        if not 0.0 <= self.penalty < float("inf"):
            raise UserError(f"The format penalty is a finite number of at least 0, not {self.penalty}.")
        if self.retries < 1:
            raise UserError(f"retries is at least 1, not {self.retries}; choose another rule to never ask again.")

    def action(self, legal: Sequence[Action] | None, key: int, *, unreadable: Action | None = None) -> Action:
        """The action that is executed in place of an invalid reply.

        Args:
          legal: the legal actions, or None where the game is open-ended.
          key: of the decision.
          unreadable: what the game takes an unreadable reply for, if it has a notion of that; it goes before "default".

        Raises:
          UserError: the game lists no legal actions and no default action is set, or the default is not legal.
        """
        if self.rule == "random_legal" and legal:
            return legal[rng.fold(key, "invalid") % len(legal)]
        if unreadable is not None:
            return unreadable
        if self.default_action is not None:
            return self._default(self.default_action, legal)
        if not legal:
            raise UserError("An open-ended game needs policy.default_action, or invalid = 'forfeit'.")
        return legal[0]

    def _default(self, text: str, legal: Sequence[Action] | None) -> Action:
        if legal is None:
            return text
        for action in legal:
            if str(action) == text:
                return action
        raise UserError(f"policy.default_action '{text}' is not legal; {nearest(text, map(str, legal))}")


class _AgentMemory(NamedTuple):
    """What the context policy keeps, the dialogue as it is stored, and as the model read it, with every hint."""

    kept: Memory
    token: np.ndarray
    read: np.ndarray


class Agent:
    """A language model that reads rendered views and answers with actions."""

    def __init__(
        self,
        *,
        renderer: Renderer,
        context: ContextPolicy,
        parser: Parser,
        tokenizer: Any,
        generator: Generator,
        teacher: Any = None,
        chat: ChatFormat | None = None,
    ) -> None:
        """Make the agent.

        Args:
          renderer, context, parser, generator: its parts.
          tokenizer: of transformers, with a chat template.
          teacher: a policy whose actions are composed into replies instead of generating them (cloning).
          chat: how the tokenizer's template is used; None leaves it to the template.

        Raises:
          UserError: the template cannot be used, or not with a context that is only appended to.
        """
        self.renderer = renderer
        self.context = context
        self.parser = parser
        self.tokenizer = tokenizer
        self.chat = ChatFormat(tokenizer) if chat is None else chat
        if context.append_only:
            self.chat.check_append_only()
        self.generator = generator
        self.teacher = teacher
        self.version = 0
        self._prompts: dict[Any, Prompt] = {}
        self._texts: dict[bytes, str] = {}
        self._parsed: dict[tuple[str, Any], Action | Invalid] = {}
        self._composed: dict[str, np.ndarray] = {}
        self._spans: dict[bytes, np.ndarray] = {}
        own = {f"{bracket}{tag}>" for tag in getattr(parser, "tags", ()) for bracket in ("<", "</")}
        self._special = SpecialTokens(tokenizer, own)
        self._restricted = Restricted(generator, self.reply)
        # The same parts where they can do more than all of their kind must.
        self._tools: Any = getattr(renderer, "tools", None)
        self._marker: Any = parser if getattr(parser, "spans", False) else None
        self._planner: Any = parser if getattr(parser, "plans", False) else None

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """Decide every ask; all replies are generated together."""
        prompts = [self._prompts_of(ask) for ask in asks]
        if self.teacher is None:
            completions = self._sampled(asks, [read for read, _ in prompts])
        else:
            taught = self.teacher.act_many(asks)
            texts = [self._taught(ask, decision.action) for ask, (decision, _) in zip(asks, taught, strict=True)]
            completions = [self._completion(text) for text in texts]
        return [self._decide(*parts) for parts in zip(asks, prompts, completions, strict=True)]

    def read(self, token: np.ndarray, legal: Sequence[Action] | None) -> tuple[str, Action | Invalid]:
        """The text of a reply, and the action that it stands for."""
        text = self._text(token)
        return text, self._parse(text, legal)

    def reply(self, action: Action) -> np.ndarray:
        """The composed reply that stands for an action, as token ids."""
        return self._completion(self.parser.compose(action)).token

    def prompt(self, view: View, memory: Memory, *, hint: str = "") -> Prompt:
        """The context in which the agent decides, as token ids.

        Args:
          view: what it sees.
          memory: of the episode.
          hint: stands before the first message of the user; one that is only appended to has it already.
        """
        if memory is None:
            key = (view, hint) if hint else view
            found = self._prompts.get(key)
            if found is None:
                if len(self._prompts) > _CACHE_SIZE:
                    self._prompts.clear()
                first = with_hint(self.context.messages(self._now(view), None), hint)
                found = self._prompts[key] = _as_prompt(self._encode(first, view))
            return found
        if self.context.append_only:
            return _as_prompt(np.concatenate([memory.token, self._added(view, memory)]))
        now = with_hint(self.context.messages(self._now(view), memory.kept), hint)
        return _as_prompt(self._encode(now, view))

    def form_rewards(self, replies: Sequence[str]) -> dict[str, tuple[float, float]]:
        """What the form of an episode's replies is worth: for each part its score and its weight."""
        form = getattr(self.parser, "form", None)
        if form is None:
            return {}
        weights = self.parser.form_weights  # pyright: ignore[reportAttributeAccessIssue]
        return {name: (score, weights[name]) for name, score in form(replies).items()}

    @property
    def judges_replies(self) -> bool:
        """Whether a reply is more than the action that it stands for: its parts or its form count too."""
        return self._marker is not None or self._planner is not None or hasattr(self.parser, "form")

    def _prompts_of(self, ask: Ask) -> tuple[Prompt, Prompt]:
        """The context that the model reads, and the one that is stored: the same, unless a hint is stripped."""
        guidance, memory = ask.guidance, ask.memory
        if guidance is None:
            stored = self.prompt(ask.view, memory)
            return stored, stored
        as_read = None if memory is None else memory._replace(token=memory.read)
        read = self._opened(self.prompt(ask.view, as_read, hint=guidance.hint), guidance)
        is_same = not (guidance.hint and guidance.strip)
        return read, read if is_same else self._opened(self.prompt(ask.view, memory), guidance)

    def _opening(self, guidance: Guidance | None) -> np.ndarray:
        """What a reply begins with by prescription."""
        opening = "" if guidance is None else guidance.opening
        return self.chat.reply(opening, is_ended=False) if opening else _EMPTY

    def _opened(self, prompt: Prompt, guidance: Guidance) -> Prompt:
        return _as_prompt(np.concatenate([prompt.token, self._opening(guidance)])) if guidance.opening else prompt

    def _sampled(self, asks: Sequence[Ask], prompts: Sequence[Prompt]) -> list[Completion]:
        requests = [Request(prompt, ask.key) for prompt, ask in zip(prompts, asks, strict=True)]
        masked = self._restricted.draw(asks, prompts)
        if not masked:
            return self.generator.generate(requests)
        free = [number for number in range(len(asks)) if number not in masked]
        replies = self.generator.generate([requests[number] for number in free]) if free else []
        found = {**masked, **dict(zip(free, replies, strict=True))}
        return [found[number] for number in range(len(asks))]

    def _now(self, view: View) -> list[Message]:
        return capped(self.renderer.messages(view))

    def _harmless(self, messages: Sequence[Message]) -> list[Message]:
        return [Message(role=m["role"], content=self._harmless_content(m)) for m in messages]

    def _harmless_content(self, message: Message) -> str:
        content = message["content"]
        if message["role"] == "assistant" and content == REPLY:
            return content
        return self._special.neutral(content, is_own=message["role"] in ("system", "assistant"))

    def _tools_at(self, view: View) -> Any:
        # Descriptions may come from a server that nobody here wrote.
        return None if self._tools is None else self._special.neutral_in(self._tools(view))

    def _encode(self, messages: list[Message], view: View) -> np.ndarray:
        return self.chat.encode(self._harmless(messages), self._tools_at(view))

    def _added(self, view: View, memory: _AgentMemory) -> np.ndarray:
        """The tokens between the end of the last reply and the next one.

        What the template writes there does not depend on what stands before (`check_append_only`), so that one earlier
        step is enough: the cost of a step does not grow with the transcript.
        """
        shown, _ = memory.kept[-1]
        messages = self.context.messages(self._now(view), ((shown, REPLY),))
        return self.chat.added(self._harmless(messages), int(memory.token[-1]), self._tools_at(view))

    def _taught(self, ask: Ask, action: Action) -> str:
        """The teacher's action as the reply that the model should give."""
        compose_after: Any = getattr(self.parser, "compose_after", None)
        if compose_after is None:
            return self.parser.compose(action)
        current = getattr(self.context, "current", None)
        carried = "" if current is None or ask.memory is None else current(ask.memory.kept)
        return compose_after(action, carried, ask.key, shown=self._now(ask.view)[-1]["content"])

    def _completion(self, text: str) -> Completion:
        token = self._composed.get(text)
        if token is None:
            # Where no stop string ends a reply when it is sampled, nothing but the end of the turn does.
            whole = self.chat.reply(text, is_ended=not text.endswith(self.parser.stop))
            token = self._composed[text] = whole[: self.generator.max_tokens]
        return Completion(token, np.zeros(len(token)), "end")

    def _decide(self, ask: Ask, prompts: tuple[Prompt, Prompt], completion: Completion) -> tuple[Decision, Memory]:
        opening = self._opening(ask.guidance)
        said = np.concatenate([opening, completion.token]) if len(opening) else completion.token
        text, parsed = self.read(said, ask.legal)
        valid = not isinstance(parsed, Invalid)
        extends = 0 if ask.memory is None or not self.context.append_only else len(ask.memory.token)
        decision = Decision(
            action=parsed if valid else None,
            valid=valid,
            text=text,
            context=prompts[1].token,
            token=completion.token,
            logprob=completion.logprob,
            reason="" if valid else parsed.reason,
            extends=extends,
            stop_reason=completion.stop_reason,
            span=None if self._marker is None else self._span(said, text)[len(opening) :],
            switch=None if self._planner is None else self._planner.read_plan(text).switch,
        )
        return decision, self._remember(ask, prompts, completion, text)

    def _remember(self, ask: Ask, prompts: tuple[Prompt, Prompt], completion: Completion, text: str) -> Memory:
        if not self.context.keeps_memory:
            return None
        kept = self.context.remember(None if ask.memory is None else ask.memory.kept, self._now(ask.view), text)
        read, stored = prompts
        token = np.concatenate([stored.token, completion.token])
        return _AgentMemory(kept, token, token if read is stored else np.concatenate([read.token, completion.token]))

    def _text(self, token: np.ndarray) -> str:
        key = token.tobytes()
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) > _CACHE_SIZE:
                self._texts.clear()
            # Only the end token is no part of the text: any other special token makes a reply what it is, invalid.
            text = self._texts[key] = self.chat.read(token)
        return text

    def _span(self, token: np.ndarray, text: str) -> np.ndarray:
        """What each token of a reply belongs to, int8 [tokens]: a token that holds a character of a section is of it.

        The characters of a token are those that decoding it after its predecessors adds, because subword tokens
        merge tags with what stands before them, and a tokenizer may put blanks between tokens.
        """
        key = token.tobytes()
        found = self._spans.get(key)
        if found is None:
            if len(self._spans) > _CACHE_SIZE:
                self._spans.clear()
            found = self._spans[key] = _marked(self.chat.boundaries(token), self._marker.sections(text))
        return found

    def _parse(self, text: str, legal: Any) -> Action | Invalid:
        try:
            key = (text, legal)
            found = self._parsed.get(key)
        except TypeError:  # a list of legal actions cannot be a key
            return self.parser.parse(text, legal)
        if found is None:
            if len(self._parsed) > _CACHE_SIZE:
                self._parsed.clear()
            found = self._parsed[key] = self.parser.parse(text, legal)
        return found


def _marked(ends: Sequence[int], sections: list[tuple[int, int, int]]) -> np.ndarray:
    """The section of each token, given where the first 0, 1, 2, … tokens end; of several the last one named."""
    boundary = np.maximum.accumulate(np.array(ends))
    start, end = boundary[:-1], boundary[1:]
    # A token that completes a character begun by the one before it adds nothing: it belongs where that one does.
    start = np.where(end == start, np.maximum(start - 1, 0), start)
    span = np.zeros(len(start), dtype=np.int8)
    for first, after, code in sections:
        span[(start < after) & (end > first)] = code
    return span


def _as_prompt(token: np.ndarray) -> Prompt:
    return Prompt(token, token.tobytes())
