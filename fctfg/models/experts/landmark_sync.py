"""A lip-sync expert that looks at facial landmarks instead of pixels: is the sound in step with the lips?"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.ops.mel import N_MELS
from fctfg.ops.similarity import similarity_from_points, transform_points
from fctfg.ops.windows import MEL_FPS

FPS = 25  # video frames per second
LANDMARKS = 68  # iBUG 300-W
DRIFT = 25  # frames; what changes more slowly does not count
PER_FRAME = 4  # steps of the sound tower's input per video frame: 100 per second

RIGID = (27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45)  # bridge and base of the nose, corners of the eyes
MOVING = (*range(48, 68), *range(3, 14), 33)  # mouth, chin and jaw, base of the nose

# Where the rigid points lie in a frontal face, (x, y) in distances between the eyes' centers, which are at (∓0.5, 0):
# means over rendered faces.
TEMPLATE = (
    (0.0, -0.032), (0.0, 0.185), (0.0, 0.397), (0.0, 0.614), (-0.225, 0.743), (0.0, 0.82), (0.225, 0.743),
    (-0.7, -0.011), (-0.291, 0.036), (0.291, 0.036), (0.7, -0.011),
)  # fmt: skip
_UNIT = 0.05  # distances between the eyes: about what speech moves a point by


@dataclass(frozen=True)
class LandmarkSyncConfig:
    """Sizes of the expert; not in the paper.

    Attributes:
        width: channels of the hidden layers.
        dim: length of the embeddings.

    Raises:
        ValueError: for a size that is not positive.
    """

    width: int = 64
    dim: int = 32

    def __post_init__(self) -> None:
        if self.width < 1 or self.dim < 1:
            raise ValueError(f"width and dim must be positive: {self}")


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution over time, normalization, rectifier.

    Step n of the output is centered on step n * stride. The ends repeat, so that silence and a still mouth have no ends
    in what is seen of them.
    """
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, bias=False, padding_mode="replicate"),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
    )


def _without_drift(values: Tensor) -> Tensor:
    """Embeddings [B, dim, T] less their mean over a second, as [B, T, dim].

    How loud a sentence is on the whole and where the head is turned say little about lips, but a lot of one kind.
    """
    around = F.avg_pool1d(values, DRIFT, 1, DRIFT // 2, count_include_pad=False)
    return (values - around).transpose(1, 2)


class LandmarkSync(nn.Module):
    """Embeds the mouth's movement and the sound, frame by frame, so that what belongs together correlates."""

    mouth_shape: ClassVar[tuple[int, ...]] = (LANDMARKS, 2)
    template: Tensor

    def __init__(self, config: LandmarkSyncConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.mouth_tower = nn.Sequential(
            _block(2 * len(MOVING), width, 5),
            _block(width, width, 5),
            _block(width, width, 3),
            nn.Conv1d(width, config.dim, 1),
        )
        self.sound_tower = nn.Sequential(
            _block(N_MELS, width, 5),
            _block(width, width, 5, 2),
            _block(width, width, 5, 2),
            _block(width, width, 5),
            _block(width, width, 3),
            nn.Conv1d(width, config.dim, 1),
        )
        self.register_buffer("template", torch.tensor(TEMPLATE), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.template.device

    def movement(self, landmarks: Tensor) -> Tensor:
        """What the lower face does, free of the head's place, size and roll, and of the person's mean.

        Each frame is brought to a frontal face by its rigid points; the clip's mean is subtracted.

        Args:
            landmarks: [B, T, 68, 2] (x, y) in pixels.

        Returns:
            [B, 64, T], about of size 1.

        Raises:
            ValueError: if the shape does not fit.
        """
        if landmarks.ndim != 4 or landmarks.shape[2:] != (LANDMARKS, 2):
            raise ValueError(f"landmarks must be [B, T, {LANDMARKS}, 2], not {list(landmarks.shape)}")
        points = landmarks.flatten(0, 1).float()  # [B*T, 68, 2]
        matrix = similarity_from_points(points[:, list(RIGID)], self.template)  # frame -> template
        moved = transform_points(points[:, list(MOVING)], matrix)
        moved = moved.flatten(1).unflatten(0, landmarks.shape[:2])  # [B, T, 64]
        return (moved - moved.mean(1, keepdim=True)).transpose(1, 2) / _UNIT

    def embed_mouth(self, landmarks: Tensor) -> Tensor:
        """Landmarks [B, T, 68, 2] in pixels, 25 frames per second -> [B, T, dim]."""
        return _without_drift(self.mouth_tower(self.movement(landmarks)))

    def embed_sound(self, mel: Tensor) -> Tensor:
        """:func:`fctfg.ops.mel.mel_spectrogram` [B, 80, M] -> [B, T, dim], step t for the moment t / 25 s.

        There is a step for every moment from 0 to the last mel frame. Each band's mean over the sound is subtracted,
        so that neither volume nor equalizer matters.
        """
        mel = mel.float()
        steps = (mel.shape[-1] - 1) * FPS // MEL_FPS * PER_FRAME + 1
        at = torch.arange(steps, device=mel.device) * (MEL_FPS / (FPS * PER_FRAME))
        low = at.floor().long().clamp(max=mel.shape[-1] - 2)
        fine = torch.lerp(mel[..., low], mel[..., low + 1], at - low)  # [B, 80, steps], 100 per second
        return _without_drift(self.sound_tower(fine - fine.mean(2, keepdim=True)))
