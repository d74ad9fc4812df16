"""ArcFace recognisers as ONNX graphs: insightface's and others'."""

from __future__ import annotations

from torch import nn

from fctfg.errors import FctfgError
from fctfg.models.experts.arcface_onnx import ArcFaceONNX
from fctfg.weights.checkpoint import Checkpoint
from fctfg.weights.sources.source import Source


def identity_expert(checkpoint: Checkpoint) -> nn.Module | None:
    """The recogniser; nothing of the graph but its operators is used."""
    if checkpoint.kind != "onnx":
        raise FctfgError(f"{checkpoint.path} is not an ONNX graph; is the source right?")
    return ArcFaceONNX.from_onnx(checkpoint.path)


ARCFACE_ONNX = Source(
    "arcface-onnx",
    "ArcFace as an ONNX graph (insightface's w600k_r50 and others)",
    lambda checkpoint: checkpoint.kind == "onnx",
    {"identity_expert_onnx": identity_expert},
)
