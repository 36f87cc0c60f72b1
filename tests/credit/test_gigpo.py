import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.gigpo import gigpo
from lapwing.credit.grpo import grpo
from lapwing.credit.state_td import state_td
from lapwing.testing import episodes

keyed_steps = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=5), min_size=1, max_size=6
)
S0, S1 = 11, 12


def keyed(steps, **others):
    """A batch from lists of (reward, view key), one list per episode."""
    rewards = [[reward for reward, _ in episode] for episode in steps]
    return episodes(rewards, view_key=[[key for _, key in episode] for episode in steps], **others)


def published(**others):
    return keyed([[(0, S0), (1, S1)], [(0, S0), (0, S0), (0, S1)]], **others)


def spread_of(values, mean, *, scale_by_std, ddof, eps):
    """The divisor of one set of numbers, or none where they do not differ."""
    if np.ptp(values) < 1e-10 or (scale_by_std and len(values) <= ddof):
        return np.inf
    return np.sqrt(np.sum((values - mean) ** 2) / (len(values) - ddof)) + eps if scale_by_std else 1.0


def loop(batch, *, discount, step_weight, episode_statistics, **scaling):
    """The definition, one step after the other."""
    size, of_step = batch.num_steps, batch.episode_of_step
    to_go, total = np.zeros(size), np.zeros(batch.num_episodes)
    for n in reversed(range(size)):
        i = of_step[n]
        last = n == size - 1 or of_step[n + 1] != i
        to_go[n] = batch.reward[n] + (batch.outcome[i] if last else discount * to_go[n + 1])
        total[i] += batch.reward[n] + (batch.outcome[i] if last else 0)
    advantage = np.zeros(size)
    for n in range(size):
        i = of_step[n]
        mates = [j for j in range(batch.num_episodes) if batch.group[j] == batch.group[i]]
        rows = [m for m in range(size) if of_step[m] in mates]
        counted = total[mates] if episode_statistics == "episodes" else total[of_step[rows]]
        alike = [m for m in rows if batch.view_key[m] == batch.view_key[n]] if batch.view_key[n] else [n]
        for weight, value, values in ((1.0, total[i], counted), (step_weight, to_go[n], to_go[alike])):
            mean = np.mean(values)
            advantage[n] += weight * (value - mean) / spread_of(values, mean, **scaling)
    return advantage


def test_the_published_example():
    # Fails when the step part is left out, or the return to go is not discounted.
    #   γ = ½: to go ½, 1 and 0, 0, 0
    #   A^E = ±½;  s0: mean of ½, 0, 0 = 1/6 → 1/3, −1/6, −1/6;  s1: mean of 1, 0 → ±½
    expected = [0.8333333, 1.0, -0.6666667, -0.6666667, -1.0]
    np.testing.assert_allclose(gigpo(published(), discount=0.5), expected, atol=1e-6)


def test_the_published_example_in_standard_deviations():
    #   A^E = ±½/√½ = ±0.7071068;  s0: std of ½, 0, 0 = 0.2886751;  s1: ±0.7071068
    expected = [1.8618073, 1.4142136, -1.2844571, -1.2844571, -1.4142136]
    scaled = gigpo(published(), discount=0.5, scale_by_std=True, eps=0.0)
    np.testing.assert_allclose(scaled, expected, atol=1e-6)


def test_statistics_over_rows_count_a_long_episode_once_per_step():
    #   scores 1 (2 steps) and 0 (3 steps): mean 2/5 instead of ½, so A^E = 0.6 and −0.4
    rows = gigpo(published(), step_weight=0.0, episode_statistics="steps")
    np.testing.assert_allclose(rows, [0.6, 0.6, -0.4, -0.4, -0.4])
    #   sample std over rows: √((2·0.36 + 3·0.16)/4) = √0.3
    scaled = gigpo(published(), step_weight=0.0, episode_statistics="steps", scale_by_std=True, eps=0.0)
    np.testing.assert_allclose(scaled, np.array([0.6, 0.6, -0.4, -0.4, -0.4]) / np.sqrt(0.3))


def test_the_defaults():
    #   γ = 0.95, ω = 1, F = 1: to go 0.95, 1 and 0, 0, 0; s0: mean 0.95/3
    expected = [0.5 + 0.95 * 2 / 3, 1.0, -0.5 - 0.95 / 3, -0.5 - 0.95 / 3, -1.0]
    np.testing.assert_allclose(gigpo(published()), expected)


@pytest.mark.parametrize("seed", range(200))
def test_it_agrees_with_a_loop(seed, make_keyed_batch):
    batch = make_keyed_batch(seed)
    rng = np.random.default_rng(seed)
    settings = {
        "discount": rng.choice([0.0, 0.5, 0.95, 1.0]),
        "step_weight": rng.choice([0.0, 0.5, 1.0]),
        "scale_by_std": bool(rng.integers(0, 2)),
        "ddof": int(rng.integers(0, 3)),
        "eps": 1e-6,
        "episode_statistics": str(rng.choice(["episodes", "steps"])),
    }
    np.testing.assert_allclose(gigpo(batch, **settings), loop(batch, **settings), atol=1e-9)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=1, max_size=6), st.floats(0, 5))
def test_without_repeated_views_it_is_grpo_whatever_the_weight(rewards, weight):
    distinct = iter(range(1, 100))
    batch = episodes(
        rewards,
        group=[i % 2 for i in range(len(rewards))],
        view_key=[[next(distinct) for _ in episode] for episode in rewards],
    )
    np.testing.assert_allclose(gigpo(batch, step_weight=weight), dr_grpo(batch), atol=1e-9)
    np.testing.assert_allclose(gigpo(batch, step_weight=weight, scale_by_std=True), grpo(batch), atol=1e-9)


@given(keyed_steps)
def test_with_weight_zero_it_is_grpo(steps):
    batch = keyed(steps)
    np.testing.assert_allclose(gigpo(batch, step_weight=0.0), dr_grpo(batch), atol=1e-9)
    np.testing.assert_allclose(gigpo(batch, step_weight=0.0, scale_by_std=True), grpo(batch), atol=1e-9)


@given(keyed_steps, st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_the_step_part_is_state_td_with_lambda_one(steps, discount):
    batch = keyed(steps)
    step_part = gigpo(batch, discount=discount) - gigpo(batch, step_weight=0.0)
    np.testing.assert_allclose(step_part, state_td(batch, discount=discount, lambda_=1.0), atol=1e-9)


@given(keyed_steps)
def test_the_steps_of_a_state_sum_to_zero_in_the_step_part(steps):
    batch = keyed(steps)
    step_part = gigpo(batch) - gigpo(batch, step_weight=0.0)
    np.testing.assert_allclose(np.bincount(batch.view_key.astype(int), step_part), 0, atol=1e-9)


@given(keyed_steps, st.integers(-9, 9))
def test_a_constant_added_to_every_outcome_changes_nothing_without_discount(steps, shift):
    plain = keyed(steps, outcome=[0] * len(steps))
    shifted = keyed(steps, outcome=[shift] * len(steps))
    for scale_by_std in (False, True):
        settings = {"discount": 1.0, "scale_by_std": scale_by_std}
        np.testing.assert_allclose(gigpo(shifted, **settings), gigpo(plain, **settings), atol=1e-9)


@pytest.mark.parametrize("settings", [{}, {"scale_by_std": True, "eps": 0.0}, {"episode_statistics": "steps"}])
def test_groups_of_one_and_sets_without_spread_give_exactly_zero(settings):
    # verl-agent gives a group of one its raw return. The float mean of three times 0.1 is not 0.1.
    batch = keyed([[(0, S0), (0.1, S1)]] * 3 + [[(7.3, S0), (0, S1)]], group=[0, 0, 0, 1])
    np.testing.assert_array_equal(gigpo(batch, **settings), np.zeros(8))


def test_the_same_view_in_another_group_is_another_state():
    batch = keyed([[(0, S0)], [(9, S0)], [(1, S0)], [(9, S0)]], group=[3, 5, 3, 5])
    np.testing.assert_array_equal(gigpo(batch), [-1, 0, 1, 0])


def test_the_outcome_counts_in_both_parts():
    #   A^E = ±½;  to go in s0: 0.95 and 0
    batch = keyed([[(0, S0), (0, 0)], [(0, S0), (0, 0)]], outcome=[1, 0])
    np.testing.assert_allclose(gigpo(batch), [0.975, 0.5, -0.975, -0.5])


def test_a_truncated_episode_is_worth_nothing_past_its_end():
    np.testing.assert_array_equal(gigpo(published(truncated=[True, False])), gigpo(published()))


def test_steps_without_tokens_count_like_any_other():
    np.testing.assert_array_equal(gigpo(published(tokens_per_step=[[0, 1], [2, 0, 1]])), gigpo(published()))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("discount", 1.1, r"discount must be in \[0, 1\]"),
        ("step_weight", -1.0, "step_weight must be finite and at least 0"),
        ("ddof", -1, "ddof must be at least 0"),
        ("eps", float("nan"), "eps must be at least 0"),
        ("episode_statistics", "step", "did you mean steps"),
    ],
)
def test_settings_out_of_range_are_refused(setting, value, message):
    with pytest.raises(UserError, match=message):
        gigpo(published(), **{setting: value})
