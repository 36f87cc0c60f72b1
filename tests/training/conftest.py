"""Batches of random tokens."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Decision, Episode, Step
from lapwing.models.scorer import Scorer

VOCABULARY = 40


@pytest.fixture
def make_batch(make_match: Callable[..., Any]) -> Callable[..., EpisodeBatch]:
    """Episodes of random tokens; some share their contexts, one pair occurs in all of them."""

    def make(
        seed: int = 0,
        lengths: tuple[int, ...] = (3, 1, 2, 4),
        transcript: bool = False,
        model: Any = None,
        versions: tuple[int, ...] = (),
    ) -> EpisodeBatch:
        random = np.random.default_rng(seed)
        shared = random.integers(4, VOCABULARY, size=6).astype(np.int32)
        episodes = []
        for number, length in enumerate(lengths):
            steps, before = [], np.zeros(0, dtype=np.int32)
            for n in range(length):
                added = np.concatenate([shared[: 2 + n % 3], random.integers(4, VOCABULARY, size=n)]).astype(np.int32)
                extends = len(before) if transcript else 0
                context = np.concatenate([before, added]) if transcript else added
                token = random.integers(4, VOCABULARY, size=1 + (n + number) % 3).astype(np.int32)
                if n == 0:
                    token = shared[:2]  # the first step of every episode is the same pair
                logprob = np.zeros(len(token))
                if model is not None:
                    logprob = Scorer(model).score([context], [token])["logprob"]
                decision = Decision("up", True, "", context, token, logprob, extends=extends)
                steps.append(Step(decision, "up", None, 1, 2, 3, float(random.normal()), 0.0, {}))
                before = np.concatenate([context, token])
            match = make_match(group=number // 2, member=number % 2)
            version = versions[number] if versions else 0
            episodes.append(Episode(match, 0, steps, True, False, success=bool(number % 2), policy_version=version))
        return EpisodeBatch.pack(episodes)

    return make


@pytest.fixture
def batch(make_batch: Callable[..., EpisodeBatch]) -> EpisodeBatch:
    """One of them."""
    return make_batch()
