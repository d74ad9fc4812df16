"""How much there is to learn from."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from fctfg.data.manifest import SPLITS, Manifest
from fctfg.data.views import Counts, count
from fctfg.errors import FctfgError


@dataclass(frozen=True)
class Amount:
    """Kept clips of a data set.

    Attributes:
        train, val, test: clips, hours and people of each split.
    """

    train: Counts
    val: Counts
    test: Counts

    def __str__(self) -> str:
        parts = ((name, getattr(self, name)) for name in SPLITS)
        return "; ".join(f"{name} {c.hours:.3g} h, {c.clips} clips, {c.identities} people" for name, c in parts)


def measure_amount(manifest: Manifest) -> Amount:
    """Count what there is.

    Args:
        manifest: kept clips, with the columns `split`, `n_frames` and `identity`.

    Raises:
        FctfgError: nobody to train on, or nobody held out.
    """
    amount = Amount(**{name: count(manifest.table.filter(pc.equal(manifest.table["split"], name))) for name in SPLITS})
    for name in ("train", "val"):
        if not getattr(amount, name).clips:
            raise FctfgError(
                f"{manifest.root} has no clip in its split '{name}', so there is nobody to "
                f"{'learn from' if name == 'train' else 'measure on'}; prepare more people, or divide them otherwise "
                f"(fctfg prepare --val 0.5 --test 0 divides two people)"
            )
    return amount
