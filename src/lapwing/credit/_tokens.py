"""Where the rewards of steps stand among the tokens, shared by the token-level estimators."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.ragged import lengths_to_splits


def episode_token_splits(batch: EpisodeBatch) -> np.ndarray:
    """Boundaries of the episodes among the tokens, [E+1]; an episode may have no token."""
    return batch.token_splits[batch.step_splits]


def token_reward(batch: EpisodeBatch) -> np.ndarray:
    """The reward of each step on its last token, the outcome on the episode's last token, float64 [K].

        Σ_k token_reward = episode_return   for every episode that has a token

    The reward of a step without tokens goes to the last token before it in the episode, or, where there is none,
    to the first token after it; so no reward is lost that a token could be credited with.
    """
    splits = episode_token_splits(batch)
    first, end = splits[:-1][batch.episode_of_step], splits[1:][batch.episode_of_step]
    at = np.maximum(batch.token_splits[1:] - 1, first)
    has_token = first < end
    return np.bincount(at[has_token], weights=merged_reward(batch)[has_token], minlength=batch.num_tokens)


def turn_end(batch: EpisodeBatch) -> np.ndarray:
    """The last token of each turn, that is of each step with tokens, int64 [turns]."""
    return batch.token_splits[1:][np.diff(batch.token_splits) > 0] - 1


def turn_splits(batch: EpisodeBatch) -> np.ndarray:
    """Boundaries of the episodes among the turns, [E+1]; an episode may have no turn."""
    return lengths_to_splits(np.diff(batch.token_splits) > 0)[batch.step_splits]
