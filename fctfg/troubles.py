"""What goes wrong in a run without ending it: counted by kind, said when it is first met and once more at the end."""

from __future__ import annotations

import logging
import os
from collections import Counter
from threading import Lock

_log = logging.getLogger("fctfg")


def process_name() -> str:
    """ "process 1: " in all processes of a run but the first, so that a line says whose it is."""
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or "0"
    return "" if rank == "0" else f"process {rank}: "


class Troubles:
    """The troubles of this process since it was started; any thread may report one.

    They are no part of a checkpoint, which must not depend on what the network or a disk did.

    Attributes:
        counts: how often each kind was met, by its name.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._said: set[tuple[str, str]] = set()
        self._lock = Lock()

    def meet(self, kind: str, sentence: str, about: str = "", times: int = 1) -> None:
        """Count a trouble, and say it where it is new.

        Args:
            kind: what is counted, in the plural: "samples replaced by others".
            sentence: what happened and how the run goes on; said at the first trouble of this kind and subject.
            about: the subject (a clip, a file); one line is said for each.
            times: how many are counted.
        """
        with self._lock:
            self.counts[kind] += times
            new = (kind, about) not in self._said
            self._said.add((kind, about))
        if new:
            _log.warning("%s%s", process_name(), sentence)

    def summary(self) -> str:
        """ "samples replaced by others: 3; failures of W&B: 1"; empty when all went well."""
        with self._lock:
            return "; ".join(f"{kind}: {count}" for kind, count in self.counts.items() if count)

    def conclude(self) -> None:
        """Say in total what was met since the start, if anything was."""
        if summary := self.summary():
            _log.warning("%sTroubles since the start: %s", process_name(), summary)
