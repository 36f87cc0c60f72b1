import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.shaping.overlong import overlong
from lapwing.testing import episodes


def of_tokens(*tokens):
    return episodes([[0.5]] * len(tokens), tokens_per_step=[[n] for n in tokens])


def test_the_printed_penalties():
    shaped = overlong(of_tokens(80, 85, 90, 100, 101, 0), limit=100, cache=20)
    np.testing.assert_allclose(shaped.outcome, [0, -0.25, -0.5, -1, -1, 0], atol=1e-12)
    np.testing.assert_array_equal(shaped.reward, np.full(6, 0.5))


def test_the_tokens_of_all_steps_count_or_the_steps_themselves():
    #   3 + 2 tokens: (4 − 5)/2;  2 steps: (1 − 2)/2
    batch = episodes([[0, 0]], tokens_per_step=[[3, 2]], outcome=[1])
    np.testing.assert_allclose(overlong(batch, limit=6, cache=2).outcome, [0.5])
    np.testing.assert_allclose(overlong(batch, limit=3, cache=2, unit="steps", scale=0.5).outcome, [0.75])


def test_what_the_agent_read_does_not_count():
    # Fails when context tokens are counted: a verbose game would punish the agent.
    batch = of_tokens(3)
    assert batch.context_token.size > 0
    np.testing.assert_array_equal(overlong(batch, limit=4, cache=1).outcome, [0])


def test_an_episode_that_a_limit_cut_is_overlong_whatever_its_length():
    batch = episodes([[0.0]] * 3, terminated=[False, True, True], truncated=[True, True, False])
    np.testing.assert_array_equal(overlong(batch, limit=50, cache=5).outcome, [-1, 0, 0])


@given(st.lists(st.integers(0, 60), min_size=2, max_size=8), st.integers(1, 40), st.integers(1, 40))
def test_longer_never_costs_less_and_the_penalty_stays_within_bounds(tokens, first, second):
    cache, limit = sorted((first, second))
    penalty = overlong(of_tokens(*sorted(tokens)), limit=limit, cache=cache).outcome
    assert (np.diff(penalty) <= 1e-12).all()
    assert ((penalty >= -1) & (penalty <= 0)).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"limit": 3, "cache": 4}, "cache must be from 1 to limit"),
        ({"limit": 3, "cache": 0}, "cache must be from 1 to limit"),
        ({"limit": 3, "cache": 1, "unit": "turns"}, "no unit 'turns'; valid names: tokens, steps"),
        ({"limit": 3, "cache": 1, "scale": np.nan}, "scale must be finite"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        overlong(of_tokens(1), **settings)
