"""What a critic minimises."""

import torch

from lapwing.core.errors import UserError


def value_loss(
    *, value: torch.Tensor, behavior_value: torch.Tensor, target: torch.Tensor, clip: float | None = 0.2
) -> torch.Tensor:
    """Take half the squared error, or that of the value held near where it was when the episodes were played.

        ℓ = ½ max((v − target)², (v_clip − target)²),   v_clip = v_old + clip(v − v_old, −c, c)

    The clip bounds how far one iteration moves the critic, as the clipped surrogate does for the policy: once the
    value has gone further than c towards the target the gradient is 0; where it went away from it, it is not.
    c is in units of reward, so it must fit the scale of the returns. Without a clip it is ½ (v − target)². Large
    studies found no gain from the clip, and the field's implementations have it nevertheless.

    Reference: Schulman et al. 2017, "Proximal Policy Optimization Algorithms", in the form of the authors' code:
      Huang et al. 2022, "The 37 Implementation Details of Proximal Policy Optimization", detail 9.
      https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/; without a gain: Andrychowicz et al.
      2020. https://arxiv.org/abs/2006.05990

    Args:
      value: v, the critic's values now, of any shape, in units of reward.
      behavior_value: v_old, the critic's values when the episodes were played, of the same shape.
      target: what the values should be, of the same shape; `advantage + behavior_value` for the GAE family.
      clip: c, above 0, in units of reward; None for the plain squared error.

    Returns:
      Loss to be minimised, of the shape of `value`, in units of reward squared.

    Raises:
      UserError: `clip` is not above 0.
    """
    if clip is not None and not clip > 0.0:
        raise UserError(f"clip must be above 0, or left out, but it is {clip}.")
    error = (value - target) ** 2
    if clip is None:
        return 0.5 * error
    clipped = behavior_value + torch.clamp(value - behavior_value, -clip, clip)
    return 0.5 * torch.maximum(error, (clipped - target) ** 2)
