"""The identity expert: IR-SE50 trained with the ArcFace loss."""

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.models.irse import IRSEConfig, body, input_layer
from fctfg.ops.draws import Draws
from fctfg.ops.precision import precise
from fctfg.ops.similarity import ARCFACE_TEMPLATE, align

SIZE = 112  # px, of the aligned faces


@dataclass(frozen=True)
class ArcFaceConfig:
    """The expert's sizes; the defaults are IR-SE50.

    Attributes:
        body: residual network before the embedding.
        dim: length of the embedding.
        dropout: share of the features dropped in training.

    Raises:
        ValueError: for a size that is not positive.
    """

    body: IRSEConfig = field(default_factory=IRSEConfig)
    dim: int = 512
    dropout: float = 0.6

    def __post_init__(self) -> None:
        if self.dim < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"dim must be positive and dropout in [0, 1): {self}")


class ArcFace(nn.Module):
    """Aligned faces to unit vectors; keys are those of ``model_ir_se50.pth``."""

    template: Tensor

    def __init__(self, config: ArcFaceConfig) -> None:
        super().__init__()
        self.config = config
        width = config.body.channels[-1]
        self.input_layer = input_layer(config.body)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Dropout(config.dropout),  # has no weights; drawn for each sample by `_drop`
            nn.Flatten(),
            nn.Linear(width * (SIZE // 16) ** 2, config.dim),
            nn.BatchNorm1d(config.dim),
        )
        self.body = body(config.body)
        self.register_buffer("template", ARCFACE_TEMPLATE.clone(), persistent=False)

    def _drop(self, x: Tensor, draws: Draws) -> Tensor:
        """Dropout of features [B, C, H, W] that depends on the samples' seeds alone."""
        rate = self.config.dropout
        return x * (draws.uniform("dropout", *x.shape[1:]) >= rate) / (1 - rate)

    def forward(self, faces: Tensor, draws: Draws | None = None) -> Tensor:
        """Embed faces.

        Args:
            faces: [B, 3, 112, 112] RGB in [-1, 1], aligned.
            draws: of each face, for the dropout in training; None draws from torch's global generator.

        Returns:
            [B, dim] of unit length, float32 or finer.

        Raises:
            ValueError: if the faces have another size.
        """
        if faces.ndim != 4 or faces.shape[1:] != (3, SIZE, SIZE):
            raise ValueError(f"faces must be [B, 3, {SIZE}, {SIZE}], not {list(faces.shape)}")
        norm, dropout, flatten, linear, last = self.output_layer
        x = norm(self.body(self.input_layer(faces)))
        x = self._drop(x, draws) if draws is not None and self.training else dropout(x)
        return F.normalize(precise(last(linear(flatten(x)))), dim=1)

    def align(self, frames: Tensor, points: Tensor) -> Tensor:
        """Align faces to the ArcFace template; differentiable in the frames.

        Args:
            frames: [N, 3, H, W].
            points: [N, 5, 2] (x, y) fractions of the frame, ArcFace order.

        Returns:
            [N, 3, 112, 112].
        """
        return align(frames, points, self.template, (SIZE, SIZE))
