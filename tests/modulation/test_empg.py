import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.modulation.empg import empg
from lapwing.testing import episodes

TWO = episodes([[0, 0], [0, 0]], entropy=[[0.2, 0.6], [1.0, 0.2]])


def test_the_published_case_by_hand():
    # Fails when the bonus reaches over the end of an episode, or the mean of g is not divided out.
    #   h = 0, ½, 1, 0;  exp(−h) = 1, .6065, .3679, 1 with mean .7436;  f = exp(−½), 0, exp(−0), 0
    expected = [1.2850594, 0.6952671, -0.5151243, -1.4652025]
    np.testing.assert_allclose(empg(TWO, [1, 1, -1, -1], bonus=0.1), expected, atol=1e-6)


def test_without_modulation_and_bonus_only_the_mean_is_subtracted():
    #   mean over steps (3 + 3 + 3 + 1)/4, not over episodes
    batch = episodes([[0, 0, 0], [0]], entropy=[[0.1, 0.2, 0.3], [0.4]])
    np.testing.assert_allclose(empg(batch, [3, 3, 3, 1], k=0, bonus=0), [0.5, 0.5, 0.5, -1.5])


def test_equal_entropies_leave_the_scale_alone():
    batch = episodes([[0], [0]], entropy=[[0.7], [0.7]])
    np.testing.assert_array_equal(empg(batch, [2.0, 0.0], k=5.0, bonus=0), [1, -1])


def test_the_bonus_looks_at_the_next_step_with_its_own_strength():
    #   h = 0, 1 (up to the 1e-8 of the scaling): the step before the unsure one gets exp(−2), the last one nothing
    batch = episodes([[0, 0]], entropy=[[0.0, 1.0]])
    found = empg(batch, [0, 0], k_next=2.0, bonus=1.0)
    np.testing.assert_allclose(found, [np.exp(-2) / 2, -np.exp(-2) / 2], atol=1e-7)


def test_a_confident_mistake_is_punished_harder():
    batch = episodes([[0], [0], [0]], entropy=[[0.1], [2.0], [1.0]])
    sure, unsure, _ = empg(batch, [-1.0, -1.0, 2.0], bonus=0)
    assert sure < unsure


@given(st.lists(st.floats(0, 3), min_size=1, max_size=8), st.floats(0, 3))
def test_the_mean_scale_is_1(entropies, k):
    # With all advantages 1, the mean before centring is the mean of g; so the centred numbers plus 1 are g.
    batch = episodes([[0] for _ in entropies], entropy=[[h] for h in entropies])
    scale = empg(batch, np.ones(len(entropies)), k=k, bonus=0) + 1
    assert (scale > 0).all()
    assert scale.mean() == pytest.approx(1)
    # The surer the step, the larger its scale.
    assert (np.diff(scale[np.argsort(entropies)]) <= 1e-12).all()


def brute_force(batch, advantage, k, k_next, bonus):
    """The definition, in loops."""
    entropy = batch.column("entropy")
    scaled = [(h - min(entropy)) / (max(entropy) - min(entropy) + 1e-8) for h in entropy]
    mean = np.mean([np.exp(-k * h) for h in scaled])
    answer = []
    for i in range(batch.num_episodes):
        for n in range(batch.step_splits[i], batch.step_splits[i + 1]):
            follows = n + 1 < batch.step_splits[i + 1]
            f = np.exp(-k_next * scaled[n + 1]) if follows else 0.0
            answer.append(advantage[n] * np.exp(-k * scaled[n]) / mean + bonus * f)
    return np.array(answer) - np.mean(answer)


def test_it_agrees_with_the_definition_on_random_batches(random_batch):
    for seed in range(200):
        batch = random_batch(seed)
        advantage = np.random.default_rng(seed).normal(size=batch.num_steps)
        expected = brute_force(batch, advantage, 0.7, 1.3, 0.2)
        np.testing.assert_allclose(empg(batch, advantage, k=0.7, k_next=1.3, bonus=0.2), expected, atol=1e-9)


def test_without_entropies_it_says_who_supplies_them():
    with pytest.raises(MissingColumnError, match=r"empg needs the column 'entropy'.*annotate/entropy"):
        empg(episodes([[0]]), [1.0])


@pytest.mark.parametrize("setting", ["k", "k_next", "bonus"])
def test_negative_settings_are_refused(setting):
    with pytest.raises(UserError, match=f"{setting} must be finite and at least 0"):
        empg(TWO, np.zeros(4), **{setting: -0.1})


def test_an_advantage_per_token_is_refused():
    batch = episodes([[1.0, 0.0]], tokens_per_step=2, entropy=[[0, 1]])
    with pytest.raises(UserError, match="empg takes one advantage per step"):
        empg(batch, np.zeros(4))
