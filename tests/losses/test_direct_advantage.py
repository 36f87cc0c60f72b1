import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.direct_advantage import direct_advantage


def loss_of(log_ratio, advantage, steps, **settings):
    log_ratio = torch.tensor(log_ratio, dtype=torch.float64)
    return direct_advantage(
        logprob=log_ratio - 1.0,
        reference_logprob=torch.full_like(log_ratio, -1.0),
        advantage=torch.tensor(advantage, dtype=torch.float64),
        step_of_token=torch.tensor(steps),
        **settings,
    ).tolist()


def test_published_numbers():
    #   A/β = 0.2/0.1 = 2: ½ (2 − 0.5)² = 1.125, and 0 at a log-ratio of 2
    assert loss_of([0.5], [0.2], [0]) == pytest.approx([1.125])
    assert loss_of([2.0], [0.2], [0]) == pytest.approx([0.0])


def test_the_log_ratio_is_that_of_the_whole_step():
    #   0.3 + 0.2 = 0.5 for the first step, of two tokens; ½ (0 − 1)² for the second
    assert loss_of([0.3, 0.2, 1.0], [0.2, 0.2, 0.0], [4, 4, 9]) == pytest.approx([1.125, 1.125, 0.5])


def test_the_target_is_bounded():
    #   1/0.1 = 10 and −10 become ±5; with a bound of 3 ±3
    assert loss_of([0.0, 0.0], [1.0, -1.0], [0, 1]) == pytest.approx([12.5, 12.5])
    assert loss_of([3.0, -3.0], [1.0, -1.0], [0, 1], max_target=3.0) == pytest.approx([0.0, 0.0])


def test_the_temperature_is_a_setting():
    assert loss_of([0.2], [0.2], [0], beta=1.0) == pytest.approx([0.0])


def test_every_token_of_a_step_pulls_towards_the_target(three_tokens):
    # dℓ/dlogprob = d − A/β for each token; each of the two tokens of the first step has that loss.
    tokens = three_tokens([1.5, 0.9, 1.2])
    advantage = torch.tensor([0.1, 0.1, -0.2], dtype=torch.float64)
    steps = torch.tensor([0, 0, 1])

    def loss(logprob):
        return direct_advantage(
            logprob=logprob, reference_logprob=tokens.behavior_logprob, advantage=advantage, step_of_token=steps
        )

    first = torch.log(torch.tensor(1.5 * 0.9, dtype=torch.float64)).item() - 1.0
    second = torch.log(torch.tensor(1.2, dtype=torch.float64)).item() + 2.0
    tokens.assert_coefficients(loss, [2 * first, 2 * first, second])
    tokens.assert_slope_of_the_value(loss)


def test_on_a_bandit_whose_normaliser_is_1_the_minimum_is_the_tilted_reference():
    # π_ref (½, ½) and advantages with E[exp(A/β)] = 1: A/β = log 1.6 and log 0.4, so that π = (0.8, 0.2).
    target = torch.tensor([1.6, 0.4], dtype=torch.float64).log()
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = direct_advantage(
            logprob=logits.log_softmax(0),
            reference_logprob=torch.full((2,), 0.5, dtype=torch.float64).log(),
            advantage=0.1 * target,
            step_of_token=torch.arange(2),
        ).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert logits.softmax(0).tolist() == pytest.approx([0.8, 0.2], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"beta": 0.0}, "beta must be positive"), ({"max_target": 0.0}, "max_target must be positive")],
)
def test_wrong_settings_are_refused_with_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        loss_of([0.0], [0.0], [0], **settings)
