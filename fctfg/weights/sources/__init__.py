"""The published layouts, one file each: its key table, its sizes read from the tensors, its way back."""

from fctfg.weights.sources.arcface_onnx import ARCFACE_ONNX
from fctfg.weights.sources.hyperstyle import HYPERSTYLE
from fctfg.weights.sources.ir_se50 import IR_SE50
from fctfg.weights.sources.lpips import LPIPS_SOURCE
from fctfg.weights.sources.psp import PSP
from fctfg.weights.sources.source import Source
from fctfg.weights.sources.stylegan2_nvlabs import STYLEGAN2_NVLABS, STYLEGAN2_NVLABS_D
from fctfg.weights.sources.stylegan2_rosinality import STYLEGAN2_ROSINALITY, STYLEGAN2_ROSINALITY_D
from fctfg.weights.sources.syncnet_v2 import SYNCNET_V2
from fctfg.weights.sources.vgg19_torchvision import VGG19_TORCHVISION
from fctfg.weights.sources.wav2lip import WAV2LIP, WAV2LIP_SYNCNET

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        STYLEGAN2_ROSINALITY,
        STYLEGAN2_ROSINALITY_D,
        STYLEGAN2_NVLABS,
        STYLEGAN2_NVLABS_D,
        PSP,
        HYPERSTYLE,
        IR_SE50,
        ARCFACE_ONNX,
        WAV2LIP,
        WAV2LIP_SYNCNET,
        SYNCNET_V2,
        VGG19_TORCHVISION,
        LPIPS_SOURCE,
    )
}
