"""Chat transcripts: every message of the assistant is a step. TRL, verl and verifiers write them."""

import json
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lapwing.core.errors import UserError
from lapwing.evaluation.transcripts.builder import EpisodeRecord, StepRecord
from lapwing.evaluation.transcripts.episodes import ends, name_of, numbers
from lapwing.evaluation.transcripts.fields import Fields, has, number, success
from lapwing.evaluation.transcripts.keys import NEVER, chain_key, json_key
from lapwing.evaluation.transcripts.lines import Row, shown

_ROUNDING = 1e-9


@dataclass
class Notes:
    """What is told once about all rows: the fields that made a sum of rewards, and rows without a reply."""

    rewards: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)


def read_rows_as_episodes(rows: Iterable[Row], fields: Fields, views: str, notes: Notes) -> Iterator[EpisodeRecord]:
    """Every episode of a file of chat transcripts.

    A row is an episode; where the rows name an `episode`, a row is a step, and the rows of one episode are put
    together after the last row.

    Raises:
      UserError: something is missing, is of the wrong kind, or contradicts another row.
    """
    split: dict[int, _Split] = {}
    for row in rows:
        if _failed(row, fields):
            notes.failed.append(row.where)
            continue
        _, episode = fields.find("episode", row)
        found, total = _episode(row, fields, views, notes)
        if not episode:
            yield found
            continue
        key = json_key(episode, row.where)
        if key not in split:
            split[key] = _Split(found, total, name_of(episode))
        split[key].add(found, total, row, fields)
    for one in split.values():
        yield one.episode(views)


def _failed(row: Row, fields: Fields) -> bool:
    """Whether a rollout broke before its first reply; verifiers writes such rows with their error."""
    return bool(row.value.get("error")) and not fields.one("completion", row) and not fields.one("messages", row)


def _episode(row: Row, fields: Fields, views: str, notes: Notes) -> tuple[EpisodeRecord, float | None]:
    """The episode of a row, and the reward that the row states."""
    prompt, messages = _messages(row, fields)
    steps = _steps(row, prompt, messages, views)
    if not steps:
        raise UserError(f"{row.where} has no message of the assistant, so that there is no step to score.")
    _tell_logprobs(row, fields, steps)
    told = _tell_turn_rewards(row, fields, messages, steps)
    total = _reward(row, fields, notes, is_optional=told)
    terminated, truncated = ends(None, fields.one("truncated", row), row.where)
    place, group = fields.find("group", row)
    if not place:
        raise UserError(
            f"{row.where} has no '{' or '.join(fields.places('group'))}' to tell the groups by; {has(row.value)}; "
            "name the field with --map group=…"
        )
    won = fields.one("success", row)
    episode = EpisodeRecord(
        where=row.where,
        group=name_of(group),
        game=name_of(fields.find("game", row)[1]),
        identifier=name_of(fields.find("id", row)[1]),
        steps=steps,
        outcome=_outcome(total, steps),
        terminated=terminated,
        truncated=truncated,
        columns={} if won is None else {"success": success(won, row.where, "success")},
    )
    return episode, total


def _outcome(total: float | None, steps: list[StepRecord]) -> float:
    """What the return has beyond the rewards of the turns; rounding is none."""
    if total is None:
        return 0.0
    turns = math.fsum(step.reward for step in steps)
    return 0.0 if turns and abs(total - turns) <= _ROUNDING * max(1.0, abs(total)) else total - turns


# ---------------------------------------------------------------------------------------------------------------------
# Messages.


def _messages(row: Row, fields: Fields) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What stands before the first step, and the messages from there on."""
    place, whole = fields.find("messages", row)
    if place:
        found = _as_messages(whole[0], row.where, place, "user")
        first = next((at for at, message in enumerate(found) if message["role"] == "assistant"), len(found))
        return found[:first], found[first:]
    place, completion = fields.find("completion", row)
    if not place:
        raise UserError(
            f"{row.where} has no '{' or '.join(fields.places('completion'))}'; {has(row.value)}; name the field of the "
            "reply with --map completion=… or that of a whole chat with --map messages=…"
        )
    asked, prompt = fields.find("prompt", row)
    before = _as_messages(prompt[0], row.where, asked, "user") if asked else []
    return before, _as_messages(completion[0], row.where, place, "assistant")


def _as_messages(value: Any, where: str, name: str, role: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not isinstance(value, list):
        raise UserError(f"{where}: '{name}' is a text or a list of messages, not {shown(value)}.")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise UserError(f"{where}: '{name}' has {shown(message)} where a message with a 'role' is needed.")
        content = message.get("content")
        if content is not None and not isinstance(content, (str, list)):
            raise UserError(f"{where}: the 'content' of a message is a text or a list of parts, not {shown(content)}.")
    return value


def _steps(row: Row, prompt: list[dict[str, Any]], messages: list[dict[str, Any]], views: str) -> list[StepRecord]:
    steps: list[StepRecord] = []
    seen, past = list(prompt), 0
    for message in messages:
        if message["role"] != "assistant":
            seen.append(message)
            continue
        view_key, past = _view_key(seen, past, views, row.where)
        action = _action(message, row.where)
        action_key = json_key(action, row.where)
        _lead_to(steps, view_key)
        where = f"{row.where}, step {len(steps) + 1}"
        steps.append(StepRecord(where, seen, _reply(message, action), view_key, action_key, NEVER, 0.0))
        seen, past = [], chain_key(past, action_key)
    _lead_to(steps, _view_key([*seen, {"role": "end", "content": None}], past, views, row.where)[0])
    return steps


def _lead_to(steps: list[StepRecord], view_key: int) -> None:
    if steps:
        steps[-1].next_view_key = view_key


def _view_key(seen: list[dict[str, Any]], past: int, views: str, where: str) -> tuple[int, int]:
    """The key of a view, and that of all that was said until then; with nothing new to see, the first is 0."""
    own = json_key([[message["role"], message.get("content")] for message in seen], where)
    whole = chain_key(past, own)
    if views == "history":
        return whole, whole
    return (own if seen else NEVER), whole


def _action(message: dict[str, Any], where: str) -> Any:
    """What the assistant did: its tool calls, without the ids that every call draws anew, else its text."""
    calls = message.get("tool_calls")
    if not calls:
        return message.get("content")
    if not isinstance(calls, list):
        raise UserError(f"{where}: the 'tool_calls' of a message is a list, not {shown(calls)}.")
    return {"tool_calls": [_call(call) for call in calls]}


def _call(call: Any) -> Any:
    # verifiers writes each call as a text of JSON, and arguments are such a text everywhere.
    call = _decoded(call)
    if not isinstance(call, dict):
        return call
    function = call.get("function")
    inner = function if isinstance(function, dict) else call
    if "name" not in inner:
        return {key: value for key, value in call.items() if key != "id"}
    return [inner["name"], _decoded(inner.get("arguments"))]


def _decoded(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _reply(message: dict[str, Any], action: Any) -> Any:
    content = message.get("content")
    if not isinstance(action, dict):
        return content if isinstance(content, str) else [{"role": "assistant", "content": content}]
    return [{"role": "assistant", "content": content or ""}, {"role": "calls", "content": json.dumps(action)}]


# ---------------------------------------------------------------------------------------------------------------------
# Numbers.


def _reward(row: Row, fields: Fields, notes: Notes, *, is_optional: bool) -> float | None:
    """The reward of an episode. TRL logs one column for each reward function and no total."""
    place, values = fields.find("reward", row)
    if not place and fields.form == "trl":
        # A function that does not judge a row leaves null there.
        judged = [name for name in sorted(row.value) if "reward" in name.lower() and name != "turn_rewards"]
        place = "+".join(judged)
        values = [row.value[name] for name in judged if row.value[name] is not None]
    if not values:
        if is_optional or fields.find("step_reward", row)[0]:
            return None
        options = ", ".join(name for name, value in sorted(row.value.items()) if type(value) in (int, float))
        raise UserError(
            f"{row.where} has no reward in '{place or ' or '.join(fields.places('reward'))}'; name the field with "
            f"--map reward=… (several with a +); fields with numbers: {shown(options) if options else 'none'}."
        )
    notes.rewards.add(place)
    return math.fsum(number(value, row.where, place) for value in values)


def _tell_turn_rewards(row: Row, fields: Fields, messages: list[dict[str, Any]], steps: list[StepRecord]) -> bool:
    """Give the steps the rewards of their messages, or those of a list in the row; whether there were any."""
    place, values = fields.find("turn_rewards", row)
    own: list[Any]
    if place:
        found = numbers(values[0], row.where, place)
        own = [] if found is None else list(found)
        if len(own) != len(steps):
            raise UserError(
                f"{row.where}: '{place}' has {len(own)} numbers, but there are {len(steps)} steps; give each one."
            )
    else:
        said = [message for message in messages if message["role"] == "assistant"]
        own = [fields.one("message_reward", Row(step.where, one)) for step, one in zip(steps, said, strict=True)]
    for step, reward in zip(steps, own, strict=True):
        step.reward = 0.0 if reward is None else number(reward, step.where, place or "reward")
    return any(reward is not None for reward in own)


def _tell_logprobs(row: Row, fields: Fields, steps: list[StepRecord]) -> None:
    place, values = fields.find("logprobs", row)
    if not place:
        return
    lists = values[0]
    if isinstance(lists, list) and len(steps) == 1 and not any(isinstance(part, list) for part in lists):
        lists = [lists]
    if not isinstance(lists, list) or len(lists) != len(steps):
        raise UserError(
            f"{row.where}: '{place}' holds one list of numbers for each of the {len(steps)} steps, not {shown(lists)}."
        )
    for step, logprob in zip(steps, lists, strict=True):
        step.logprob = numbers(logprob, step.where, place) or array("d")


# ---------------------------------------------------------------------------------------------------------------------
# Rows that are steps.


class _Split:
    """An episode whose steps are rows; its reward stands in each of them and counts once."""

    def __init__(self, first: EpisodeRecord, total: float | None, identifier: Any) -> None:
        self._first = first
        self._identifier = identifier
        self._total = total
        self._steps: list[tuple[float, StepRecord]] = []

    def add(self, found: EpisodeRecord, total: float | None, row: Row, fields: Fields) -> None:
        """One more row."""
        step, first = found.steps[0], self._first
        if len(found.steps) != 1:
            raise UserError(f"{row.where}: a row that names its episode is one step, but it has {len(found.steps)}.")
        if total != self._total:
            raise UserError(
                f"{row.where}: the episode {shown(self._identifier)} has the reward {shown(total)} here and "
                f"{shown(self._total)} in {first.where}; map what belongs to a step with --map step_reward=…"
            )
        for name, here, there in (("group", found.group, first.group), ("game", found.game, first.game)):
            if here != there:
                raise UserError(
                    f"{row.where}: the {name} of episode {shown(self._identifier)} is {shown(here)}, but "
                    f"{shown(there)} in {first.where}; name the field with --map {name}=…"
                )
        place, reward = fields.find("step_reward", row)
        step.reward = number(reward[0], row.where, place) if place else 0.0
        at, turn = fields.find("turn", row)
        self._steps.append((number(turn[0], row.where, at) if at else float(len(self._steps)), step))
        first.truncated, first.terminated = found.truncated, found.terminated

    def episode(self, views: str) -> EpisodeRecord:
        """The whole episode, its steps in the order of their turns."""
        first = self._first
        steps = [step for _, step in sorted(self._steps, key=lambda pair: pair[0])]
        past = 0
        for at, step in enumerate(steps):
            if views == "history":
                step.view_key = chain_key(past, step.view_key)
                past = chain_key(step.view_key, step.action_key)
            if at:
                steps[at - 1].next_view_key = step.view_key
        first.steps, first.identifier = steps, self._identifier
        first.outcome = _outcome(self._total, steps)
        return first
