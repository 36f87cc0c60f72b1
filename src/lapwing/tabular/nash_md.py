"""Nash mirror descent where all actions can be counted: the truth that the sampled loss aims at."""

import numpy as np

from lapwing.core.errors import UserError


def geometric_mixture(policy: np.ndarray, reference: np.ndarray, *, share: float) -> np.ndarray:
    """A policy between two others, on the line that joins their log-probabilities.

        π^m ∝ π^{1−b} μ^b

    An action that one of the two never takes, and that counts (0 < b < 1), is never taken by the mixture.

    Provenance: formula and defaults from the authors' code.

    Reference: Munos et al. 2023, "Nash Learning from Human Feedback". https://arxiv.org/abs/2312.00886

    Args:
      policy: π, probabilities of the actions, [A].
      reference: μ, the same, [A].
      share: b, of the reference, in [0, 1].

    Returns:
      π^m, float64 [A].

    Raises:
      UserError: `share` lies outside [0, 1], or the two have no action in common.
    """
    if not 0.0 <= share <= 1.0:
        raise UserError(f"share must be in [0, 1], but it is {share}.")
    # 0⁰ = 1: what has no share has no say.
    mixed = np.power(np.asarray(policy, dtype=np.float64), 1.0 - share) * np.power(reference, share)
    total = mixed.sum()
    if not total > 0.0:
        raise UserError("Policy and reference have no action in common, so that there is no mixture of them.")
    return mixed / total


def nash_md_step(
    policy: np.ndarray, reference: np.ndarray, preference: np.ndarray, *, step_size: float, share: float
) -> np.ndarray:
    """One step of mirror descent from the mixture, towards what is preferred to it.

        π_{k+1} ∝ π^m exp(η P(· ≻ π^m)),   P(a ≻ π^m) = Σ_b π^m(b) P(a ≻ b)

    With share b = η τ its fixed point is the Nash equilibrium of the game that is regularised by τ KL(·‖μ). With b = 0
    the step is that of multiplicative weights, whose last iterate may go in circles for ever.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Munos et al. 2023, "Nash Learning from Human Feedback". https://arxiv.org/abs/2312.00886

    Args:
      policy: π_k, probabilities of the actions, [A].
      reference: μ, the same, [A].
      preference: P(a ≻ b), [A, A], in [0, 1]; P(a ≻ b) + P(b ≻ a) = 1.
      step_size: η, ≥ 0, in inverse units of preference.
      share: b, of the reference in the mixture, in [0, 1].

    Returns:
      π_{k+1}, float64 [A].

    Raises:
      UserError: `step_size` is negative, `share` lies outside [0, 1], or the preferences are no probabilities.
    """
    preference = np.asarray(preference, dtype=np.float64)
    if not step_size >= 0.0:
        raise UserError(f"step_size must be at least 0, but it is {step_size}.")
    if not (((preference >= 0.0) & (preference <= 1.0)).all() and np.allclose(preference + preference.T, 1.0)):
        raise UserError("Preferences are probabilities P(a ≻ b) with P(a ≻ b) + P(b ≻ a) = 1.")
    mixture = geometric_mixture(policy, reference, share=share)
    # Preferences lie in [0, 1]: nothing overflows before η does.
    gain = step_size * (preference @ mixture)
    moved = mixture * np.exp(gain - gain.max())
    return moved / moved.sum()
