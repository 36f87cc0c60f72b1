import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.models.value_loss import value_loss


def tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("value", "target", "loss", "slope"),
    [
        #   within the clip: ½ (0.1 − 1)², slope 0.1 − 1
        (0.1, 1.0, 0.405, -0.9),
        #   went too far towards the target: as if it were 0.2, ½ (0.2 − 1)², and no gradient
        (0.5, 1.0, 0.32, 0.0),
        (-0.5, -1.0, 0.32, 0.0),
        #   went too far away from the target: ½ (0.5 + 1)², with gradient
        (0.5, -1.0, 1.125, 1.5),
        (-0.5, 1.0, 1.125, -1.5),
        #   past the target by more than the clipped value falls short of it: ½ 0.9², with gradient
        (1.0, 0.1, 0.405, 0.9),
    ],
)
def test_values_and_slopes_by_hand(value, target, loss, slope):
    # Fails when the smaller of the two errors is taken, or the clip is around the target.
    v = tensor(value)
    found = value_loss(value=v, behavior_value=tensor(0.0), target=tensor(target))
    assert found.item() == pytest.approx(loss)
    assert torch.autograd.grad(found.sum(), v)[0].item() == pytest.approx(slope)


def test_without_a_clip_it_is_half_the_squared_error():
    v = tensor(0.5, -2.0)
    found = value_loss(value=v, behavior_value=tensor(9.0, 9.0), target=tensor(1.0, 1.0), clip=None)
    torch.testing.assert_close(found, tensor(0.125, 4.5))
    torch.testing.assert_close(torch.autograd.grad(found.sum(), v)[0], torch.tensor([-0.5, -3.0]).double())


@pytest.mark.parametrize("seed", range(5))
def test_the_clip_never_lowers_the_loss_and_a_wide_one_changes_nothing(seed):
    value, old, target = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    plain = value_loss(value=value, behavior_value=old, target=target, clip=None)
    assert plain.shape == (4, 6)
    assert (value_loss(value=value, behavior_value=old, target=target) >= plain).all()
    torch.testing.assert_close(value_loss(value=value, behavior_value=old, target=target, clip=100.0), plain)


def test_the_precision_of_the_model_is_kept():
    numbers = torch.zeros(2, dtype=torch.float32)
    assert value_loss(value=numbers, behavior_value=numbers, target=numbers).dtype == torch.float32


@pytest.mark.parametrize("clip", [0.0, -0.2, float("nan")])
def test_a_clip_that_is_not_above_zero_is_refused(clip):
    with pytest.raises(UserError, match="clip must be above 0"):
        value_loss(value=tensor(0.0), behavior_value=tensor(0.0), target=tensor(0.0), clip=clip)
