"""Telling people apart by embeddings: similarities within and across people, AUC, equal error rate, look-alikes."""

import numpy as np
from scipy.stats import rankdata

from fctfg.metrics.csim import unit_vectors


def cosine_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine similarity of every embedding with every other.

    Args:
        a: [N, D].
        b: [M, D].

    Returns:
        [N, M], float64, in [-1, 1]; rows and columns of NaN for embeddings that are NaN (no face found) or zero.

    Raises:
        ValueError: the shapes do not fit.
    """
    if np.ndim(a) != 2 or np.ndim(b) != 2 or np.shape(a)[1] != np.shape(b)[1]:
        raise ValueError(f"cosine_matrix needs [N, D] and [M, D], got {np.shape(a)} and {np.shape(b)}")
    return np.clip(unit_vectors(a) @ unit_vectors(b).T, -1.0, 1.0)


def within_and_across(
    similarity: np.ndarray, people_a: np.ndarray, people_b: np.ndarray, one_set: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Splits similarities into those of one person (within class) and those of two (across classes).

    Args:
        similarity: [N, M], as of `cosine_matrix`.
        people_a: [N], who is in each row: numbers or names.
        people_b: [M], who is in each column.
        one_set: rows and columns are the same pictures: every pair counts once, and none with itself.

    Returns:
        (same [S], different [T]), float64, in the order of the matrix; pairs without a similarity (NaN) are left out.

    Raises:
        ValueError: the shapes do not fit, or one set whose rows and columns are not the same people.
    """
    values, rows, columns = np.asarray(similarity, np.float64), np.asarray(people_a), np.asarray(people_b)
    if rows.ndim != 1 or columns.ndim != 1 or values.shape != (len(rows), len(columns)):
        raise ValueError(f"similarities {values.shape} do not belong to people {rows.shape} and {columns.shape}")
    if one_set and not np.array_equal(rows, columns):
        raise ValueError("one set needs the same people in rows and columns")
    counted = np.isfinite(values)
    if one_set:
        counted &= np.triu(np.ones_like(counted), 1)
    same = rows[:, None] == columns[None, :]
    return values[counted & same], values[counted & ~same]


def auc(same: np.ndarray, different: np.ndarray) -> float:
    """Area under the ROC curve: how often a pair of one person is more similar than a pair of two.

    AUC = P(same > different) + P(same = different) / 2, the Mann-Whitney statistic over the number of pairs (Hanley and
    McNeil 1982), here by ranks. Chance 0.5; higher is better.

    Args:
        same: [S], similarities of pairs of one person.
        different: [T], similarities of pairs of two people.

    Returns:
        In [0, 1]; NaN when either is empty.

    Raises:
        ValueError: not one-dimensional, or NaN among the values.
    """
    positive, negative = _scores(same), _scores(different)
    if not len(positive) or not len(negative):
        return float("nan")
    ranks = rankdata(np.concatenate([positive, negative]))  # equal values share their mean rank
    count = len(positive)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(negative)))


def equal_error_rate(same: np.ndarray, different: np.ndarray) -> float:
    """Error rate at the threshold that refuses as many pairs of one person as it accepts of two.

    A pair is accepted when its similarity is at least the threshold. Between the thresholds that the values allow, both
    rates are interpolated linearly (the ROC curve of straight pieces). Chance 0.5; lower is better.

    Args:
        same: [S], similarities of pairs of one person.
        different: [T], similarities of pairs of two people.

    Returns:
        In [0, 1], 0 for values that a threshold separates; NaN when either is empty.

    Raises:
        ValueError: not one-dimensional, or NaN among the values.
    """
    positive, negative = np.sort(_scores(same)), np.sort(_scores(different))
    if not len(positive) or not len(negative):
        return float("nan")
    thresholds = np.append(np.unique(np.concatenate([positive, negative])), np.inf)
    refused = np.searchsorted(positive, thresholds) / len(positive)  # rises from 0 to 1
    accepted = 1 - np.searchsorted(negative, thresholds) / len(negative)  # falls from 1 to 0
    after = int(np.argmax(refused >= accepted))  # the first threshold is below all values: accepted 1, refused 0
    gap_before, gap_after = accepted[after - 1] - refused[after - 1], refused[after] - accepted[after]
    share = gap_before / (gap_before + gap_after)
    return float(refused[after - 1] + share * (refused[after] - refused[after - 1]))


def look_alikes(queries: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The faces of a gallery that are most similar to each of several faces.

    Args:
        queries: [N, D], embeddings.
        gallery: [M, D], embeddings by the same recogniser.
        k: how many for each.

    Returns:
        (indices [N, k] into the gallery, int64; their cosine similarities [N, k], float64), the most similar first,
        of equal ones that with the lower index; embeddings that are NaN come last, with NaN.

    Raises:
        ValueError: the shapes do not fit, or k is not in 1..M.
    """
    similarity = cosine_matrix(queries, gallery)
    if not 1 <= k <= similarity.shape[1]:
        raise ValueError(f"k must be 1 to {similarity.shape[1]}, the size of the gallery, got {k}")
    indices = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return indices, np.take_along_axis(similarity, indices, axis=1)


def _scores(values: np.ndarray) -> np.ndarray:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or np.isnan(scores).any():
        raise ValueError(f"similarities must be one-dimensional and not NaN, got {scores.shape}")
    return scores
