import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.grpo import grpo
from lapwing.credit.mt_grpo import mt_grpo
from lapwing.testing import episodes

reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)
h = np.sqrt(3) / 2  # 0.8660254: ±½ over the sample standard deviation √(4·¼/3) of two halves
s = np.sqrt(0.5)  # 0.7071068: ±½ over the sample standard deviation √½ of a pair


def search_and_answer(**columns):
    """Four episodes: a search worth 1, 1, 0, 0, then an answer worth 1, 0, 0, 1."""
    return episodes([[1, 0], [1, 0], [0, 0], [0, 0]], outcome=[1, 0, 0, 1], **columns)


@pytest.mark.parametrize(
    ("settings", "first_turn"),
    [
        #   A^I = h, h, −h, −h;  A^O = h, −h, −h, h;  turn 1: A^I + A^O
        ({}, [2 * h, 0, -2 * h, 0]),
        ({"weight_on": "turn"}, [2 * h, 0, -2 * h, 0]),
        #   A^I + ½ A^O
        ({"coefficient": 0.5}, [1.2990381, 0.4330127, -1.2990381, -0.4330127]),
        #   A^O + ½ A^I: another sign where search and answer disagree
        ({"coefficient": 0.5, "weight_on": "turn"}, [1.2990381, -0.4330127, -1.2990381, 0.4330127]),
        ({"coefficient": 0.0}, [h, h, -h, -h]),
    ],
    ids=["coefficient 1", "coefficient 1 on the turn", "half the outcome", "half the turn", "turn only"],
)
def test_two_turns_by_hand(settings, first_turn):
    # The second turn, the answer, has the outcome's advantage whatever the settings.
    advantage = mt_grpo(search_and_answer(), eps=0.0, **settings)
    np.testing.assert_allclose(advantage[0::2], first_turn, atol=1e-6)
    np.testing.assert_allclose(advantage[1::2], [h, -h, -h, h], atol=1e-6)


def test_published_eps():
    #   ½ / (0.5773503 + 0.0001)
    advantage = mt_grpo(search_and_answer(), eps=1e-4)
    np.testing.assert_allclose(advantage[1::2], [0.865875, -0.865875, -0.865875, 0.865875], atol=1e-6)


def test_tokens_have_the_advantage_of_their_turn():
    # The two tokens between the turns are the environment's, which own no credit and no place on the token axis.
    batch = search_and_answer(tokens_per_step=2)
    np.testing.assert_allclose(batch.spread(mt_grpo(batch, eps=0.0))[:4], [2 * h, 2 * h, h, h], atol=1e-6)


@pytest.mark.parametrize(
    ("horizon", "expected"),
    [
        #   A^I_1 = s, −s;  A^I_2 = −s, s;  A^O = s, −s
        #   suffix, episode 0: s − s + s, −s + s, s.  immediate: s + s, −s + s, s
        ("suffix", [s, 0, s, -s, 0, -s]),
        ("immediate", [2 * s, 0, s, -2 * s, 0, -s]),
    ],
)
def test_three_turns_by_hand(horizon, expected):
    batch = episodes([[1, 0, 0], [0, 1, 0]], outcome=[1, 0])
    np.testing.assert_allclose(mt_grpo(batch, horizon=horizon, eps=0.0), expected, atol=1e-6)


def test_the_reward_of_the_last_step_counts_with_the_outcome():
    # Fails when it counts as a turn reward, or not at all.
    moved = episodes([[1, 1], [1, 0], [0, 0], [0, 1]])
    np.testing.assert_allclose(mt_grpo(moved), mt_grpo(search_and_answer()), atol=1e-12)


def test_an_episode_without_intermediate_turn_has_its_merged_return():
    #   outcomes 0, 0, 3 (2 + 1): mean 1, std √3;  A^O = −1/√3, −1/√3, 2/√3
    #   turn rewards 4 and 2 of the two episodes that have the turn: A^I = s, −s;  the third has none
    #   merged returns 4, 2, 3: mean 3, so the third episode has 0 and not its 2/√3
    batch = episodes([[4, 0], [2, 0], [1]], outcome=[0, 0, 2])
    o = 1 / np.sqrt(3)
    np.testing.assert_allclose(mt_grpo(batch, eps=0.0), [s - o, -o, -s - o, -o, 0], atol=1e-6)


def test_skipping_a_rewarded_turn_is_not_free():
    # All outcomes are equal, so only the merged return tells the episode that skipped from the others.
    batch = episodes([[1, 0], [1, 0], [0]], outcome=[1, 1, 1])
    np.testing.assert_allclose(mt_grpo(batch, eps=0.0), [0, 0, 0, 0, -2 / np.sqrt(3)], atol=1e-6)


def test_a_turn_is_compared_only_with_episodes_that_have_it():
    # Fails when an absent turn, or the last step at that index, counts as turn reward 0.
    #   turn 1: rewards 5 (episode 0) and 7 (episode 1) are intermediate, 100 of episode 2 is a last step
    batch = episodes([[0, 5, 0], [0, 7, 0], [0, 100]], outcome=[0, 0, -100])
    np.testing.assert_allclose(mt_grpo(batch, eps=0.0), [-s, -s, 0, s, s, 0, 0, 0], atol=1e-6)


def test_groups_are_kept_apart_and_a_group_of_one_is_zero():
    batch = episodes([[1, 0], [50, 9], [0, 0]], outcome=[1, 3, 0], group=[4, 2, 4])
    np.testing.assert_allclose(mt_grpo(batch, eps=0.0), [2 * s, s, 0, 0, -2 * s, -s], atol=1e-6)
    np.testing.assert_array_equal(mt_grpo(batch, eps=0.0)[2:4], [0, 0])


def test_equal_numbers_give_exactly_zero_whatever_the_rounding_of_the_mean():
    np.testing.assert_array_equal(mt_grpo(episodes([[0.1, 0.1]] * 3, outcome=[0.7] * 3), eps=0.0), np.zeros(6))


@given(reward_lists, st.lists(st.integers(-3, 3), min_size=6, max_size=6), st.sampled_from(["outcome", "turn"]))
def test_without_turn_rewards_it_is_grpo(rewards, outcome, weight_on):
    batch = episodes([[0] * len(r) for r in rewards], outcome=outcome[: len(rewards)])
    np.testing.assert_allclose(mt_grpo(batch, weight_on=weight_on), grpo(batch), atol=1e-12)


@given(reward_lists, st.lists(st.integers(-3, 3), min_size=6, max_size=6))
def test_coefficient_zero_on_the_turn_is_grpo_on_the_outcome(rewards, outcome):
    outcome = outcome[: len(rewards)]
    batch = episodes([[*r, 0] for r in rewards], outcome=outcome)
    plain = episodes([[0] * (len(r) + 1) for r in rewards], outcome=outcome)
    np.testing.assert_allclose(mt_grpo(batch, coefficient=0.0, weight_on="turn"), grpo(plain), atol=1e-12)


@given(reward_lists)
def test_with_two_turns_the_horizon_does_not_matter(rewards):
    batch = episodes([[r[0], r[-1]] for r in rewards])
    np.testing.assert_array_equal(mt_grpo(batch, horizon="suffix"), mt_grpo(batch, horizon="immediate"))


@given(reward_lists, st.integers(-9, 9))
def test_a_constant_added_to_every_outcome_changes_nothing(rewards, shift):
    np.testing.assert_allclose(
        mt_grpo(episodes(rewards, outcome=[shift] * len(rewards))), mt_grpo(episodes(rewards)), atol=1e-9
    )


@given(st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=2, max_size=6), st.integers(-9, 9))
def test_a_constant_added_to_every_reward_of_a_turn_changes_nothing(rewards, shift):
    shifted = [[r[0], r[1] + shift, r[2]] for r in rewards]
    np.testing.assert_allclose(mt_grpo(episodes(shifted)), mt_grpo(episodes(rewards)), atol=1e-9)


@given(reward_lists, st.sampled_from([0.5, 2.0, 100.0]))
def test_the_scale_of_the_reward_does_not_matter_without_eps(rewards, scale):
    scaled = [[scale * r for r in episode] for episode in rewards]
    np.testing.assert_allclose(mt_grpo(episodes(scaled), eps=0.0), mt_grpo(episodes(rewards), eps=0.0), atol=1e-9)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=2, max_size=6))
def test_with_equal_lengths_each_turn_sums_to_zero_over_the_group(rewards):
    advantage = mt_grpo(episodes(rewards, outcome=[r[0] for r in rewards])).reshape(-1, 3)
    np.testing.assert_allclose(advantage.sum(0), 0, atol=1e-9)


def loop(batch, coefficient=1.0, weight_on="outcome", horizon="suffix", ddof=1, eps=1e-6):
    """The same, written out episode by episode."""

    def normal(own, others):
        if len(others) <= ddof or max(others) - min(others) < 1e-9:
            return 0.0
        return (own - np.mean(others)) / (np.std(others, ddof=ddof) + eps)

    rewards = [batch.reward[a:b] for a, b in zip(batch.step_splits[:-1], batch.step_splits[1:], strict=True)]
    answer = []
    for i, mine in enumerate(rewards):
        group = [j for j in range(len(rewards)) if batch.group[j] == batch.group[i]]
        if len(mine) == 1:
            merged = [rewards[j].sum() + batch.outcome[j] for j in group]
            answer.append(normal(mine.sum() + batch.outcome[i], merged))
            continue
        of_outcome = normal(mine[-1] + batch.outcome[i], [rewards[j][-1] + batch.outcome[j] for j in group])
        of_turn = [
            normal(mine[k], [rewards[j][k] for j in group if k < len(rewards[j]) - 1]) for k in range(len(mine) - 1)
        ]
        for k in range(len(mine) - 1):
            local = sum(of_turn[k:]) if horizon == "suffix" else of_turn[k]
            turn_form = of_outcome + coefficient * local
            answer.append(local + coefficient * of_outcome if weight_on == "outcome" else turn_form)
        answer.append(of_outcome)
    return answer


@pytest.mark.parametrize(
    "settings",
    [{}, {"coefficient": 0.3, "weight_on": "turn", "horizon": "immediate", "ddof": 0, "eps": 0.1}],
    ids=["defaults", "all else"],
)
def test_it_agrees_with_loops_on_random_ragged_batches(make_keyed_batch, settings):
    for seed in range(200):
        batch = make_keyed_batch(seed)
        np.testing.assert_allclose(mt_grpo(batch, **settings), loop(batch, **settings), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coefficient": -0.1}, "coefficient must be finite and at least 0"),
        ({"coefficient": float("nan")}, "coefficient must be finite and at least 0"),
        ({"weight_on": "turns"}, "no weight_on 'turns'; did you mean turn"),
        ({"horizon": "sufix"}, "no horizon 'sufix'; did you mean suffix"),
        ({"ddof": -1}, "ddof must be at least 0"),
        ({"eps": float("nan")}, "eps must be at least 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        mt_grpo(episodes([[1]]), **settings)
