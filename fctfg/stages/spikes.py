"""What a loss term usually is, and when it is far above that."""

from __future__ import annotations

import math

DECAY = 0.99  # of the running mean and variance
FIRST = 100  # values that must be known before any is called unusual


class UsualRange:
    """Running mean and variance of a series.

    mean <- mean + (1 - d) (x - mean);  var <- d (var + (1 - d) (x - mean)^2)        (West 1979, exponential weights)

    An unusual value enters as the largest usual one, so that one spike does not hide the next.

    Args:
        limit: standard deviations above the mean from which on a value is unusual.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.count = 0
        self.mean = 0.0
        self.variance = 0.0

    def take(self, value: float) -> str:
        """Take in a value.

        Returns:
            A text such as "812, usually -1 to 3", where the value is unusual or not finite; otherwise nothing.
        """
        deviation = math.sqrt(self.variance)
        largest = self.mean + self.limit * deviation + 1e-3 * abs(self.mean)  # a constant may waver
        text = ""
        if self.count >= FIRST and not value <= largest:
            low, high = self.mean - 2 * deviation, self.mean + 2 * deviation
            text = f"{value:.4g}, usually {low:.4g} to {high:.4g},"
            value = largest
        if math.isfinite(value):
            weight = max(1 - DECAY, 1 / (self.count + 1))  # at first, all values count alike
            self.count += 1
            offset = value - self.mean
            self.mean += weight * offset
            self.variance = (1 - weight) * (self.variance + weight * offset * offset)
        return text
