"""The numbers of one iteration."""

import numpy as np
import pytest

from lapwing.testing import episodes
from lapwing.training.metrics import rollout_metrics


def of(returns, group, **columns):
    count = len(returns)
    given = {"domain_reward": [[value] for value in returns], "success": [np.nan] * count, "valid": [[True]] * count}
    return rollout_metrics(episodes([[value] for value in returns], group=group, **{**given, **columns}))


# Student's t with 1 degree of freedom has 12.706 at 0.975.
T1 = 12.706204736432095


# Fails when episodes of a group count as if each had drawn a start of its own.
def test_the_interval_of_the_return_is_that_of_the_groups():
    # Means of the groups 1 and 0; their standard error is √(2/1 · (1² + 1²)) / 4 = ½.
    row = of([1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1])
    assert row["rollout/return_half_width"] == pytest.approx(T1 * 0.5)


def test_groups_of_different_sizes_count_by_their_episodes():
    # R̄ = ½; Σ(R − R̄) is +½ for the group of one and −½ for that of three: √(2 · ½) / 4.
    row = of([1.0, 1.0, 0.0, 0.0], [5, 9, 9, 9])
    assert row["rollout/return_half_width"] == pytest.approx(T1 * np.sqrt(2 * 0.5) / 4)


def test_the_episodes_of_a_single_group_are_the_replicate():
    # Two episodes, 1 and 0: the standard error is √½ / √2 = ½.
    row = of([1.0, 0.0], [3, 3])
    assert row["rollout/return_half_width"] == pytest.approx(T1 * 0.5)


def test_a_single_episode_has_no_interval():
    assert "rollout/return_half_width" not in of([1.0], [0])


def test_success_has_its_own_interval_over_the_episodes_that_know():
    row = of([1.0, 1.0, 0.0], [0, 1, 2], success=[1.0, 0.0, np.nan])
    assert row["rollout/success"] == 0.5
    assert row["rollout/success_half_width"] == pytest.approx(T1 * 0.5)
    assert "rollout/success_half_width" not in of([1.0, 0.0], [0, 1])
