import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.core.ragged import reverse_discounted_sum
from lapwing.credit.grpo import grpo
from lapwing.shaping.tips import tips
from lapwing.testing import episodes

ragged = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.floats(0, 1)), min_size=1, max_size=5), min_size=1, max_size=5
)


def make(episodes_of_pairs):
    return episodes(
        [[r for r, _ in steps] for steps in episodes_of_pairs],
        gold_probability=[[p for _, p in steps] for steps in episodes_of_pairs],
    )


def test_two_episodes_by_hand():
    # Fails when the potential of the next episode is taken at an end, or the end is not worth 0.
    batch = episodes([[0.0, 1.0], [2.0]], gold_probability=[[0.25, 0.75], [0.5]])
    np.testing.assert_allclose(tips(batch).reward, [0.75 - 0.25, 1 - 0.75, 2 - 0.5])
    np.testing.assert_allclose(tips(batch, discount=0.5).reward, [0.375 - 0.25, 1 - 0.75, 2 - 0.5])
    np.testing.assert_allclose(tips(batch, scale=4.0).reward, [3 - 1, 1 - 3, 2 - 2])


@given(ragged, st.floats(0, 1), st.floats(0, 5))
def test_from_every_step_on_the_shaping_telescopes_to_minus_its_potential(pairs, discount, scale):
    batch = make(pairs)
    shaping = tips(batch, discount=discount, scale=scale).reward - batch.reward
    to_go = reverse_discounted_sum(shaping, discount, batch.step_splits)
    np.testing.assert_allclose(to_go, -scale * batch.column("gold_probability"), atol=1e-9)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=5), st.integers(0, 99))
def test_members_that_begin_alike_have_the_same_advantage_as_before(rewards, seed):
    rng = np.random.default_rng(seed)
    probability = [[0.4, *rng.random(len(steps) - 1)] for steps in rewards]
    batch = episodes(rewards, gold_probability=probability, truncated=list(rng.random(len(rewards)) < 0.5))
    np.testing.assert_allclose(grpo(tips(batch)), grpo(batch), atol=1e-7)


def test_a_scale_of_0_changes_nothing():
    batch = make([[(1, 0.3), (2, 0.9)]])
    np.testing.assert_array_equal(tips(batch, scale=0.0).reward, batch.reward)


def test_a_missing_probability_is_refused():
    with pytest.raises(MissingColumnError, match="tips needs the column 'gold_probability'"):
        tips(episodes([[1.0]]))


@pytest.mark.parametrize(("settings", "words"), [({"discount": 1.5}, "discount must be"), ({"scale": -1.0}, "scale")])
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        tips(make([[(1, 0.5)]]), **settings)
