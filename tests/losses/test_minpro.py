import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.losses.cispo import cispo
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.losses.minpro import minpro

RATIO = [0.9, 1.5, 0.4, 1.1, 2.0]


def weights(tokens, places, **settings):
    """The weights ρ̃ of the tokens, read off from the host "clipped" without bounds."""
    loss = tokens.values(
        lambda logprob: minpro(
            logprob=logprob,
            behavior_logprob=tokens.behavior_logprob,
            advantage=torch.ones(len(logprob), dtype=torch.float64),
            **places,
            **{"host": "clipped", "clip_high": 1e9, **settings},
        )
    )
    return [-value for value in loss]


def test_published_numbers(three_tokens, layout):
    # ρ times the smallest ratio before: 0.9; 1.5·0.9; 0.4·0.9; 1.1·0.4; 2·0.4. The product would be 0.9, 1.35, 0.54, …
    found = weights(three_tokens(RATIO), layout([[2, 3]]))
    assert found == pytest.approx([0.9, 1.35, 0.36, 0.44, 0.8])


def test_each_episode_begins_anew_and_each_step_if_asked_for(three_tokens, layout):
    tokens = three_tokens(RATIO)
    assert weights(tokens, layout([[2], [3]])) == pytest.approx([0.9, 1.35, 0.4, 0.44, 0.8])
    assert weights(tokens, layout([[2, 3]]), scope="step") == pytest.approx([0.9, 1.35, 0.4, 0.44, 0.8])


def test_the_floor_bounds_the_smallest_ratio(three_tokens, layout):
    found = weights(three_tokens(RATIO), layout([[5]]), floor=0.5)
    assert found == pytest.approx([0.9, 1.35, 0.36, 0.55, 1.0])


def test_a_smallest_ratio_above_one_counts_unless_it_is_capped(three_tokens, layout):
    tokens = three_tokens([1.5, 2.0, 0.5])
    assert weights(tokens, layout([[3]])) == pytest.approx([1.5, 3.0, 0.75])
    assert weights(tokens, layout([[3]]), cap_min_at_one=True) == pytest.approx([1.5, 2.0, 0.5])


@given(
    ratios=st.lists(st.floats(0.05, 20.0), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 12), min_size=40, max_size=40),
)
def test_the_weights_are_those_of_a_plain_loop(ratios, cuts):
    # Fails when the scan misses a token, or looks into the step before.
    step_of_token = torch.repeat_interleave(torch.arange(40), torch.tensor(cuts))[: len(ratios)]
    expected, smallest = [], {}
    for ratio, step in zip(ratios, step_of_token.tolist(), strict=True):
        expected.append(ratio * smallest.get(step, 1.0))
        smallest[step] = min(smallest.get(step, math.inf), ratio)
    found = minpro(
        logprob=torch.tensor(ratios, dtype=torch.float64).log(),
        behavior_logprob=torch.zeros(len(ratios), dtype=torch.float64),
        advantage=-torch.ones(len(ratios), dtype=torch.float64),
        step_of_token=step_of_token,
        episode_of_token=torch.zeros(len(ratios), dtype=torch.int64),
        host="clipped",
        scope="step",
    )
    assert found.tolist() == pytest.approx(expected)


def test_the_weights_stay_bounded_where_the_product_does_not(three_tokens, layout):
    # 200 tokens of ratio 1.1: the product grows to 1.1^200 = 1.9e8, the weight stays 1.21.
    found = weights(three_tokens([1.1] * 200), layout([[200]]))
    assert max(found) == pytest.approx(1.21)


ADVANTAGE = torch.tensor([1.0, -1.0, 2.0, -0.5, 1.0], dtype=torch.float64)


def test_gradient_of_the_first_host(three_tokens, layout):
    # −min(ρ̃, cap) A for each token. Fails when the weight is not detached.
    tokens = three_tokens(RATIO)
    given = {"behavior_logprob": tokens.behavior_logprob, "advantage": ADVANTAGE, **layout([[5]])}
    tokens.assert_coefficients(
        lambda logprob: minpro(logprob=logprob, **given, cap=1.0), [-0.9, 1.0, -2 * 0.36, 0.5 * 0.44, -0.8]
    )


def test_gradient_of_the_second_host(three_tokens, layout):
    # −ρ̃ A where nothing is clipped; no token pulls at an earlier one. Fails when the smallest ratio is not detached.
    tokens = three_tokens(RATIO)
    given = {"behavior_logprob": tokens.behavior_logprob, "advantage": ADVANTAGE, **layout([[5]]), "host": "clipped"}
    tokens.assert_coefficients(
        lambda logprob: minpro(logprob=logprob, **given), [-0.9, 1.35, -2 * 0.36, 0.5 * 0.44, -0.8]
    )
    # With 1 − ε_low = 0.5 the bad token of weight 0.44 is clipped.
    tokens.assert_coefficients(
        lambda logprob: minpro(logprob=logprob, **given, clip_low=0.5), [-0.9, 1.35, -2 * 0.36, 0.0, -0.8]
    )


@pytest.mark.parametrize("host", [cispo, clipped_surrogate])
def test_where_all_earlier_ratios_are_one_it_is_its_host(three_tokens, layout, host):
    tokens = three_tokens([1.0, 1.0, 1.0, 1.4])
    given = {
        "logprob": tokens.logprob(),
        "behavior_logprob": tokens.behavior_logprob,
        "advantage": torch.tensor([1.0, -2.0, 3.0, -1.0], dtype=torch.float64),
    }
    settings = {"cap": 1.2} if host is cispo else {"clip_low": 0.1, "clip_high": 0.2}
    name = "cispo" if host is cispo else "clipped"
    found = minpro(**given, **layout([[4]]), host=name, **settings)
    torch.testing.assert_close(found, host(**given, **settings))


def test_no_tokens_have_no_loss():
    none, nowhere = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    given = {"step_of_token": nowhere, "episode_of_token": nowhere}
    assert minpro(logprob=none, behavior_logprob=none, advantage=none, **given).shape == (0,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "ppo"}, "There is no host 'ppo'; valid names: cispo, clipped"),
        ({"scope": "turn"}, "There is no scope 'turn'; valid names: episode, step"),
        ({"floor": 1.5}, r"floor must be in \[0, 1\]"),
        ({"cap": 0.0}, "cap must be positive"),
        ({"host": "clipped", "clip_low": 2.0}, "clip_low must be in"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(layout, settings, message):
    zero = torch.zeros(2)
    with pytest.raises(UserError, match=message):
        minpro(logprob=zero, behavior_logprob=zero, advantage=zero, **layout([[2]]), **settings)
