import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.grpo import grpo
from lapwing.credit.reinforce import reinforce
from lapwing.modulation.whiten import whiten
from lapwing.testing import episodes

FIVE = episodes([[0, 0], [0, 0, 0]])
numbers = st.lists(st.integers(-9, 9), min_size=2, max_size=8)


def test_published_numbers():
    #   REINFORCE++: two numbers 1 and three 0, mean .4, sample variance .3
    np.testing.assert_allclose(whiten(FIVE, [1, 1, 0, 0, 0], eps=0), [1.0954451] * 2 + [-0.7302967] * 3, atol=1e-7)
    #   ReBN: mean .3
    expected = [0.4472136, 1.5652476, -0.6708204, -0.6708204, -0.6708204]
    np.testing.assert_allclose(whiten(FIVE, [0.5, 1, 0, 0, 0], eps=1e-9), expected, atol=1e-7)


def test_the_population_form():
    batch = episodes([[0], [0]])
    np.testing.assert_allclose(whiten(batch, [3, 1], ddof=0, eps=0), [1, -1])
    np.testing.assert_allclose(whiten(batch, [3, 1], ddof=0, eps=1.0), [0.5, -0.5])


def test_groups_are_whitened_apart():
    batch = episodes([[0], [0], [0], [0], [0]], group=[5, 2, 5, 2, 8])
    #   ddof 0: group 5 is 3, 1; group 2 is 30, 10; group 8 is alone
    np.testing.assert_allclose(whiten(batch, [3, 30, 1, 10, 4], over="group", ddof=0, eps=0), [1, 1, -1, -1, 0])


def test_per_token_the_statistics_run_over_tokens():
    # Fails when a long reply counts once: mean (2·1 + 1·4)/3 = 2.
    batch = episodes([[0], [0]], tokens_per_step=[[2], [1]])
    np.testing.assert_allclose(whiten(batch, [1, 1, 4], eps=0), np.array([-1, -1, 2]) / np.sqrt(3))
    #   by group, with a step without tokens
    batch = episodes([[0], [0, 0], [0]], group=[1, 1, 2], tokens_per_step=[[1], [0, 1], [3]])
    np.testing.assert_allclose(whiten(batch, [3, 1, 7, 7, 10], over="group", ddof=0, eps=0)[:2], [1, -1])


def test_without_spread_the_result_is_exactly_0():
    batch = episodes([[0], [0], [0]])
    np.testing.assert_array_equal(whiten(batch, [0.1, 0.1, 0.1], eps=0), [0, 0, 0])
    #   a sum in another order is no spread
    np.testing.assert_array_equal(whiten(batch, [0.1 + 0.2, 0.3, 0.3], eps=0), [0, 0, 0])
    np.testing.assert_array_equal(whiten(episodes([[0]]), [5.0]), [0])


@given(numbers, st.integers(-5, 5), st.integers(1, 5))
def test_mean_0_and_deviation_1_whatever_shift_and_scale(values, shift, scale):
    batch = episodes([[0] for _ in values])
    found = whiten(batch, np.array(values, dtype=float), eps=0)
    np.testing.assert_allclose(whiten(batch, scale * np.array(values) + shift, eps=0), found, atol=1e-9)
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert found.std(ddof=1) == pytest.approx(1 if len(set(values)) > 1 else 0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 3)), min_size=1, max_size=8))
def test_returns_of_one_step_episodes_whitened_by_group_are_grpo(members):
    batch = episodes([[r] for _, r in members], group=[g for g, _ in members])
    for credit in (reinforce, dr_grpo):
        np.testing.assert_allclose(whiten(batch, credit(batch), over="group"), grpo(batch), atol=1e-9)


@pytest.mark.parametrize("over", ["batch", "group"])
@pytest.mark.parametrize("level", ["step", "token"])
def test_it_agrees_with_the_definition_on_random_batches(random_batch, over, level):
    for seed in range(50):
        batch = random_batch(seed)
        episode = batch.episode_of_step if level == "step" else batch.episode_of_step[batch.step_of_token]
        if level == "token" and batch.num_tokens == batch.num_steps:
            continue  # such a length is read as one number per step
        values = np.random.default_rng(seed).integers(0, 3, len(episode)).astype(float)
        group = batch.group[episode]
        expected = []
        for n, value in enumerate(values):
            mine = [v for m, v in enumerate(values) if over == "batch" or group[m] == group[n]]
            spread = np.std(mine, ddof=1) if len(set(mine)) > 1 else 0.0
            expected.append((value - np.mean(mine)) / (spread + 1e-6) if spread else 0.0)
        np.testing.assert_allclose(whiten(batch, values, over=over), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"over": "grup"}, "no scope 'grup'"),
        ({"ddof": -1}, "ddof must be at least 0"),
        ({"eps": -1.0}, "eps must be at least 0"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        whiten(FIVE, np.zeros(5), **settings)


def test_what_it_cannot_use_is_refused():
    with pytest.raises(UserError, match="whiten takes one advantage per step or per token"):
        whiten(FIVE, np.zeros(4))
    with pytest.raises(UserError, match="number 2 is inf"):
        whiten(FIVE, [0, 0, np.inf, 0, 0])
