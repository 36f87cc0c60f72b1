import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.return_to_go import return_to_go
from lapwing.shaping.submodular import (
    capped_counts,
    coverage,
    facility_location,
    log_det,
    marginal_gains,
    submodular,
)
from lapwing.testing import episodes

walks = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=7), min_size=1, max_size=4)
PRINTED = [{"a", "b"}, {"b"}, {"b", "c"}]


def walk(*views, start=9, rewards=None):
    """Episodes that begin in the view `start` and then go through these."""
    rewards = rewards or [[0.0] * len(view) for view in views]
    before = [[start, *view[:-1]] for view in views]
    return episodes(rewards, view_key=before, next_view_key=list(views))


def test_the_printed_gains_and_their_sums():
    gains = marginal_gains(coverage, PRINTED)
    np.testing.assert_array_equal(gains, [2, 0, 1])
    np.testing.assert_array_equal(np.cumsum(gains[::-1])[::-1], [3, 1, 1])
    assert gains.sum() == coverage(PRINTED) == 3
    assert sum(map(len, PRINTED)) == 5


def test_a_walk_by_hand():
    # Fails when a revisit pays, the start pays, or one episode pays for another.
    #   1 new, 2 new, 1 again, 9 is the start, 3 new | 1 new
    batch = walk([1, 2, 1, 9, 3], [1])
    np.testing.assert_array_equal(submodular(batch).reward, [1, 1, 0, 0, 1, 1])
    #   up to two visits: the start counts as one
    np.testing.assert_array_equal(submodular(walk([1, 1, 1, 9, 9]), cap=2).reward, [1, 1, 0, 1, 0])


def test_a_key_of_zero_earns_nothing():
    np.testing.assert_array_equal(submodular(walk([0, 0, 1])).reward, [0, 0, 1])
    batch = episodes([[0, 0, 0]], action_key=[[0, 5, 5]], view_key=[[1, 1, 2]])
    np.testing.assert_array_equal(submodular(batch, items="action").reward, [0, 1, 0])
    np.testing.assert_array_equal(submodular(batch, items="transition").reward, [0, 1, 1])


def test_weights_by_hand():
    batch = walk([1, 1], rewards=[[3.0, 5.0]])
    np.testing.assert_array_equal(submodular(batch, weight=2.0, own_weight=0.0).reward, [2, 0])
    np.testing.assert_array_equal(submodular(batch, weight=0.5).reward, [3.5, 5])
    np.testing.assert_array_equal(submodular(batch).outcome, batch.outcome)


@given(walks, st.integers(1, 3))
def test_the_gains_of_an_episode_add_up_to_its_set_function(views, cap):
    # Σ Δ = F, and the return to go with discount 1 is what is still to be gained.
    shaped = submodular(walk(*views), cap=cap)
    for e, view in enumerate(views):
        visits = [{9}, *({x} if x else set() for x in view)]
        expected = marginal_gains(lambda seen: capped_counts(seen, cap), visits)[1:]
        steps = slice(shaped.step_splits[e], shaped.step_splits[e + 1])
        np.testing.assert_array_equal(shaped.reward[steps], expected)
        to_go = return_to_go(shaped, discount=1.0)[steps]
        np.testing.assert_allclose(to_go, np.cumsum(expected[::-1])[::-1])


def as_function(kind, rng):
    features = rng.normal(size=(6, 3))
    similarity, kernel = np.abs(features @ features.T), features @ features.T
    sets = [set(rng.integers(0, 8, rng.integers(1, 4)).tolist()) for _ in range(6)]
    return {
        "coverage": lambda chosen: coverage([sets[i] for i in chosen]),
        "capped_counts": lambda chosen: capped_counts([sets[i] for i in chosen], 2),
        "facility_location": lambda chosen: facility_location(similarity, chosen),
        "log_det": lambda chosen: log_det(kernel, chosen, noise=0.5),
    }[kind]


@pytest.mark.parametrize("kind", ["coverage", "capped_counts", "facility_location", "log_det"])
@pytest.mark.parametrize("seed", range(5))
def test_returns_diminish(kind, seed):
    #   F(A + x) − F(A) ≥ F(B + x) − F(B) ≥ 0 for A ⊂ B
    rng = np.random.default_rng(seed)
    function = as_function(kind, rng)
    for size in range(4):
        for larger in itertools.islice(itertools.combinations(range(6), size), 8):
            smaller = larger[: rng.integers(0, size + 1)]
            for x in set(range(6)) - set(larger):
                gain = function([*smaller, x]) - function(list(smaller))
                assert gain >= function([*larger, x]) - function(list(larger)) - 1e-9 >= -2e-9


def test_the_set_functions_by_hand():
    assert capped_counts([[1], [1], [1, 2]], 2) == 3
    assert facility_location(np.array([[1.0, 0.2], [0.1, 0.5]]), [0, 1]) == 1.5
    assert facility_location(np.eye(2), []) == 0.0
    assert log_det(np.eye(3), [0, 1, 1]) == pytest.approx(2 * np.log(2))
    assert coverage([]) == 0.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"items": "views"}, "no items 'views'; valid names: next_view"),
        ({"cap": 0}, "cap must be at least 1"),
        ({"weight": np.inf}, "weight must be finite"),
        ({"own_weight": np.nan}, "own_weight must be finite"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        submodular(walk([1]), **settings)
