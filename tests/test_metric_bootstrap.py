"""Confidence intervals: what they cover in simulation, what they are invariant to, and where they end."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from fctfg.metrics import bootstrap
from fctfg.metrics.bootstrap import Interval, confidence_interval

Draw = Callable[[np.random.Generator], np.ndarray]

CLIPS, FEW, PEOPLE, OF_EACH = 20, 5, 8, 3
REPETITIONS = 1500  # the standard error of a coverage of 0.94 is 0.006


def normal(draw: np.random.Generator) -> np.ndarray:
    return draw.normal(3.0, 2.0, CLIPS)


def few(draw: np.random.Generator) -> np.ndarray:
    return draw.normal(3.0, 2.0, FEW)


def skewed(draw: np.random.Generator) -> np.ndarray:
    return draw.exponential(1.0, CLIPS)


def bounded(draw: np.random.Generator) -> np.ndarray:
    """Like SSIM of good clips: close to 1, with a tail downwards."""
    return draw.beta(9.0, 1.0, CLIPS)


def coverage(draw_values: Draw, truth: float, groups: np.ndarray | None = None) -> float:
    draw = np.random.default_rng(0)
    intervals = [confidence_interval(draw_values(draw), seed=k, groups=groups) for k in range(REPETITIONS)]
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1999)


@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize(
    ("distribution", "truth", "least", "most"),
    [(normal, 3.0, 0.93, 0.97), (few, 3.0, 0.91, 0.95), (skewed, 1.0, 0.915, 0.955), (bounded, 0.9, 0.925, 0.965)],
)
def test_the_truth_is_covered(distribution: Draw, truth: float, least: float, most: float) -> None:
    """95 % intervals of 20 clips, or of 5, within about three standard errors of what they cover in the long run."""
    assert least <= coverage(distribution, truth) <= most


@pytest.mark.usefixtures("fewer_resamples")
def test_clips_of_one_person_are_no_independent_clips() -> None:
    """People differ as much among themselves as clips of one person do."""

    def clips(draw: np.random.Generator) -> np.ndarray:
        return (draw.normal(size=(PEOPLE, 1)) + draw.normal(size=(PEOPLE, OF_EACH))).ravel()

    people = np.repeat(list("abcdefgh"), OF_EACH)
    assert 0.93 <= coverage(clips, 0.0, people) <= 0.97
    assert coverage(clips, 0.0) < 0.87


def test_groups_of_one_are_clips() -> None:
    values = np.random.default_rng(7).normal(size=12)
    assert confidence_interval(values, groups=list("abcdefghijkl")) == confidence_interval(values)
    people = list("aabbccddeeff")
    shuffled = np.random.default_rng(8).permutation(12)
    again = confidence_interval(values[shuffled], groups=np.array(people)[shuffled])
    np.testing.assert_allclose(again, confidence_interval(values, groups=people))
    few_people = confidence_interval(values, groups=list("aaabbbcccddd"))
    assert few_people.mean == pytest.approx(values.mean()) and math.isnan(few_people.low) and few_people.n == 12


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
    assert confidence_interval([np.inf] * 5) == Interval(np.inf, np.inf, np.inf, 5, 0)
    mixed = confidence_interval([30.0, np.inf, 31.0, 32.0, 33.0])
    assert mixed.mean == np.inf and math.isnan(mixed.low) and mixed.n == 5
    assert math.isnan(confidence_interval([-np.inf, np.inf]).mean)
    four = confidence_interval([1.0, 2.0, 3.0, 2.0])
    assert four.mean == 2 and math.isnan(four.low) and math.isnan(four.high)  # of so few nothing is promised


def test_almost_constant_values_still_have_an_interval() -> None:
    """The correction of BCa divides by a spread that is lost in rounding here."""
    values = [1.0] * 4 + [1.0 + 2**-52]
    found = confidence_interval(values)
    assert min(values) <= found.low <= found.high <= max(values)
    rare = confidence_interval([0.0] * 19 + [1.0])
    assert rare.mean == pytest.approx(0.05) and 0 <= rare.low < 0.05 < rare.high < 0.4


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[N\]"):
        confidence_interval(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="groups"):
        confidence_interval([1.0, 2.0], groups=["a"])
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="level"):
            confidence_interval([1.0, 2.0], level)
