"""Reward design as the upper of two levels: its gradient through the policy that the design brings about."""

import numpy as np

from lapwing.core.errors import LapwingError
from lapwing.tabular.tie_probe import regularised_optimum


def hyper_gradient(
    design: np.ndarray, features: np.ndarray, utility: np.ndarray, *, temperature: float
) -> tuple[float, np.ndarray]:
    """The utility of the policy that is optimal for a designed reward, and its gradient in the design.

        r = Φ ν,   p = softmax(r / β),   U(ν) = Σ_a p_a u_a
        ∂U/∂ν = Φᵀ (diag(p) − p pᵀ) u / β

    The lower level is the entropy-regularised optimum of a bandit; since what the upper level sees is drawn from that
    policy, its gradient is the score-function term. With two arms and r = (ν, 0): (u_0 − u_1) p (1 − p) / β.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Chakraborty et al. 2023, "PARL: A Unified Framework for Policy Alignment in Reinforcement Learning".
      https://arxiv.org/abs/2308.02585

    Args:
      design: ν, [D].
      features: Φ, [A, D].
      utility: u of each action for the designer, [A].
      temperature: β of the lower level, above 0.

    Returns:
      U and ∂U/∂ν, float64 [D].

    Raises:
      LapwingError: the shapes do not fit, or the temperature is not above 0.
    """
    design, features, utility = (np.asarray(x, dtype=np.float64) for x in (design, features, utility))
    if features.shape != (len(utility), len(design)):
        raise LapwingError(f"The features are [{len(utility)}, {len(design)}] for these actions and this design.")
    p = regularised_optimum(features @ design, temperature)
    mean = float(p @ utility)
    return mean, features.T @ (p * (utility - mean)) / temperature
