"""What tests of several methods share: random ragged batches, and the tokens of a batch read off by loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lapwing.core.batch import EpisodeBatch
from lapwing.testing import episodes


def _make_keyed_batch(seed: int) -> EpisodeBatch:
    """One to nine episodes in up to three interleaved groups, one often of a single episode.

    Keys are few and some 0, rewards often 0 or equal, some episodes truncated, some steps without tokens.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, rng.integers(1, 10))

    def nested(draw: Callable[[int], np.ndarray]) -> list[list[Any]]:
        return [draw(length).tolist() for length in lengths]

    rewards = nested(lambda n: rng.integers(-1, 2, n) * (rng.random(n) < 0.7))
    views, actions = rng.integers(2, 6), rng.integers(2, 4)
    return episodes(
        rewards,
        group=rng.integers(0, 3, len(lengths)).tolist(),
        outcome=np.round(rng.normal(size=len(lengths)) * rng.integers(0, 2), 1).tolist(),
        truncated=(rng.random(len(lengths)) < 0.3).tolist(),
        tokens_per_step=nested(lambda n: rng.integers(0, 3, n)),
        view_key=nested(lambda n: rng.integers(0, views, n)),
        action_key=nested(lambda n: rng.integers(0, actions, n)),
        next_view_key=nested(lambda n: rng.integers(0, views, n)),
    )


@pytest.fixture
def make_keyed_batch() -> Callable[[int], EpisodeBatch]:
    return _make_keyed_batch


def _make_critic_batch(seed: int) -> EpisodeBatch:
    """The same with every number that critics supply, plans and spans; final values only where they count."""
    rng = np.random.default_rng(1000 + seed)
    batch = _make_keyed_batch(seed)
    ended, tokens, steps = batch.terminated, batch.num_tokens, batch.num_steps
    return batch.with_columns(
        value=rng.normal(size=steps),
        final_value=np.where(ended, np.nan, rng.normal(size=len(ended))),
        token_value=rng.normal(size=tokens),
        switch=rng.random(steps) < 0.4,
        v_low=rng.normal(size=steps),
        v_high=rng.normal(size=steps),
        v_term=rng.normal(size=steps),
        span=rng.integers(0, 6, tokens),
    )


@pytest.fixture
def make_critic_batch() -> Callable[[int], EpisodeBatch]:
    return _make_critic_batch


def _turns_of(batch: EpisodeBatch) -> list[list[list[tuple[int, float]]]]:
    """For each episode, for each of its steps with tokens: pairs of a token and the reward on it."""
    episodes_of_turns = []
    for e in range(batch.num_episodes):
        turns: list[list[list[float]]] = []
        waiting = 0.0
        steps = range(batch.step_splits[e], batch.step_splits[e + 1])
        for n in steps:
            reward = batch.reward[n] + (batch.outcome[e] if n == steps[-1] else 0.0)
            written = range(batch.token_splits[n], batch.token_splits[n + 1])
            if len(written):
                turns.append([[k, 0.0] for k in written])
                turns[-1][0][1] += waiting
                waiting = 0.0
            if turns:
                turns[-1][-1][1] += reward
            else:
                waiting += reward
        episodes_of_turns.append([[(int(k), r) for k, r in turn] for turn in turns])
    return episodes_of_turns


@pytest.fixture
def turns_of() -> Callable[[EpisodeBatch], list[list[list[tuple[int, float]]]]]:
    return _turns_of
