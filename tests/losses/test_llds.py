import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.llds import llds

# drop = 0.2, −0.1, 0.1, −0.05: in sum 0.15
BEHAVIOR = torch.tensor([-0.5, -0.2, -1.0, -0.3], dtype=torch.float64)
LOGPROB = torch.tensor([-0.7, -0.1, -1.1, -0.25], dtype=torch.float64)


def loss_of(places, advantage=1.0, logprob=LOGPROB, **settings):
    advantage = torch.tensor(advantage, dtype=torch.float64).expand(4)
    found = llds(logprob=logprob, behavior_logprob=BEHAVIOR, advantage=advantage, **places, **settings)
    return found.tolist()


def test_published_numbers(layout):
    found = loss_of(layout([[4]]))
    assert found == pytest.approx([0.2, 0.0, 0.1, 0.0])
    #   λ · mean over all four tokens = 0.2 · 0.3/4
    assert 0.2 * sum(found) / 4 == pytest.approx(0.015)


@pytest.mark.parametrize(("advantage", "kept"), [(1.0, True), (0.0, True), (-1.0, False)])
def test_only_what_need_not_be_pushed_down_is_held_up(layout, advantage, kept):
    assert any(loss_of(layout([[4]]), advantage)) is kept


def test_nothing_is_held_up_that_became_likelier(layout):
    assert loss_of(layout([[4]]), logprob=BEHAVIOR + 0.1) == [0.0] * 4
    assert loss_of(layout([[4]]), logprob=BEHAVIOR) == [0.0] * 4


def test_the_gate_is_that_of_the_step_or_of_the_episode_or_of_the_token(layout):
    # Steps of tokens (0, 1), (2), (3), sums 0.1, 0.1, −0.05; a step (1, 2, 3) sums to −0.05.
    assert loss_of(layout([[2, 1, 1]])) == pytest.approx([0.2, 0.0, 0.1, 0.0])
    places = layout([[1, 3]])
    assert loss_of(places) == pytest.approx([0.2, 0.0, 0.0, 0.0])
    assert loss_of(places, gate="episode") == pytest.approx([0.2, 0.0, 0.1, 0.0])
    assert loss_of(layout([[1], [3]]), gate="episode") == pytest.approx([0.2, 0.0, 0.0, 0.0])
    assert loss_of(places, gate="token") == pytest.approx([0.2, 0.0, 0.1, 0.0])


def test_what_is_preserved_goes_by_the_mean_advantage_of_the_episode(layout):
    # The first episode's mean is +0.5, the second's 0, although each has a token with a negative advantage.
    places, advantage = layout([[1, 1], [1, 1]]), [-1.0, 2.0, 1.0, -1.0]
    assert loss_of(places, advantage) == pytest.approx([0.2, 0.0, 0.1, 0.0])
    assert loss_of(places, advantage, preserve="positive") == pytest.approx([0.2, 0.0, 0.0, 0.0])
    assert loss_of(places, [-1.0] * 4, preserve="all") == pytest.approx([0.2, 0.0, 0.1, 0.0])


def test_the_gradient_is_minus_one_for_each_falling_token_of_an_open_gate(layout, three_tokens):
    #   ρ < 1 falls. Steps: 0.8·1.1 < 1 is open, 0.9·1.3 > 1 is shut, the last episode is bad.
    tokens = three_tokens([0.8, 1.1, 0.9, 1.3, 0.5])
    places = layout([[2, 2], [1]])
    advantage = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0], dtype=torch.float64)

    def loss(logprob):
        return llds(logprob=logprob, behavior_logprob=tokens.behavior_logprob, advantage=advantage, **places)

    tokens.assert_coefficients(loss, [-1.0, 0.0, 0.0, 0.0, 0.0])
    tokens.assert_slope_of_the_value(loss)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": "response"}, "There is no gate 'response'; valid names: step, episode, token"),
        ({"preserve": "good"}, "There is no preserve 'good'; valid names: nonnegative, positive, all"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(layout, settings, message):
    with pytest.raises(UserError, match=message):
        loss_of(layout([[4]]), **settings)
