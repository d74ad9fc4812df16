"""The identity expert from an ONNX file: insightface's ArcFace networks and others of the same kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fctfg.errors import FctfgError
from fctfg.models.experts.arcface import SIZE
from fctfg.models.experts.onnx_graph import free_batch, pack, read_onnx, to_torch, unpack
from fctfg.ops.similarity import ARCFACE_TEMPLATE, align
from fctfg.randomness import generator

if TYPE_CHECKING:
    from onnx import GraphProto

WANTED = f"give an ArcFace network (faces [N, 3, {SIZE}, {SIZE}] to embeddings), such as insightface's w600k_r50.onnx"


@dataclass(frozen=True)
class ArcFaceONNXConfig:
    """The network without its weights.

    Attributes:
        graph: the ONNX graph, as `onnx_graph.pack` writes it.
        mean, std: the graph takes (value - mean) / std of RGB values in [0, 255].

    Raises:
        ValueError: there is no graph, or the scale is not one.
    """

    graph: str
    mean: float = 127.5
    std: float = 127.5

    def __post_init__(self) -> None:
        if not self.graph:
            raise ValueError("graph must not be empty")
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(f"mean must be a number and std positive: {self.mean}, {self.std}")


class ArcFaceONNX(nn.Module):
    """Aligned faces to unit vectors, as `ArcFace` does; in eval mode, with weights of zero until they are loaded.

    Raises:
        FctfgError: the graph of the config is damaged, or cannot be converted.
    """

    template: Tensor

    def __init__(self, config: ArcFaceONNXConfig) -> None:
        super().__init__()
        self.config = config
        try:
            self.network = to_torch(unpack(config.graph))
        except ValueError as error:
            raise FctfgError(f"the graph of an identity expert {error}; import its .onnx file again") from error
        self.register_buffer("template", ARCFACE_TEMPLATE.clone(), persistent=False)
        self.eval()

    @classmethod
    def from_onnx(cls, path: str | Path) -> ArcFaceONNX:
        """Read an ArcFace network.

        Args:
            path: an .onnx file with one input, faces [N or 1, 3, 112, 112], and one output, embeddings [.., D]. What it
                expects of the faces' values is found by insightface's rule: a graph that begins with a subtraction and
                a multiplication takes [0, 255], others [-1, 1].

        Returns:
            The network with its weights, for any batch.

        Raises:
            FctfgError: the file cannot be read (see `read_onnx`), is another kind of network, or has operators that
                onnx2torch does not know.
        """
        path = Path(path)
        model = read_onnx(path)
        try:
            _check_values(model.graph)
            free_batch(model.graph)
            config = ArcFaceONNXConfig(pack(model), *_scale(model.graph))
            weights = to_torch(model).state_dict()
            del model
            expert = cls(config)
            expert.network.load_state_dict(weights, assign=True)
            _check_embeddings(expert)
        except ValueError as error:
            raise FctfgError(f"{path} {error}; {WANTED}") from error
        return expert

    def forward(self, faces: Tensor) -> Tensor:
        """Embed faces; differentiable in them.

        Args:
            faces: [B, 3, 112, 112] RGB in [-1, 1], aligned.

        Returns:
            float32 [B, dim] of unit length.

        Raises:
            ValueError: if the faces have another size.
        """
        if faces.ndim != 4 or faces.shape[1:] != (3, SIZE, SIZE):
            raise ValueError(f"faces must be [B, 3, {SIZE}, {SIZE}], not {list(faces.shape)}")
        values = (127.5 * (faces + 1) - self.config.mean) / self.config.std
        return F.normalize(self.network(values).flatten(1).float(), dim=1)

    def align(self, frames: Tensor, points: Tensor) -> Tensor:
        """Align faces to the ArcFace template; differentiable in the frames.

        Args:
            frames: [N, 3, H, W].
            points: [N, 5, 2] (x, y) fractions of the frame, ArcFace order.

        Returns:
            [N, 3, 112, 112].
        """
        return align(frames, points, self.template, (SIZE, SIZE))


def _check_values(graph: GraphProto) -> None:
    """Raises ValueError unless the graph takes faces and gives one output."""
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ValueError(f"has {len(graph.input)} inputs and {len(graph.output)} outputs instead of one each")
    kind = graph.input[0].type.tensor_type
    shape = [size.dim_value if size.HasField("dim_value") else "N" for size in kind.shape.dim]
    if shape not in ([1, 3, SIZE, SIZE], ["N", 3, SIZE, SIZE]) or kind.elem_type != 1:  # 1: float32
        raise ValueError(f"takes an input of shape {shape}, not float32 faces [N, 3, {SIZE}, {SIZE}]")


def _scale(graph: GraphProto) -> tuple[float, float]:
    """(mean, std) by insightface's rule, for values in [0, 255]."""
    first = {node.op_type for node in graph.node[:8]}
    return (0.0, 1.0) if first >= {"Sub", "Mul"} else (127.5, 127.5)


@torch.no_grad()
def _check_embeddings(expert: ArcFaceONNX) -> None:
    """Raises ValueError unless each of several faces gets the embedding that it gets alone."""
    faces = torch.rand(2, 3, SIZE, SIZE, generator=generator("arcface-onnx")) * 2 - 1
    try:
        shape = expert.network(faces[:1]).shape
        alone = torch.cat([expert(face[None]) for face in faces])
    except Exception as error:  # whatever a wrong graph raises
        raise ValueError(f"has a graph that does not run ({str(error).strip()})") from error
    if shape[0] != 1 or sum(size > 1 for size in shape[1:]) != 1:
        raise ValueError(f"gives an output of shape {list(shape)}, not one embedding of a face")
    if not alone.isfinite().all():
        raise ValueError("gives embeddings that are not finite")
    try:
        together = expert(faces)
    except RuntimeError as error:
        raise ValueError("has a graph that is fixed to batches of one") from error
    if together.shape != alone.shape or not torch.allclose(together, alone, atol=1e-3):
        raise ValueError("does not embed each face of a batch by itself")
