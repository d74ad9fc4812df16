"""All that was measured for a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fctfg.doctor.amount import Amount
from fctfg.doctor.clock import Clock
from fctfg.doctor.overfit import Overfit
from fctfg.doctor.shift import Shift
from fctfg.doctor.sound import Sound
from fctfg.doctor.sources import Sources
from fctfg.doctor.training import Training


@dataclass(frozen=True)
class Evidence:
    """What each check has found; None where it was not made. The names are those of the checks.

    Attributes:
        amount: how much there is to learn from.
        sound: what the scores say of sound and lips.
        sources: frame rates of the raw videos.
        clock: whether click and flash stay together.
        training: how far the run has come.
        overfit: whether a few clips can be learnt by heart.
        shift: what the expert hears.
    """

    amount: Amount
    sound: Sound
    sources: Sources | None
    clock: Clock
    training: Training | None
    overfit: Overfit | None
    shift: Shift | None

    def made(self) -> Iterator[tuple[str, Any]]:
        """(name, what was found) of each check that was made."""
        return ((name, found) for name, found in vars(self).items() if found is not None)
