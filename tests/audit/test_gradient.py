"""The exact gradient against finite differences, and its estimates against gradients that were summed one by one."""

import numpy as np
import pytest
import torch

from lapwing.audit.gradient import logit_gram, pair_gram, signal, unit_weights
from lapwing.audit.measure import exact_answer


def gradient_of(lake, truth, weights):
    """∇ Σ w log π by one backward pass."""
    lake.model.zero_grad()
    rows = truth.distribution.logprobs(truth.places.views, truth.places.legal)
    sum((torch.from_numpy(w) * row).sum() for w, row in zip(weights, rows, strict=True)).backward()
    return [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in lake.model.parameters()]


def test_the_exact_gradient_agrees_with_finite_differences_of_the_exact_return(lake):
    truth = lake.truth()
    gradient = gradient_of(lake, truth, truth.gradient_weights)
    checked = 0
    with torch.no_grad():
        for parameter, slope in zip(lake.model.parameters(), gradient, strict=True):
            # The steepest entry of every parameter.
            at = int(slope.abs().argmax())
            flat, before = parameter.view(-1), parameter.view(-1)[at].item()
            value = []
            for step in (1e-3, -1e-3):  # norms are float32, so that smaller steps drown in rounding
                flat[at] = before + step
                value.append(lake.truth().solution.expected_return)
            flat[at] = before
            assert slope.view(-1)[at].item() == pytest.approx((value[0] - value[1]) / 2e-3, rel=2e-3, abs=2e-4)
            checked += 1
    assert checked > 5


@pytest.mark.parametrize("block_bytes", [2**30, 1])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_the_gram_matrix_holds_all_inner_products(lake, block_bytes, share):
    truth = lake.truth()
    places = truth.places
    rng = np.random.default_rng(0)
    one, two, goal = rng.normal(size=(3, *truth.policy.shape))
    kept = np.flatnonzero(rng.random(truth.policy.size) < share)
    among = np.isin(np.arange(truth.policy.size), kept).reshape(truth.policy.shape)
    gram = pair_gram(lake.model, truth.distribution, places.views, places.legal, goal, kept, block_bytes=block_bytes)
    assert gram.shape == (len(kept) + 1,) * 2
    gradients = [gradient_of(lake, truth, weights) for weights in (one * among, two * among, goal)]
    inner = [[sum((a * b).sum().item() for a, b in zip(g, h, strict=True)) for h in gradients] for g in gradients]
    found = np.zeros((3, len(kept) + 1))
    found[:2, :-1], found[2, -1] = [one.ravel()[kept], two.ravel()[kept]], 1.0
    np.testing.assert_allclose(found @ gram @ found.T, inner, rtol=1e-4, atol=1e-6)
    if share == 1.0:
        # Σ_a π(a) ∇ log π(a) = 0 in every state.
        weights = np.zeros_like(truth.policy)
        weights[3] = truth.policy[3]
        assert weights.ravel() @ gram[:-1, :-1] @ weights.ravel() == pytest.approx(0.0, abs=1e-6)


def test_the_gram_matrix_of_logits_by_hand():
    policy = np.array([[0.25, 0.75], [0.5, 0.5]])
    gram = logit_gram(policy, np.array([[2.0, 0], [0, 1]]), np.array([0, 1, 3]))
    # (1, 0) − (¼, ¾) = (¾, −¾), and (−¼, ¼): squared lengths 9/8 and 1/8, inner product −3/8
    np.testing.assert_allclose(gram[:2, :2], [[9 / 8, -3 / 8], [-3 / 8, 1 / 8]])
    np.testing.assert_allclose(gram[2, 2], 0.5)
    assert not gram[:2, 2].any()
    # The exact gradient: 2 · (¾, −¾) in the first state, (−½, ½) in the second.
    np.testing.assert_allclose(gram[3], [9 / 4, -3 / 4, 1 / 2, 4.5 + 0.5])


def test_the_weights_of_units_are_summed_advantages():
    weights = unit_weights(np.array([1.0, 2, 4, 8]), np.array([0, 1, 1, 0]), np.array([0, 0, 0, 1]), 2)
    np.testing.assert_array_equal(weights, [[1, 6], [8, 0]])


def test_the_mean_gradient_of_the_exact_advantage_is_the_exact_gradient(lake):
    """Unbiased: within 4.5 standard errors in every weight, invalid replies included."""
    exact = exact_answer(lake.model, lake.truth(), lake.batch)
    weights = unit_weights(exact.advantage, exact.pair, lake.batch.episode_of_step, len(exact.weights))
    error = weights.std(axis=0, ddof=1) / np.sqrt(len(weights))
    gap = np.abs(weights.mean(axis=0) - exact.weights)
    assert (gap <= 4.5 * error + 1e-4).all()
    invalid = np.arange(len(gap)) % 5 == 4
    assert exact.weights[invalid].any()
    assert exact.weights[~invalid].any()


def test_noise_and_signal_by_hand():
    # Two directions; the exact gradient is (1, 0). Episodes: (2, 1), (0, −1), (2, −1), (0, 1): mean (1, 0).
    episodes = np.array([[2.0, 1], [0, -1], [2, -1], [0, 1]])
    found = signal(episodes, np.ones(4), np.array([1.0, 0]), np.eye(2), np.random.default_rng(0))
    assert found.cosine is not None
    assert found.cosine.mean == 1.0
    # Variance (ddof 1) is 4/3 in each direction, 8/3 in all; the signal is 1² − (4/3) / 4 = 2/3: noise / signal = 4
    assert found.episodes_for_snr_1 == pytest.approx(4.0)
    # Groups of two of these episodes say the same about one episode where the episodes are independent.
    rng = np.random.default_rng(1)
    many = rng.normal(size=(4000, 2)) + np.array([0.5, 0.0])
    single = signal(many, np.ones(4000), np.array([1.0, 0]), np.eye(2), rng)
    pairs = signal(many.reshape(2000, 2, 2).sum(axis=1), np.full(2000, 2.0), np.array([1.0, 0]), np.eye(2), rng)
    assert single.episodes_for_snr_1 == pytest.approx(2 / 0.25, rel=0.15)
    assert pairs.episodes_for_snr_1 == pytest.approx(single.episodes_for_snr_1, rel=0.15)


def test_the_interval_covers_the_cosine_of_the_mean():
    rng, covered = np.random.default_rng(3), 0
    mean, exact = np.array([1.0, 0.5, 0.0]), np.array([1.0, 0.0, 0.0])
    true = mean @ exact / np.linalg.norm(mean)
    for _ in range(100):
        found = signal(rng.normal(size=(400, 3)) + mean, np.ones(400), exact, np.eye(3), rng, resamples=100)
        assert found.cosine is not None
        covered += found.cosine.low <= true <= found.cosine.high
    assert covered >= 88


def test_without_a_gradient_there_is_no_cosine():
    found = signal(np.zeros((5, 2)), np.ones(5), np.ones(2), np.eye(2), np.random.default_rng(0))
    assert found == (None, None)


def test_a_gradient_that_points_away_has_no_signal():
    rng = np.random.default_rng(4)
    found = signal(rng.normal(size=(500, 2)) - np.array([1, 0]), np.ones(500), np.array([1.0, 0]), np.eye(2), rng)
    assert found.cosine is not None
    assert found.cosine.mean < 0
    assert found.episodes_for_snr_1 is None
