"""The stages of training."""

from fctfg.stages.generator import GeneratorStage
from fctfg.stages.identity_expert import IdentityExpert
from fctfg.stages.inversion import EncoderStage, HypernetworkStage
from fctfg.stages.sync_expert import SyncExpert
from fctfg.stages.talking_face import TalkingFaceStage

STAGES = (SyncExpert, IdentityExpert, GeneratorStage, EncoderStage, HypernetworkStage, TalkingFaceStage)
"""In the order of training."""

__all__ = [
    "STAGES",
    "EncoderStage",
    "GeneratorStage",
    "HypernetworkStage",
    "IdentityExpert",
    "SyncExpert",
    "TalkingFaceStage",
]
