"""The lip-sync expert: Wav2Lip's SyncNet, and the mouths it looks at."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.models.audio_encoder import LAYERS, ConvSpec, conv_stack
from fctfg.ops.precision import precise
from fctfg.ops.similarity import ARCFACE_TEMPLATE, invert_similarity, pixel_points, similarity_from_points, warp

FRAMES = 5  # of one window
FACE_SIZE = 96  # px, of the aligned face whose lower half is used

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

    template: Tensor

    def __init__(self, config: SyncNetConfig) -> None:
        super().__init__()
        self.config = config
        self.face_encoder = conv_stack(3 * FRAMES, FACE_LAYERS, config.width, config.dim)
        self.audio_encoder = conv_stack(1, AUDIO_LAYERS, config.width, config.dim)
        self.register_buffer("template", TEMPLATE.clone(), persistent=False)

    def embed_audio(self, mel: Tensor) -> Tensor:
        """Mel windows [B, 1, 80, 16] -> unit vectors [B, dim]."""
        return F.normalize(precise(self.audio_encoder(mel).flatten(1)), dim=1)

    def embed_faces(self, faces: Tensor) -> Tensor:
        """Mouths [B, 15, 48, 96] of :meth:`mouths` -> unit vectors [B, dim]."""
        return F.normalize(precise(self.face_encoder(faces).flatten(1)), dim=1)

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
        height, width = frames.shape[-2:]
        pixels = pixel_points(precise(points.flatten(0, 1)), height, width)
        matrix = invert_similarity(similarity_from_points(pixels, self.template))  # face -> frame
        half = FACE_SIZE // 2
        down = matrix.new_tensor([0.0, half])
        offset = matrix[:, :, 2:] + (matrix[:, :, :2] @ down)[:, :, None]  # start at the face's middle row
        matrix = torch.cat([matrix[:, :, :2], offset], dim=2)
        faces = warp(frames.flatten(0, 1), matrix, (half, FACE_SIZE))  # [B*5, 3, 48, 96]
        bgr = (faces.flip(1) + 1) / 2
        return bgr.unflatten(0, (-1, FRAMES)).flatten(1, 2)
