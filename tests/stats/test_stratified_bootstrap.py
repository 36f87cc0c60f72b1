import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.rng import generator
from lapwing.stats.stratified_bootstrap import stratified_bootstrap


def test_two_seeds_by_hand():
    #   means of two draws from {0, 1}: 0 with ¼, ½ with ½, 1 with ¼
    assert stratified_bootstrap(np.array([0, 1]), np.mean) == (0.5, 0.0, 1.0)
    assert stratified_bootstrap(np.array([0, 1]), np.mean, confidence=0.2) == (0.5, 0.5, 0.5)


def test_tasks_are_strata():
    # Within each task all seeds are equal, so that drawing within tasks changes nothing; drawing from the scores of
    # both tasks together, or drawing tasks, would.
    assert stratified_bootstrap(np.array([[0.0, 10.0]] * 4)) == (5.0, 5.0, 5.0)


def test_the_tasks_are_drawn_independently():
    # All draws of two tasks with the seeds {0, 1} each: the mean of four is 0 with 1/16 and 1 with 1/16. One common
    # draw of seeds would give 0 with ¼.
    means = sorted(np.mean(draw) for draw in itertools.product([0, 1], repeat=4))
    found = stratified_bootstrap(np.array([[0, 0], [1, 1]]), np.mean, confidence=0.8)
    assert (found.low, found.high) == (np.percentile(means, 10), np.percentile(means, 90)) == (0.25, 0.75)


def test_as_every_draw_enumerated():
    # The exact bootstrap distribution of the mean of four seeds has 256 draws; 0.8 keeps clear of its jumps.
    scores = np.array([0.0, 1.0, 3.0, 10.0])
    means = np.array([np.mean(draw) for draw in itertools.product(scores, repeat=4)])
    found = stratified_bootstrap(scores, np.mean, confidence=0.8, resamples=20_000)
    assert found == (3.5, np.percentile(means, 10), np.percentile(means, 90))


# What rliable 1.2.0 gives, with its 50,000 resamples:
#   library.get_interval_estimates({"a": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=50_000)
#   one task: 0.9625 [0.8625, 0.98]     two tasks: 0.808125 [0.703125, 0.87625]
ONE = np.array([0.61, 0.93, 0.95, 0.96, 0.97, 0.97, 0.98, 1.0])
TWO = np.stack([ONE, np.array([1.2, 2.0, 2.4, 2.5, 2.7, 2.9, 3.1, 3.3]) / 4], axis=1)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [(ONE, (0.9625, 0.8625, 0.98)), (TWO, (0.808125, 0.703125, 0.87625))],
    ids=["one task", "two tasks"],
)
def test_as_rliable_computes_it(scores, expected):
    np.testing.assert_allclose(stratified_bootstrap(scores, resamples=50_000), expected, atol=2e-3)


def test_one_seed_has_nothing_to_draw():
    assert stratified_bootstrap(np.array([[3.0, 5.0]]), np.mean) == (4.0, 4.0, 4.0)


def test_the_same_scores_give_the_same_interval_and_another_key_another_one():
    scores = np.random.default_rng(0).normal(size=(8, 2))
    assert stratified_bootstrap(scores) == stratified_bootstrap(scores)
    assert stratified_bootstrap(scores, rng=generator("other")) != stratified_bootstrap(scores)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_the_bounds_lie_within_the_scores(scores):
    found = stratified_bootstrap(np.array(scores), resamples=200)
    assert min(scores) <= found.low <= found.high <= max(scores)


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [[[1.0]]]], ids=["none", "not finite", "three axes"])
def test_what_are_no_scores_is_refused(scores):
    with pytest.raises(LapwingError, match=r"finite numbers \[seeds, tasks\]"):
        stratified_bootstrap(np.array(scores))


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="confidence"):
        stratified_bootstrap(np.array([0.0, 1.0]), confidence=0.0)
    with pytest.raises(UserError, match="resamples must be at least 100"):
        stratified_bootstrap(np.array([0.0, 1.0]), resamples=99)
