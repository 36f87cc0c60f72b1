"""The registered columns: one name, one axis, one meaning."""

from typing import NamedTuple

from lapwing.core.errors import LapwingError, nearest


class Column(NamedTuple):
    """What a column holds: axis E (episodes), N (steps) or K (reply tokens), who fills it, what it means."""

    axis: str
    producer: str
    meaning: str


COLUMNS: dict[str, Column] = {
    "context_key": Column("N", "rollout/play", "64-bit hash of the whole context; equal contexts have equal keys"),
    "value": Column("N", "annotate/value", "critic's value of the state before the step"),
    "final_value": Column("E", "annotate/value", "critic's value of the state after a truncated episode"),
    "token_value": Column("K", "annotate/token_value", "critic's value before each reply token"),
    "v_low": Column("N", "annotate/hierarchy_values", "value of the low level (HiPER)"),
    "v_high": Column("N", "annotate/hierarchy_values", "value of the high level (HiPER)"),
    "v_term": Column("N", "annotate/hierarchy_values", "value at the end of a segment (HiPER)"),
    "switch": Column("N", "policies/parsers", "the step opens a new segment"),
    "entropy": Column("N", "annotate/entropy", "mean entropy of the reply's tokens, nats"),
    "token_entropy": Column("K", "annotate/entropy", "entropy of the next-token distribution, nats"),
    "reference_logprob": Column("K", "annotate/reference_logprob", "log-probability under the reference weights"),
    "exact_advantage": Column("N", "annotate/exact_advantage", "advantage of the executed action, solved exactly"),
    "branch_value": Column("N", "samplers/branching", "mean return of branches played from the view"),
    "next_branch_value": Column("N", "samplers/branching", "mean return of branches played from the next view"),
    "gold_probability": Column("N", "annotate/gold_probability", "probability of the gold answer given the history"),
    "span": Column("K", "policies/parsers", "0 other, 1 think, 2 switch, 3 subgoal, 4 action, 5 answer"),
    "success": Column("E", "rollout/play", "the match counts as won; NaN where the game has no such notion"),
    "tool_calls": Column("E", "rollout/play", "number of tool calls"),
    "tool_cost": Column("E", "rollout/play", "price of the episode's tool calls"),
    "answer_key": Column("E", "rollout/play", "hash of the final answer"),
    "mode": Column("E", "samplers/adaptive_modes", "mode of reasoning, numbered by cost from 0, the lightest"),
    "forced": Column("E", "samplers/adaptive_modes", "the mode was prescribed and not chosen"),
    "domain_reward": Column("N", "rollout/play", "the game's own reward, without penalties of the text"),
    "opponent_version": Column(
        "E", "rollout/play", "iteration after which the other seats' frozen weights were taken; −1 for those of now"
    ),
}

PART_PREFIX = "part:"


def column_axis(name: str) -> str:
    """The axis of a registered column; `part:<name>` columns are named parts of the reward on axis N."""
    if name.startswith(PART_PREFIX) and len(name) > len(PART_PREFIX):
        return "N"
    if name not in COLUMNS:
        raise LapwingError(f"No column is called '{name}'; {nearest(name, COLUMNS)}")
    return COLUMNS[name].axis


def producer(name: str) -> str:
    """Who supplies a column, for error messages."""
    return "rollout/play" if name.startswith(PART_PREFIX) else COLUMNS[name].producer
