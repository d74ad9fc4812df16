"""How two curves agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pearson(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Pearson correlation over the positions where both series have a value.

    Args:
        a: [T], NaN = no value.
        b: [T], NaN = no value.

    Returns:
        In [-1, 1]; NaN when fewer than two positions are left or one series is constant there.

    Raises:
        ValueError: the lengths differ.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"pearson needs two series of one length, got {x.shape} and {y.shape}")
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 2:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.clip(x @ y / scale, -1.0, 1.0)) if scale > 0 else float("nan")
