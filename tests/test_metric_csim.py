"""CSIM against closed forms."""

import numpy as np
import pytest

from fctfg.metrics.csim import csim


def test_the_angle_between_embeddings() -> None:
    angles = np.deg2rad([0, 30, 90, 135, 180])
    a = np.tile([1.0, 0.0], (5, 1))
    b = np.stack([np.cos(angles), np.sin(angles)], 1)
    np.testing.assert_allclose(csim(a, b), np.cos(angles), atol=1e-15)
    np.testing.assert_allclose(csim(7 * a, 0.1 * b), np.cos(angles), atol=1e-15)  # lengths do not count
    np.testing.assert_allclose(csim(b, a), csim(a, b))


def test_pairs_do_not_mix_and_equal_ones_are_at_most_one() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 50, 128)).astype(np.float32)
    expected = [x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a.astype(float), b.astype(float), strict=True)]
    np.testing.assert_allclose(csim(a, b), expected, rtol=1e-12)
    np.testing.assert_allclose(csim(a, a), 1.0, rtol=1e-14)
    assert csim(a, a).max() <= 1


def test_a_face_that_was_not_found_is_nan() -> None:
    a, b = np.ones((3, 4)), np.ones((3, 4))
    a[0], b[1] = np.nan, 0
    np.testing.assert_array_equal(np.isnan(csim(a, b)), [True, True, False])


def test_other_shapes_are_refused() -> None:
    for a, b in (((2, 3), (3, 3)), ((3,), (3,))):
        with pytest.raises(ValueError, match=r"\[N, D\]"):
            csim(np.ones(a), np.ones(b))
