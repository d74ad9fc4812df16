"""How well a lip-sync expert was measured to hear a shift, and where that is kept with its weights.

A run of stage 0 writes it into the card of its export. Of other weights `fctfg doctor sync --expert FILE` measures it,
and writes `FILE.sync.json` beside them, which counts for exactly these weights (SHA-256) and goes before the card.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fctfg.atomic import write_json
from fctfg.errors import FctfgError
from fctfg.weights.artifact import Artifact

CARD_KEY = "sync_accuracy"


@dataclass(frozen=True)
class SyncMeasurement:
    """A held-out two-way accuracy: how often a window's own sound is more like it than one shifted by 5-15 frames.

    Attributes:
        accuracy: in [0, 1]; chance is 0.5.
        split: of the data set that was measured on.
        dataset_hash: of the data set.
        people: whose clips; none of them was trained on where the expert was trained on the same data set.
        clips: different clips.
        windows: of five frames that were compared with shifted sounds.
        chance: of a guess.
        min_shift, max_shift: of the wrong sounds, in frames at 25 a second, to both sides.

    Raises:
        ValueError: the accuracy is no share, or nothing was measured.
    """

    accuracy: float
    split: str
    dataset_hash: str
    people: int
    clips: int
    windows: int
    chance: float = 0.5
    min_shift: int = 5
    max_shift: int = 15

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy <= 1 or min(self.people, self.clips, self.windows) < 1:
            raise ValueError(f"this is no measurement: {self}")

    def plain(self) -> dict[str, Any]:
        """As JSON has it; `from_plain` is the inverse."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> SyncMeasurement:
        """The inverse of `plain`.

        Raises:
            TypeError, ValueError: the values are not those of a measurement.
        """
        made = cls(**values)
        if not math.isfinite(float(made.accuracy)):
            raise ValueError(f"the accuracy is {made.accuracy}")
        return made


def sidecar(weights: Path) -> Path:
    """Where the measurement of a weights file lies beside it."""
    return weights.with_name(f"{weights.name}.sync.json")


def write_measurement(weights: Path, digest: str, measurement: SyncMeasurement) -> Path:
    """Write a measurement beside weights, atomically.

    Args:
        weights: the file.
        digest: its SHA-256.
        measurement: of the expert in it.

    Returns:
        The file that was written.

    Raises:
        FctfgError: the folder is not writable.
    """
    path = sidecar(weights)
    write_json(path, {"weights_sha256": digest, CARD_KEY: measurement.plain()})
    return path


def read_measurement(artifact: Artifact) -> SyncMeasurement | None:
    """What is known of the accuracy of an expert: from the file beside it, else from its card; None if nothing is.

    Raises:
        FctfgError: what is there is damaged.
    """
    path = sidecar(artifact.path)
    try:
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["weights_sha256"] == artifact.sha256:  # else the weights have changed since
                return SyncMeasurement.from_plain(content[CARD_KEY])
        path = artifact.path
        plain = artifact.card.get(CARD_KEY)
        return None if plain is None else SyncMeasurement.from_plain(plain)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise FctfgError(
            f"the sync expert's accuracy in {path} is damaged ({error!r}); measure it again with "
            f"`fctfg doctor sync --expert {artifact.path} --data DIR`"
        ) from error
