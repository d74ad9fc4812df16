"""Histograms as inline SVG: how the values of many clips are spread, whatever single outliers do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from fctfg.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, number_text, ticks

MOST = 40  # bins
LEAST = 8
CUT = 0.005  # share of the values on either side that need not be in the picture
_FAR = 3.0  # a limit is drawn unless the picture would have to become so many times as wide for it


@dataclass(frozen=True)
class Bins:
    """Counted values.

    Attributes:
        edges: float64 [n + 1], ascending; [0] where no value is known.
        counts: int64 [n].
        chosen: int64 [n], those of the chosen ones among them.
        below, above: how many values lie outside of the edges.
        unknown: how many values are NaN.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64]
    below: int
    above: int
    unknown: int


def count_bins(
    values: npt.NDArray[np.floating], chosen: npt.NDArray[np.bool_] | None = None, limits: Sequence[float] = ()
) -> Bins:
    """Count values in 8 to 40 bins of equal width, more for more values, or in bins about each of few whole numbers.

    The range leaves out up to 0.5 % of the values on either side, so that outliers do not flatten the rest, and takes
    in the limits unless they are far away.

    Args:
        values: [N]; NaN is unknown, infinite values lie outside.
        chosen: bool [N]; None chooses none.
        limits: that shall lie within the range.

    Returns:
        The counts; with `below`, `above` and `unknown` they sum to N.
    """
    values = np.asarray(values, np.float64)
    chosen = np.zeros(len(values), bool) if chosen is None else chosen
    unknown = int(np.isnan(values).sum())
    finite = np.sort(values[np.isfinite(values)])
    if not len(finite):
        nothing = np.zeros(0, np.int64)
        infinite = int(np.isneginf(values).sum()), int(np.isposinf(values).sum())
        return Bins(np.zeros(0), nothing, nothing, *infinite, unknown)
    cut = int(CUT * len(finite))
    edges = _edges(finite[cut : len(finite) - cut], limits)
    counts, among = (np.histogram(part, edges)[0] for part in (values, values[chosen]))
    return Bins(edges, counts, among, int((values < edges[0]).sum()), int((values > edges[-1]).sum()), unknown)


def _edges(values: npt.NDArray[np.float64], limits: Sequence[float]) -> npt.NDArray[np.float64]:
    low, high = float(values[0]), float(values[-1])
    span = high - low
    near = [v for v in limits if max(high, v) - min(low, v) <= _FAR * (span or abs(v - low) or 1.0)]
    low, high = min([low, *near]), max([high, *near])
    if high - low <= MOST and np.array_equal(values, np.round(values)) and all(v == round(v) for v in near):
        beside = 3 if low == high else 0
        return np.arange(np.floor(low) - beside - 0.5, np.ceil(high) + beside + 1)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = max(abs(low) * 0.1, 0.5)
        low, high = low - margin, high + margin
    return np.linspace(low, high, int(np.clip(2 * np.sqrt(len(values)), LEAST, MOST)) + 1)


def histogram_chart(title: str, bins: Bins, limits: Sequence[float] = ()) -> str:
    """Draw a histogram: pale bars for all, firm ones for the chosen ones before them, dashed lines at limits.

    Args:
        title: of what, for those who do not see it.
        bins: the counts.
        limits: those within the range are drawn.

    Returns:
        An `<svg>` element of 360 x 190 units; each bar has its range and counts as a title. Where nothing is known,
        a paragraph that says so.
    """
    if not len(bins.counts):
        return "<p>no value is known</p>"
    low, high, most = float(bins.edges[0]), float(bins.edges[-1]), max(int(bins.counts.max()), 1)

    def across(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def height(count: float) -> float:
        return count / most * (HEIGHT - TOP - BOTTOM)

    label = f"Histogram of {title}: {bins.counts.sum()} values from {number_text(low)} to {number_text(high)}"
    label += "".join(f", limit {number_text(limit)}" for limit in limits)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(label)}">']
    foot = HEIGHT - BOTTOM
    for tick in ticks(0, most, 3):
        if tick == round(tick):
            y = foot - height(tick)
            parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6:g}" y="{y + 3.5:.1f}" text-anchor="end">{number_text(tick)}</text>')
    for tick in ticks(low, high, 5):
        parts.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - 6:g}" text-anchor="middle">{number_text(tick)}</text>')
    for begin, end, count, among in zip(bins.edges, bins.edges[1:], bins.counts, bins.chosen, strict=False):
        if count:
            words = f"{number_text(begin)} to {number_text(end)}: {count}, of them {among} chosen"
            parts.append(f"<g><title>{words}</title>")
            width = max(across(end) - across(begin) - 0.7, 0.7)
            parts += [
                f'<rect class="{kind}" x="{across(begin):.1f}" width="{width:.1f}" '
                f'y="{foot - height(number):.1f}" height="{height(number):.1f}"/>'
                for kind, number in (("all", count), ("chosen", among))
                if number
            ]
            parts.append("</g>")
    for limit in limits:
        if low <= limit <= high:
            x = across(limit)
            parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP:g}" y2="{foot:g}"/>')
    return "".join([*parts, "</svg>"])
