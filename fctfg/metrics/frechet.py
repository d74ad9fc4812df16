"""Fréchet distance of two sets of features, and the streaming moments that it is computed of."""

from __future__ import annotations

import numpy as np


class Moments:
    """Mean and covariance of feature vectors that arrive in pieces, in float64.

    The scatter sum (x - mean)(x - mean)^T is kept as rows R with R^T R = scatter, never multiplied out: as the centered
    vectors themselves while there are few, as a triangular factor (QR) once there are more than twice the dimensions.
    So a covariance of fewer samples than dimensions costs little, and no digits are lost to squaring.

    Attributes:
        dimensions: D, of a vector.
        count: how many vectors there were.
        mean: [D], float64; zeros before the first vector.

    Raises:
        ValueError: `dimensions` is not positive.
    """

    def __init__(self, dimensions: int) -> None:
        if dimensions < 1:
            raise ValueError(f"feature vectors need a positive number of dimensions, got {dimensions}")
        self.dimensions = dimensions
        self.count = 0
        self.mean = np.zeros(dimensions)
        self._rows: list[np.ndarray] = []  # [n, D] each

    def update(self, features: np.ndarray) -> None:
        """Takes in more vectors.

        Args:
            features: [N, D], any number of them.

        Raises:
            ValueError: another shape, or values that are not finite.
        """
        vectors = np.asarray(features, dtype=np.float64)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimensions:
            raise ValueError(f"update needs [N, {self.dimensions}], got {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError("features hold values that are not finite")
        if not len(vectors):
            return
        mean, total = vectors.mean(0), self.count + len(vectors)
        difference = mean - self.mean
        # Chan, Golub and LeVeque (1979): S = S_a + S_b + n_a n_b / (n_a + n_b) d d^T with d = mean_b - mean_a
        between = np.sqrt(self.count * len(vectors) / total) * difference[None]
        self._rows += [vectors - mean, between]
        self.mean = self.mean + difference * (len(vectors) / total)
        self.count = total
        if sum(map(len, self._rows)) > 2 * self.dimensions:
            self._rows = [self.rows]

    @property
    def rows(self) -> np.ndarray:
        """R [n, D], n at most D, with R^T R = (count - 1) covariance."""
        rows = np.concatenate([np.zeros((0, self.dimensions)), *self._rows])
        return rows if len(rows) <= self.dimensions else np.asarray(np.linalg.qr(rows, mode="r"))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Fréchet (2-Wasserstein) distance, squared, of the Gaussians with these means and covariances.

    d^2 = |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Dowson and Landau 1982, Eq. 4; Heusel et al. 2017, Eq. 6).
    With C = R^T R / (n - 1), the trace of the square root is the sum of the singular values of R_a R_b^T over
    sqrt((n_a - 1)(n_b - 1)): no matrix square root, and exact for covariances of fewer samples than dimensions, where
    the general one loses half of the digits or comes out complex.

    Of Inception features this is FID, of other features something else: name the extractor beside it. The estimate is
    too large for few samples, by an amount that depends on their number and on the features (Chong and Forsyth 2020),
    so only values over equally many samples compare. In squared units of the features; lower is better.

    Args:
        a: moments of the one set.
        b: moments of the other; the order makes no difference.

    Returns:
        At least 0, which it is for equal sets; NaN if a set has fewer than two vectors, since it has no covariance.

    Raises:
        ValueError: the dimensions differ.
    """
    if a.dimensions != b.dimensions:
        raise ValueError(f"features of {a.dimensions} and {b.dimensions} dimensions do not compare")
    if min(a.count, b.count) < 2:
        return float("nan")
    rows_a, rows_b = a.rows / np.sqrt(a.count - 1), b.rows / np.sqrt(b.count - 1)
    traces = np.square(rows_a).sum() + np.square(rows_b).sum()
    root = np.linalg.svd(rows_a @ rows_b.T, compute_uv=False).sum()
    return max(0.0, float(np.square(a.mean - b.mean).sum() + traces - 2 * root))
