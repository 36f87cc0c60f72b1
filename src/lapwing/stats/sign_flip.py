"""Whether paired differences could have come out with any other sign as well."""

import numpy as np
from scipy import stats

from lapwing.core.errors import LapwingError
from lapwing.core.rng import generator

# 2^16 sign patterns take a second; more are sampled.
MOST_EXACT = 16
RESAMPLES = 99_999
_NUMBERS_AT_ONCE = 2_000_000


def sign_flip(differences: np.ndarray, *, resamples: int = RESAMPLES, rng: np.random.Generator | None = None) -> float:
    """Two-sided p of the paired sign-flip permutation test of the mean.

        p = share of sign patterns s ∈ {−1, +1}^n with |mean(s · d)| ≥ |mean(d)|

    If two methods are equal, the difference of a pair is as likely with either sign. Up to 16 pairs all 2^n patterns
    are counted, which is exact and assumes no distribution; beyond, `resamples` of them are drawn and the observed one
    is added to both counts. One pair gives 1, and no data gives less than `smallest_p`.

    Reference: Fisher 1935, "The Design of Experiments", section 21; Phipson and Smyth 2010, "Permutation P-values
      Should Never Be Zero". https://doi.org/10.2202/1544-6115.1585

    Args:
      differences: d, first − second of each pair, [n], n ≥ 1, finite, any unit.
      resamples: sign patterns drawn where there are more than 16 pairs, ≥ 1.
      rng: their source; by default the stream with the key "sign_flip".

    Returns:
      p in (0, 1].

    Raises:
      LapwingError: there are no differences, or one is not finite.
    """
    differences = np.asarray(differences, dtype=np.float64)
    n = len(differences)
    if n == 0 or not np.isfinite(differences).all():
        raise LapwingError("A sign-flip test needs at least one difference, and finite ones.")
    if n == 1:
        return 1.0
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        alternative="two-sided",
        vectorized=True,
        n_resamples=np.inf if n <= MOST_EXACT else resamples,  # pyright: ignore[reportArgumentType]
        batch=max(1, _NUMBERS_AT_ONCE // n),
        random_state=generator("sign_flip") if rng is None else rng,  # pyright: ignore[reportCallIssue]
    )
    return float(found.pvalue)


def smallest_p(pairs: int, *, resamples: int = RESAMPLES) -> float:
    """The smallest p that `sign_flip` can give with so many pairs.

        2 / 2^n,   n ≤ 16;   max(2 / 2^n, 2 / (B + 1)) beyond

    It is reached where all differences have the same sign, whatever their size.

    Args:
      pairs: n, ≥ 1.
      resamples: B, as for `sign_flip`.

    Returns:
      A probability; 1 for one pair.

    Raises:
      LapwingError: there is no pair.
    """
    if pairs < 1:
        raise LapwingError(f"A sign-flip test needs at least one pair, not {pairs}.")
    exact = 2.0 ** (1 - pairs)
    return exact if pairs <= MOST_EXACT else max(exact, 2.0 / (resamples + 1))
