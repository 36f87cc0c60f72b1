import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from lapwing.core import rng
from lapwing.core.errors import LapwingError
from lapwing.generation._memo import distributions
from lapwing.generation._sampling import draw, sample

LARGE = 150_000


def uniform(count, name="u"):
    return rng.uniform(rng.fold_many(np.array([rng.fold(0, name)], dtype=np.uint64), np.arange(count)))


@pytest.fixture(scope="module")
def logits():
    """A few likely tokens, and a long tail that holds half of the mass."""
    random = np.random.default_rng(0)
    values = random.normal(size=LARGE)
    values[random.integers(LARGE, size=20)] += 11.0
    return torch.from_numpy(values.astype(np.float32))[None]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_large_vocabulary_is_drawn_from_with_its_exact_probabilities(logits, temperature):
    # Fails when the running sum is taken in float32: the tail's tokens are smaller than what it rounds.
    draws = 100_000
    token, logprob = draw(logits, torch.from_numpy(uniform(draws))[None], temperature=temperature, greedy=False)
    exact = torch.softmax(logits[0].double() / temperature, -1)
    # Likely tokens on their own, the others in 200 classes of neighbours.
    order = exact.argsort(descending=True)
    group = torch.empty(LARGE, dtype=torch.long)
    group[order[:20]] = torch.arange(20)
    rest = torch.ones(LARGE, dtype=torch.bool)
    rest[order[:20]] = False
    group[rest] = 20 + torch.arange(LARGE - 20) * 200 // (LARGE - 20)
    counts = torch.bincount(group[token[0]], minlength=220).numpy()
    expected = torch.zeros(220, dtype=torch.float64).index_add_(0, group, exact).numpy() * draws
    assert chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3
    np.testing.assert_allclose(logprob[0].numpy(), exact.log()[token[0]].numpy(), atol=1e-12)


def test_noise_at_the_borders_of_a_token_draws_this_token(logits):
    # The whole distribution function, to 1e-12: the tokens' intervals are where the exact sums put them.
    height = np.cumsum(torch.softmax(logits[0].double(), -1).numpy())
    chosen = np.random.default_rng(1).integers(1, LARGE - 1, size=3000)
    inside = [(height[chosen - 1] + 1e-12), (height[chosen] - 1e-12)]
    wide = height[chosen] - height[chosen - 1] > 4e-12
    assert wide.mean() > 0.99
    for noise in inside:
        token, _ = draw(logits, torch.from_numpy(noise)[None], temperature=1.0, greedy=False)
        np.testing.assert_array_equal(token[0].numpy()[wide], chosen[wide])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_host_and_device_draw_the_same_tokens(dtype):
    values = torch.randn(6, 5000, generator=torch.Generator().manual_seed(3)).mul(2).to(dtype)
    noise = uniform(6 * 50).reshape(6, 50)
    token, logprob = draw(values, torch.from_numpy(noise), temperature=0.8, greedy=False)
    for row, host in enumerate(distributions(values, 0.8)):
        expected = host.draw_many(noise[row])
        np.testing.assert_array_equal(token[row].numpy(), expected)
        np.testing.assert_allclose(logprob[row].numpy(), host.logprob[expected], atol=1e-12)


def test_the_first_and_the_last_noise_draw_tokens_that_are_possible():
    # Fails when u = 0 draws a token of probability 0, or u close to 1 one behind the end.
    impossible = float("-inf")
    values = torch.tensor([[impossible, 1.0, impossible, 2.0, impossible]])
    token, logprob = draw(
        values, torch.tensor([[0.0, 1 - 2.0**-53]], dtype=torch.float64), temperature=1.0, greedy=False
    )
    assert token.tolist() == [[1, 3]]
    assert torch.isfinite(logprob).all()


def test_greedy_takes_the_first_of_equals():
    values = torch.tensor([[0.0, 3.0, 1.0, 3.0]], dtype=torch.bfloat16)
    token, logprob = draw(values, torch.zeros(1, 1, dtype=torch.float64), temperature=2.0, greedy=True)
    assert token.tolist() == [[1]]
    assert logprob.item() == pytest.approx(torch.log_softmax(values.double() / 2, -1)[0, 1].item(), abs=1e-12)


@pytest.mark.parametrize("greedy", [True, False])
def test_blocks_and_the_order_of_draws_change_nothing(monkeypatch, greedy):
    # Fails when a block takes the noise of another one.
    hidden = torch.randn(7, 8, generator=torch.Generator().manual_seed(0))
    head = torch.randn(8, 50, generator=torch.Generator().manual_seed(1))
    row = np.array([3, 0, 0, 6, 5, 3, 3, 1, 6])  # nobody continues rows 2 and 4
    noise = uniform(len(row))
    settings = {"vocabulary": 50, "temperature": 0.5, "greedy": greedy}
    token, logprob = sample(lambda h: h @ head, hidden, row, noise, **settings)
    for i in range(len(row)):
        one, number = sample(lambda h: h @ head, hidden[row[i]][None], np.array([0]), noise[i : i + 1], **settings)
        assert one[0] == token[i]
        assert number[0] == pytest.approx(logprob[i], abs=1e-5)
    assert greedy or token[1] != token[2]
    monkeypatch.setattr("lapwing.generation._sampling._HEAD_BLOCK", 100)
    monkeypatch.setattr("lapwing.generation._sampling._DRAW_BLOCK", 1)
    again, numbers = sample(lambda h: h @ head, hidden, row, noise, **settings)
    np.testing.assert_array_equal(again, token)
    np.testing.assert_allclose(numbers, logprob, atol=1e-5)


def test_logits_that_are_not_finite_are_a_fault_and_no_token():
    with pytest.raises(LapwingError, match="not finite"):
        sample(lambda h: h * float("nan"), torch.ones(1, 4), np.array([0]), np.array([0.5]),
               vocabulary=4, temperature=1.0, greedy=False)  # fmt: skip
