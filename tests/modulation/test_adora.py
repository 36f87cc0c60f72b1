import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.modulation.adora import adora
from lapwing.testing import episodes


def group(successes=(), failures=(), cut=()):
    """One group of one-step episodes with so many tokens."""
    tokens = [*successes, *failures, *cut]
    return episodes(
        [[0.0]] * len(tokens),
        tokens_per_step=[[n] for n in tokens],
        success=[1.0] * len(successes) + [0.0] * (len(failures) + len(cut)),
        truncated=[False] * (len(successes) + len(failures)) + [True] * len(cut),
    )


def weight(batch, **settings):
    (found,) = set(adora(batch, np.ones(batch.num_steps), **settings))
    return found


@pytest.mark.parametrize(
    ("batch", "length", "vlm"),
    [
        # 100 > (200 + 300)/2 does not hold.
        (group([100], [200, 300]), 0.1, 0.1),
        (group([300], [200]), 1.0, 1.0),
        # The longest success counts, and the mean of the failures.
        (group([100, 260], [200, 300]), 1.0, 1.0),
        (group([250], [200, 300]), 0.1, 0.1),
        # Truncated failures do not count.
        (group([100], [50], cut=[4000]), 1.0, 1.0),
        # The two public forms differ where one side is empty.
        (group([], [50]), 0.1, 1.0),
        (group([100], []), 1.0, 0.1),
        (group([100], cut=[4000]), 1.0, 0.1),
        (group([], cut=[50]), 0.1, 1.0),
    ],
)
def test_the_published_cases_by_hand(batch, length, vlm):
    assert weight(batch) == length
    assert weight(batch, rule="length_vlm") == vlm


def test_the_rule_of_turns_prefers_quick_successes():
    #   steps: the success took 2, the failures 3 and 1 (mean 2): not quicker;  then against 3 and 3
    def batch(steps):
        return episodes([[0.0] * n for n in steps], success=[1.0, 0.0, 0.0], tokens_per_step=1)

    assert weight(batch([2, 3, 1]), rule="turns") == 0.1
    assert weight(batch([2, 3, 3]), rule="turns") == 1.0


def test_length_is_the_tokens_of_the_whole_episode():
    #   2 + 2 tokens against 3
    batch = episodes([[0, 0], [0]], tokens_per_step=[[2, 2], [3]], success=[1.0, 0.0])
    np.testing.assert_array_equal(adora(batch, [1.0, 1.0, -2.0]), [1, 1, -2])


def test_every_number_of_a_group_has_its_weight_at_both_levels():
    # Fails when the weight of another group is taken, or the advantage is replaced by it.
    batch = episodes(
        [[0, 0], [0], [0], [0]],
        group=[3, 1, 3, 1],
        tokens_per_step=[[2, 1], [1], [1], [9]],
        success=[1.0, 1.0, 0.0, 0.0],
    )
    #   group 3: 3 > 1, good;  group 1: 1 > 9 does not hold
    np.testing.assert_allclose(adora(batch, [2, 3, 5, 7, 11], w_bad=0.5), [2, 3, 2.5, 7, 5.5])
    per_token = np.arange(14.0)
    expected = per_token * np.repeat([1, 0.5, 1, 0.5], [3, 1, 1, 9])
    np.testing.assert_allclose(adora(batch, per_token, w_bad=0.5), expected)


def test_good_groups_may_be_amplified_instead():
    assert weight(group([300], [200]), w_good=2.0, w_bad=1.0) == 2.0
    assert weight(group([100], [200]), w_good=2.0, w_bad=1.0) == 1.0


def brute_force(batch, rule):
    """The definition, in loops: weight 1 or ½ of each episode."""
    episode_of_token = batch.episode_of_step[batch.step_of_token]
    tokens = [int(np.sum(episode_of_token == i)) for i in range(batch.num_episodes)]
    answer = []
    for g in batch.group:
        members = [i for i in range(batch.num_episodes) if batch.group[i] == g]
        won = [i for i in members if batch.column("success")[i] == 1]
        lost = [i for i in members if i not in won and not batch.truncated[i]]
        if rule == "turns":
            turns = batch.episode_length
            good = bool(won) and (not lost or min(turns[won]) < np.mean(turns[lost]))
        elif rule == "length":
            good = bool(won) and (not lost or max(tokens[i] for i in won) > np.mean([tokens[i] for i in lost]))
        else:
            good = not won or (bool(lost) and max(tokens[i] for i in won) > np.mean([tokens[i] for i in lost]))
        answer.append(1.0 if good else 0.5)
    return np.array(answer)


@pytest.mark.parametrize("rule", ["length", "length_vlm", "turns"])
def test_it_agrees_with_the_definition_on_random_batches(random_batch, rule):
    for seed in range(200):
        batch = random_batch(seed)
        advantage = np.random.default_rng(seed).normal(size=batch.num_steps)
        expected = advantage * brute_force(batch, rule)[batch.episode_of_step]
        np.testing.assert_allclose(adora(batch, advantage, rule=rule, w_bad=0.5), expected)


def test_a_game_without_success_is_refused():
    with pytest.raises(UserError, match="adora needs finite numbers in the column 'success', but episode 0 has nan"):
        adora(episodes([[1.0]], success=[np.nan]), [1.0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"rule": "difficulty"}, "no rule 'difficulty'; valid names: length"), ({"w_bad": -1.0}, "w_bad must be finite")],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        adora(group([1], [2]), np.zeros(2), **settings)


def test_an_advantage_of_a_wrong_length_is_refused():
    with pytest.raises(UserError, match="adora takes one advantage per step or per token"):
        adora(group([2], [3]), np.zeros(3))
