import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.stats.regret import (
    dynamic_regret,
    external_regret,
    follow_the_leader,
    hedge,
    internal_regret,
    regret_curve,
    regret_loss,
)

LOSS = np.array([[1.0, 0], [0, 1], [1, 0]])
POLICY = np.array([[0.5, 0.5], [0.4, 0.6], [0.45, 0.55]])
losses = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20).map(
    lambda rows: np.array(rows) / 4
)


def test_the_printed_regret():
    assert np.sum(LOSS * POLICY) == pytest.approx(1.55)
    assert external_regret(LOSS, POLICY) == pytest.approx(0.55)
    assert regret_loss(np.array([0.55])) == pytest.approx(0.3025)
    #   the best action of each round loses nothing
    assert dynamic_regret(LOSS, POLICY) == pytest.approx(1.55)


def test_several_sequences_by_hand():
    #   weights e^0 and e^−log 3 = 1 : ⅓;   (1 · 1 + ⅓ · 0) / (4/3);   a negative regret counts as 0
    assert regret_loss(np.array([1.0, 1 - math.log(3)])) == pytest.approx((1 + 0) / (4 / 3))
    assert regret_loss(np.array([-1.0])) == 0.0
    assert regret_loss(np.array([2.0, 1.0]), temperature=1e-3) == pytest.approx(4)


def alternating(rounds):
    """The sequence that misleads a follower: (½, 0), then (0, 1), (1, 0), (0, 1), …"""
    loss = np.zeros((rounds, 2))
    loss[0, 0] = 0.5
    loss[1:] = [[0, 1] if t % 2 == 0 else [1, 0] for t in range(rounds - 1)]
    return loss


@pytest.mark.parametrize("rounds", [50, 200])
def test_a_follower_is_misled_and_hedge_is_not(rounds):
    loss = alternating(rounds)
    assert external_regret(loss, follow_the_leader(loss)) > 0.45 * rounds
    assert external_regret(loss, hedge(loss)) <= math.sqrt(rounds * math.log(2) / 2)


@given(losses)
def test_hedge_keeps_its_bound_and_no_regret_exceeds_the_dynamic_one(loss):
    policy = hedge(loss)
    bound = math.sqrt(len(loss) * math.log(2) / 2)
    assert external_regret(loss, policy) <= bound + 1e-9
    assert external_regret(loss, policy) <= dynamic_regret(loss, policy) + 1e-9
    best = np.eye(2)[np.full(len(loss), loss.sum(axis=0).argmin())]
    assert external_regret(loss, best) == pytest.approx(0, abs=1e-9)


def test_the_gradient_of_the_loss_lowers_the_regret():
    #   policies from logits, the same in every round; finite differences of h(regret)
    def loss_of(logits):
        policy = np.exp(logits) / np.exp(logits).sum()
        return regret_loss(np.array([external_regret(LOSS, np.tile(policy, (3, 1)))]))

    logits = np.array([0.3, -0.2])
    gradient = [(loss_of(logits + step) - loss_of(logits - step)) / 2e-6 for step in 1e-6 * np.eye(2)]
    assert loss_of(logits - 0.5 * np.array(gradient)) < loss_of(logits)


def test_wrong_input_is_refused():
    with pytest.raises(LapwingError, match="shapes"):
        external_regret(LOSS, POLICY[:2])
    with pytest.raises(LapwingError, match="finite losses"):
        external_regret(np.full((1, 2), np.nan), POLICY[:1])
    with pytest.raises(LapwingError, match="sum to 1"):
        dynamic_regret(LOSS, LOSS + 1)
    with pytest.raises(LapwingError, match="finite regrets"):
        regret_loss(np.array([]))
    with pytest.raises(LapwingError, match="temperature"):
        regret_loss(np.array([1.0]), temperature=0.0)


def test_the_curve_and_internal_regret_by_hand():
    # Rounds: a loses, b does not; then the other way round, twice. Played: a, b, b.
    loss = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    played = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    # Lost 1, 2, 3; the best action lost 0, 1, 1 (a after three rounds).
    np.testing.assert_array_equal(regret_curve(loss, played), [1.0, 1.0, 2.0])
    # b → a saves 2, a → b saves 1.
    assert internal_regret(loss, played) == 2.0


def test_internal_regret_may_be_what_no_fixed_action_saves():
    # Whoever plays a should have played b, b → c, c → a; each action alone loses as much as what was played.
    loss = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    played = np.eye(3)
    assert external_regret(loss, played) == 1.0
    assert internal_regret(loss, played) == 1.0
    loss = np.array([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])
    assert external_regret(loss, played) == 0.0
    assert internal_regret(loss, played) == 0.5


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 4))
def test_the_curve_ends_at_the_regret_and_swapping_saves_at_least_a_share_of_it(seed, rounds, actions):
    rng = np.random.default_rng(seed)
    loss, policy = rng.normal(size=(rounds, actions)), rng.dirichlet(np.ones(actions), size=rounds)
    assert regret_curve(loss, policy)[-1] == pytest.approx(external_regret(loss, policy), abs=1e-9)
    internal = internal_regret(loss, policy)
    # External regret is the sum over a of what (a → best) saves.
    assert internal >= -1e-12
    assert external_regret(loss, policy) <= actions * internal + 1e-9
