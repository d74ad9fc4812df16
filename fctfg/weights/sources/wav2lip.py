"""Wav2Lip: its generator's audio encoder, and its lip-sync expert."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fctfg.errors import FctfgError
from fctfg.models.audio_encoder import LAYERS, AudioEncoder, AudioEncoderConfig
from fctfg.models.experts.syncnet import AUDIO_LAYERS, SyncNet, SyncNetConfig
from fctfg.weights.checkpoint import Checkpoint
from fctfg.weights.key_table import Table, load_keys
from fctfg.weights.sources.sizes import need
from fctfg.weights.sources.source import Source

ENCODER_KEYS: Table = {
    "audio_encoder.*": "layers.*",
    "face_encoder_blocks.*": None,  # the rest of Wav2Lip's generator
    "face_decoder_blocks.*": None,
    "output_block.*": None,
}
EXPERT_KEYS: Table = {"audio_encoder.*": "audio_encoder.*", "face_encoder.*": "face_encoder.*"}


def _state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    state = checkpoint.state("state_dict") or checkpoint.state()
    if state is None:
        raise FctfgError(f"{checkpoint.path} has no state_dict of Wav2Lip; is the source right?")
    return state


def _sizes(path: Path, state: Mapping[str, Tensor], layers: int) -> tuple[float, int]:
    """(the share of Wav2Lip's channels, the length of the embedding)."""
    first = need(path, state, "audio_encoder.0.conv_block.0.weight").shape[0]
    last = need(path, state, f"audio_encoder.{layers - 1}.conv_block.0.weight").shape[0]
    return first / LAYERS[0].channels, last


def audio_encoder(checkpoint: Checkpoint) -> nn.Module | None:
    """The audio encoder of Wav2Lip's generator."""
    path, state = checkpoint.path, _state(checkpoint)
    width, dim = _sizes(path, state, len(LAYERS))
    config = AudioEncoderConfig(width=width, dim=dim)
    return load_keys(path, lambda: AudioEncoder(config), state, ENCODER_KEYS)


def sync_expert(checkpoint: Checkpoint) -> nn.Module | None:
    """The lip-sync expert."""
    path, state = checkpoint.path, _state(checkpoint)
    width, dim = _sizes(path, state, len(AUDIO_LAYERS))
    return load_keys(path, lambda: SyncNet(SyncNetConfig(width=width, dim=dim)), state, EXPERT_KEYS)


def write_expert(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """{"state_dict", "optimizer": None, "global_step", "global_epoch"}, what Wav2Lip's loader looks for."""
    state = {key: tensor.detach() for key, tensor in networks["sync_expert"].state_dict().items()}
    return {"state_dict": state, "optimizer": None, "global_step": 0, "global_epoch": 0}


def _holds(checkpoint: Checkpoint, mark: str) -> bool:
    state = checkpoint.state("state_dict") or checkpoint.state() or {}
    return mark in state and "audio_encoder.0.conv_block.0.weight" in state


WAV2LIP = Source(
    "wav2lip",
    "Wav2Lip: the audio encoder of its generator",
    lambda checkpoint: _holds(checkpoint, "face_encoder_blocks.0.0.conv_block.0.weight"),
    {"audio_encoder": audio_encoder},
)
WAV2LIP_SYNCNET = Source(
    "wav2lip-syncnet",
    "Wav2Lip's lip-sync expert",
    lambda checkpoint: _holds(checkpoint, "face_encoder.0.conv_block.0.weight"),
    {"sync_expert": sync_expert},
    write_expert,
    needs=("sync_expert",),
)
