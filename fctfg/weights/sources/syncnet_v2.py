"""SyncNet v2, the judge of LSE-C and LSE-D, as `syncnet_v2.model`."""

from __future__ import annotations

from torch import nn

from fctfg.errors import FctfgError
from fctfg.models.experts.syncnet_v2 import SyncNetV2, SyncNetV2Config
from fctfg.weights.checkpoint import Checkpoint
from fctfg.weights.key_table import Table, load_keys
from fctfg.weights.sources.source import Source

KEYS: Table = {
    "netcnnaud.*": "netcnnaud.*",
    "netfcaud.*": "netfcaud.*",
    "netcnnlip.*": "netcnnlip.*",
    "netfclip.*": "netfclip.*",
}


def syncnet_v2(checkpoint: Checkpoint) -> nn.Module | None:
    """Both halves of the network."""
    state = checkpoint.state()
    if state is None:
        raise FctfgError(f"{checkpoint.path} is no state dict; syncnet_v2.model is one: is the source right?")
    return load_keys(checkpoint.path, lambda: SyncNetV2(SyncNetV2Config()), state, KEYS)


SYNCNET_V2 = Source(
    "syncnet-v2",
    "SyncNet v2, by which LSE-C and LSE-D are measured",
    lambda checkpoint: any(key.startswith("netcnnlip.") for key in checkpoint.state() or {}),
    {"syncnet_v2": syncnet_v2},
)
