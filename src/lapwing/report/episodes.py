"""The episodes on a run's page: what was asked, what was replied, what came of it, and what credit each step got."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.core.clean_text import printable
from lapwing.core.errors import LapwingError
from lapwing.core.storage import read_json_lines
from lapwing.training.run_folder import name_of

# Together they keep the page of the longest episodes below 5 MB.
_LONGEST_TEXT = 2_000
_LONGEST_VIEW = 400
_LONGEST_REASON = 200
_LONGEST_NAME = 40
_MOST_STEPS = 40
_MOST_PARTS = 16
_MOST_TOKENS = 48
_WIDEST = "widest spread of credit"


class Bar(NamedTuple):
    """A number with its sign, to be drawn.

    Attributes:
      text: as "+0.93"; a dash where there is no number.
      sign: "plus", "minus", "zero" or "none".
      part: its size against the largest on the page, in [0, 1].
    """

    text: str
    sign: str
    part: float


class Result(NamedTuple):
    """What a tool answered: its status, and its text."""

    status: str
    text: str


class ShownStep(NamedTuple):
    """One step as text.

    Attributes:
      number: from 1.
      left_out: how many steps before it are not shown.
      view: what changed since the step before; empty in a dialogue.
      reply, action: what was said, and what it stood for.
      fault: why the reply was not valid; empty if it was.
      result: what the tool said; None if none was called.
      reward: trained on, with the game's own where it differs.
      parts: name and text of each named part of the reward, and whether it is 0.
      advantage: what the loss saw.
      tokens: the same per token; empty where credit is per step.
      credit: before modulation; empty where that changed nothing.
    """

    number: int
    left_out: int
    view: str
    reply: str
    action: str
    fault: str
    result: Result | None
    reward: str
    parts: list[tuple[str, str, bool]]
    advantage: Bar
    tokens: list[Bar]
    credit: str


class ShownEpisode(NamedTuple):
    """An episode as text.

    Attributes:
      title: why it is shown.
      facts: what is known of it, in one line.
      ended: how it ended and what that paid.
      question: of a dialogue; None for other games.
      steps: those that are shown.
      end: what the last step led to, as the views of the steps; empty in a dialogue.
    """

    title: str
    facts: str
    ended: str
    question: str | None
    steps: list[ShownStep]
    end: str


class Episodes(NamedTuple):
    """The section of a page: what the episodes are, and the chosen ones."""

    note: str
    shown: list[ShownEpisode]


class _Step(NamedTuple):
    view: Any
    reply: str
    action: str
    fault: str
    result: Result | None
    reward: float
    domain_reward: float
    parts: list[tuple[str, float]]
    advantage: float | None
    credit: float | None
    tokens: list[float]


class _Episode(NamedTuple):
    match: str
    steps: list[_Step]
    final_view: Any
    episode_return: float
    outcome: float
    success: bool | None
    truncated: bool

    @property
    def numbers(self) -> list[float]:
        """The advantages that there are."""
        return [step.advantage for step in self.steps if step.advantage is not None]

    @property
    def size(self) -> float:
        """Sum of |advantage|; below 0 for an episode that was not learnt from."""
        return sum(map(abs, self.numbers)) if self.numbers else -1.0

    @property
    def spread(self) -> float:
        """How far apart the advantages of its steps are."""
        return max(self.numbers) - min(self.numbers) if self.numbers else 0.0


def episodes_section(folder: Path) -> Episodes | None:
    """The best, median and worst of the newest recorded episodes by return, and the one of widest credit.

    Args:
      folder: of a run.

    Returns:
      What the page shows of them; None if none was recorded.

    Raises:
      LapwingError: the file holds something else.
    """
    files = sorted((folder / "episodes").glob("*.jsonl"), key=lambda path: (len(path.name), path.name))
    if not files:
        return None
    try:
        found = [_read(record) for record in read_json_lines(files[-1])]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LapwingError(f"{files[-1]} holds no episodes as Lapwing writes them: {error!r}.") from error
    if not found:
        return None
    chosen = _chosen(found)
    shown = [(step.advantage, *step.tokens) for _, one in chosen for step, _ in _kept(one.steps)]
    largest = max((abs(value) for values in shown for value in values if value is not None), default=0.0)
    return Episodes(_note(files[-1].stem, len(found), largest), [_shown(title, one, largest) for title, one in chosen])


def _read(record: Mapping[str, Any]) -> _Episode:
    steps = record["steps"]
    after = [*(step["view"] for step in steps[1:]), record["final_view"]]
    if not steps:
        raise ValueError("an episode without steps")
    return _Episode(
        match=_cut(name_of(record), _LONGEST_NAME),
        steps=[_step(step, seen) for step, seen in zip(steps, after, strict=True)],
        final_view=record["final_view"],
        episode_return=float(record["return"]),
        outcome=float(record["outcome"]),
        success=record["success"],
        truncated=bool(record["truncated"]),
    )


def _step(record: Mapping[str, Any], after: Any) -> _Step:
    return _Step(
        view=record["view"],
        reply=_cut(record["reply"], _LONGEST_TEXT),
        action="–" if record["action"] is None else _cut(record["action"], _LONGEST_VIEW),
        fault="" if record["valid"] else _cut(record["reason"] or "no reason is known", _LONGEST_REASON),
        result=_result(record["view"], after),
        reward=float(record["reward"]),
        domain_reward=float(record["domain_reward"]),
        parts=[(_cut(name, _LONGEST_NAME), float(value)) for name, value in record["parts"].items()][:_MOST_PARTS],
        advantage=_finite(record.get("advantage")),
        credit=_finite(record.get("credit")),
        tokens=[_finite(value) or 0.0 for value in record.get("token_advantage") or ()],
    )


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _chosen(episodes: Sequence[_Episode]) -> list[tuple[str, _Episode]]:
    """Distinct episodes with the reasons to show them; of equal returns the one with the most credit is taken."""
    # Sums of the same rewards in another order are the same return.
    returns = [round(one.episode_return, 9) for one in episodes]
    middle = sorted(returns)[(len(returns) - 1) // 2]
    wanted = {"best": max(returns), "median": middle, "worst": min(returns)}
    titles: dict[int, list[str]] = {}
    for name, value in wanted.items():
        equal = [i for i, found in enumerate(returns) if found == value]
        titles.setdefault(max(equal, key=lambda i: (episodes[i].size, -i)), []).append(name)
    widest = max(range(len(episodes)), key=lambda i: (episodes[i].spread, -i))
    named = {i: _title(names, len(returns)) for i, names in titles.items()}
    if episodes[widest].spread > 0.0:
        named[widest] = f"{named[widest]}, {_WIDEST}" if widest in named else _WIDEST.capitalize()
    return [(title, episodes[i]) for i, title in named.items()]


def _title(names: Sequence[str], count: int) -> str:
    if len(names) == 3:
        return "The only episode" if count == 1 else f"One of {count}, all with this return"
    return f"{' and '.join(names).capitalize()} return"


def _kept(steps: Sequence[_Step]) -> list[tuple[_Step, int]]:
    """The first and the last steps of a long episode, and the number of each."""
    numbered = [(step, number) for number, step in enumerate(steps, 1)]
    half = _MOST_STEPS // 2
    return numbered if len(steps) <= _MOST_STEPS else [*numbered[:half], *numbered[-half:]]


def _note(name: str, count: int, largest: float) -> str:
    at = re.fullmatch(r"main-0*(\d+)", name)
    when = f"iteration {at[1]}" if at else f"episodes/{_cut(name, _LONGEST_NAME)}.jsonl"
    what = f"Training episodes, chosen by return among the {count:,} recorded of {when}, before its update."
    if not largest:
        return what
    return f"{what} advantage: what the loss saw; above 0 it makes a reply more probable. Full bar: {largest:.3g}."


def _shown(title: str, one: _Episode, largest: float) -> ShownEpisode:
    first = one.steps[0].view
    question = _cut(first["question"], _LONGEST_TEXT) if _is_dialogue(first) else None
    steps, last, seen = [], 0, None
    for step, number in _kept(one.steps):
        view = "" if question is not None else _changed(seen, step.view)
        steps.append(_shown_step(step, number, number - last - 1, view, largest))
        last, seen = number, step.view
    end = "" if question is not None else _changed(seen, one.final_view)
    return ShownEpisode(title, _facts(one), _ended(one), question, steps, end)


def _shown_step(step: _Step, number: int, left_out: int, view: str, largest: float) -> ShownStep:
    reward = _number(step.reward)
    if step.domain_reward != step.reward:
        reward += f", {_number(step.domain_reward)} by the game alone"
    return ShownStep(
        number=number,
        left_out=left_out,
        view=view,
        reply=step.reply,
        action=step.action,
        fault=step.fault,
        result=step.result,
        reward=reward,
        parts=[(name, _number(value), not value) for name, value in step.parts],
        advantage=_bar(step.advantage, largest),
        tokens=[_bar(value, largest) for value in step.tokens[:_MOST_TOKENS]],
        credit="" if step.credit == step.advantage else _bar(step.credit, largest).text,
    )


def _is_dialogue(view: Any) -> bool:
    return isinstance(view, Mapping) and "question" in view and isinstance(view.get("turns"), list)


def _result(view: Any, after: Any) -> Result | None:
    """The result that the next view has and this one had not."""
    if not (_is_dialogue(view) and _is_dialogue(after)):
        return None
    new = after["turns"][len(view["turns"]) :]
    result = new[0].get("result") if new else None
    if not result:
        return None
    return Result(_cut(result["status"], _LONGEST_NAME), _cut(result["text"], _LONGEST_TEXT))


def _changed(before: Any, after: Any) -> str:
    """The fields of a view that differ from those of the one before; all of the first one."""
    if not isinstance(after, Mapping):
        return "" if after == before else _cut(_field(after), _LONGEST_VIEW)
    known = before if isinstance(before, Mapping) else {}
    new = {name: value for name, value in after.items() if name not in known or known[name] != value}
    return _cut(" · ".join(f"{name} {_field(value)}" for name, value in new.items()), _LONGEST_VIEW)


def _field(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return " / ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _facts(one: _Episode) -> str:
    steps = len(one.steps)
    found = [
        f"return {_number(one.episode_return)}",
        f"{steps:,} step{'' if steps == 1 else 's'}",
        "" if one.numbers else "not learnt from",
        one.match,
    ]
    return " · ".join(filter(None, found))


def _ended(one: _Episode) -> str:
    won = "" if one.success is None else "success" if one.success else "no success"
    found = [
        "cut by the step limit" if one.truncated else "ended by the rules",
        won,
        f"outcome {_number(one.outcome)}" if one.outcome or _is_dialogue(one.steps[0].view) else "",
        f"return {_number(one.episode_return)}, the outcome included" if one.outcome else "",
    ]
    return " · ".join(filter(None, found))


def _bar(value: float | None, largest: float) -> Bar:
    if value is None:
        return Bar("–", "none", 0.0)
    if not value:
        return Bar("0", "zero", 0.0)
    return Bar(f"{value:+.3g}", "plus" if value > 0 else "minus", round(abs(value) / (largest or 1.0), 3))


def _number(value: float) -> str:
    return f"{value + 0.0:.4g}"


def _cut(value: Any, most: int) -> str:
    text = str(value)
    if len(text) <= most:
        return printable(text)
    return f"{printable(text[:most])}… ({len(text) - most:,} more characters)"
