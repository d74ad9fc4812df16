"""Fréchet distance against closed forms and scipy's matrix square root; moments in pieces."""

import math

import numpy as np
import pytest
from scipy import linalg

from fctfg.metrics.frechet import Moments, frechet_distance


def moments(features: np.ndarray, *cuts: int) -> Moments:
    """Taken in pieces that end at the cuts."""
    found = Moments(features.shape[1])
    for piece in np.split(features, cuts):
        found.update(piece)
    return found


def general(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook's formula, with a general matrix square root."""
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(cov_a @ cov_b)
    difference = a.mean(0) - b.mean(0)
    return float(difference @ difference + np.trace(cov_a + cov_b - 2 * np.real(root)))


def with_moments(mean: np.ndarray, covariance: np.ndarray, count: int) -> np.ndarray:
    """Samples that have exactly this mean and (unbiased) covariance."""
    raw = np.random.default_rng(7).normal(size=(count, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    return white @ linalg.sqrtm(covariance).T.real + mean


def mixed(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Correlated, skewed samples of very different variances."""
    draw = np.random.default_rng(seed)
    mixing = draw.normal(size=(dimensions, dimensions)) * np.logspace(-2, 1, dimensions)
    return draw.exponential(size=(count, dimensions)) @ mixing + draw.normal(size=dimensions)


# ---- the distance


def test_commuting_covariances_have_a_closed_form() -> None:
    mean_a, mean_b = np.array([0.0, 1.0, 2.0]), np.array([1.0, -1.0, 2.0])
    var_a, var_b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 0.01, 0.25])
    turn = linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    a = with_moments(mean_a, turn @ np.diag(var_a) @ turn.T, 50)
    b = with_moments(mean_b, turn @ np.diag(var_b) @ turn.T, 80)
    expected = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(var_a) - np.sqrt(var_b)) ** 2).sum()
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-10)


def test_one_dimension() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 30, 1)) * [[[1]], [[3]]] + [[[0]], [[2]]]
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dimensions", [2, 10, 64])
def test_general_covariances_against_scipy(dimensions: int) -> None:
    a, b = mixed(300, dimensions, 1), mixed(500, dimensions, 2)
    expected = general(a, b)
    found = frechet_distance(moments(a), moments(b))
    assert found == pytest.approx(expected, rel=1e-8)  # sqrtm of a product is not more exact
    assert frechet_distance(moments(b), moments(a)) == pytest.approx(found, rel=1e-12)


def test_two_dimensions_by_trace_and_determinant() -> None:
    a, b = mixed(300, 2, 1), mixed(500, 2, 2)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = math.sqrt(np.trace(cov_a @ cov_b) + 2 * math.sqrt(np.linalg.det(cov_a) * np.linalg.det(cov_b)))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * root
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("counts", [(5, 7), (5, 200), (2, 2)])
def test_fewer_samples_than_dimensions(counts: tuple[int, int]) -> None:
    """Turned into the space that both sets span, the covariances are of full rank or small enough for eigenvalues."""
    a, b = mixed(counts[0], 40, 1), mixed(counts[1], 40, 2)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(cov_a)
    half = vectors * np.sqrt(values.clip(0)) @ vectors.T
    inner = np.linalg.eigvalsh(half @ cov_b @ half)
    root = np.sqrt(inner[inner > 1e-12 * inner.max()]).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-6)


def test_sets_in_directions_that_do_not_meet() -> None:
    """Orthogonal supports: the traces simply add up."""
    a, b = np.zeros((2, 20, 8))
    a[:, 0], b[:, 5] = np.random.default_rng(0).normal(size=(2, 20)) * [[1], [2]]
    expected = a[:, 0].mean() ** 2 + b[:, 5].mean() ** 2 + a[:, 0].var(ddof=1) + b[:, 5].var(ddof=1)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [3, 30, 400])
def test_the_same_samples_are_at_distance_zero(count: int) -> None:
    a = mixed(count, 40, 1).astype(np.float32)
    total = np.trace(np.cov(a.T.astype(float)))
    assert 0 <= frechet_distance(moments(a), moments(a[::-1], 1)) < 1e-12 * total


def test_invariances() -> None:
    a, b = mixed(60, 10, 1), mixed(80, 10, 2)
    turn = linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0]
    found = frechet_distance(moments(a), moments(b))
    assert frechet_distance(moments(a @ turn + 5), moments(b @ turn + 5)) == pytest.approx(found, rel=1e-9)
    assert frechet_distance(moments(3 * a), moments(3 * b)) == pytest.approx(9 * found, rel=1e-9)
    shift = np.full(10, 0.5)
    assert frechet_distance(moments(a), moments(a + shift)) == pytest.approx(10 * 0.25, rel=1e-9)


def test_the_worse_the_farther() -> None:
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(2, 2000, 16))
    distances = [frechet_distance(moments(real), moments(fake * (1 + s) + s)) for s in (0.0, 0.1, 0.3, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] < 0.1 < distances[3] == pytest.approx(2 * 16, rel=0.1)  # |shift|^2 + (2 - 1)^2 a dimension


def test_a_single_vector_has_no_covariance() -> None:
    assert math.isnan(frechet_distance(moments(np.ones((1, 3))), moments(mixed(9, 3, 0))))
    assert math.isnan(frechet_distance(moments(mixed(9, 3, 0)), Moments(3)))


# ---- the moments


def covariance(found: Moments) -> np.ndarray:
    return found.rows.T @ found.rows / (found.count - 1)


@pytest.mark.parametrize("cuts", [(), (1, 2, 3), (10, 10, 250), tuple(range(16, 400, 16))])
def test_in_pieces_as_at_once(cuts: tuple[int, ...]) -> None:
    a = mixed(400, 30, 3) + 1e3  # far from zero, where squares lose digits
    found = moments(a, *cuts)
    assert found.count == 400
    np.testing.assert_allclose(found.mean, a.mean(0), rtol=1e-13)
    expected = np.cov(a.T)
    np.testing.assert_allclose(covariance(found), expected, atol=1e-11 * abs(expected).max())
    assert len(found.rows) <= 30


def test_single_precision_features_are_added_up_in_double() -> None:
    a = (mixed(300, 5, 5) + 1e4).astype(np.float32)
    np.testing.assert_allclose(covariance(moments(a, 100)), np.cov(a.T.astype(np.float64)), rtol=1e-8)


def test_of_nothing_and_of_one() -> None:
    assert moments(np.zeros((0, 4))).count == 0
    one = moments(np.arange(4.0)[None])
    np.testing.assert_array_equal(one.mean, np.arange(4.0))
    assert not one.rows.any()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[N, 4\]"):
        Moments(4).update(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="not finite"):
        Moments(2).update(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="do not compare"):
        frechet_distance(Moments(4), Moments(5))
    with pytest.raises(ValueError, match="positive"):
        Moments(0)
