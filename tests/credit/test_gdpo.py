import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.credit.gdpo import gdpo
from lapwing.credit.grpo import grpo
from lapwing.modulation.whiten import whiten
from lapwing.testing import episodes


def make(first, second, group=None):
    parts = {"part:format": [[float(x)] for x in first], "part:score": [[float(x)] for x in second]}
    return episodes([[float(x + y)] for x, y in zip(first, second, strict=True)], group=group, **parts)


PRINTED = make([1, 0, 1, 0], [10, 0, 0, 10])
BOTH = {"parts": ("format", "score"), "batch_norm": False, "eps": 0.0}


def test_the_printed_sums_before_the_batch_step():
    #   ½ over the sample std 1/√3, twice;   normalised after the sum the first reward is drowned
    np.testing.assert_allclose(gdpo(PRINTED, **BOTH), [1.7320508, -1.7320508, 0, 0], atol=1e-6)
    np.testing.assert_allclose(grpo(PRINTED, eps=0.0), [0.948, -0.948, -0.776, 0.776], atol=5e-4)


def test_weights_by_hand():
    #   2 · √3/2 − 1 · √3/2 for the first
    found = gdpo(PRINTED, part_weights=(2.0, -1.0), **BOTH)
    np.testing.assert_allclose(found, np.array([1, -1, 3, -3]) * np.sqrt(3) / 2, atol=1e-12)


def test_the_batch_step_by_hand():
    #   two groups: sums ±√2 of one part, 0 and 0 of the other;  mean 0, sample std √(4/3)
    batch = make([1, 0, 5, 5], [0, 0, 0, 0], group=[0, 0, 1, 1])
    expected = np.array([1, -1, 0, 0]) / np.sqrt(2) / np.sqrt(1 / 3)
    np.testing.assert_allclose(gdpo(batch, parts=("format", "score"), eps=0.0), expected)


def test_a_part_is_summed_over_the_steps_of_an_episode():
    batch = episodes([[0, 0, 0], [0]], **{"part:apples": [[1.0, 0.0, 1.0], [1.0]]})
    expected = np.sqrt(0.5) * np.array([1, 1, 1, -1])
    np.testing.assert_allclose(gdpo(batch, parts=("apples",), batch_norm=False, eps=0.0), expected)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.integers(0, 99))
def test_the_return_alone_is_grpo_and_its_batch_step_whitens(returns, seed):
    group = np.random.default_rng(seed).integers(0, 3, len(returns)).tolist()
    batch = episodes([[float(r)] for r in returns], group=group)
    np.testing.assert_allclose(gdpo(batch, batch_norm=False), grpo(batch), atol=1e-12)
    np.testing.assert_allclose(gdpo(batch), whiten(batch, grpo(batch)), atol=1e-12)


@given(st.floats(0.1, 50), st.floats(-5, 5))
def test_the_scale_and_the_shift_of_a_reward_do_not_matter(scale, shift):
    batch = make([1, 0, 1, 0], scale * np.array([10, 0, 0, 10]) + shift)
    np.testing.assert_allclose(gdpo(batch, **BOTH), gdpo(PRINTED, **BOTH), atol=1e-9)


def test_a_part_that_the_game_does_not_report_is_refused():
    with pytest.raises(MissingColumnError, match=r"gdpo needs the column 'part:apples'.*rollout/play"):
        gdpo(PRINTED, parts=("apples",))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"parts": ()}, "parts must name at least one"),
        ({"parts": ("",)}, "parts must name at least one"),
        ({"parts": ("score", "score")}, "names one part twice"),
        ({"part_weights": (1.0, 2.0)}, "1 parts, but 2 part_weights"),
        ({"part_weights": (float("nan"),)}, "part_weights must be finite"),
        ({"ddof": -1}, "ddof must be"),
        ({"eps": -1.0}, "eps must be"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        gdpo(PRINTED, **settings)
