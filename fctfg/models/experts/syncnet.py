"""The lip-sync expert: Wav2Lip's SyncNet, and the mouths it looks at."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.models.audio_encoder import LAYERS, ConvSpec, conv_stack
from fctfg.ops.precision import precise
from fctfg.ops.similarity import ARCFACE_TEMPLATE, invert_similarity, pixel_points, similarity_from_points, warp
from fctfg.ops.windows import MEL_FPS, window_index

FRAMES = 5  # of one window
FPS = 25  # video frames per second
FACE_SIZE = 96  # px, of the aligned face whose lower half is used

_TOGETHER = 32  # windows of a film that are embedded at a time

# ArcFace's five points placed in a 96 px face: a tight face box, eyes at 36 % and mouth at 74 % of its height.
TEMPLATE = (ARCFACE_TEMPLATE - torch.tensor([56.0, 51.6])) * 0.9 + torch.tensor([47.5, 34.5])

# 15 x 48 x 96 -> 46 x 47 -> 23 x 24 -> 12 x 12 -> 6 x 6 -> 3 x 3 -> 1 x 1
FACE_LAYERS = (
    ConvSpec(32, 7, 1, 3),
    ConvSpec(64, 5, (1, 2), 1),
    ConvSpec(64, 3, 1, 1, residual=True),
    ConvSpec(64, 3, 1, 1, residual=True),
    ConvSpec(128, 3, 2, 1),
    ConvSpec(128, 3, 1, 1, residual=True),
    ConvSpec(128, 3, 1, 1, residual=True),
    ConvSpec(128, 3, 1, 1, residual=True),
    ConvSpec(256, 3, 2, 1),
    ConvSpec(256, 3, 1, 1, residual=True),
    ConvSpec(256, 3, 1, 1, residual=True),
    ConvSpec(512, 3, 2, 1),
    ConvSpec(512, 3, 1, 1, residual=True),
    ConvSpec(512, 3, 1, 1, residual=True),
    ConvSpec(512, 3, 2, 1),
    ConvSpec(512, 3, 1, 0),
    ConvSpec(512, 1, 1, 0),
)
# The generator's audio encoder with one residual block more.
AUDIO_LAYERS = (*LAYERS[:11], ConvSpec(256, 3, 1, 1, residual=True), *LAYERS[11:])


@dataclass(frozen=True)
class SyncNetConfig:
    """The expert's sizes; the defaults are Wav2Lip's.

    Attributes:
        width: multiplies all channels.
        dim: length of the embeddings.

    Raises:
        ValueError: for a size that is not positive.
    """

    width: float = 1.0
    dim: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf or self.dim < 1:
            raise ValueError(f"width and dim must be positive: {self}")


class SyncNet(nn.Module):
    """Embeds mel windows and mouths so that what belongs together is close; keys are the published ones."""

    mouth_shape: ClassVar[tuple[int, ...]] = (3, FACE_SIZE // 2, FACE_SIZE)
    template: Tensor

    def __init__(self, config: SyncNetConfig) -> None:
        super().__init__()
        self.config = config
        self.face_encoder = conv_stack(3 * FRAMES, FACE_LAYERS, config.width, config.dim)
        self.audio_encoder = conv_stack(1, AUDIO_LAYERS, config.width, config.dim)
        self.register_buffer("template", TEMPLATE.clone(), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.template.device

    def embed_audio(self, mel: Tensor) -> Tensor:
        """Mel windows [B, 1, 80, 16] -> unit vectors [B, dim]."""
        return F.normalize(precise(self.audio_encoder(mel).flatten(1)), dim=1)

    def embed_faces(self, faces: Tensor) -> Tensor:
        """Mouths [B, 15, 48, 96] of :meth:`mouths` -> unit vectors [B, dim]."""
        return F.normalize(precise(self.face_encoder(faces).flatten(1)), dim=1)

    def embed_mouth(self, mouths: Tensor) -> Tensor:
        """What is seen around each frame of films, in windows of five frames that it is the middle of.

        Args:
            mouths: [B, T, 3, 48, 96] BGR in [0, 1], 25 frames per second, of :meth:`mouths_of`. Windows that reach over
                the ends repeat the first or last mouth.

        Returns:
            [B, T, dim] unit vectors.
        """
        frames = torch.arange(mouths.shape[1], device=mouths.device)
        around = torch.arange(FRAMES, device=mouths.device) - FRAMES // 2
        index = (frames[:, None] + around).clamp(0, len(frames) - 1)  # [T, 5]
        parts = [self.embed_faces(mouths[:, few].flatten(0, 1).flatten(1, 2)) for few in index.split(_TOGETHER)]
        return torch.cat([part.unflatten(0, (len(mouths), -1)) for part in parts], dim=1)

    def embed_sound(self, mel: Tensor) -> Tensor:
        """What is heard around each frame: the mel window that belongs to the five frames which it is the middle of.

        As in training, the window begins with the first of the five; for which frame `networks.centered_mel` lets
        other networks hear it makes no difference to the expert.

        Args:
            mel: :func:`fctfg.ops.mel.mel_spectrogram` [B, 80, M] of a sound that begins with frame 0. Windows that
                reach over the ends repeat the first or last mel frame.

        Returns:
            [B, T, dim] unit vectors of all frames that are heard, the last one maybe in part.
        """
        length = mel.shape[-1]
        frames = torch.arange(-(-(length - 1) * FPS // MEL_FPS), device=mel.device)
        index = window_index(frames, length, FPS, centered=True)  # [T, 16]
        windows = mel[:, :, index].transpose(1, 2)  # [B, T, 80, 16]
        parts = [self.embed_audio(few.flatten(0, 1)[:, None]) for few in windows.split(_TOGETHER, dim=1)]
        return torch.cat([part.unflatten(0, (len(mel), -1)) for part in parts], dim=1)

    def forward(self, mel: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Embed sound and mouths.

        Args:
            mel: [B, 1, 80, 16].
            faces: [B, 15, 48, 96], five BGR frames in [0, 1].

        Returns:
            (audio [B, dim], face [B, dim]) of unit length, float32 or finer.
        """
        return self.embed_audio(mel), self.embed_faces(faces)

    def mouths(self, frames: Tensor, points: Tensor) -> Tensor:
        """Cut the mouths out of five frames; differentiable in the frames.

        Args:
            frames: [B, 5, 3, H, W] RGB in [-1, 1].
            points: [B, 5, 5, 2] (x, y) fractions of the frame, ArcFace order.

        Returns:
            [B, 15, 48, 96] BGR in [0, 1]: the lower halves of faces aligned to a 96 px template by the five points.

        Raises:
            ValueError: if the shapes do not fit.
        """
        if frames.ndim != 5 or frames.shape[1] != FRAMES or points.shape != (*frames.shape[:2], 5, 2):
            raise ValueError(
                f"frames must be [B, {FRAMES}, 3, H, W] and points [B, {FRAMES}, 5, 2], "
                f"not {list(frames.shape)} and {list(points.shape)}"
            )
        mouths = self.mouths_of(frames.flatten(0, 1), points.flatten(0, 1))  # [B*5, 3, 48, 96]
        return mouths.unflatten(0, (-1, FRAMES)).flatten(1, 2)

    def mouths_of(self, frames: Tensor, points: Tensor) -> Tensor:
        """Cut the mouth out of each frame; differentiable in the frames.

        Args:
            frames: [N, 3, H, W] RGB in [-1, 1].
            points: [N, 5, 2] (x, y) fractions of the frame, ArcFace order.

        Returns:
            [N, 3, 48, 96] BGR in [0, 1].
        """
        height, width = frames.shape[-2:]
        pixels = pixel_points(precise(points), height, width)
        matrix = invert_similarity(similarity_from_points(pixels, self.template))  # face -> frame
        half = FACE_SIZE // 2
        offset = matrix[:, :, 2:] + half * matrix[:, :, 1:2]  # start at the face's middle row
        matrix = torch.cat([matrix[:, :, :2], offset], dim=2)
        faces = warp(frames, matrix, (half, FACE_SIZE))  # [N, 3, 48, 96]
        return (faces.flip(1) + 1) / 2
