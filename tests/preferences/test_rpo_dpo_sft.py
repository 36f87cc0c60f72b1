import inspect

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.core.pair_batch import PAIR_TENSORS
from lapwing.preferences.dpo import dpo
from lapwing.preferences.rpo_dpo_sft import rpo_dpo_sft

NAMES = tuple(name for name in inspect.signature(rpo_dpo_sft).parameters if name in PAIR_TENSORS)


def of(given, **settings):
    return rpo_dpo_sft(**{name: given[name] for name in NAMES}, **settings)


@pytest.mark.parametrize(("reduction", "number"), [("sum", 0.670957), ("token_mean", 0.630957)])
def test_the_published_numbers(published, reduction, number):
    #   .620957 + .005 · 10, or .005 · 10 / 5
    assert of(published, beta=0.1, sft_reduction=reduction).item() == pytest.approx(number, abs=1e-6)


def test_the_defaults_are_the_published_ones(published):
    #   h = .015: −log σ(.015) = .685675, + .005 · 2
    assert of(published).item() == pytest.approx(0.685675 + 0.01, abs=1e-6)


def test_the_whole_data_set_is_imitated_half_and_half(published):
    #   .620957 + .005 · (10 + 12) / 2
    found = of(published, beta=0.1, sft_reduction="sum", sft_target="dataset")
    assert found.item() == pytest.approx(0.620957 + 0.055, abs=1e-6)
    lengths = {**published, "rejected_length": torch.tensor([4.0], dtype=torch.float64)}
    #   .620957 + .005 · (10 / 5 + 12 / 4) / 2
    assert of(lengths, beta=0.1, sft_target="dataset").item() == pytest.approx(0.620957 + 0.0125, abs=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "token_mean"])
@pytest.mark.parametrize("target", ["chosen", "dataset"])
def test_without_imitation_it_is_dpo(softmax_pair, reduction, target):
    found = of(softmax_pair, beta=0.3, eta=0.0, sft_reduction=reduction, sft_target=target)
    assert torch.equal(found, dpo(**{name: softmax_pair[name] for name in NAMES[:4]}, beta=0.3))


@pytest.mark.parametrize("target", ["chosen", "dataset"])
def test_the_gradient_by_differences_and_by_hand(gradient, differences, scores, target):
    settings = {"beta": 0.7, "eta": 0.4, "sft_target": target}
    found = gradient(rpo_dpo_sft, NAMES, **settings)
    torch.testing.assert_close(found, differences(rpo_dpo_sft, NAMES, **settings), atol=1e-8, rtol=1e-6)
    chosen, rejected = scores
    imitated = chosen / 3 if target == "chosen" else 0.5 * (chosen / 3 + rejected / 2)
    #   ∇ℓ = ∇ DPO − η ∇ log π(target) / tokens
    torch.testing.assert_close(found, gradient(dpo, NAMES[:4], beta=0.7) - 0.4 * imitated)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"beta": 0.0}, "beta must be above 0"),
        ({"eta": -0.1}, "eta must be at least 0"),
        ({"eta": float("nan")}, "eta must be at least 0"),
        ({"sft_reduction": "mean"}, "no sft_reduction 'mean'; did you mean token_mean"),
        ({"sft_target": "both"}, "no sft_target 'both'; valid names: chosen, dataset"),
    ],
)
def test_wrong_settings_are_refused(published, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        of(published, **settings)
