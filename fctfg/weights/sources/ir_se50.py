"""IR-SE50 trained with the ArcFace loss, as `model_ir_se50.pth`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from fctfg.errors import FctfgError
from fctfg.models.experts.arcface import ArcFace, ArcFaceConfig
from fctfg.weights.checkpoint import Checkpoint
from fctfg.weights.key_table import Table, load_keys
from fctfg.weights.sources.sizes import irse_config, need
from fctfg.weights.sources.source import Source

KEYS: Table = {"input_layer.*": "input_layer.*", "body.*": "body.*", "output_layer.*": "output_layer.*"}


def identity_expert(checkpoint: Checkpoint) -> nn.Module | None:
    """The recogniser."""
    path, state = checkpoint.path, checkpoint.state()
    if state is None:
        raise FctfgError(f"{path} is no state dict; model_ir_se50.pth is one: is the source right?")
    config = ArcFaceConfig(irse_config(path, state), need(path, state, "output_layer.3.weight").shape[0])
    return load_keys(path, lambda: ArcFace(config), state, KEYS)


def write(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The state dict."""
    return {key: tensor.detach() for key, tensor in networks["identity_expert"].state_dict().items()}


IR_SE50 = Source(
    "ir-se50",
    "IR-SE50, the recogniser of pSp and HyperStyle",
    lambda checkpoint: "output_layer.3.weight" in (checkpoint.state() or {}),
    {"identity_expert": identity_expert},
    write,
    needs=("identity_expert",),
)
