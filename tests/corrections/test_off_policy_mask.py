import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.corrections.off_policy_mask import off_policy_mask

# Two episodes: steps of 2 and 1 tokens, and a step of 1 token.
PLACES = {"step_of_token": torch.tensor([0, 0, 1, 2]), "episode_of_token": torch.tensor([0, 0, 0, 1])}


def factors(drift, advantage, **settings):
    """Of four tokens that became less likely by `drift`, nats."""
    sampler = torch.tensor([-1.0, -2.0, -0.5, -3.0], dtype=torch.float64)
    found = off_policy_mask(
        logprob=sampler - torch.tensor(drift, dtype=torch.float64),
        sampler_logprob=sampler,
        advantage=torch.tensor(advantage, dtype=torch.float64),
        **PLACES,
        **settings,
    )
    return found.tolist()


@pytest.mark.parametrize(("advantage", "factor"), [(-1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
def test_published_numbers(advantage, factor):
    #   mean drift (0.9 + 0.3 + 0.6)/3 = 0.6 > 0.5: dropped if bad, kept if good
    assert factors([0.9, 0.3, 0.6, 0.0], [advantage] * 4)[:3] == [factor] * 3


def test_a_small_mean_drift_is_kept_whatever_its_tokens_do():
    #   (2 − 0.4 − 0.4)/3 = 0.4
    assert factors([2.0, -0.4, -0.4, 0.0], [-1.0] * 4) == [1.0] * 4


def test_an_episode_that_became_likelier_is_kept():
    assert factors([-9.0] * 4, [-1.0] * 4) == [1.0] * 4


def test_the_drift_may_be_that_of_the_step():
    #   steps: 0.6, 0, 0.7; the first episode: 0.4
    drift = [0.6, 0.6, 0.0, 0.7]
    assert factors(drift, [-1.0] * 4, level="step") == [0.0, 0.0, 1.0, 0.0]
    assert factors(drift, [-1.0] * 4) == [1.0, 1.0, 1.0, 0.0]


def test_in_an_episode_of_both_signs_only_bad_tokens_are_dropped():
    assert factors([1.0] * 4, [-1.0, 1.0, -2.0, 3.0]) == [0.0, 1.0, 0.0, 1.0]


def test_the_largest_drift_is_a_setting():
    assert factors([0.9, 0.3, 0.6, 0.0], [-1.0] * 4, max_drift=0.7) == [1.0] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "token"}, "There is no level 'token'; valid names: episode, step"),
        ({"max_drift": -0.1}, "max_drift must be at least 0"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        factors([0.0] * 4, [0.0] * 4, **settings)
