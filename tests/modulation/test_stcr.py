import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.modulation.stcr import stcr
from lapwing.testing import episodes


def group(tokens, success, steps=None):
    """One group of episodes with so many tokens, in one step unless told otherwise."""
    steps = steps or [1] * len(tokens)
    split = [[n - (s - 1)] + [1] * (s - 1) for n, s in zip(tokens, steps, strict=True)]
    won = [float(w) for w in success]
    return episodes([[0.0] * s for s in steps], tokens_per_step=split, success=won)


@pytest.mark.parametrize(
    ("excess", "factor"), [(-50, 1.0), (0, 1.0), (100, 1.0009995), (1000, 1.0099501), (10**7, 2.0)]
)
def test_the_printed_factors(excess, factor):
    #   one success of 100 tokens
    batch = group([100, 100 + excess], [1, 0])
    np.testing.assert_allclose(stcr(batch, [1.0, -1.0]), [1.0, -factor], atol=1e-7)


def test_the_mean_length_of_the_successes_counts():
    #   mean of 10 and 30: the failure of 24 has Δ = 4;  1 + 1 − ½⁴
    batch = group([10, 30, 24], [1, 1, 0])
    np.testing.assert_allclose(stcr(batch, [1, 1, -2], base=2.0), [1, 1, -2 * 1.9375])


def test_lengths_in_steps():
    #   1 + 1 − ½² with steps, nothing with tokens
    batch = group([5, 5], [1, 0], steps=[1, 3])
    advantage = np.array([1.0, -1.0, -1.0, -1.0])
    np.testing.assert_allclose(stcr(batch, advantage, unit="steps", base=2.0), [1, -1.75, -1.75, -1.75])
    np.testing.assert_array_equal(stcr(batch, advantage, base=2.0), advantage)


def test_successes_positive_numbers_and_groups_without_success_stay():
    batch = group([1, 90, 90], [1, 1, 0])
    np.testing.assert_array_equal(stcr(batch, [-1.0, -1.0, 0.5], base=2.0), [-1, -1, 0.5])
    batch = group([1, 90], [0, 0])
    np.testing.assert_array_equal(stcr(batch, [-1.0, -1.0], base=2.0), [-1, -1])


def test_other_groups_do_not_count():
    batch = episodes([[0.0]] * 3, group=[0, 1, 1], tokens_per_step=[[1], [50], [50]], success=[1.0, 1.0, 0.0])
    np.testing.assert_array_equal(stcr(batch, [-1.0, -1.0, -1.0], base=2.0), [-1, -1, -1])


@given(st.integers(0, 99), st.floats(1.00001, 3), st.sampled_from(["tokens", "steps"]))
def test_it_agrees_with_the_definition(seed, base, unit):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 4, rng.integers(1, 8))
    batch = episodes(
        [[0.0] * n for n in lengths],
        group=rng.integers(0, 3, len(lengths)).tolist(),
        tokens_per_step=[rng.integers(0, 5, n).tolist() for n in lengths],
        success=rng.integers(0, 2, len(lengths)).astype(float).tolist(),
    )
    advantage = rng.normal(size=batch.num_steps)
    size = [int(np.sum(batch.episode_of_step[batch.step_of_token] == i)) for i in range(len(lengths))]
    size = size if unit == "tokens" else lengths
    won = batch.column("success") == 1
    expected = advantage.copy()
    for n, i in enumerate(batch.episode_of_step):
        mean = [size[j] for j in range(len(lengths)) if won[j] and batch.group[j] == batch.group[i]]
        if mean and not won[i] and size[i] > np.mean(mean) and advantage[n] < 0:
            expected[n] *= 1 + (1 - base ** -(size[i] - np.mean(mean)))
    np.testing.assert_allclose(stcr(batch, advantage, unit=unit, base=base), expected, rtol=1e-12)


def test_a_game_without_success_is_refused():
    with pytest.raises(UserError, match="stcr needs finite numbers in the column 'success', but episode 0 has nan"):
        stcr(episodes([[1.0]], success=[np.nan]), [1.0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"unit": "turns"}, "no unit 'turns'; valid names: tokens, steps"),
        ({"base": 1.0}, "above 1"),
        ({"base": np.nan}, "above 1"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        stcr(group([1, 2], [1, 0]), np.zeros(2), **settings)
