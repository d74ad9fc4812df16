"""Confidence intervals of a mean over clips."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 9999
LEAST = 5  # values, or groups of them, below which an interval would promise more than it holds


class Interval(NamedTuple):
    """A mean and the interval that covers the true one with the level asked for."""

    mean: float  # NaN without values
    low: float  # NaN where it cannot be told: too few values, or infinite ones
    high: float
    n: int  # values that were used
    missing: int  # values that were NaN and left out


def confidence_interval(
    values: Sequence[float] | np.ndarray,
    level: float = 0.95,
    seed: int = 0,
    groups: Sequence[str] | np.ndarray | None = None,
) -> Interval:
    """Bootstrap interval of the mean: bias-corrected and accelerated (BCa; Efron 1987), expanded for few clips.

    The clips are drawn again with replacement, 9999 times, from a generator that depends on nothing but the seed; the
    bounds are quantiles of the means, corrected for the bias and skewness of their distribution. Where this correction
    is not defined, the quantiles are taken as they are. In the unit of the values.

    Means of n drawn values spread less than they should, by sqrt((n - 1) / n), and with the normal's tails; so the
    quantiles are those of a larger level (Hesterberg 2015, "expanded percentile interval"):
    Phi(-sqrt(n / (n - 1)) t_(alpha/2, n-1)) in place of alpha/2. In simulation 95 % intervals of 20
    clips cover 94.5 % (normal), 93.4 % (exponential) and 90.3 % (log-normal) of the true means, of 10 clips 94.2 %,
    93.0 % and 89.1 %; without the expansion 92, 92 and 88 % of 20 (`tests/test_metric_bootstrap.py` repeats it). Of
    five normal values they cover 93 %, of four 87 %: fewer than five have no interval.

    Clips of one person are alike. With `groups`, whole people are drawn (the cluster bootstrap; Cameron, Gelbach and
    Miller 2008), and their number takes the place of n. Of 8 people with 3 clips each, as different among themselves as
    from others, that covers 95 %, drawing clips 82 %.

    Args:
        values: [N], one a clip; NaN = not measured.
        level: how often the interval shall cover the true mean, in (0, 1).
        seed: of the resampling.
        groups: [N], who each clip shows; None takes the clips as independent.

    Returns:
        the interval; both bounds are the value itself when all values are equal.

    Raises:
        ValueError: not one-dimensional, groups of another length, or a level outside (0, 1).
    """
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1:
        raise ValueError(f"confidence_interval needs [N], got {given.shape}")
    if not 0 < level < 1:
        raise ValueError(f"the level must be between 0 and 1, got {level}")
    members = np.arange(len(given)) if groups is None else np.asarray(groups)
    if members.shape != given.shape:
        raise ValueError(f"groups must be [{len(given)}], got {members.shape}")
    there = ~np.isnan(given)
    known = given[there]
    n, missing = len(known), len(given) - len(known)
    if not n:
        return Interval(np.nan, np.nan, np.nan, 0, missing)
    with np.errstate(invalid="ignore"):  # infinite values of both signs
        mean = float(known.mean())
    _, place = np.unique(members[there], return_inverse=True)
    drawn = int(place.max()) + 1
    if drawn < LEAST:
        return Interval(mean, np.nan, np.nan, n, missing)
    if (known == known[0]).all():
        return Interval(float(known[0]), float(known[0]), float(known[0]), n, missing)
    if not np.isfinite(mean):
        return Interval(mean, np.nan, np.nan, n, missing)
    parts = np.bincount(place, known), np.bincount(place).astype(np.float64)  # sums and sizes of the groups
    tail = stats.norm.sf(np.sqrt(drawn / (drawn - 1)) * stats.t.isf((1 - level) / 2, drawn - 1))
    bounds = _bounds(parts, 1 - 2 * tail, seed, "BCa")
    if not np.isfinite(bounds).all():
        bounds = _bounds(parts, 1 - 2 * tail, seed, "percentile")
    return Interval(mean, *bounds, n, missing)


def _ratio(sums: np.ndarray, sizes: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean of all values of some groups."""
    found: np.ndarray = sums.sum(axis) / sizes.sum(axis)
    return found


def _bounds(parts: tuple[np.ndarray, np.ndarray], level: float, seed: int, method: str) -> tuple[float, float]:
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # its bounds are NaN, which the caller looks at
        found = stats.bootstrap(
            parts,
            _ratio,
            paired=True,
            n_resamples=RESAMPLES,
            confidence_level=level,
            method=method,
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return float(found.low), float(found.high)
