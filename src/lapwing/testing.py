"""Helpers for tests of credit, selection and losses: batches from plain lists."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import column_axis
from lapwing.core.ragged import lengths_to_splits


def _flat(nested: Sequence[Any], depth: int) -> list[Any]:
    for _ in range(depth):
        nested = [item for part in nested for item in part]
    return list(nested)


_BASE_COLUMNS = {
    "token": "K",
    "sampler_logprob": "K",
    "behavior_logprob": "K",
    "view_key": "N",
    "action_key": "N",
    "next_view_key": "N",
    "valid": "N",
    "policy_version": "N",
    "player": "E",
    "match": "E",
}
_DEPTH = {"E": 0, "N": 1, "K": 2}


def episodes(
    rewards: Sequence[Sequence[float]],
    *,
    group: Sequence[int] | None = None,
    outcome: Sequence[float] | None = None,
    terminated: Sequence[bool] | None = None,
    truncated: Sequence[bool] | None = None,
    tokens_per_step: int | Sequence[Sequence[int]] = 1,
    **columns: Sequence[Any],
) -> EpisodeBatch:
    """Make a batch from nested lists.

    Args:
      rewards: a list of lists, one per episode, one number per step.
      group: the group of each episode; one group if left out.
      outcome: outcome of each episode, 0 if left out.
      terminated: per episode; True if left out, or the opposite of `truncated`.
      truncated: per episode; the opposite of `terminated`.
      tokens_per_step: one number, or nested lists like `rewards`.
      columns: further columns, [E] as flat lists, [N] as nested lists, [K] as doubly nested lists.

    Returns:
      A batch whose tokens are 0, contexts one token long, and log-probabilities 0.

    Examples:
      >>> batch = episodes([[0.0, 1.0], [0.0]], view_key=[[1, 2], [1]])
      >>> batch.episode_return.tolist(), batch.episode_of_step.tolist()
      ([1.0, 0.0], [0, 0, 1])
    """
    num_episodes = len(rewards)
    lengths = np.array([len(episode) for episode in rewards])
    num_steps = int(lengths.sum())
    per_step = (
        np.full(num_steps, tokens_per_step)
        if isinstance(tokens_per_step, int)
        else np.array(_flat(tokens_per_step, 1), dtype=np.int64)
    )
    num_tokens = int(per_step.sum())
    if terminated is None:
        terminated = [not cut for cut in truncated] if truncated is not None else [True] * num_episodes
    ended = np.array(terminated, dtype=bool)
    base: dict[str, np.ndarray] = {
        "reward": np.array(_flat(rewards, 1), dtype=np.float64),
        "outcome": np.zeros(num_episodes) if outcome is None else np.array(outcome, dtype=np.float64),
        "terminated": ended,
        "truncated": ~ended if truncated is None else np.array(truncated, dtype=bool),
        "group": np.zeros(num_episodes, dtype=np.int64) if group is None else np.array(group),
        "match": np.arange(num_episodes),
        "player": np.zeros(num_episodes, dtype=np.int64),
        "policy_version": np.zeros(num_steps, dtype=np.int64),
        "token": np.zeros(num_tokens, dtype=np.int32),
        "sampler_logprob": np.zeros(num_tokens),
        "behavior_logprob": np.zeros(num_tokens),
        "view_key": np.zeros(num_steps, dtype=np.uint64),
        "action_key": np.zeros(num_steps, dtype=np.uint64),
        "next_view_key": np.zeros(num_steps, dtype=np.uint64),
        "valid": np.ones(num_steps, dtype=bool),
    }
    extra: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        axis = _BASE_COLUMNS.get(name) or column_axis(name)
        flat = np.array(_flat(values, _DEPTH[axis]))
        if name in base:
            base[name] = flat.astype(base[name].dtype)
        else:
            extra[name] = flat
    return EpisodeBatch(
        step_splits=lengths_to_splits(lengths),
        token_splits=lengths_to_splits(per_step),
        context_splits=np.arange(num_steps + 1),
        extends_previous=np.zeros(num_steps, dtype=bool),
        context_token=np.zeros(num_steps, dtype=np.int32),
        final_context_splits=np.zeros(num_episodes + 1, dtype=np.int64),
        final_context_token=np.zeros(0, dtype=np.int32),
        **base,
        extra=extra,
    )
