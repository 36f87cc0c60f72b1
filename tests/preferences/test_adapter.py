"""From losses of pairs to losses of tokens."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.preferences import _adapter
from lapwing.preferences._adapter import over_tokens, tensors_of_pairs, tensors_of_tokens
from lapwing.preferences.dpo import dpo
from lapwing.preferences.rpo_dpo_sft import rpo_dpo_sft
from lapwing.preferences.weighted_dpo import weighted_dpo

SIDES = ("chosen_logprob", "rejected_logprob", "chosen_reference", "rejected_reference")


def drawn(seed, lengths, pairs, order=None):
    """Tokens of episodes with these numbers and lengths, laid end to end or in another order, and pairs of them."""
    rng = np.random.default_rng(seed)
    episode = np.repeat(list(lengths), list(lengths.values())).astype(np.int64)
    if order is not None:
        episode = rng.permutation(episode)
    numbers = {name: torch.from_numpy(rng.normal(size=len(episode))) for name in ("logprob", "reference_logprob")}
    numbers["logprob"].requires_grad_()
    chosen, rejected = (torch.tensor([pair[side] for pair in pairs], dtype=torch.int64) for side in (0, 1))
    weight = torch.from_numpy(rng.uniform(0.1, 1.0, len(pairs)))
    pairs_given = {"chosen": chosen, "rejected": rejected, "pair_weight": weight}
    return {**numbers, "episode_of_token": torch.from_numpy(episode), **pairs_given}


def mean_over_pairs(loss, tokens, here=None, **settings):
    """The definition, pair by pair."""
    total, weights = torch.zeros((), dtype=torch.float64), 0.0
    pairs = zip(tokens["chosen"].tolist(), tokens["rejected"].tolist(), tokens["pair_weight"].tolist(), strict=True)
    for chosen, rejected, weight in pairs:
        if here is not None and not {chosen, rejected} <= here:
            continue
        mine = {"chosen": tokens["episode_of_token"] == chosen, "rejected": tokens["episode_of_token"] == rejected}
        sums = {
            f"{side}_{name}": tokens[column][keep].sum().reshape(1)
            for side, keep in mine.items()
            for name, column in (("logprob", "logprob"), ("reference", "reference_logprob"))
        }
        lengths = {f"{side}_length": keep.sum().reshape(1) for side, keep in mine.items()}
        wanted = tensors_of_pairs(loss, settings)
        arguments = {name: value for name, value in {**sums, **lengths}.items() if name in wanted}
        total = total + weight * loss(**arguments, **settings).sum()
        weights += weight
    return total / weights if weights else total


LENGTHS = {2: 3, 5: 1, 6: 4, 9: 2}
PAIRS = ((2, 5), (6, 9), (6, 5))


@pytest.mark.parametrize("order", [None, "shuffled"])
@pytest.mark.parametrize(
    ("loss", "settings"),
    [(dpo, {"beta": 0.5}), (rpo_dpo_sft, {"beta": 0.5, "eta": 0.3}), (rpo_dpo_sft, {"sft_target": "dataset"})],
)
def test_the_sum_over_tokens_is_the_mean_over_pairs_and_so_is_its_gradient(loss, settings, order):
    tokens = drawn(0, LENGTHS, PAIRS, order)
    found = over_tokens(loss, **settings)(**tokens)
    expected = mean_over_pairs(loss, tokens, **settings)
    assert found.shape == tokens["logprob"].shape
    torch.testing.assert_close(found.sum(), expected)
    slopes = [torch.autograd.grad(value, tokens["logprob"])[0] for value in (found.sum(), expected)]
    torch.testing.assert_close(*slopes)
    assert slopes[0].abs().sum() > 0


def test_what_each_token_carries():
    #   pair 2 ≻ 5 of weight 1, pair 6 ≻ 5 of weight 3: Σ w = 4; 2 has three tokens, 5 one, 6 four, 9 no pair
    tokens = drawn(1, LENGTHS, ((2, 5), (6, 5)))
    tokens["pair_weight"] = torch.tensor([1.0, 3.0], dtype=torch.float64)
    found = over_tokens(dpo, beta=0.5)(**tokens)
    first, second = (
        mean_over_pairs(
            dpo, {**tokens, **{k: tokens[k][at : at + 1] for k in ("chosen", "rejected", "pair_weight")}}, beta=0.5
        )
        for at in (0, 1)
    )
    by_episode = {2: first / 4 / 6, 5: first / 4 / 2 + 3 * second / 4 / 2, 6: 3 * second / 4 / 8, 9: torch.zeros(())}
    expected = torch.stack([by_episode[e].to(torch.float64) for e in tokens["episode_of_token"].tolist()])
    torch.testing.assert_close(found, expected)


@given(st.integers(0, 10_000), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_any_pairs_with_repetitions(seed, pairs):
    tokens = drawn(seed, {0: 2, 1: 1, 3: 3}, [(a, b) for a, b in pairs if a != b])
    found = over_tokens(dpo)(**tokens)
    torch.testing.assert_close(found.sum(), mean_over_pairs(dpo, tokens, here={0, 1, 3}))
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_the_weights_by_which_tokens_are_multiplied_cancel(scale):
    # Minibatches and means over tokens put their own weights before the loss.
    tokens = drawn(2, LENGTHS, PAIRS)
    weight = scale * torch.rand(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e-3
    found = over_tokens(dpo)(**tokens, weight=weight)
    torch.testing.assert_close((weight * found).sum(), over_tokens(dpo)(**tokens).sum())


def test_pairs_that_are_torn_apart_count_nowhere():
    whole = drawn(3, LENGTHS, PAIRS)
    keep = torch.isin(whole["episode_of_token"], torch.tensor([2, 5]))
    part = {name: whole[name][keep] for name in ("logprob", "reference_logprob", "episode_of_token")}
    pairs = {name: whole[name] for name in ("chosen", "rejected", "pair_weight")}
    found = over_tokens(dpo)(**part, **pairs)
    torch.testing.assert_close(found.sum(), mean_over_pairs(dpo, whole, here={2, 5}))


def test_parts_of_whole_groups_give_what_they_give_alone():
    # Fails when an episode's number counts from the start of a part.
    tokens = drawn(4, {0: 2, 1: 3, 2: 1, 3: 2}, ((0, 1), (3, 2)))
    for group in ((0, 1), (2, 3)):
        keep = torch.isin(tokens["episode_of_token"], torch.tensor(group))
        part = {name: tokens[name][keep] for name in ("logprob", "reference_logprob", "episode_of_token")}
        pairs = {name: tokens[name] for name in ("chosen", "rejected", "pair_weight")}
        alone = {name: column[[group[0] // 2]] for name, column in pairs.items()}
        torch.testing.assert_close(over_tokens(dpo)(**part, **pairs), over_tokens(dpo)(**part, **alone))


@pytest.mark.parametrize("case", ["no pairs", "weights of 0", "no tokens", "no token of either"])
def test_nothing_to_learn_from_is_0_with_a_gradient_of_0(case):
    lengths = {} if case == "no tokens" else {4: 2} if case == "no token of either" else LENGTHS
    tokens = drawn(5, lengths, () if case == "no pairs" else PAIRS)
    if case == "weights of 0":
        tokens["pair_weight"] = torch.zeros(len(PAIRS), dtype=torch.float64)
    found = over_tokens(dpo)(**tokens)
    (slope,) = torch.autograd.grad(found.sum(), tokens["logprob"])
    assert found.shape == tokens["logprob"].shape
    assert not found.any()
    assert not slope.any()


def test_a_pair_of_weight_0_cannot_spoil_the_others():
    tokens = drawn(6, LENGTHS, PAIRS)
    expected = mean_over_pairs(dpo, tokens, here={2, 5})
    logprob = tokens["logprob"].detach().clone()
    logprob[torch.isin(tokens["episode_of_token"], torch.tensor([6, 9]))] = -torch.inf
    tokens |= {"logprob": logprob, "pair_weight": torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)}
    torch.testing.assert_close(over_tokens(dpo)(**tokens).sum(), expected.detach())


def test_the_precision_of_the_model_is_kept():
    tokens = drawn(7, LENGTHS, PAIRS)
    tokens |= {name: tokens[name].detach().float() for name in ("logprob", "reference_logprob")}
    assert over_tokens(dpo)(**tokens).dtype == torch.float32


def test_which_tensors_are_asked_for():
    common = {"episode_of_token", "chosen", "rejected", "pair_weight", "weight"}
    assert set(tensors_of_tokens(dpo, {})) == common | {"reference_logprob"}
    assert set(tensors_of_tokens(weighted_dpo, {"reference_free": True})) == common
    # The signature of the loss of tokens says the same.
    free = over_tokens(weighted_dpo, reference_free=True)
    assert set(inspect.signature(free).parameters) == common | {"logprob"}
    assert set(inspect.signature(over_tokens(dpo)).parameters) == common | {"logprob", "reference_logprob"}
    assert (_adapter.MERGEABLE, _adapter.SPLIT) == (False, "group")


def test_what_is_missing_is_said():
    tokens = drawn(8, LENGTHS, PAIRS)
    del tokens["reference_logprob"]
    with pytest.raises(LapwingError, match="needs reference_logprob; annotate it"):
        over_tokens(dpo)(**tokens)

    def with_margin(*, chosen_logprob, margin):
        return margin * chosen_logprob

    with pytest.raises(LapwingError, match="needs pair_margin; the pairing supplies it"):
        over_tokens(with_margin)(**tokens)
    found = over_tokens(with_margin)(**tokens, pair_margin=torch.tensor([0.0, 0.0, 2.0]))
    weight = tokens["pair_weight"]
    chosen = tokens["logprob"][tokens["episode_of_token"] == 6].sum()
    torch.testing.assert_close(found.sum(), 2.0 * weight[2] * chosen / weight.sum())
