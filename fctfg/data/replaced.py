"""Samples that cannot be read are replaced by others, so that a damaged clip does not end a run."""

from __future__ import annotations

from threading import Lock

from torch import Tensor

from fctfg.data.batch import Sample
from fctfg.data.dataset import TalkingClips
from fctfg.data.sampler import Key
from fctfg.errors import FctfgError
from fctfg.troubles import Troubles

ATTEMPTS = 10  # clips that are tried for one sample
MOST, OUT_OF = 0.01, 100  # share of replaced samples at which a run stops, once it has asked for so many
KIND = "samples replaced by others, since their clips cannot be read"


class Replacing:
    """Reads samples of a data set; for one that cannot be read, another is drawn.

    The replacement depends on the seed, the position and the number of the attempt alone, so that a run that continues
    sees the same samples as one that was never cut, as long as the same clips are damaged.

    Args:
        data: gives the samples; any thread may read.
        troubles: where replacements are counted and said, once for each clip.
    """

    def __init__(self, data: TalkingClips, troubles: Troubles) -> None:
        self.data, self.troubles = data, troubles
        self._asked = self._replaced = 0
        self._damaged: set[str] = set()
        self._lock = Lock()

    def read(self, key: Key, out: Tensor | None = None) -> Sample:
        """The sample of a position, or its replacement; arguments as of `TalkingClips.read`.

        Raises:
            FctfgError: `ATTEMPTS` clips in a row cannot be read; or several clips, and more than `MOST` of all samples.
        """
        with self._lock:
            self._asked += 1
        for attempt in range(ATTEMPTS):
            try:
                return _checked(self.data.read(key, out, attempt))
            except Exception as error:  # damaged bytes lead to errors of any kind, also of types and of memory
                last = error
                self._count(key, attempt, error)
        raise FctfgError(
            f"{self.data.root}: {ATTEMPTS} clips in a row cannot be read ({last}); make sure that its disk is there, "
            f"and run the same command again to continue"
        ) from last

    def _count(self, key: Key, attempt: int, error: Exception) -> None:
        clip = self.data.drawn_clip(key, attempt)
        reason = f"{error}" if isinstance(error, FctfgError) else f"{type(error).__name__}: {error}"
        self.troubles.meet(KIND, f"The clip {clip.id} cannot be read, and others are taken: {reason}", about=clip.id)
        with self._lock:
            self._replaced += 1
            self._damaged.add(clip.id)
            asked, replaced, damaged = self._asked, self._replaced, len(self._damaged)
        if damaged > 1 and asked >= OUT_OF and replaced > MOST * asked:
            raise FctfgError(
                f"{self.data.root}: {replaced} of {asked} samples could not be read, of {damaged} clips (the last: "
                f"{reason}); copy the data set again, or run `fctfg prepare` again"
            ) from error


def _checked(sample: Sample) -> Sample:
    """The sample, whose numbers make sense.

    Raises:
        FctfgError: points or sound are damaged; pictures are checked by their decoder.
    """
    if not bool((sample.points.abs() < 100).all()):  # fractions of the picture; NaN is not less either
        raise FctfgError("its points are damaged; copy the data set again, or run `fctfg prepare` again")
    if sample.mel.numel() and not bool((sample.mel.abs() <= 4).all()):
        raise FctfgError("its mel is damaged; copy the data set again, or run `fctfg prepare` again")
    return sample
