"""Confidence intervals of a mean over clips."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 9999


class Interval(NamedTuple):
    """A mean and the interval that covers the true one with the level asked for."""

    mean: float  # NaN without values
    low: float  # NaN where it cannot be told: fewer than two values, or infinite ones
    high: float
    n: int  # values that were used
    missing: int  # values that were NaN and left out


def confidence_interval(values: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = 0) -> Interval:
    """Bootstrap interval of the mean: bias-corrected and accelerated (BCa; Efron 1987), expanded for few clips.

    The clips are drawn again with replacement, 9999 times, from a generator that depends on nothing but the seed; the
    bounds are quantiles of the means, corrected for the bias and skewness of their distribution. Where this correction
    is not defined, the quantiles are taken as they are. In the unit of the values.

    Means of n drawn values spread less than they should, by sqrt((n - 1) / n), and with the normal's tails; so the
    quantiles are those of a larger level (Hesterberg 2015, "expanded percentile interval"):
    Phi(-sqrt(n / (n - 1)) t_(alpha/2, n-1)) in place of alpha/2. In simulation 95 % intervals of 20
    clips cover 94.5 % (normal), 93.4 % (exponential) and 90.3 % (log-normal) of the true means, of 10 clips 94.2 %,
    93.0 % and 89.1 %; without the expansion 92, 92 and 88 % of 20 (`tests/test_metric_bootstrap.py` repeats it).

    Args:
        values: [N], one a clip; NaN = not measured.
        level: how often the interval shall cover the true mean, in (0, 1).
        seed: of the resampling.

    Returns:
        the interval; both bounds are the value itself when all values are equal and there are at least two.

    Raises:
        ValueError: not one-dimensional, or a level outside (0, 1).
    """
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1:
        raise ValueError(f"confidence_interval needs [N], got {given.shape}")
    if not 0 < level < 1:
        raise ValueError(f"the level must be between 0 and 1, got {level}")
    known = given[~np.isnan(given)]
    n, missing = len(known), len(given) - len(known)
    if not n:
        return Interval(np.nan, np.nan, np.nan, 0, missing)
    if n > 1 and (known == known[0]).all():
        return Interval(float(known[0]), float(known[0]), float(known[0]), n, missing)
    with np.errstate(invalid="ignore"):  # infinite values of both signs
        mean = float(known.mean())
    if n == 1 or not np.isfinite(mean):
        return Interval(mean, np.nan, np.nan, n, missing)
    tail = stats.norm.sf(np.sqrt(n / (n - 1)) * stats.t.isf((1 - level) / 2, n - 1))
    bounds = _bounds(known, 1 - 2 * tail, seed, "BCa")
    if not np.isfinite(bounds).all():
        bounds = _bounds(known, 1 - 2 * tail, seed, "percentile")
    return Interval(mean, *bounds, n, missing)


def _bounds(values: np.ndarray, level: float, seed: int, method: str) -> tuple[float, float]:
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # its bounds are NaN, which the caller looks at
        found = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=level,
            method=method,
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return float(found.low), float(found.high)
