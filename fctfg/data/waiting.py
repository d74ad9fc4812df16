"""How long training waits for its batches."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fctfg.data.batch import Sample
from fctfg.data.loader import BatchLoader


class TimedLoader:
    """The batches of a loader, and the time that the one who asks for them has waited.

    Args:
        loader: gives the batches.

    Attributes:
        waited: seconds so far, over all passes.
    """

    def __init__(self, loader: BatchLoader) -> None:
        self.loader = loader
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Sample]:
        batches = iter(self.loader)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch
