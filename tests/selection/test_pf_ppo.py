import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.selection.pf_ppo import FILTERS, choose_filter, filter_weights, pf_ppo
from lapwing.testing import episodes

rng_of = np.random.default_rng


def make(*groups):
    flat = [[float(r)] for group in groups for r in group]
    return episodes(flat, group=[g for g, group in enumerate(groups) for _ in group])


def select(batch, seed=0, **settings):
    return pf_ppo(batch, np.zeros(batch.num_steps), rng_of(seed), **settings)


def test_the_printed_probabilities():
    np.testing.assert_allclose(filter_weights(np.arange(5)[::-1], "best_and_rest"), [0.5, *[0.125] * 4])
    np.testing.assert_allclose(filter_weights(np.array([2, -0.5, 1]), "power"), [0.7619, 0.0476, 0.1905], atol=5e-5)
    np.testing.assert_allclose(filter_weights(np.array([0.3, 0.9, 0.1]), "best"), [0, 1, 0])


def test_the_printed_best_and_worst():
    count, factor = select(make([0.3, 0.9, 0.1, 0.5]), filter="best_and_worst", resample=False)
    np.testing.assert_array_equal(count, [0, 1, 1, 0])
    np.testing.assert_array_equal(factor, np.ones(4))


def test_the_extremes_are_those_of_each_group():
    # Fails when the best and the worst of the batch are taken: the first group would have none.
    batch = make([1, 2, 3], [10, 20, 30])
    count, _ = select(batch, filter="best_and_worst", resample=False)
    np.testing.assert_array_equal(count, [1, 0, 1, 1, 0, 1])


def test_without_drawing_a_factor_does_what_the_drawing_would_on_average():
    #   ½ · 5 for the best of five, ⅛ · 5 for the others
    count, factor = select(make([0, 1, 2, 3, 4]), resample=False)
    np.testing.assert_array_equal(count, np.ones(5))
    np.testing.assert_allclose(factor, [0.625, 0.625, 0.625, 0.625, 2.5])


@pytest.mark.parametrize("name", FILTERS)
def test_the_draws_follow_the_probabilities_and_fill_the_group(name):
    batch = make([2, -0.5, 1, 4], [1, 0.5])
    counts = np.array([select(batch, seed, filter=name).count for seed in range(800)])
    np.testing.assert_array_equal(counts[:, :4].sum(axis=1), np.full(800, 4))
    np.testing.assert_array_equal(counts[:, 4:].sum(axis=1), np.full(800, 2))
    expected = np.concatenate([4 * filter_weights(np.array([2, -0.5, 1, 4]), name), 2 * filter_weights([1, 0.5], name)])
    # A mean of 800 binomial counts of four draws has a standard error of at most √(4 · ¼ / 800) = 0.035.
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=5 * 0.036)


def test_equal_weights_are_random_resampling():
    # PF-PPO with equal weights ≡ drawing with replacement, to the draw.
    batch = make(range(6))
    for settings in ({"best": 0.3, "rest": 0.3}, {"filter": "power", "power": 0.0}):
        rng = rng_of(3)
        shuffled = rng.permutation(6)
        plain = np.bincount(rng.choice(shuffled, 6, p=np.full(6, 1 / 6)), minlength=6)
        np.testing.assert_array_equal(select(batch, 3, **settings).count, plain)
    count, factor = select(batch, best=0.3, rest=0.3, resample=False)
    np.testing.assert_array_equal(count, np.ones(6))
    np.testing.assert_allclose(factor, np.ones(6))


def test_of_equal_returns_chance_decides():
    counts = np.array([select(make([1, 1, 0]), s, filter="best", resample=False).count for s in range(200)])
    assert counts[:, 2].sum() == 0
    assert 60 < counts[:, 0].sum() < 140
    #   best and worst of equal returns are two episodes
    assert select(make([1, 1, 1]), filter="best_and_worst", resample=False).count.sum() == 2


def test_returns_of_zero_have_equal_weights_under_power():
    np.testing.assert_allclose(filter_weights(np.zeros(4), "power"), np.full(4, 0.25))


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=7), st.sampled_from(FILTERS))
def test_the_weights_are_probabilities(reward, name):
    weight = filter_weights(np.array(reward), name)
    assert weight.sum() == pytest.approx(1)
    assert (weight >= 0).all()


def test_the_chooser_finds_the_ranks_that_can_be_trusted():
    #   the reward is right at the ends and noise in the middle, so that best and worst foretell the most
    rng = rng_of(0)
    truth = rng.random((200, 5))
    reward = np.where((truth > 0.8) | (truth < 0.2), truth, rng.random((200, 5)) * 0.6 + 0.2)
    name, found = choose_filter(reward, truth)
    assert name == "best_and_worst"
    assert set(found) == set(FILTERS)
    assert found["best_and_worst"] > found["best_and_rest"] > 0
    #   a reward that is the truth is trusted everywhere
    np.testing.assert_allclose(list(choose_filter(truth, truth)[1].values()), np.ones(4))


def test_the_fit_by_hand():
    #   best and worst of one prompt are two points on a line; a single point has no line
    _, found = choose_filter(
        np.array([[3.0, 2.0, 1.0]]), np.array([[1.0, 9.0, 0.0]]), filters=("best_and_worst", "best")
    )
    assert found["best_and_worst"] == pytest.approx(1)
    assert found["best"] == 0.0


def test_wrong_input_is_refused():
    with pytest.raises(UserError, match="no filter 'bon'; valid names: best"):
        select(make([0, 1]), filter="bon")
    with pytest.raises(UserError, match="rest must be finite"):
        select(make([0, 1]), rest=-1.0)
    with pytest.raises(UserError, match="choose_filter needs rewards and true scores"):
        choose_filter(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(UserError, match="finite rewards"):
        choose_filter(np.full((2, 3), np.nan), np.zeros((2, 3)))
