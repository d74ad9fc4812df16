"""Frame rates of raw videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fctfg.errors import FctfgError
from fctfg.media import FPS, probe

MOST = 50  # videos that are looked at


@dataclass(frozen=True)
class Sources:
    """Raw videos, as far as they were looked at.

    Attributes:
        rates: how many have each frame rate, by frames per second.
        slow: share with fewer than 25, whose pictures are repeated.
        missing: how many are not there or cannot be read.
    """

    rates: dict[str, int]
    slow: float
    missing: int

    def __str__(self) -> str:
        known = ", ".join(f"{count} of {fps} fps" for fps, count in self.rates.items()) or "none"
        return f"{known}; {self.missing} could not be read"


def measure_sources(folder: Path, names: Sequence[str]) -> Sources:
    """Ask raw videos for their frame rates.

    Args:
        folder: that `fctfg prepare` was given.
        names: of the videos, relative to it; evenly chosen ones are asked.

    Raises:
        FctfgError: there is no such folder.
    """
    if not folder.is_dir():
        raise FctfgError(f"{folder} is no folder (--sources); name the one that `fctfg prepare` was given")
    asked = names[:: max(1, -(-len(names) // MOST))]
    rates: dict[float, int] = {}
    for name in asked:
        try:
            fps = round(probe(folder / name).fps, 2)
            rates[fps] = rates.get(fps, 0) + 1
        except FctfgError:
            continue
    found = sum(rates.values())
    slow = sum(count for fps, count in rates.items() if fps < FPS - 0.1) / max(1, found)
    return Sources({f"{fps:g}": rates[fps] for fps in sorted(rates)}, slow, len(asked) - found)
