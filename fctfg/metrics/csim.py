"""Identity kept: cosine of the embeddings of one face in two pictures."""

import numpy as np


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to length one.

    Args:
        vectors: [N, D].

    Returns:
        [N, D], float64; NaN for a vector of length 0, or with a value that is NaN.

    Raises:
        ValueError: another shape.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"embeddings must be [N, D], got {rows.shape}")
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, np.nan)


def csim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine similarity of embeddings, pair by pair (CSIM of Zakharov et al. 2019, section 4).

    cos = <a, b> / (|a| |b|). It depends on the recogniser: name it beside the value, and compare only values of the
    same one. No unit; higher is better.

    Args:
        a: [N, D], a face in each of N pictures; NaN where none was found.
        b: [N, D], the same person in each of N other pictures, by the same recogniser.

    Returns:
        [N], float64, in [-1, 1]; NaN where either has no face, or length 0.

    Raises:
        ValueError: the shapes differ or are not [N, D].
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"csim needs two [N, D], got {np.shape(a)} and {np.shape(b)}")
    return np.clip((unit_vectors(a) * unit_vectors(b)).sum(1), -1.0, 1.0)
