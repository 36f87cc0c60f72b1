"""A tool-using dialogue in words."""

import json
from typing import Any, Literal

from lapwing.core.errors import UserError
from lapwing.core.types import Message, ToolResult, View
from lapwing.policies.escape import without_tags

INSTRUCTIONS = (
    "Answer the question. You may call a tool by writing a JSON object with its name and arguments between <tool> and "
    "</tool>; its result is shown to you between <result> and </result>. Write your final answer, and nothing else, "
    "between <answer> and </answer>. Reason before that between <reasoning> and </reasoning>."
)
LAST = "No further tool call is possible. Answer now."


class ToolDialogue:
    """Shows the question first, and then the result of each call; what was before it is the context's to show.

    A result stands between `<result>` and `</result>`, an error between `<error>` and `</error>`: which of the two is
    told by the status of the result. Questions and results are data: tags in them are made harmless (`<` becomes
    `&lt;`), and so are the special tokens of the tokenizer, so that neither can forge a turn.
    """

    def __init__(
        self,
        *,
        instructions: bool | str = False,
        result_role: Literal["tool", "user"] = "tool",
        errors: Literal["full", "bare"] = "full",
        announce_last: bool = False,
        tools: bool = True,
    ) -> None:
        """Make the renderer.

        Args:
          instructions: put these, or if true those that fit `ToolUse`'s default tags, first, as a system message.
          result_role: the role of the messages that hold results; "user" for chat templates without the role "tool".
          errors: "full" shows what went wrong, "bare" only that something did (for small vocabularies).
          announce_last: say after the last result that an answer is due.
          tools: give the definitions of the tools to the chat template.

        Raises:
          UserError: there is no such role or way to show errors.
        """
        if result_role not in ("tool", "user"):
            raise UserError(f"renderer.result_role is 'tool' or 'user', not '{result_role}'.")
        if errors not in ("full", "bare"):
            raise UserError(f"renderer.errors is 'full' or 'bare', not '{errors}'.")
        self.instructions = INSTRUCTIONS if instructions is True else (instructions or "")
        self.result_role = result_role
        self.errors = errors
        self.announce_last = announce_last
        self.shows_tools = tools

    def messages(self, view: View) -> list[Message]:
        """The messages that show a view."""
        asked = Message(role="user", content=without_tags(view.question))
        system = [Message(role="system", content=self.instructions)] if self.instructions else []
        found = [*system, *(self._result(view.turns[-1].result) if view.turns else [asked])]
        if self.announce_last and view.turns and view.turns[-1].result and view.calls_left == 0:
            last = found[-1]
            found[-1] = Message(role=last["role"], content=f"{last['content']} {LAST}")
        return found

    def tools(self, view: View) -> list[dict[str, Any]] | None:
        """The definitions of the tools for a chat template."""
        return [json.loads(without_tags(text)) for text in view.tools] if self.shows_tools and view.tools else None

    def words(self, view: View) -> set[str]:
        """The words that are not the game's."""
        fixed = {self.result_role, "<result>", "</result>", "<error>", "</error>", *self.instructions.split()}
        return fixed | (set(LAST.split()) if self.announce_last else set())

    def _result(self, result: ToolResult | None) -> list[Message]:
        if result is None:
            return []
        text = without_tags(result.text)
        if result.ok:
            content = f"<result> {text} </result>"
        else:
            content = "<error> </error>" if self.errors == "bare" else f"<error> {text} </error>"
        return [Message(role=self.result_role, content=content)]
