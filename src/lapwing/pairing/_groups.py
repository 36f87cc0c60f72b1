"""What the pairings share: the members of each group, and the steps of a batch as episodes of their own."""

from collections.abc import Iterator

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import PART_PREFIX, column_axis
from lapwing.core.errors import UserError
from lapwing.core.pair_batch import PairBatch
from lapwing.core.ragged import lengths_to_splits, take_segments

# Sums of the same rewards in another order differ by rounding; that is no preference.
ROUNDING = 1e-10


def members(group: np.ndarray) -> Iterator[np.ndarray]:
    """The episodes of each group, groups and episodes in ascending order."""
    order = np.argsort(group, kind="stable")
    _, first = np.unique(group[order], return_index=True)
    return (np.sort(part) for part in np.split(order, first[1:]) if len(part))


def differs(gap: np.ndarray, of: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether gaps between numbers are more than rounding."""
    return np.abs(gap) > ROUNDING * np.maximum(np.maximum(np.abs(of), np.abs(other)), 1.0)


def check_gap(name: str, gap: float) -> None:
    """Refuse a smallest gap below 0; NaN is refused too."""
    if not gap >= 0.0:
        raise UserError(f"{name} must be at least 0, but it is {gap}.")


def joined(batch: EpisodeBatch, found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> PairBatch:
    """The pairs of all groups.

    Args:
      batch: E episodes.
      found: chosen, rejected, weight and margin of the pairs of each group.
    """
    columns = zip(*found, strict=True) if found else ((np.zeros(0),),) * 4
    chosen, rejected, weight, margin = (np.concatenate(column) for column in columns)
    return PairBatch(chosen, rejected, weight, batch, margin=margin)


def part_of_steps(batch: EpisodeBatch, part: str, *, needed_by: str) -> np.ndarray:
    """A number per step that judges it: a named part of the reward, or the reward itself where no name is given.

    Raises:
      MissingColumnError: the game pays no such part.
    """
    return batch.column(PART_PREFIX + part, needed_by=needed_by) if part else batch.reward


def as_episodes(batch: EpisodeBatch, steps: np.ndarray) -> EpisodeBatch:
    """Some steps of a batch as episodes of one step, each with its whole context.

    Columns of episodes are those of the step's episode. `match` is −1, since no match has only this step.

    Args:
      batch: E episodes.
      steps: numbers of the steps, in the order of the episodes to be.
    """
    episode = batch.episode_of_step[steps]
    tokens, token_splits = take_segments(batch.token_splits, steps)
    contexts = [batch.context(int(step)) for step in steps]
    ones = lengths_to_splits(np.ones(len(steps), dtype=np.int64))
    index = {"E": episode, "N": steps, "K": tokens}
    extra = {n: a[index[column_axis(n)]] for n, a in batch.extra.items() if column_axis(n) in index}
    return EpisodeBatch(
        step_splits=ones,
        token_splits=token_splits,
        context_splits=lengths_to_splits(np.array([len(c) for c in contexts], dtype=np.int64)),
        extends_previous=np.zeros(len(steps), dtype=bool),
        reward=batch.reward[steps],
        outcome=np.zeros(len(steps)),
        terminated=np.ones(len(steps), dtype=bool),
        truncated=np.zeros(len(steps), dtype=bool),
        group=batch.group[episode],
        match=np.full(len(steps), -1),
        player=batch.player[episode],
        policy_version=batch.policy_version[steps],
        token=batch.token[tokens],
        context_token=np.concatenate(contexts) if contexts else np.zeros(0, dtype=np.int32),
        sampler_logprob=batch.sampler_logprob[tokens],
        behavior_logprob=batch.behavior_logprob[tokens],
        final_context_splits=np.zeros(len(steps) + 1, dtype=np.int64),
        final_context_token=np.zeros(0, dtype=np.int32),
        view_key=batch.view_key[steps],
        action_key=batch.action_key[steps],
        next_view_key=batch.next_view_key[steps],
        valid=batch.valid[steps],
        extra=extra,
    )
