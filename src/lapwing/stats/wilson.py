"""An interval for a share of successes."""

import math

from scipy.special import ndtri

from lapwing.core.errors import LapwingError
from lapwing.stats.interval import Interval, check_confidence


def wilson(successes: int, total: int, confidence: float = 0.95) -> Interval:
    """Score interval of a binomial proportion.

        p = s/n,   (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)

    It stays within [0, 1] and has a positive width at 0 and n successes, where the textbook interval has none. `mean`
    is the plain share s/n, which always lies inside but not in the middle.

    Reference: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
      https://doi.org/10.1080/01621459.1927.10502953; Brown, Cai and DasGupta 2001, "Interval Estimation for a
      Binomial Proportion", eq. 4. https://doi.org/10.1214/ss/1009213286

    Args:
      successes: s, 0 … total.
      total: n, the number of independent trials, ≥ 1.
      confidence: probability with which the interval covers the true share, in (0, 1).

    Returns:
      Interval: mean, low and high, shares in [0, 1].

    Raises:
      UserError: `confidence` lies outside (0, 1).
      LapwingError: there are no trials, or `successes` lies outside 0 … total.
    """
    check_confidence(confidence)
    if total < 1 or not 0 <= successes <= total:
        raise LapwingError(f"A share needs 0 ≤ successes ≤ total and total ≥ 1, but it was {successes} of {total}.")
    return score_interval(successes / total, total, confidence)


def score_interval(share: float, total: float, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a share of so many independent trials, which need not be a whole number.

    Args:
      share: p, in [0, 1].
      total: n, above 0; where trials are not independent, as many as they are worth.
      confidence: as for `wilson`.

    Returns:
      Interval: mean, low and high, shares in [0, 1].
    """
    z = float(ndtri(0.5 + confidence / 2))
    shrink = 1 + z**2 / total
    centre = (share + z**2 / (2 * total)) / shrink
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / shrink
    # At 0 and n successes a bound equals the share up to rounding, and must not pass it.
    return Interval(share, min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share))
