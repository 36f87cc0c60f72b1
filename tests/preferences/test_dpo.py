import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.preferences.dpo import dpo

NAMES = ("chosen_logprob", "rejected_logprob", "chosen_reference", "rejected_reference")


def of(given, **settings):
    return dpo(**{name: given[name] for name in NAMES}, **settings)


def test_the_published_number(published):
    #   h = .1 · ((−10 + 11) − (−12 + 11.5)) = .15, −log σ(.15) = .620957
    assert of(published, beta=0.1).item() == pytest.approx(0.620957, abs=1e-6)


def test_at_the_reference_it_is_log_2(published):
    same = {**published, "chosen_reference": published["chosen_logprob"]}
    same["rejected_reference"] = same["rejected_logprob"]
    assert of(same).item() == pytest.approx(math.log(2))


def test_the_gradient_by_hand_and_by_differences(gradient, differences, scores, softmax_pair, sigmoid):
    # Fails when the reference carries a gradient, a sign is wrong or a side is forgotten.
    given = softmax_pair
    log_ratio = given["chosen_logprob"] - given["chosen_reference"]
    odds = float(log_ratio - given["rejected_logprob"] + given["rejected_reference"])
    beta, (chosen, rejected) = 0.7, scores
    found = gradient(dpo, NAMES, beta=beta)
    #   ∇ℓ = −β σ(−h) (∇ log π(chosen) − ∇ log π(rejected))
    torch.testing.assert_close(found, -beta * sigmoid(-beta * odds) * (chosen - rejected))
    torch.testing.assert_close(found, differences(dpo, NAMES, beta=beta), atol=1e-8, rtol=1e-6)


def test_exchanging_the_sides_changes_the_sign_of_h(published):
    other = {
        name: published[("rejected" if name.startswith("chosen") else "chosen") + name[name.index("_") :]]
        for name in NAMES
    }
    #   −log σ(h) + log σ(−h) = −h
    assert of(published, beta=0.1).item() - of(other, beta=0.1).item() == pytest.approx(-0.15)


@pytest.mark.parametrize("shift", [-3.0, 5.0])
def test_a_shift_of_both_sides_changes_nothing(published, shift):
    # What the game said has the same probability on both sides, and so is no part of it.
    moved = {**published, "chosen_logprob": published["chosen_logprob"] + shift}
    moved["rejected_logprob"] = moved["rejected_logprob"] + shift
    torch.testing.assert_close(of(moved), of(published))
    moved = {**published, "chosen_logprob": published["chosen_logprob"] + shift}
    moved["chosen_reference"] = moved["chosen_reference"] + shift
    torch.testing.assert_close(of(moved), of(published))


@pytest.mark.parametrize("odds", [-1e6, 1e6])
def test_no_odds_overflow(published, odds):
    given = {**published, "chosen_logprob": torch.tensor([odds], dtype=torch.float64)}
    assert math.isfinite(of(given).item())
    assert of(given).item() >= 0.0


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_a_strength_that_is_not_above_0_is_refused(published, beta):
    with pytest.raises(UserError, match="beta must be above 0"):
        of(published, beta=beta)
