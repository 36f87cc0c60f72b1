import numpy as np
import pytest

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.credit.egae import egae
from lapwing.credit.gae import gae
from lapwing.testing import episodes


@pytest.mark.parametrize(
    ("discount", "expected"),
    [
        #   V after the cut 0.4:  δ = 0.6 − 0.5, 0.4 − 0.6, 0 = 0.1, −0.2, 0;   A_1 = −0.2,   A_0 = 0.1 − ½·0.2 = 0
        (1.0, [0, -0.2, 0]),
        #   δ_2 = 0.36 − 0.4 = −0.04;  δ_1 = 0.36 − 0.6 = −0.24, A_1 = −0.24 − 0.45·0.04 = −0.258;
        #   δ_0 = 0.54 − 0.5 = 0.04,   A_0 = 0.04 − 0.45·0.258 = −0.0761
        (0.9, [-0.0761, -0.258, -0.04]),
    ],
)
def test_published_numbers(discount, expected):
    batch = episodes([[0, 0, 0]], value=[[0.5, 0.6, 0.4]], truncated=[True])
    np.testing.assert_allclose(egae(batch, discount=discount, lambda_=0.5), expected, atol=1e-12)


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_without_discount_the_last_step_of_a_cut_episode_has_exactly_its_reward(lambda_):
    batch = episodes([[1, 0], [1, 2]], value=[[0.5, 0.7], [0.1, 0.3]], truncated=[True, True])
    assert egae(batch, lambda_=lambda_)[1] == 0
    assert egae(batch, lambda_=lambda_)[3] == pytest.approx(2)


@pytest.mark.parametrize("seed", range(50))
def test_a_finished_episode_has_its_ordinary_gae(seed, make_critic_batch):
    # Fails when an episode that the rules ended bootstraps itself.
    batch = make_critic_batch(seed)
    finished = batch.terminated[batch.episode_of_step]
    np.testing.assert_array_equal(egae(batch, discount=0.9)[finished], gae(batch, discount=0.9)[finished])


@pytest.mark.parametrize("seed", range(200))
def test_it_is_what_a_loop_finds(seed, make_critic_batch):
    batch = make_critic_batch(seed)
    discount, lambda_ = np.random.default_rng(seed).random(2)
    value, expected = batch.column("value"), np.zeros(batch.num_steps)
    for e in range(batch.num_episodes):
        steps = range(batch.step_splits[e], batch.step_splits[e + 1])
        following, advantage = (0.0 if batch.terminated[e] else value[steps[-1]]), 0.0
        for n in reversed(steps):
            reward = batch.reward[n] + (batch.outcome[e] if n == steps[-1] else 0)
            advantage = reward + discount * following - value[n] + discount * lambda_ * advantage
            following, expected[n] = value[n], advantage
    np.testing.assert_allclose(egae(batch, discount=discount, lambda_=lambda_), expected, atol=1e-12)


def test_a_final_value_is_neither_needed_nor_read():
    without = episodes([[1, 0]], value=[[0.5, 0.7]], truncated=[True])
    np.testing.assert_array_equal(egae(without.with_columns(final_value=np.array([9.0]))), egae(without))


def test_a_critic_is_needed():
    with pytest.raises(MissingColumnError, match=r"egae needs the column 'value'.*annotate/value supplies it"):
        egae(episodes([[1]]))


@pytest.mark.parametrize("name", ["discount", "lambda_"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_settings_outside_zero_to_one_are_refused(name, value):
    with pytest.raises(UserError, match=rf"{name} must be in \[0, 1\]"):
        egae(episodes([[1]], value=[[0]]), **{name: value})
