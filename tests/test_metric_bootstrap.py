"""Confidence intervals: what they cover in simulation, what they are invariant to, and where they end."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from fctfg.metrics.bootstrap import Interval, confidence_interval

Draw = Callable[[np.random.Generator], np.ndarray]

CLIPS = 20
REPETITIONS = 1500  # the standard error of a coverage of 0.94 is 0.006


def normal(draw: np.random.Generator) -> np.ndarray:
    return draw.normal(3.0, 2.0, CLIPS)


def skewed(draw: np.random.Generator) -> np.ndarray:
    return draw.exponential(1.0, CLIPS)


def bounded(draw: np.random.Generator) -> np.ndarray:
    """Like SSIM of good clips: close to 1, with a tail downwards."""
    return draw.beta(9.0, 1.0, CLIPS)


@pytest.mark.parametrize(
    ("distribution", "truth", "least", "most"),
    [(normal, 3.0, 0.93, 0.97), (skewed, 1.0, 0.915, 0.955), (bounded, 0.9, 0.925, 0.965)],
)
def test_the_truth_is_covered(distribution: Draw, truth: float, least: float, most: float) -> None:
    """95 % intervals of 20 clips, within about three standard errors of what they cover in the long run."""
    draw = np.random.default_rng(0)
    intervals = [confidence_interval(distribution(draw), seed=k) for k in range(REPETITIONS)]
    covered = np.array([interval.low <= truth <= interval.high for interval in intervals])
    below = np.mean([interval.high < truth for interval in intervals])
    above = np.mean([interval.low > truth for interval in intervals])
    print(f"{distribution.__name__}: covered {covered.mean():.3f}, below {below:.3f}, above {above:.3f}")
    assert least <= covered.mean() <= most


def test_of_many_values_it_is_that_of_student() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = confidence_interval(values)
    expected = stats.t.interval(0.95, 399, values.mean(), values.std(ddof=1) / 20)
    assert found.mean == pytest.approx(values.mean()) and found.n == 400
    np.testing.assert_allclose((found.low, found.high), expected, atol=0.02)


def test_skewed_values_have_a_skewed_interval() -> None:
    found = confidence_interval(np.random.default_rng(2).exponential(1.0, 30))
    assert found.high - found.mean > 1.1 * (found.mean - found.low)


def test_a_higher_level_is_wider() -> None:
    values = np.random.default_rng(3).normal(size=25)
    widths = [np.ptp(confidence_interval(values, level)[1:3]) for level in (0.5, 0.8, 0.95, 0.99)]
    assert widths == sorted(widths)
    assert widths[2] / widths[0] == pytest.approx(stats.t.ppf(0.975, 24) / stats.t.ppf(0.75, 24), rel=0.1)


def test_units_and_order_make_no_difference() -> None:
    values = np.random.default_rng(4).gamma(2.0, 1.0, 20)
    found = confidence_interval(values)
    scaled = confidence_interval(100 * values - 7)
    np.testing.assert_allclose(scaled[:3], 100 * np.array(found[:3]) - 7)
    mirrored = confidence_interval(-values)
    np.testing.assert_allclose((-mirrored.mean, -mirrored.high, -mirrored.low), found[:3], rtol=0.02)
    assert confidence_interval(list(values)) == found
    other = confidence_interval(values, seed=1)
    assert other != found
    np.testing.assert_allclose(other[:3], found[:3], rtol=0.02)


def test_the_same_again_whatever_the_global_generator_does() -> None:
    values = np.random.default_rng(5).normal(size=12)
    np.random.seed(0)
    one = confidence_interval(values)
    np.random.seed(1)
    assert confidence_interval(values) == one


def test_missing_values_are_left_out_and_counted() -> None:
    values = np.random.default_rng(6).normal(size=10)
    with_gaps = np.insert(values, [0, 4, 10], np.nan)
    assert confidence_interval(with_gaps) == confidence_interval(values)._replace(missing=3)


def test_degenerate_values() -> None:
    one = confidence_interval([0.7, np.nan])
    assert one.mean == 0.7 and math.isnan(one.low) and math.isnan(one.high) and one[3:] == (1, 1)
    for none in ([], [np.nan, np.nan]):
        found = confidence_interval(none)
        assert all(map(math.isnan, found[:3])) and found[3:] == (0, len(none))
    assert confidence_interval([0.1] * 7) == Interval(0.1, 0.1, 0.1, 7, 0)
    assert confidence_interval([np.inf] * 3) == Interval(np.inf, np.inf, np.inf, 3, 0)
    mixed = confidence_interval([30.0, np.inf, 31.0])
    assert mixed.mean == np.inf and math.isnan(mixed.low) and mixed.n == 3
    assert math.isnan(confidence_interval([-np.inf, np.inf]).mean)
    assert confidence_interval([1.0, 3.0]) == Interval(2.0, 1.0, 3.0, 2, 0)  # no more can be said of two


def test_almost_constant_values_still_have_an_interval() -> None:
    """The correction of BCa divides by a spread that is lost in rounding here."""
    values = [1.0, 1.0, 1.0 + 2**-52]
    found = confidence_interval(values)
    assert min(values) <= found.low <= found.high <= max(values)
    rare = confidence_interval([0.0] * 19 + [1.0])
    assert rare.mean == pytest.approx(0.05) and 0 <= rare.low < 0.05 < rare.high < 0.4


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[N\]"):
        confidence_interval(np.zeros((2, 2)))
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="level"):
            confidence_interval([1.0, 2.0], level)
