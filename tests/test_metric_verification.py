"""Verification by embeddings: against pair-by-pair counts, closed forms of Gaussians, and by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from fctfg.metrics.csim import csim
from fctfg.metrics.verification import auc, cosine_matrix, equal_error_rate, look_alikes, within_and_across

# ---- similarities


def test_cosine_matrix_is_csim_of_every_pair() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(4, 8)), draw.normal(size=(3, 8)).astype(np.float32)
    found = cosine_matrix(a, b)
    assert found.shape == (4, 3)
    for j in range(3):
        np.testing.assert_allclose(found[:, j], csim(a, np.tile(b[j], (4, 1))))
    np.testing.assert_allclose(cosine_matrix(5 * a, b), found)


def test_cosine_matrix_marks_missing_faces() -> None:
    a = np.eye(3)
    a[1] = np.nan
    found = cosine_matrix(a, np.eye(3))
    assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()
    with pytest.raises(ValueError, match=r"\[M, D\]"):
        cosine_matrix(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"\[M, D\]"):
        cosine_matrix(np.ones(3), np.ones(3))


def test_within_and_across_two_sets() -> None:
    similarity = np.arange(6.0).reshape(2, 3)
    same, different = within_and_across(similarity, np.array(["ann", "bob"]), np.array(["bob", "ann", "cy"]))
    np.testing.assert_array_equal(same, [1, 3])
    np.testing.assert_array_equal(different, [0, 2, 4, 5])


def test_within_and_across_one_set_counts_each_pair_once() -> None:
    people = np.array([1, 1, 2, 1])
    similarity = np.add.outer(np.arange(4), np.arange(4)) + 10.0 * np.arange(4)[:, None] * np.arange(4)
    same, different = within_and_across(similarity, people, people, one_set=True)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    np.testing.assert_array_equal(same, [similarity[i, j] for i, j in pairs if people[i] == people[j]])
    np.testing.assert_array_equal(different, [similarity[i, j] for i, j in pairs if people[i] != people[j]])
    assert len(within_and_across(similarity, people, people)[0]) == 10  # all pairs, those with themselves too


def test_within_and_across_without_what_is_missing() -> None:
    similarity = np.array([[1.0, np.nan], [0.5, 0.7]])
    same, different = within_and_across(similarity, np.array([0, 1]), np.array([0, 1]))
    np.testing.assert_array_equal(same, [1.0, 0.7])
    np.testing.assert_array_equal(different, [0.5])
    with pytest.raises(ValueError, match="do not belong"):
        within_and_across(similarity, np.array([0, 1, 2]), np.array([0, 1]))
    with pytest.raises(ValueError, match="one set"):
        within_and_across(similarity, np.array([0, 1]), np.array([1, 0]), one_set=True)


# ---- AUC and EER


def test_auc_is_the_share_of_pairs_in_order() -> None:
    draw = np.random.default_rng(1)
    for size in ((7, 11), (40, 3), (1, 1)):
        same, different = draw.integers(0, 8, size[0]) + 1.0, draw.integers(0, 8, size[1]) * 1.0  # many ties
        expected = np.mean([(s > d) + (s == d) / 2 for s in same for d in different])
        assert auc(same, different) == pytest.approx(expected, abs=1e-12)
        assert auc(different, same) == pytest.approx(1 - expected, abs=1e-12)


def by_thresholds(same: np.ndarray, different: np.ndarray) -> float:
    """Where the two rates cross, on the ROC curve of straight pieces between all thresholds."""
    points = []
    for threshold in [*sorted({*same, *different}), np.inf]:
        points.append((np.mean(different >= threshold), np.mean(same < threshold)))
    for (accepted, refused), (accepted_next, refused_next) in pairwise(points):
        if refused_next >= accepted_next:
            gap, gap_next = accepted - refused, accepted_next - refused_next
            share = gap / (gap - gap_next)
            return float(refused + share * (refused_next - refused))
    raise AssertionError("the rates always cross")


def test_equal_error_rate_against_a_walk_over_thresholds() -> None:
    draw = np.random.default_rng(2)
    for shift in (0.0, 0.5, 1.0, 3.0, -1.0):
        same, different = draw.normal(shift, 1, 37), np.round(draw.normal(0, 1, 53), 1)
        assert equal_error_rate(same, different) == pytest.approx(by_thresholds(same, different), abs=1e-12)


@pytest.mark.parametrize("separation", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_gaussians_have_closed_forms(separation: float) -> None:
    levels = (np.arange(20_000) + 0.5) / 20_000
    same, different = stats.norm.ppf(levels) + separation, stats.norm.ppf(levels)
    assert auc(same, different) == pytest.approx(stats.norm.cdf(separation / math.sqrt(2)), abs=1e-4)
    assert equal_error_rate(same, different) == pytest.approx(stats.norm.cdf(-separation / 2), abs=1e-4)


def test_extremes_and_ties() -> None:
    apart, mixed = np.array([0.8, 0.9]), np.array([0.1, 0.2, 0.3])
    assert auc(apart, mixed) == 1 and equal_error_rate(apart, mixed) == 0
    assert auc(mixed, apart) == 0 and equal_error_rate(mixed, apart) == 1
    constant = np.full(4, 0.5)
    assert auc(constant, constant) == 0.5 and equal_error_rate(constant, constant) == 0.5


def test_only_the_order_counts() -> None:
    draw = np.random.default_rng(3)
    same, different = draw.normal(1, 1, 30), draw.normal(0, 1, 50)
    assert auc(np.exp(same), np.exp(different)) == auc(same, different)
    assert equal_error_rate(np.exp(same), np.exp(different)) == equal_error_rate(same, different)
    assert equal_error_rate(-different, -same) == pytest.approx(equal_error_rate(same, different))


def test_without_pairs_there_is_no_rate() -> None:
    for measure in (auc, equal_error_rate):
        assert math.isnan(measure(np.array([]), np.array([1.0])))
        assert math.isnan(measure(np.array([1.0]), np.array([])))
        with pytest.raises(ValueError, match="not NaN"):
            measure(np.array([np.nan]), np.array([1.0]))
        with pytest.raises(ValueError, match="one-dimensional"):
            measure(np.ones((2, 2)), np.ones(2))


# ---- look-alikes


def test_look_alikes_of_a_gallery_on_a_circle() -> None:
    angles = np.deg2rad([0, 10, 25, 90, 180])
    gallery = np.stack([np.cos(angles), np.sin(angles)], 1) * [[1], [5], [0.2], [3], [1]]
    indices, similarities = look_alikes(np.array([[2.0, 0.0], [0.0, -1.0]]), gallery, 3)
    np.testing.assert_array_equal(indices, [[0, 1, 2], [0, 4, 1]])
    np.testing.assert_allclose(similarities[0], np.cos(angles[:3]))
    np.testing.assert_allclose(similarities[1], [0, 0, -np.sin(angles[1])], atol=1e-15)


def test_look_alikes_puts_missing_faces_last() -> None:
    gallery = np.array([[np.nan, np.nan], [0.0, 1.0], [1.0, 0.0]])
    indices, similarities = look_alikes(np.array([[1.0, 0.1]]), gallery, 3)
    np.testing.assert_array_equal(indices, [[2, 1, 0]])
    assert np.isnan(similarities[0, 2])
    for k in (0, 4):
        with pytest.raises(ValueError, match="size of the gallery"):
            look_alikes(np.ones((1, 2)), gallery, k)
