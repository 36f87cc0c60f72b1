import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.preferences._adapter import over_tokens, tensors_of_tokens
from lapwing.preferences.dpo import dpo
from lapwing.preferences.weighted_dpo import weighted_dpo

NAMES = ("chosen_logprob", "rejected_logprob", "chosen_reference", "rejected_reference")
FREE = NAMES[:2]


def of(given, names=NAMES, **settings):
    return weighted_dpo(**{name: given[name] for name in names}, **settings)


def test_the_published_number(published):
    #   w = .25 at h = .15: .25 · .620957
    assert 0.25 * of(published, beta=0.1).item() == pytest.approx(0.155239, abs=1e-6)


def test_without_a_reference_by_hand(published):
    #   h = .1 · (−10 + 12) = .2, −log σ(.2) = .598139
    assert of(published, FREE, beta=0.1, reference_free=True).item() == pytest.approx(0.598139, abs=1e-6)
    # What is given of a reference is not read.
    assert of(published, beta=0.1, reference_free=True).item() == pytest.approx(0.598139, abs=1e-6)


def test_the_gradients_by_differences(gradient, differences):
    for names, settings in ((NAMES, {"beta": 0.7}), (FREE, {"beta": 0.7, "reference_free": True})):
        found = gradient(weighted_dpo, names, **settings)
        torch.testing.assert_close(found, differences(weighted_dpo, names, **settings), atol=1e-8, rtol=1e-6)


def test_with_weights_of_1_it_is_dpo(softmax_pair):
    assert torch.equal(of(softmax_pair, beta=0.3), dpo(**{name: softmax_pair[name] for name in NAMES}, beta=0.3))


# Fails when a weight counts twice, or in the numerator alone.
def test_the_mean_over_pairs_counts_each_pair_by_its_weight():
    # Episodes of one token: 0 ≻ 1 with w = 1, 2 ≻ 3 with w = .25.
    logprob = torch.tensor([-1.0, -2.0, -1.0, -3.0], dtype=torch.float64)
    given = {"logprob": logprob, "episode_of_token": torch.arange(4)}
    pairs = {"chosen": torch.tensor([0, 2]), "rejected": torch.tensor([1, 3])}
    loss = over_tokens(weighted_dpo, beta=1.0, reference_free=True)
    found = loss(**given, **pairs, pair_weight=torch.tensor([1.0, 0.25], dtype=torch.float64)).sum()
    first, second = (torch.nn.functional.softplus(torch.tensor(-x, dtype=torch.float64)) for x in (1.0, 2.0))
    torch.testing.assert_close(found, (first + 0.25 * second) / 1.25)
    # One weight for all pairs is none.
    small = loss(**given, **pairs, pair_weight=torch.full((2,), 0.01, dtype=torch.float64)).sum()
    torch.testing.assert_close(small, (first + second) / 2)


def test_without_a_reference_none_is_asked_for():
    assert "reference_logprob" in tensors_of_tokens(weighted_dpo, {"beta": 1.0})
    assert "reference_logprob" not in tensors_of_tokens(weighted_dpo, {"reference_free": True})


def test_wrong_settings_are_refused(published):
    with pytest.raises(UserError, match="beta must be above 0"):
        of(published, beta=-1.0)
    with pytest.raises(UserError, match="annotate reference_logprob, or set reference_free = true"):
        of(published, FREE)
