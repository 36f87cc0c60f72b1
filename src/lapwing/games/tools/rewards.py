"""What MT-GRPO and MT-PPO pay a dialogue with tools for, as functions of its results, answer and replies.

Every function of the first set gives a share in [0, 1]; its published weight is the constant beside it. Aliases that
are empty or blank never match.

Reference: Zeng et al. 2025, "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Reward Design".
  https://arxiv.org/abs/2505.11821 and its code.
"""

import math
from collections.abc import Iterable, Sequence

from lapwing.core.errors import UserError
from lapwing.core.types import ToolResult

TOOL_EXECUTION_WEIGHT = 0.2
ANSWER_IN_RESULT_WEIGHT = 0.5
ANSWER_PRESENCE_WEIGHT = 0.5
EXACT_MATCH_WEIGHT = 1.0
FORMAT_WEIGHT = 0.2
TAG_WEIGHT = 0.2

# What can be judged without the wording of the replies; the weight of `name` is NAME_WEIGHT.
V1_PARTS = ("tool_execution", "answer_in_result", "answer_presence", "exact_match")


def tool_execution(results: Sequence[ToolResult]) -> float:
    """Share of the calls that worked: results that are ok ÷ results.

    The published code asks whether a result begins with "Error:", and so counts an error that is worded in another
    way as a success; here the status of the result decides.

    Args:
      results: what the tools answered, in order, one for each call.

    Returns:
      A share in [0, 1]; 0 without a call.
    """
    return sum(result.ok for result in results) / max(len(results), 1)


def answer_in_result(results: Sequence[ToolResult], aliases: Iterable[str]) -> float:
    """1 if the first result is ok and an alias is a part of its text, both in lower case.

    Later results do not count, as published. An error is no search result: its text may repeat what the agent
    wrote, and a right guess written into a wrong call would be paid.

    Args:
      results: what the tools answered, in order.
      aliases: the right answers.

    Returns:
      0 or 1.
    """
    return float(bool(results) and results[0].ok and _contains(results[0].text, aliases))


def answer_presence(answer: str, aliases: Iterable[str]) -> float:
    """1 if an alias is a part of the answer, both in lower case.

    Args:
      answer: the last answer; empty if there was none.
      aliases: the right answers.

    Returns:
      0 or 1.
    """
    return float(_contains(answer, aliases))


def exact_match(answer: str, aliases: Iterable[str]) -> float:
    """1 if the answer is an alias, both in lower case and without blanks around them.

    Articles and punctuation count; `lapwing.games.tools.qa` has the match of the question answering field.

    Args:
      answer: the last answer; empty if there was none.
      aliases: the right answers.

    Returns:
      0 or 1.
    """
    given = answer.lower().strip()
    return float(bool(given) and any(given == alias.lower().strip() for alias in aliases))


def format_score(
    replies: Sequence[str], *, reasoning: str = "reasoning", fields: Sequence[str] = ("tool", "answer")
) -> float:
    """How well the replies keep to `<reasoning>…</reasoning>` and then one of the fields, on average.

        reply = 0.4 · sets present ÷ sets + 0.2 · spacing + 0.2 · begins with <reasoning> + 0.2 · ends with a </field>

    The sets are {reasoning} and {fields}. A set is present if one of its tags occurs, opening or closing; the first
    term is 0 if no tag is opened and later closed. Blanks around the reply do not count.

    The published code takes spacing for wrong if a tag pair is found with blanks allowed inside and not found without
    them. Its second pattern lets the content be anything, blanks too, so this never happens: 0.2 is granted to every
    reply, even to one without tags, and here as well.

        <reasoning>hm</reasoning><tool>x</tool>    1.0
        <tool>x</tool>                             0.2 + 0.2 + 0.2 = 0.6
        x                                          0.2

    Args:
      replies: the agent's messages, in order.
      reasoning: tag of the reasoning. Empty for an agent that does not reason: the one set is {fields}, and a reply
        has to begin with one of them.
      fields: tags of which a reply uses one.

    Returns:
      A mean in [0, 1]; 0 without a reply.
    """
    sets = ((reasoning,), tuple(fields)) if reasoning else (tuple(fields),)
    return sum(_format_of(reply.strip(), sets) for reply in replies) / max(len(replies), 1)


def tag_score(replies: Sequence[str], tags: Sequence[str] = ("reasoning", "tool", "answer")) -> float:
    """How far the tags that a reply uses are opened and closed exactly once, on average.

        reply = Σ over used tags of (1 − |#open − 1|) + (1 − |#close − 1|), ÷ (2 · used tags)

    A tag is used if it occurs, opening or closing. A reply without tags has 0. A tag that is repeated costs without
    bound, therefore the mean, and nothing before it, is raised to 0.

        <tool>x</tool>            (1 + 1) / 2 = 1
        <tool>x</tool></tool>     (1 + 0) / 2 = ½
        <tool>x                   (1 + 0) / 2 = ½

    Args:
      replies: the agent's messages, in order.
      tags: the tags that are looked at.

    Returns:
      A mean in [0, 1]; 0 without a reply.
    """
    return max(0.0, sum(_tags_of(reply, tags) for reply in replies) / max(len(replies), 1))


def outcome_v2(*, correct: bool, well_formed: bool) -> float:
    """Outcome reward of MT-PPO: +1 right, +0.2 wrong, −1 malformed.

    Args:
      correct: the answer is right.
      well_formed: there is an answer that could be read; without it nothing else counts.

    Returns:
      1, 0.2 or −1.
    """
    if not well_formed:
        return -1.0
    return 1.0 if correct else 0.2


def turn_v2(
    *, result_has_answer: bool, well_formed: bool, searches_so_far: int, search_penalty: float = 0.1
) -> dict[str, float]:
    """Reward parts of MT-PPO for one turn before the last.

        retrieval     +0.3 if this turn's result holds a right answer
        turn_format   +0.1 if the reply could be read, −0.2 if not
        search_cost   −λ · searches so far

    so that the n-th of n searches costs n λ and all of them n (n + 1) / 2 · λ.

    Args:
      result_has_answer: a right answer is in the result of this turn.
      well_formed: the reply could be read as a call.
      searches_so_far: calls up to this turn and with it.
      search_penalty: λ, at least 0; 0 destabilised the published runs.

    Returns:
      The three parts; the turn's reward is their sum.

    Raises:
      UserError: the penalty is negative or no finite number.
    """
    if not (math.isfinite(search_penalty) and search_penalty >= 0):
        raise UserError(f"search_penalty is a finite number of at least 0, not {search_penalty}.")
    return {
        "retrieval": 0.3 if result_has_answer else 0.0,
        "turn_format": 0.1 if well_formed else -0.2,
        "search_cost": 0.0 - search_penalty * searches_so_far,
    }


def _contains(text: str, aliases: Iterable[str]) -> bool:
    lowered = text.lower()
    return any(alias.lower() in lowered for alias in aliases if alias.strip())


def _format_of(reply: str, sets: Sequence[Sequence[str]]) -> float:
    present = sum(any(f"<{tag}>" in reply or f"</{tag}>" in reply for tag in tags) for tags in sets)
    has_field = any(_has_pair(reply, tag) for tags in sets for tag in tags)
    begins = reply.startswith(tuple(f"<{tag}>" for tag in sets[0]))
    ends = reply.endswith(tuple(f"</{tag}>" for tag in sets[-1]))
    spacing = True
    return 0.4 * has_field * present / len(sets) + 0.2 * (spacing + begins + ends)


def _has_pair(reply: str, tag: str) -> bool:
    opened = reply.find(f"<{tag}>")
    return opened >= 0 and reply.find(f"</{tag}>", opened + len(tag) + 2) >= 0


def _tags_of(reply: str, tags: Sequence[str]) -> float:
    counts = [(reply.count(f"<{tag}>"), reply.count(f"</{tag}>")) for tag in tags]
    used = [number for pair in counts if any(pair) for number in pair]
    return sum(1 - abs(number - 1) for number in used) / max(len(used), 1)
