"""Paired comparisons against enumeration, printed tables and the null hypothesis."""

import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from fctfg.metrics.bootstrap import confidence_interval
from fctfg.metrics.paired import compare, holm


def by_enumeration(differences: np.ndarray) -> float:
    """Two-sided p of the signed-rank test: all 2^n signs are equally likely."""
    ranks = stats.rankdata(abs(differences))
    signs = np.array(list(product((0, 1), repeat=len(ranks))))
    sums = signs @ ranks
    seen = ranks[differences > 0].sum()
    return min(1.0, 2 * min((sums <= seen).mean(), (sums >= seen).mean()))


@pytest.mark.parametrize("n", [1, 2, 6, 10, 13])
def test_p_against_enumeration(n: int) -> None:
    draw = np.random.default_rng(n)
    a, b = draw.normal(0.4, 1, n), draw.normal(0, 1, n)
    assert compare(a, b).p == pytest.approx(by_enumeration(a - b), rel=1e-12)


# The largest sum of the rarer sign's ranks with two-sided p of at most 0.05, as printed in textbooks.
@pytest.mark.parametrize(("n", "critical"), [(6, 0), (7, 2), (8, 3), (9, 5), (10, 8), (12, 13), (15, 25), (20, 52)])
def test_the_table_of_critical_values(n: int, critical: int) -> None:
    def p_of(rank_sum: int) -> float:
        """Differences 1, 2, ... n, of which the negative ones have this sum of ranks."""
        differences = np.arange(1.0, n + 1)
        for rank in range(n, 0, -1):
            if rank <= rank_sum:
                differences[rank - 1] *= -1
                rank_sum -= rank
        return compare(10 + differences, np.full(n, 10.0)).p

    assert p_of(critical) <= 0.05 < p_of(critical + 1)


def test_difference_and_interval() -> None:
    draw = np.random.default_rng(0)
    b = draw.normal(0, 5, 30)  # clips differ far more than methods do
    a = b + draw.normal(0.5, 0.3, 30)
    found = compare(a, b)
    interval = confidence_interval(a - b)
    assert found[:3] == interval[:3] and (found.n, found.missing) == (30, 0)
    assert found.low > 0 and found.p < 1e-4
    swapped = compare(b, a)
    assert swapped.p == pytest.approx(found.p) and swapped.difference == pytest.approx(-found.difference)
    np.testing.assert_allclose((-swapped.high, -swapped.low), (found.low, found.high), rtol=0.02)
    shuffled = draw.permutation(30)
    assert compare(a[shuffled], b[shuffled]).p == pytest.approx(found.p)


def test_under_the_null_p_is_uniform() -> None:
    draw = np.random.default_rng(1)
    p = np.array([compare(*draw.laplace(size=(2, 20))).p for _ in range(600)])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.025 < (p <= 0.05).mean() < 0.08  # three standard errors around 0.048


def test_clips_that_are_missing_or_equal() -> None:
    a, b = np.arange(10.0), np.arange(10.0)[::-1].copy()
    kept = compare(a[2:], b[2:])
    a[0], b[1] = np.nan, np.nan
    assert compare(a, b) == kept._replace(missing=2)

    same = compare([1.0, 2.0, 3.0, 4.0, np.inf], [1.0, 2.0, 3.0, 4.0, np.inf])
    assert same == (0.0, 0.0, 0.0, 1.0, 5, 0)
    some = compare([1.0, 2, 3, 4, 5, 6, 7, 8], [1.0, 1, 1, 1, 1, 1, 1, 1])  # a clip without a difference has no rank
    assert some.p == pytest.approx(2 / 2**7) and some.n == 8 and some.difference == 3.5
    none = compare([np.nan], [1.0])
    assert math.isnan(none.p) and math.isnan(none.difference) and (none.n, none.missing) == (0, 1)
    infinite = compare([np.inf, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert infinite.difference == np.inf and math.isnan(infinite.low) and infinite.p == 0.25


def test_people_are_tested_where_clips_have_people() -> None:
    draw = np.random.default_rng(3)
    people = np.repeat(list("abcdefg"), 3)
    a, b = draw.normal(0.5, 1, 21), draw.normal(0, 1, 21)
    b[4] = np.nan
    found = compare(a, b, groups=people)
    means = np.array([np.nanmean((a - b)[people == who]) for who in "abcdefg"])
    assert found.p == pytest.approx(by_enumeration(means), rel=1e-12)
    assert found[:3] == confidence_interval(a - b, groups=people)[:3] and (found.n, found.missing) == (20, 1)


def test_what_compare_refuses() -> None:
    with pytest.raises(ValueError, match="same clips"):
        compare([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="same clips"):
        compare(np.zeros((2, 2)), np.zeros((2, 2)))


# ---- Holm


def by_closed_testing(p: list[float]) -> list[float]:
    """A hypothesis falls when Bonferroni's test refuses each set of hypotheses that it belongs to."""
    m = range(len(p))
    sets = [s for size in range(1, len(p) + 1) for s in combinations(m, size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in m]


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_closed_testing_with_bonferroni(seed: int) -> None:
    p = np.random.default_rng(seed).uniform(size=6) ** 3
    np.testing.assert_allclose(holm(p), by_closed_testing(p.tolist()))


def test_holm_of_known_examples() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.02, 0.02, 0.9]), [0.06, 0.06, 0.9])
    np.testing.assert_allclose(holm([0.4, 0.6]), [0.8, 0.8])
    np.testing.assert_allclose(holm([0.03]), [0.03])
    assert holm([]).shape == (0,)


def test_holm_does_not_count_what_was_not_tested() -> None:
    np.testing.assert_allclose(holm([0.02, np.nan, 0.04]), [0.04, np.nan, 0.04])


def test_holm_limits_false_alarms() -> None:
    draw = np.random.default_rng(0)
    alarms = np.mean([(holm(draw.uniform(size=8)) <= 0.05).any() for _ in range(4000)])
    assert alarms == pytest.approx(1 - (1 - 0.05 / 8) ** 8, abs=0.01)


def test_what_holm_refuses() -> None:
    for p in ([1.2], [-0.1], [[0.1]]):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            holm(p)
