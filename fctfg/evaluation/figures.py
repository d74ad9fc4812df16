"""The figures that an evaluation gives: what each means, its unit, its good direction, and what the paper printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "none"]
ARROWS: dict[Better, str] = {"higher": "up", "lower": "down", "none": ""}


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        unit: empty where it has none.
        better: which direction is good; "none" says something without being good or bad.
        meaning: in a few words; docs/evaluation.md has the definition.
        digits: after the point.
    """

    unit: str
    better: Better
    meaning: str
    digits: int = 3


DRIFTS: tuple[tuple[str, str, Better, str, int], ...] = (
    ("CSIM", "", "higher", "identity of the portrait", 3),
    ("colour drift", "levels of 255", "lower", "change of the mean colour", 2),
    ("shape drift", "px of 256", "lower", "change of the landmarks", 2),
)
"""What a result that is the next portrait, again and again, is asked for: name, unit, direction, meaning, digits."""

FIGURES: dict[str, Figure] = {
    "SSIM": Figure("", "higher", "structural similarity to the real frames"),
    "MS-SSIM": Figure("", "higher", "the same on several scales"),
    "PSNR": Figure("dB", "higher", "peak signal-to-noise ratio", 2),
    "L1": Figure("of the range", "lower", "mean absolute difference of pixels", 4),
    "sharpness": Figure("of the real", "none", "fine detail over that of the real frames; noise counts as detail", 2),
    "LPIPS": Figure("", "lower", "perceptual distance"),
    "FID": Figure("", "lower", "distance of the distributions of frames", 2),
    "FVD-like": Figure("", "lower", "distance of the distributions of stretches of 16 frames", 2),
    "LMD mouth": Figure("px of 256", "lower", "landmark distance of the mouth, per point", 2),
    "LMD face": Figure("px of 256", "lower", "landmark distance of the whole face, per point", 2),
    "LSE-C": Figure("", "higher", "lip-sync confidence of SyncNet v2", 2),
    "LSE-D": Figure("", "lower", "lip-sync distance of SyncNet v2", 2),
    "sync confidence": Figure(
        "", "higher", "how far the best shift of the sound stands out; 1: one stranger in twenty", 2
    ),
    "sync distance": Figure("", "lower", "1 - correlation of lips and sound at the best shift"),
    "audio-video offset": Figure("frames", "none", "by which the sound is late; both signs cancel in the mean", 1),
    "offset error": Figure("frames", "lower", "by which the sound is late or early", 1),
    "CSIM": Figure("", "higher", "cosine of the embeddings of result and portrait"),
    "yaw error": Figure("degrees", "lower", "head pose of driver and result", 2),
    "pitch error": Figure("degrees", "lower", "head pose of driver and result", 2),
    "roll error": Figure("degrees", "lower", "head pose of driver and result", 2),
    "blink F1": Figure("", "higher", "agreement of the blinks of driver and result, within 2 frames", 2),
    "gaze error": Figure("eye widths", "lower", "place of the pupils in driver and result"),
    "expression error": Figure("eye distances", "lower", "brows and eyes of driver and result, freed of pose"),
    "mouth in silence": Figure("eye distances/frame", "lower", "how much the mouth moves where the sound is silent", 4),
    "mouth in speech": Figure("eye distances/frame", "none", "how much the mouth moves where somebody speaks", 4),
    "opening correlation": Figure("", "higher", "mouth opening of driver and result"),
    "jitter": Figure("px of 256", "lower", "second difference of the landmarks", 2),
    "jitter ratio": Figure("", "none", "jitter over that of the real video; 1 is as steady", 2),
    "faces found": Figure("share", "higher", "frames of the result in which a face was found"),
    "verification AUC": Figure("", "higher", "results are taken for the person in their portrait"),
    "verification EER": Figure("share", "lower", "where as many are refused as are wrongly accepted"),
    "canonical spread": Figure("levels of 255", "lower", "how much the canonical images of one clip differ", 2),
    "canonical pose variance": Figure("of the portraits'", "lower", "how much head poses differ in canonical images"),
    "canonical CSIM": Figure("", "higher", "identity of the canonical image and the portrait"),
    "moved by sound outside": Figure("", "lower", "other sound: change besides the mouth over change of the mouth"),
    "pose moved by sound": Figure("degrees", "lower", "other sound: change of the head pose", 2),
    "mouth moved by driver": Figure("", "lower", "other driver: 1 - correlation of the mouth openings"),
    **{
        f"{what} after {count}": Figure(unit, better, f"{meaning}, fed back {count} times", digits)
        for count in (1, 2, 10, 50)
        for what, unit, better, meaning, digits in DRIFTS
    },
    "generation": Figure("ms/frame", "lower", "time to make a frame", 1),
}
"""By name without what stands in brackets, such as the network that embeds."""


def figure(name: str) -> Figure:
    """What is known of a figure by its full name, such as `CSIM[dlib]`."""
    return FIGURES[name.split("[")[0].strip()]


PAPER = ("SSIM", "MS-SSIM", "PSNR", "LMD mouth", "LSE-C")
"""What the paper's table has. It says "LMD around the mouth" without a unit; ours is the mean per point at 256 px."""

PUBLISHED: dict[str, dict[str, tuple[float | None, ...]]] = {
    "VoxCeleb2": {
        "Wav2Lip": (0.58, None, 20.63, 2.65, 8.66),
        "MakeItTalk": (0.55, 0.45, 16.94, 3.28, 3.83),
        "Audio2Head": (0.51, 0.40, 15.98, 3.58, 5.79),
        "PC-AVS": (0.57, 0.60, 17.37, 2.25, 5.82),
        "FC-TFG": (0.69, 0.77, 21.22, 1.58, 8.46),
    },
    "MEAD": {
        "Wav2Lip": (0.85, None, 26.15, 3.11, 7.25),
        "MakeItTalk": (0.78, 0.78, 23.6, 3.55, 4.35),
        "Audio2Head": (0.67, 0.59, 19.57, 4.85, 5.38),
        "PC-AVS": (0.66, 0.70, 19.95, 2.93, 5.19),
        "FC-TFG": (0.84, 0.89, 26.19, 2.46, 5.51),
    },
}
"""Jang et al. 2023, the table of quantitative results: by data set and method, in the order of `PAPER`."""
