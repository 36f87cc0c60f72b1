import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lapwing.aggregation.episode_mean import episode_mean
from lapwing.core.errors import UserError
from lapwing.selection.aaw import aaw
from lapwing.selection.top_k import top_k
from lapwing.testing import episodes

advantages = st.lists(st.sampled_from([-2.0, -1.0, -0.25, 0.0, 0.5, 1.0, 4.0]), min_size=1, max_size=8)


def single_steps(advantage, group=None):
    return episodes([[0]] * len(advantage), group=group), np.array(advantage, dtype=np.float64)


def mean_count(advantage, draws, **settings):
    batch, advantage = single_steps(advantage, settings.pop("group", None))
    rng = np.random.default_rng(0)
    return sum(aaw(batch, advantage, rng, **settings).count for _ in range(draws)) / draws


@pytest.mark.parametrize("replacement", [False, True], ids=["without replacement", "with replacement"])
@pytest.mark.parametrize(
    ("settings", "probability"),
    [
        ({}, [1 / 6, 2 / 6, 3 / 6]),
        ({"alpha": 2.0}, [1 / 14, 4 / 14, 9 / 14]),
        ({"delta": 2.0}, [3 / 12, 4 / 12, 5 / 12]),
        ({"alpha": 0.0}, [1 / 3, 1 / 3, 1 / 3]),
    ],
    ids=["proportional", "alpha 2", "delta 2", "alpha 0 is uniform"],
)
def test_one_draw_follows_the_weights(settings, probability, replacement):
    # Fails when the weights become uniform, or when alpha or delta is ignored.
    #   |A| = 1, 2, 3:  w = |A|^α + δ,  p = w / Σ w
    frequency = mean_count([1, -2, 3], 3000, keep=0.2, replacement=replacement, **settings)
    assert stats.chisquare(3000 * frequency, 3000 * np.array(probability)).pvalue > 0.001


def test_two_draws_without_replacement_are_successive_draws():
    # Fails when the weights become uniform, or when the two are drawn in another way.
    #   p = ⅙, ⅓, ½:  P(i taken) = p_i + Σ_{j≠i} p_j · p_i / (1 − p_j)
    p = np.array([1, 2, 3]) / 6
    taken = [p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(3) if j != i) for i in range(3)]
    # Standard error of a frequency in 4000 draws: at most √(¼ / 4000) = 0.008.
    np.testing.assert_allclose(mean_count([1, 2, 3], 4000, keep=0.6), taken, atol=4 * 0.008)


@given(advantages, st.integers(0, 1000), st.booleans(), st.sampled_from(["batch", "group"]))
def test_episodes_without_advantage_are_never_drawn(advantage, seed, replacement, scope):
    # Fails when the weights become uniform.
    batch, advantage = single_steps(advantage, [i % 2 for i in range(len(advantage))])
    count, _ = aaw(batch, advantage, np.random.default_rng(seed), keep=1.0, replacement=replacement, scope=scope)
    assert not count[advantage == 0].any()
    if not replacement:
        np.testing.assert_array_equal(count, advantage != 0)


def test_too_few_with_weight_means_fewer_are_taken():
    batch, advantage = single_steps([0, 0, 5, 0])
    np.testing.assert_array_equal(aaw(batch, advantage, np.random.default_rng(0), keep=0.75).count, [0, 0, 1, 0])


@pytest.mark.parametrize("settings", [{}, {"replacement": True}, {"scope": "group"}, {"correction": "inverse"}])
def test_no_weight_at_all_means_that_nothing_is_taken(settings):
    batch, advantage = single_steps([0, 0, 0])
    count, factor = aaw(batch, advantage, np.random.default_rng(0), **settings)
    np.testing.assert_array_equal(count, [0, 0, 0])
    np.testing.assert_array_equal(factor, [1, 1, 1])


@given(advantages, st.integers(0, 1000), st.booleans())
def test_flipping_all_signs_changes_nothing(advantage, seed, replacement):
    batch, advantage = single_steps(advantage)
    plain = aaw(batch, advantage, np.random.default_rng(seed), replacement=replacement, correction="inverse")
    flipped = aaw(batch, -advantage, np.random.default_rng(seed), replacement=replacement, correction="inverse")
    np.testing.assert_array_equal(flipped.count, plain.count)
    np.testing.assert_array_equal(flipped.factor, plain.factor)


@given(advantages, st.integers(0, 1000), st.sampled_from([1e-6, 0.1, 3.0, 1e6]), st.booleans())
def test_the_scale_of_the_advantage_does_not_matter(advantage, seed, scale, replacement):
    batch, advantage = single_steps(advantage)
    plain = aaw(batch, advantage, np.random.default_rng(seed), replacement=replacement, correction="inverse")
    scaled = aaw(batch, scale * advantage, np.random.default_rng(seed), replacement=replacement, correction="inverse")
    np.testing.assert_array_equal(scaled.count, plain.count)
    np.testing.assert_allclose(scaled.factor, plain.factor, rtol=1e-9)


def test_an_episode_weighs_as_the_mean_over_its_steps():
    # Fails when steps are summed: then the long episode would be drawn in 3 of 4 cases.
    batch = episodes([[0, 0, 0], [0]])
    rng = np.random.default_rng(0)
    count = sum(aaw(batch, np.array([1, -1, 1, 1.0]), rng).count for _ in range(2000))
    assert stats.chisquare(count, [1000, 1000]).pvalue > 0.001


def test_a_large_exponent_is_top_k_and_does_not_overflow():
    batch, advantage = single_steps([1.0, -3.0, 2.0, 0.5])
    count, _ = aaw(batch, advantage, np.random.default_rng(0), alpha=5000.0)
    np.testing.assert_array_equal(count, top_k(batch, advantage, np.random.default_rng(0)).count)


def test_the_group_scope_takes_its_share_of_each_group():
    # Fails when `scope` is ignored: the second group would hardly ever be drawn.
    frequency = mean_count([1000, 1000, 0.001, 0.003], 1500, scope="group", group=[0, 0, 1, 1])
    # Standard error √(¼ / 1500) = 0.013.
    np.testing.assert_allclose(frequency, [0.5, 0.5, 0.25, 0.75], atol=4 * 0.013)


def test_with_replacement_an_episode_may_count_several_times():
    batch, advantage = single_steps([0, 7, 0, 0])
    np.testing.assert_array_equal(
        aaw(batch, advantage, np.random.default_rng(0), keep=1.0, replacement=True).count, [0, 4, 0, 0]
    )


@pytest.mark.parametrize(
    ("correction", "expected"), [("none", [1, 1]), ("inverse", [2, 2 / 3]), ("capped", [1.5, 2 / 3])]
)
def test_the_factor_with_replacement_by_hand(correction, expected):
    #   p = ¼, ¾ and E = 2:  1/(E p) = 2 and ⅔, so that factor · A = 2 · 1 = 2 and ⅔ · (−3) = −2: sign(A) · const
    batch, advantage = single_steps([1, -3])
    seen = np.full(2, np.nan)
    for seed in range(40):
        count, factor = aaw(
            batch, advantage, np.random.default_rng(seed), replacement=True, correction=correction, cap=1.5
        )
        seen[count > 0] = factor[count > 0]
    np.testing.assert_allclose(seen, expected)


@pytest.mark.parametrize("scope", ["batch", "group"])
@pytest.mark.parametrize("replacement", [False, True], ids=["without replacement", "with replacement"])
def test_the_inverse_correction_makes_the_update_unbiased(replacement, scope):
    # Fails when the factor is left out: the mean update would then be sharper, in proportion to |A| A.
    batch, advantage = single_steps([1, -3, 0.5, 2, 0, 4], group=[0, 0, 0, 1, 1, 1])
    slope = advantage * np.array([1.0, 0.3, -2.0, 1.5, 7.0, 0.2])
    rng = np.random.default_rng(1)
    settings = {"replacement": replacement, "scope": scope, "correction": "inverse"}
    updates = [(episode_mean(batch, aaw(batch, advantage, rng, **settings)) * slope).sum() for _ in range(4000)]
    error = np.std(updates) / np.sqrt(len(updates))
    assert abs(np.mean(updates) - slope.mean()) < 4 * error
    biased = [(episode_mean(batch, aaw(batch, advantage, rng)) * slope).sum() for _ in range(500)]
    assert abs(np.mean(biased) - slope.mean()) > 4 * error


def test_taking_everything_needs_no_correction():
    batch, advantage = single_steps([1, -3, 2])
    count, factor = aaw(batch, advantage, np.random.default_rng(0), keep=1.0, correction="inverse")
    np.testing.assert_array_equal(count, [1, 1, 1])
    np.testing.assert_allclose(factor, [1, 1, 1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0.0}, r"keep must be in \(0, 1\]"),
        ({"keep": 1.5}, r"keep must be in \(0, 1\]"),
        ({"alpha": -1.0}, "alpha must be finite and at least 0"),
        ({"delta": -0.1}, "delta must be finite and at least 0"),
        ({"delta": float("inf")}, "delta must be finite and at least 0"),
        ({"cap": 0.0}, "cap must be positive"),
        ({"scope": "episode"}, "no scope 'episode'; valid names: batch, group"),
        ({"correction": "full"}, "no correction 'full'; valid names: none, inverse, capped"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(settings, message):
    batch, advantage = single_steps([1, 2])
    with pytest.raises(UserError, match=message):
        aaw(batch, advantage, np.random.default_rng(0), **settings)
