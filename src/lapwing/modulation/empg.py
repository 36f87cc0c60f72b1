"""Advantages scaled by how sure the policy was of each step."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.modulation._levels import one_per_step

LEVEL = "step"
SCOPE = "batch"
NEEDS = ("entropy",)


@checked(*NEEDS)
def empg(
    batch: EpisodeBatch, advantage: np.ndarray, *, k: float = 1.0, k_next: float = 1.0, bonus: float = 0.05
) -> np.ndarray:
    """Strengthen the advantage of confident steps, weaken that of unsure ones, and reward steps to clarity.

        h_t = (H_t − min H) / (max H − min H + 1e-8)
        g_t = exp(−k h_t) / mean exp(−k h)
        f_t = exp(−k′ h_{t+1}),   0 at the last step of an episode
        A′_t = A_t g_t + ζ f_t,   minus its mean

    Minimum, maximum and means run over all steps of the batch, so that the mean of g is 1; with equal entropies
    g = 1. Confident mistakes are punished harder too. A step counts once, however long its reply; one without tokens
    counts with the entropy that the column states. The bonus rewards predictability and can end exploration. Where
    the advantage is whitened over the batch as well, that comes afterwards; whitening each group afterwards undoes
    the method.

    Provenance: formula from a public reproduction's code.

    Reference: EMPG 2025 (entropy-modulated policy gradients). https://arxiv.org/abs/2509.09265; k, k′ and ζ as in
      the reproduction of ARLArena.

    Args:
      batch: N steps in E episodes, with the column `entropy`.
      advantage: per step [N], any unit.
      k: how strongly the step's own entropy scales its advantage, ≥ 0.
      k_next: k′, how strongly the next step's entropy lowers the bonus, ≥ 0.
      bonus: ζ, the bonus of a step that leads to the most certain one, ≥ 0, in the unit of `advantage`.

    Returns:
      Advantage of each step, float64 [N], in the unit of `advantage`.

    Raises:
      UserError: `advantage` has not one number per step, or a setting is negative.
    """
    for name, value in (("k", k), ("k_next", k_next), ("bonus", bonus)):
        if not 0.0 <= value < math.inf:
            raise UserError(f"{name} must be finite and at least 0, but it is {value}.")
    values = one_per_step(batch, advantage, "empg")
    if len(values) == 0:
        return values.copy()
    entropy = np.asarray(batch.column("entropy"), dtype=np.float64)
    scaled = (entropy - entropy.min()) / (np.ptp(entropy) + 1e-8)
    scale = np.exp(-k * scaled)
    clarity = np.zeros(len(values))
    clarity[:-1] = np.exp(-k_next * scaled[1:])
    clarity[batch.step_splits[1:] - 1] = 0.0
    modulated = values * (scale / scale.mean()) + bonus * clarity
    return modulated - modulated.mean()
