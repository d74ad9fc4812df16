"""What decides the clips that are cut from a video."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fctfg.errors import UsageError
from fctfg.faces.detector import DlibDetector, FaceDetector, InsightFaceDetector
from fctfg.media import FPS

DETECTORS = ("dlib", "dlib-cnn", "insightface")
VERSION = 1  # raise it when the same settings give other clips, so that old ones are not reused


@dataclass(frozen=True)
class Settings:
    """Settings of `prepare` that change the clips; stored in the manifest, and equal ones let clips be reused.

    Attributes:
        size: Side of the square clips in pixels, even.
        min_frames: Shortest clip (FOMM: 64).
        max_frames: Longest clip (FOMM: 1024); longer tracks give several.
        min_iou: A chunk ends when the head's IoU with its first place is below this (FOMM: 0.25).
        margin: Enlargement of the union of head boxes on each side (FOMM: 0.1).
        max_enlargement: A crop smaller than ``size / max_enlargement`` is rejected.
        detect_every: Frames from one face detection to the next; in between faces are followed by landmarks.
        silence: Root mean square of the sound, full scale = 1, below which a clip is rejected (0.001 = -60 dB).
        crf: x264 quality of the clips, 0 (lossless) to 51.
        gop: Key frame interval of the clips in frames.
        detector: One of `DETECTORS`.
    """

    size: int = 256
    min_frames: int = 64
    max_frames: int = 1024
    min_iou: float = 0.25
    margin: float = 0.1
    max_enlargement: float = 2.0
    detect_every: int = 5
    silence: float = 1e-3
    crf: int = 14
    gop: int = 12
    detector: str = "dlib"

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2:
            raise UsageError(f"--size must be an even number of pixels, 16 or more, not {self.size}")
        if not 1 <= self.min_frames <= self.max_frames:
            raise UsageError(f"--min-frames must be between 1 and {self.max_frames}, not {self.min_frames}")
        if self.detect_every < 1:
            raise UsageError(f"detect_every must be 1 or more, not {self.detect_every}")
        if self.detector not in DETECTORS:
            raise UsageError(f"--detector must be one of {', '.join(DETECTORS)}, not {self.detector!r}")

    def header(self) -> dict[str, Any]:
        """The settings as they stand in the manifest."""
        return asdict(self) | {"fps": FPS, "version": VERSION}

    def build_detector(self, weights: Path | None) -> FaceDetector:
        """Load the detector.

        Args:
            weights: Folder of insightface's weights; not needed for dlib.

        Raises:
            FctfgError: Weights are missing.
        """
        if self.detector == "insightface":
            return InsightFaceDetector(weights or Path("checkpoints/insightface"))
        return DlibDetector(cnn=self.detector == "dlib-cnn")
