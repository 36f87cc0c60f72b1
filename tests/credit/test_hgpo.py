import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.gigpo import gigpo
from lapwing.credit.hgpo import hgpo
from lapwing.testing import episodes

keyed_steps = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2)), min_size=1, max_size=5), min_size=1, max_size=6
)
A, B, X = 11, 12, 13


def keyed(steps, **others):
    """A batch from lists of (reward, view key), one list per episode."""
    rewards = [[reward for reward, _ in episode] for episode in steps]
    return episodes(rewards, view_key=[[key for _, key in episode] for episode in steps], **others)


def through_x(*last, first=(A, A, B), **others):
    """Three episodes that meet in x, two of them from a, with the given last rewards."""
    return keyed([[(0, key), (reward, X)] for key, reward in zip(first, last, strict=True)], **others)


def centred(value, values, *, scale_by_std, ddof, eps):
    if np.ptp(values) < 1e-10 or (scale_by_std and len(values) <= ddof):
        return 0.0
    deviation = value - np.mean(values)
    return deviation / (np.std(values, ddof=ddof) + eps) if scale_by_std else deviation


def loop(batch, *, discount, depth, alpha, base_group, level_weights, **scaling):
    """The definition, one step after the other."""
    size, of_step, group = batch.num_steps, batch.episode_of_step, batch.group[batch.episode_of_step]
    to_go = np.zeros(size)
    for n in reversed(range(size)):
        last = n == size - 1 or of_step[n + 1] != of_step[n]
        to_go[n] = batch.reward[n] + (batch.outcome[of_step[n]] if last else discount * to_go[n + 1])

    def history(n, views):
        past = [m for m in range(max(n - views + 1, 0), n + 1) if of_step[m] == of_step[n]]
        keys = tuple(int(batch.view_key[m]) for m in past)
        return None if len(keys) < views or 0 in keys else keys

    advantage = np.zeros(size)
    for n in range(size):
        entries = []
        for views in range(1, depth + 2):
            mine = history(n, views)
            peers = [m for m in range(size) if mine and group[m] == group[n] and history(m, views) == mine]
            weight = (views + 1.0) ** alpha if level_weights == "code" else float(views) ** alpha
            entries.append((weight, centred(to_go[n], to_go[peers], **scaling) if peers else 0.0))
        if base_group:
            mates = batch.episode_return[batch.group == group[n]]
            entries.append((1.0, centred(batch.episode_return[of_step[n]], mates, **scaling)))
        entries = [(weight, entry) for weight, entry in entries if abs(entry) > 1e-9]
        if entries:
            advantage[n] = sum(weight * entry for weight, entry in entries) / sum(weight for weight, _ in entries)
    return advantage


def test_two_depths_weigh_two_fifths_and_three_fifths():
    # Fails when the histories are not compared, or the weights are equal.
    #   in x: 4, 0, 5, mean 3 → 1, −3, 2;  in x from a: 4, 0, mean 2 → 2, −2;  from b alone
    expected = [0, 2 / 5 * 1 + 3 / 5 * 2, 0, 2 / 5 * -3 + 3 / 5 * -2, 0, 2]
    np.testing.assert_allclose(hgpo(through_x(4, 0, 5), discount=0.0), expected)


def test_the_papers_weights_count_the_history_only():
    expected = [0, 1 / 3 * 1 + 2 / 3 * 2, 0, 1 / 3 * -3 + 2 / 3 * -2, 0, 2]
    np.testing.assert_allclose(hgpo(through_x(4, 0, 5), discount=0.0, level_weights="paper"), expected)


def test_a_larger_alpha_trusts_the_longer_history_more():
    #   α = 2: weights 4/13 and 9/13;  α = 0: ½ and ½
    batch = through_x(4, 0, 5)
    np.testing.assert_allclose(hgpo(batch, discount=0.0, alpha=2.0)[1], 4 / 13 * 1 + 9 / 13 * 2)
    np.testing.assert_allclose(hgpo(batch, discount=0.0, alpha=0.0)[1], 1.5)


def test_a_depth_that_says_nothing_gives_its_weight_to_the_others():
    #   in x: 4, 0, 8, mean 4 → 0, −4, 4;  from a: 2, −2
    expected = [0, 2, 0, 2 / 5 * -4 + 3 / 5 * -2, 0, 4]
    np.testing.assert_allclose(hgpo(through_x(4, 0, 8), discount=0.0), expected)


def test_a_return_equal_to_the_mean_up_to_rounding_says_nothing():
    # The float mean of 0.1, 0 and 0.2 is not 0.1; counted as an entry, it would take two fifths away.
    assert np.mean([0.1, 0.0, 0.2]) != 0.1
    np.testing.assert_allclose(hgpo(through_x(0.1, 0.0, 0.2), discount=0.0)[1], 0.05, rtol=1e-12)


def test_the_depth_bounds_the_history_that_is_compared():
    #   from b x: 6 and 0 at depths up to 2 (one step of history), at depth 3 the a before b differs from the x
    batch = keyed([[(0, A), (0, B), (6, X)], [(0, X), (0, B), (0, X)]])
    #   in x: 6, 0, 0, mean 2 → 4, −2, −2;  from b: ±3;  from a b and x b: alone
    np.testing.assert_allclose(hgpo(batch, discount=0.0, depth=0), [0, 0, 4, -2, 0, -2])
    for depth in (1, 2, 5):
        expected = [0, 0, 2 / 5 * 4 + 3 / 5 * 3, -2, 0, 2 / 5 * -2 + 3 / 5 * -3]
        np.testing.assert_allclose(hgpo(batch, discount=0.0, depth=depth), expected)


def test_the_history_does_not_reach_into_the_episode_before():
    # The last step of the first episode and the first of the second are neighbours in the batch only.
    batch = keyed([[(0, A)], [(4, X)], [(0, A), (0, X)]])
    np.testing.assert_allclose(hgpo(batch, discount=0.0), [0, 2, 0, -2])


def test_the_base_group_joins_with_weight_one():
    #   returns 4, 0, 5, mean 3 → 1, −3, 2; weights 1 : 2 : 3
    batch = through_x(4, 0, 5)
    expected = [1, (1 + 2 * 1 + 3 * 2) / 6, -3, (-3 + 2 * -3 + 3 * -2) / 6, 2, (2 + 2 * 2) / 3]
    np.testing.assert_allclose(hgpo(batch, discount=0.0, base_group=True), expected)


def test_in_standard_deviations():
    #   in x: std √((1 + 9 + 4)/2) = √7;  from a: √((4 + 4)/1) = √8
    scaled = hgpo(through_x(4, 0, 5), discount=0.0, scale_by_std=True, eps=0.0)
    np.testing.assert_allclose(scaled[1], 2 / 5 / np.sqrt(7) + 3 / 5 * 2 / np.sqrt(8))
    #   population: √(14/3) and 2
    scaled = hgpo(through_x(4, 0, 5), discount=0.0, scale_by_std=True, eps=0.0, ddof=0)
    np.testing.assert_allclose(scaled[1], 2 / 5 / np.sqrt(14 / 3) + 3 / 5)


@pytest.mark.parametrize("seed", range(200))
def test_it_agrees_with_a_loop(seed, make_keyed_batch):
    batch = make_keyed_batch(seed)
    rng = np.random.default_rng(seed)
    settings = {
        "discount": rng.choice([0.0, 0.5, 0.95, 1.0]),
        "depth": int(rng.integers(0, 4)),
        "alpha": rng.choice([0.0, 1.0, 2.0]),
        "scale_by_std": bool(rng.integers(0, 2)),
        "ddof": int(rng.integers(0, 2)),
        "eps": 1e-6,
        "base_group": bool(rng.integers(0, 2)),
        "level_weights": str(rng.choice(["code", "paper"])),
    }
    np.testing.assert_allclose(hgpo(batch, **settings), loop(batch, **settings), atol=1e-9)


@given(keyed_steps, st.booleans())
def test_depth_zero_is_the_step_part_of_gigpo(steps, scale_by_std):
    batch = keyed(steps)
    step_part = gigpo(batch, scale_by_std=scale_by_std) - gigpo(batch, step_weight=0.0, scale_by_std=scale_by_std)
    np.testing.assert_allclose(hgpo(batch, depth=0, scale_by_std=scale_by_std), step_part, atol=1e-9)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=1, max_size=6))
def test_without_repeated_views_only_the_base_group_is_left(rewards):
    distinct = iter(range(1, 100))
    batch = episodes(rewards, view_key=[[next(distinct) for _ in episode] for episode in rewards])
    np.testing.assert_array_equal(hgpo(batch), np.zeros(batch.num_steps))
    np.testing.assert_allclose(hgpo(batch, base_group=True), dr_grpo(batch), atol=1e-9)


@given(keyed_steps, st.integers(-9, 9))
def test_a_constant_added_to_every_outcome_changes_nothing_without_discount(steps, shift):
    plain = keyed(steps, outcome=[0] * len(steps))
    shifted = keyed(steps, outcome=[shift] * len(steps))
    np.testing.assert_allclose(hgpo(shifted, discount=1.0), hgpo(plain, discount=1.0), atol=1e-9)


def test_equal_returns_and_groups_of_one_give_exactly_zero():
    batch = through_x(0.1, 0.1, 0.1, first=(A, A, A))
    np.testing.assert_array_equal(hgpo(batch), np.zeros(6))
    np.testing.assert_array_equal(hgpo(through_x(4, 0, 5, group=[0, 1, 2])), np.zeros(6))


def test_the_same_history_in_another_group_is_another_one():
    batch = through_x(4, 9, 0, first=(A, A, A), group=[3, 5, 3])
    np.testing.assert_allclose(hgpo(batch, discount=0.0), [0, 2, 0, 0, 0, -2])


def test_a_history_with_an_unknown_view_in_it_matches_nothing():
    #   depth 1 only: in x 4, 0, mean 2
    batch = keyed([[(0, 0), (4, X)], [(0, 0), (0, X)]])
    np.testing.assert_allclose(hgpo(batch, discount=0.0), [0, 2, 0, -2])


def test_a_truncated_episode_is_worth_nothing_past_its_end_and_tokens_play_no_part():
    cut = through_x(4, 0, 5, truncated=[True, False, True], tokens_per_step=[[0, 1], [2, 2], [1, 0]])
    np.testing.assert_array_equal(hgpo(cut), hgpo(through_x(4, 0, 5)))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("discount", 1.1, r"discount must be in \[0, 1\]"),
        ("depth", -1, "depth must be at least 0"),
        ("alpha", -0.5, "alpha must be finite and at least 0"),
        ("ddof", -1, "ddof must be at least 0"),
        ("eps", -1.0, "eps must be at least 0"),
        ("level_weights", "papers", "did you mean paper"),
    ],
)
def test_settings_out_of_range_are_refused(setting, value, message):
    with pytest.raises(UserError, match=message):
        hgpo(through_x(4, 0, 5), **{setting: value})
