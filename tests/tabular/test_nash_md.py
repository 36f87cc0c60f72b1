import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.tabular.nash_md import geometric_mixture, nash_md_step

UNIFORM = np.full(3, 1 / 3)
# Each action beats the next one.
ROCK_PAPER_SCISSORS = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
START = np.array([0.6, 0.3, 0.1])


def steps(number, *, share):
    policy = START
    for _ in range(number):
        policy = nash_md_step(policy, UNIFORM, ROCK_PAPER_SCISSORS, step_size=0.5, share=share)
    return policy


def test_the_published_mixture():
    found = geometric_mixture(np.array([0.7, 0.3]), np.array([0.5, 0.5]), share=0.25)
    np.testing.assert_allclose(found, [0.65373, 0.34627], atol=1e-5)


def test_the_ends_of_the_mixture():
    other = np.array([0.0, 0.5, 0.5])
    np.testing.assert_allclose(geometric_mixture(START, other, share=0.0), START)
    np.testing.assert_allclose(geometric_mixture(START, other, share=1.0), other)
    np.testing.assert_allclose(geometric_mixture(START, other, share=0.5)[0], 0.0)


def test_on_rock_paper_scissors_the_last_iterate_becomes_uniform():
    # η = τ = ½, so that b = η τ = ¼.
    np.testing.assert_allclose(steps(1, share=0.25), [0.5624, 0.2894, 0.1481], atol=5e-5)
    np.testing.assert_allclose(steps(200, share=0.25), UNIFORM, atol=1e-6)


def test_without_the_reference_it_goes_in_circles():
    # Fails when the mixture is left out of the step itself and used for the opponent alone.
    np.testing.assert_allclose(steps(200, share=0.0), [0.888, 0.016, 0.096], atol=5e-4)


@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3), st.floats(0.0, 1.0), st.floats(0.0, 50.0))
def test_a_step_gives_probabilities_and_the_equilibrium_stays(numbers, share, step_size):
    policy = np.array(numbers) / sum(numbers)
    found = nash_md_step(policy, UNIFORM, ROCK_PAPER_SCISSORS, step_size=step_size, share=share)
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0.0).all()
    stays = nash_md_step(UNIFORM, UNIFORM, ROCK_PAPER_SCISSORS, step_size=step_size, share=share)
    np.testing.assert_allclose(stays, UNIFORM)


def test_an_action_that_always_wins_is_taken():
    better = np.array([[0.5, 0.9], [0.1, 0.5]])
    policy = np.array([0.1, 0.9])
    for _ in range(100):
        policy = nash_md_step(policy, np.array([0.5, 0.5]), better, step_size=0.5, share=0.0)
    assert policy[0] > 0.99


def test_what_is_impossible_is_refused():
    with pytest.raises(UserError, match=r"share must be in \[0, 1\]"):
        geometric_mixture(START, UNIFORM, share=1.5)
    with pytest.raises(UserError, match="no action in common"):
        geometric_mixture(np.array([1.0, 0.0]), np.array([0.0, 1.0]), share=0.5)
    with pytest.raises(UserError, match="step_size must be at least 0"):
        nash_md_step(START, UNIFORM, ROCK_PAPER_SCISSORS, step_size=-1.0, share=0.0)
    with pytest.raises(UserError, match="Preferences are probabilities"):
        nash_md_step(START, UNIFORM, np.eye(3), step_size=1.0, share=0.0)
