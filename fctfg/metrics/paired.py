"""Two methods over the same clips: is one better, and by how much?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from fctfg.metrics.bootstrap import confidence_interval


class Comparison(NamedTuple):
    """A paired comparison of a with b."""

    difference: float  # mean of a - b, in the unit of the values; NaN without pairs
    low: float  # bounds of the interval of the difference, NaN where it cannot be told
    high: float
    p: float  # two-sided, of the Wilcoxon signed-rank test; NaN without pairs
    n: int  # clips that both methods have
    missing: int  # clips of which either is NaN, left out


def compare(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    level: float = 0.95,
    seed: int = 0,
    groups: Sequence[str] | np.ndarray | None = None,
) -> Comparison:
    """Paired comparison of one metric of two methods over the same clips.

    p is that of the signed-rank test of Wilcoxon (1945), two-sided, with clips of no difference left out of the ranks:
    exact for up to 50 clips without ties, otherwise by permutations or the normal approximation, as scipy does. It asks
    whether the differences lie symmetrically around zero. With n clips it cannot fall below 2^(1 - n): fewer than six
    never reach 0.05. The interval is that of the mean difference, by `confidence_interval`. With `groups`, the mean
    difference of each person takes the place of a clip's in the test, and people are drawn for the interval.

    Args:
        a: [N], of the one method; NaN = not measured.
        b: [N], of the other, the same clips in the same order.
        level: of the interval, in (0, 1).
        seed: of the interval's resampling.
        groups: [N], who each clip shows; None takes the clips as independent.

    Returns:
        the comparison; p is 1 where no clip differs. Two infinite values (PSNR of equal pictures) do not differ.

    Raises:
        ValueError: the lengths differ, they are not one-dimensional, or `confidence_interval` refuses the rest.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"compare needs the same clips of both methods, got {x.shape} and {y.shape}")
    equal = x == y
    differences = np.where(equal, 0.0, np.subtract(x, y, where=~equal, out=np.zeros_like(x)))
    interval = confidence_interval(differences, level, seed, groups)
    there = ~np.isnan(differences)
    known = differences[there]
    if groups is not None:
        _, place = np.unique(np.asarray(groups)[there], return_inverse=True)
        known = np.bincount(place, known) / np.bincount(place)
    if not len(known):
        p = float("nan")
    elif not known.any():
        p = 1.0
    else:
        p = float(stats.wilcoxon(known[known != 0]).pvalue)
    return Comparison(interval.mean, interval.low, interval.high, p, interval.n, interval.missing)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values of several tests, corrected so that the chance of even one false alarm stays below the limit.

    Holm (1979): sorted, p_(1) <= ... <= p_(m), the corrected ones are max over j <= i of min(1, (m - j + 1) p_(j)). It
    holds however the tests depend on each other.

    Args:
        p_values: [M], in [0, 1]; NaN = no test, which does not count.

    Returns:
        [M], float64, in the same order; NaN stays NaN.

    Raises:
        ValueError: not one-dimensional, or outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or ((p < 0) | (p > 1)).any():
        raise ValueError(f"holm needs p-values [M] in [0, 1], got {p_values}")
    corrected = np.full(p.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return corrected
