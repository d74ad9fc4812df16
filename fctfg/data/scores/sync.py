"""By how many frames sound and picture of a talking clip are apart, and how sure that is."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from fctfg.models.experts.landmark_sync import FPS, LandmarkSync
from fctfg.ops.mel import SAMPLE_RATE, mel_spectrogram
from fctfg.weights.artifact import build, load_artifact

Floats = npt.NDArray[np.float32]

WEIGHTS = Path(__file__).parents[2] / "pretrained" / "landmark_sync.safetensors"
SAMPLES = SAMPLE_RATE // FPS  # of one video frame
MIN_FRAMES = 25  # of a clip; less is no evidence
MIN_OVERLAP = 10  # frames that have both picture and sound; a shift with fewer has a correlation of 0
_FAINT = 1e-4  # per frame, of embeddings' product; speech has about 10
_EVEN = 1e-3  # a curve that is flatter than this comes from silence or a still mouth
CHANCE = 3.3  # what one clip in twenty reaches with the sound of somebody else and the package's expert: docs/log.md


class SyncExpert(Protocol):
    """Embeds what is seen and what is heard, frame by frame, so that what belongs together correlates.

    `LandmarkSync` looks at landmarks, `SyncNet` at the pixels of mouths.

    Attributes:
        mouth_shape: of what it looks at in a frame.
    """

    mouth_shape: ClassVar[tuple[int, ...]]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        ...

    def embed_mouth(self, mouth: torch.Tensor, /) -> torch.Tensor:
        """[B, T, *mouth_shape] at 25 frames per second -> [B, T, D]."""
        ...

    def embed_sound(self, mel: torch.Tensor, /) -> torch.Tensor:
        """:func:`fctfg.ops.mel.mel_spectrogram` [B, 80, M] -> [B, T, D], one for each frame that is heard."""
        ...


class SyncScore(NamedTuple):
    """Whether sound and picture are in step.

    Attributes:
        offset: Video frames by which the sound comes late: > 0 means it is heard after the lips have moved, < 0 before.
        confidence: How far the best shift stands out. 0 for silence or a still mouth; 1 is what one clip in twenty
            reaches with somebody else's sound, and a higher one says that the sound is the speaker's and the offset
            right. It grows with the square root of the clip's length: with the package's expert, of 3 s, nine in ten
            clips with their own sound are above 1, of 1 s one in six (docs/log.md).
        curve: float32 [2 max_shift + 1], the correlation in [-1, 1] of the lips with the sound that comes
            -max_shift ... max_shift frames late.
    """

    offset: int
    confidence: float
    curve: Floats


@cache
def sync_expert() -> LandmarkSync:
    """The expert that comes with the package, for `audio_video_offset`; loaded once in a process."""
    expert = build(load_artifact(WEIGHTS), "landmark_sync")
    assert isinstance(expert, LandmarkSync)
    return expert.eval().requires_grad_(False)


def audio_video_offset(
    mouths: npt.NDArray[np.floating],
    wave: Floats,
    expert: SyncExpert,
    before: int = 0,
    max_shift: int = 15,
    chance: float = CHANCE,
) -> SyncScore:
    """Find by how many frames the sound of a talking clip is late.

    Args:
        mouths: [T, *expert.mouth_shape] at 25 frames per second, T >= 25: for `LandmarkSync` [T, 68, 2] (x, y) in
            pixels, for `SyncNet` [T, 3, 48, 96] BGR in [0, 1].
        wave: float32 [N] mono at 16 kHz, in [-1, 1]: the clip's sound, best with up to `max_shift` frames (0.6 s) of
            what is heard before and after it, where there is any. Sound may also be shorter than the picture.
        expert: In eval mode; `sync_expert()`, or what `fctfg.data.scores.sync_choice` opens.
        before: Samples of `wave` before the clip's first frame.
        max_shift: The largest offset looked for, in frames to either side.
        chance: The confidence's unit: what one clip in twenty reaches with somebody else's sound.

    Returns:
        The score. Sound or lips without any movement give offset 0 with confidence 0.

    Raises:
        ValueError: if a shape does not fit, the clip is shorter than 25 frames, or the sound ends before its tenth.
    """
    if mouths.shape[1:] != expert.mouth_shape or wave.ndim != 1:
        shape = ", ".join(map(str, expert.mouth_shape))
        raise ValueError(
            f"what the expert looks at must be [T, {shape}] and wave [N], "
            f"not {list(mouths.shape)} and {list(wave.shape)}"
        )
    frames = len(mouths)
    if frames < MIN_FRAMES:
        raise ValueError(f"a clip of {frames} frames is too short: at least {MIN_FRAMES} are needed")
    if not before >= 0 or max_shift < 1:
        raise ValueError(f"before must not be negative and max_shift positive, not {before} and {max_shift}")
    sound = wave[before % SAMPLES :]  # a whole number of frames before the clip
    first = before // SAMPLES  # its first frame in the sound
    if len(sound) < (first + MIN_OVERLAP) * SAMPLES:
        raise ValueError(f"{len(wave)} samples, {before} of them before the clip, are too few for its {frames} frames")
    return compare(lips_seen(mouths, expert), speech_heard(sound, expert), first, max_shift, chance)


def lips_seen(mouths: npt.NDArray[np.floating], expert: SyncExpert) -> torch.Tensor:
    """What an expert sees in [T, *mouth_shape], float64 [T, D]."""
    with torch.inference_mode():
        seen = torch.from_numpy(mouths.astype(np.float32)).to(expert.device)
        return expert.embed_mouth(seen[None])[0].double().cpu()


def speech_heard(wave: Floats, expert: SyncExpert) -> torch.Tensor:
    """What an expert hears in a sound [N], frame by frame from its beginning on, float64 [T, D]."""
    with torch.inference_mode():
        sound = torch.from_numpy(wave.astype(np.float32)).to(expert.device)
        return expert.embed_sound(mel_spectrogram(sound)[None])[0].double().cpu()


def compare(lips: torch.Tensor, heard: torch.Tensor, first: int, max_shift: int, chance: float) -> SyncScore:
    """Find where what is heard fits what is seen.

    With v_t what the expert sees in the lips at frame t, and a_t what it hears then, both less their means over the
    frames that are compared:

        curve[s] = sqrt(n_s / T) * sum_t v_t . a_{t+s} / sqrt(sum_t |v_t|^2 * sum_t |a_{t+s}|^2),

    over the n_s of the T frames for which there is sound; the root weighs what few frames say as what it is.
    offset = argmax_s curve[s], confidence = (max curve - median curve) sqrt(T) / chance. SyncNet (Chung and Zisserman
    2016, "Out of time") finds offset and confidence in this way, with distances of embedded windows.

    Args:
        lips: float64 [T, D].
        heard: float64 [T', D].
        first: The frame of `heard` that belongs to the first one of `lips`.
        max_shift, chance: as for `audio_video_offset`.
    """
    curve = _correlations(lips, heard, first, max_shift)
    best, height = int(curve.argmax()), float(curve.max() - curve.median())
    if not height > _EVEN:
        return SyncScore(0, 0.0, curve.float().numpy())
    return SyncScore(best - max_shift, height * len(lips) ** 0.5 / chance, curve.float().numpy())


def _correlations(lips: torch.Tensor, heard: torch.Tensor, first: int, max_shift: int) -> torch.Tensor:
    """Correlation [2 max_shift + 1] of lips [T, D] with heard [T', D] from `first` + shift on."""
    frames = len(lips)
    at = torch.arange(-max_shift, max_shift + 1)[:, None] + first + torch.arange(frames)  # [S, T]
    there = ((at >= 0) & (at < len(heard)))[..., None]  # [S, T, 1]
    count = there.sum(1, keepdim=True)  # [S, 1, 1]

    def centered(values: torch.Tensor) -> torch.Tensor:
        values = values * there
        return (values - values.sum(1, keepdim=True) / count.clamp_min(1)) * there

    seen, sound = centered(lips[None]), centered(heard[at.clamp(0, len(heard) - 1)])  # [S, T, D]
    norm = (seen.square().sum((1, 2)) * sound.square().sum((1, 2))).sqrt()
    correlation = (seen * sound).sum((1, 2)) / norm.clamp_min(_FAINT * frames)
    return torch.where(count[:, 0, 0] < MIN_OVERLAP, 0.0, correlation * (count[:, 0, 0] / frames).sqrt())
