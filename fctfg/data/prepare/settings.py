"""What decides the clips that are cut from a video."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fctfg.data.clip_file import FORMS
from fctfg.data.prepare.splits import check_shares
from fctfg.errors import UsageError
from fctfg.faces.detector import DlibDetector, FaceDetector, InsightFaceDetector
from fctfg.media import FPS

DETECTORS = ("dlib", "dlib-cnn", "insightface")
VERSION = 2  # raise it when the same settings give other clips, so that old ones are not reused


@dataclass(frozen=True)
class Settings:
    """Settings of `prepare` that change the clips; stored in the manifest, and equal ones let clips be reused.

    Attributes:
        size: Side of the square clips in pixels, even.
        min_frames: Shortest clip (FOMM: 64).
        max_frames: Longest clip (FOMM: 1024); longer tracks give several.
        min_iou: A chunk ends when the head's IoU with its first place is below this (FOMM: 0.25).
        margin: Enlargement of the union of head boxes on each side (FOMM: 0.1).
        max_enlargement: A crop smaller than ``size / max_enlargement`` is rejected (the recommended view asks for
            half of it).
        detect_every: Frames from one face detection to the next; in between faces are followed by landmarks.
        silence: Root mean square of the sound, full scale = 1, below which a clip is rejected (0.001 = -60 dB).
        form: How frames are stored, ``jpeg`` or ``raw``.
        detector: One of `DETECTORS`.
        layout: How the corpus names its files, which says who is who.
        correct_offset: Move the sound of clips by the offset that the sync expert finds, where it is sure.
        sync_expert: sha256 of the weights that take the scores of sync; empty: those in the package.
        val, test: Shares of the identities where the corpus does not say the split; the rest is for training.
    """

    size: int = 256
    min_frames: int = 64
    max_frames: int = 1024
    min_iou: float = 0.25
    margin: float = 0.1
    max_enlargement: float = 4.0
    detect_every: int = 5
    silence: float = 1e-3
    form: str = "jpeg"
    detector: str = "dlib"
    layout: str = "folder"
    correct_offset: bool = False
    sync_expert: str = ""
    val: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2:
            raise UsageError(f"--size must be an even number of pixels, 16 or more, not {self.size}")
        if not 1 <= self.min_frames <= self.max_frames:
            raise UsageError(f"--min-frames must be between 1 and {self.max_frames}, not {self.min_frames}")
        if self.detect_every < 1:
            raise UsageError(f"detect_every must be 1 or more, not {self.detect_every}")
        if self.form not in FORMS:
            raise UsageError(f"--form must be one of {', '.join(FORMS)}, not {self.form!r}")
        check_shares(self.shares)
        if self.detector not in DETECTORS:
            raise UsageError(f"--detector must be one of {', '.join(DETECTORS)}, not {self.detector!r}")

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of train, val and test."""
        return 1 - self.val - self.test, self.val, self.test

    def header(self) -> dict[str, Any]:
        """The settings as they stand in the manifest; the sync expert only where it is not the one in the package."""
        settings = asdict(self) | {"fps": FPS, "version": VERSION}
        return {name: value for name, value in settings.items() if (name, value) != ("sync_expert", "")}

    def build_detector(self, weights: Path) -> FaceDetector:
        """Load the detector.

        Args:
            weights: Folder of insightface's weights; not needed for dlib.

        Raises:
            FctfgError: Weights are missing.
        """
        if self.detector == "insightface":
            return InsightFaceDetector(weights)
        return DlibDetector(cnn=self.detector == "dlib-cnn")
