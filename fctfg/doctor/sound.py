"""What the scores of `fctfg prepare` say of sound and lips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fctfg.data.manifest import Manifest, coded, numbers
from fctfg.data.scores.table import SCORES
from fctfg.media import FPS

COLUMNS = ("source", "person", "n_frames", "offset", "confidence", "silence", "speech")
NEAR = 1  # frames: an offset that SyncNet and the recommended view bear
SURE = SCORES["confidence"].least or 1.0  # confidence that one clip in twenty reaches with another's sound
SILENT = SCORES["silence"].most or 0.6  # share of a clip's time
SPOKEN = SCORES["speech"].least or 0.3  # likeness to speech


@dataclass(frozen=True)
class Sound:
    """Shares of the kept clips.

    Attributes:
        clips: how many.
        seconds: median length.
        unknown: share without offset and confidence, or without the scores of the sound.
        silent: share of which more than 60 % of the time is silent.
        music: share of the clips with sound that are less like speech than 0.3.
        crowded: share from videos in which several people are seen at one time.
        unsure: share of the clips with sound in which lips and sound agree no more than with somebody else's sound.
        near: share of the clips with sound whose offset is -1, 0 or 1 frames; by chance 0.1.
        late: share of the clips with sound and a sure offset that are more than one frame off.
        offset: median offset of these, in frames; > 0: heard after it is seen. 0 where there are none.
        offsets: how many clips with sound have each offset, by frames.
        confidence: median of the clips with sound; NaN without any.
    """

    clips: int
    seconds: float
    unknown: float
    silent: float
    music: float
    crowded: float
    unsure: float
    near: float
    late: float
    offset: float
    offsets: dict[int, int]
    confidence: float

    def __str__(self) -> str:
        if self.unknown == 1:
            return "the manifest has no scores of the sound"
        return (
            f"median confidence {self.confidence:.2f}; {self.unsure:.0%} below {SURE:g}; {self.near:.0%} within "
            f"{NEAR} frame; of the sure ones {self.late:.0%} are further off; {self.silent:.0%} silent, "
            f"{self.music:.0%} music or noise, {self.crowded:.0%} of several people"
        )


def measure_sound(manifest: Manifest) -> Sound:
    """Read the scores of offset, confidence, silence and speech, which the reference expert and the sound gave.

    Args:
        manifest: kept clips, with `COLUMNS`.
    """
    offset, confidence, silence, speech = (numbers(manifest, name).astype(float) for name in COLUMNS[3:])
    names, source = coded(manifest, "source")
    several = np.zeros(len(names), bool)
    several[source[numbers(manifest, "person") > 0]] = True
    known = np.isfinite(offset) & np.isfinite(confidence) & np.isfinite(silence)
    silent = known & (silence > SILENT)
    heard = known & ~silent
    sure = heard & (confidence >= SURE)
    far = np.abs(offset) > NEAR
    values, counts = np.unique(offset[heard], return_counts=True)
    return Sound(
        clips=len(manifest),
        seconds=float(np.median(numbers(manifest, "n_frames"))) / FPS,
        unknown=_share(~known),
        silent=_share(silent[known]),
        music=_share(speech[heard] < SPOKEN),
        crowded=_share(several[source]),
        unsure=_share(~sure[heard]),
        near=_share(~far[heard]),
        late=_share(far[sure]),
        offset=float(np.median(offset[sure & far])) if (sure & far).any() else 0.0,
        offsets={int(v): int(n) for v, n in zip(values, counts, strict=True)},
        confidence=float(np.median(confidence[heard])) if heard.any() else float("nan"),
    )


def _share(mask: np.ndarray) -> float:
    return float(mask.mean()) if len(mask) else 0.0
