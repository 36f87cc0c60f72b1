"""The episodes of a run folder, and the documented JSONL for everyone else: one episode a line."""

import itertools
import math
from array import array
from functools import lru_cache
from typing import Any

from lapwing.core.errors import UserError
from lapwing.evaluation.transcripts.builder import (
    EPISODE_COLUMNS,
    STEP_COLUMNS,
    TOKEN_COLUMNS,
    EpisodeRecord,
    StepRecord,
)
from lapwing.evaluation.transcripts.fields import Fields, flag, has, number, success
from lapwing.evaluation.transcripts.keys import NEVER, json_key
from lapwing.evaluation.transcripts.lines import Row, shown

# Past the end of an episode whose last view the file does not hold; all such ends are one state.
_END = "the end of the episode"
_RETURN_TOLERANCE = 1e-6
_MOST_SPANS = 127
_FLAGS = ("switch",)
_STEP_SET, _TOKEN_SET = frozenset(STEP_COLUMNS), frozenset(TOKEN_COLUMNS)


def read_episode(row: Row, fields: Fields) -> EpisodeRecord:
    """One line of our format.

    Raises:
      UserError: something is missing or is of the wrong kind.
    """
    steps = fields.one("steps", row)
    if steps is None:
        raise UserError(
            f"{row.where} has no '{fields.places('steps')[0]}', the list of an episode's steps; {has(row.value)}."
        )
    if not isinstance(steps, list) or not steps:
        raise UserError(f"{row.where}: 'steps' is a list of at least one step, not {shown(steps)}.")
    terminated, truncated = ends(fields.one("terminated", row), fields.one("truncated", row), row.where)
    records = [_step(Row(f"{row.where}, step {at}", step), fields) for at, step in enumerate(steps, start=1)]
    _lead_on(records, row, fields, terminated=terminated)
    outcome = fields.one("outcome", row)
    group, identifier = _names(row, fields)
    player = row.value.get("player", 0)
    episode = EpisodeRecord(
        where=row.where,
        group=group,
        game=name_of(fields.find("game", row)[1]),
        identifier=identifier,
        steps=records,
        outcome=0.0 if outcome is None else number(outcome, row.where, "outcome"),
        terminated=terminated,
        truncated=truncated,
        player=player if isinstance(player, int) and 0 <= player < 2**31 else 0,
        columns=_episode_columns(row),
    )
    _check_return(episode, fields.one("return", row))
    return episode


def ends(terminated: Any, truncated: Any, where: str) -> tuple[bool, bool]:
    """How an episode ended; what is not said is the opposite of the other, and nothing at all means by the rules."""
    cut = None if truncated is None else flag(truncated, where, "truncated")
    over = None if terminated is None else flag(terminated, where, "terminated")
    if over is None:
        over = not cut
    return over, not over if cut is None else cut


def name_of(values: list[Any]) -> Any:
    """The name that one or several fields make; None where there are none."""
    return values[0] if len(values) == 1 else values or None


def _names(row: Row, fields: Fields) -> tuple[Any, Any]:
    """Group and id. Lapwing's own episodes name their match, split/iteration/group/member, which says both."""
    place, values = fields.find("group", row)
    identifier = name_of(fields.find("id", row)[1])
    match = row.value.get("match")
    if isinstance(match, str) and match.count("/") == 3:
        player = row.value.get("player", 0)
        identifier = (f"{match} player {shown(player)}" if player else match) if identifier is None else identifier
        if place in ("", "group"):
            return match.rpartition("/")[0], identifier
    if not values:
        raise UserError(
            f"{row.where} has no '{' or '.join(fields.places('group'))}', the group of episodes with one start; "
            f"{has(row.value)}; name the field with --map group=…"
        )
    return name_of(values), identifier


def _step(row: Row, fields: Fields) -> StepRecord:
    if not isinstance(row.value, dict):
        raise UserError(f"{row.where} is no object but {shown(row.value)}.")
    reward = fields.one("step.reward", row)
    if reward is None:
        raise UserError(
            f"{row.where} has no '{fields.places('step.reward')[0]}'; give every step a reward, 0 where there was none."
        )
    view, action, reply = fields.one("step.view", row), fields.one("step.action", row), fields.one("step.reply", row)
    valid, following = fields.one("step.valid", row), fields.one("step.next_view", row)
    is_valid = True if valid is None else flag(valid, row.where, "valid")
    acted = reply if action is None else action
    return StepRecord(
        where=row.where,
        view=view,
        reply=action if reply is None else reply,
        view_key=NEVER if view is None else json_key(view, row.where),
        action_key=NEVER if acted is None or not is_valid else _action_key(acted, row.where),
        next_view_key=NEVER if following is None else json_key(following, row.where),
        reward=number(reward, row.where, "reward"),
        valid=is_valid,
        token=token_ids(fields.one("step.tokens", row), row.where),
        logprob=numbers(fields.one("step.logprobs", row), row.where, "logprobs"),
        columns={name: _of_step(row, name) for name in _STEP_SET & row.value.keys() if row.value[name] is not None},
        token_columns={
            name: _of_tokens(row, name) for name in _TOKEN_SET & row.value.keys() if row.value[name] is not None
        },
    )


def _action_key(action: Any, where: str) -> int:
    return _text_key(action) if isinstance(action, str) else json_key(action, where)


@lru_cache(maxsize=1 << 12)
def _text_key(text: str) -> int:
    return json_key(text, "")


def _lead_on(records: list[StepRecord], row: Row, fields: Fields, *, terminated: bool) -> None:
    """Tell the steps that do not say so themselves the view that came after them."""
    for step, following in itertools.pairwise(records):
        step.next_view_key = step.next_view_key or following.view_key
    last, final = records[-1], fields.one("final_view", row)
    if final is not None:
        last.next_view_key = last.next_view_key or json_key(final, row.where)
    elif terminated:
        last.next_view_key = last.next_view_key or _text_key(_END)


def _of_step(row: Row, name: str) -> float:
    value = row.value[name]
    return float(flag(value, row.where, name)) if name in _FLAGS else number(value, row.where, name)


def _of_tokens(row: Row, name: str) -> array:
    values = row.value[name]
    if name != "span":
        found = numbers(values, row.where, name)
        assert found is not None, "only fields that are there are read"
        return found
    if not isinstance(values, list) or not all(type(v) is int and 0 <= v <= _MOST_SPANS for v in values):
        raise UserError(f"{row.where}: 'span' is a list of whole numbers from 0 on, not {shown(values)}.")
    return array("b", values)


def token_ids(values: Any, where: str) -> array | None:
    """The token ids of a reply; None where there are none.

    Raises:
      UserError: they are no list of whole numbers.
    """
    if values is None:
        return None
    try:
        if isinstance(values, list):
            return array("i", values)
    except (TypeError, OverflowError):
        pass
    raise UserError(f"{where}: 'tokens' is a list of token ids, not {shown(values)}.")


def numbers(values: Any, where: str, field: str) -> array | None:
    """A list of finite numbers; None where there is none.

    Raises:
      UserError: it is something else.
    """
    if values is None:
        return None
    if not isinstance(values, list):
        raise UserError(f"{where}: '{field}' is a list of numbers, not {shown(values)}.")
    return array("d", [number(value, where, field) for value in values])


def _episode_columns(row: Row) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in EPISODE_COLUMNS:
        value = row.value.get(name)
        if value is None:
            continue
        found[name] = json_key(value, row.where) if name == "answer_key" else success(value, row.where, name)
    return found


def _check_return(episode: EpisodeRecord, stated: Any) -> None:
    """Refuse an outcome that is counted twice, or a reward that is missing, where the file tells the return."""
    if stated is None:
        return
    told = number(stated, episode.where, "return")
    total = math.fsum(step.reward for step in episode.steps) + episode.outcome
    if not math.isclose(told, total, rel_tol=_RETURN_TOLERANCE, abs_tol=_RETURN_TOLERANCE):
        raise UserError(
            f"{episode.where}: 'return' is {told:g}, but rewards and outcome add up to {total:g}; an outcome is no "
            "part of the last reward."
        )
