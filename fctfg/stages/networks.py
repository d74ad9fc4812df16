"""The sizes of all networks, in one place: what a configuration file calls `networks`."""

from __future__ import annotations

from dataclasses import dataclass, field

from fctfg.models.audio_encoder import AudioEncoderConfig
from fctfg.models.discriminator import DiscriminatorConfig
from fctfg.models.experts.arcface import ArcFaceConfig
from fctfg.models.experts.syncnet import SyncNetConfig
from fctfg.models.experts.vgg import VGGConfig
from fctfg.models.fctfg import FCTFGConfig
from fctfg.models.hypernetwork import HypernetworkConfig
from fctfg.models.stylegan2 import GeneratorConfig
from fctfg.models.visual_encoder import VisualEncoderConfig
from fctfg.ranges import check_range


@dataclass(frozen=True)
class Networks:
    """Sizes of the networks of all stages; the defaults are the paper's, at 256 px.

    Attributes:
        generator: StyleGAN2 generator (stages 1-3).
        discriminator: StyleGAN2 discriminator (stages 1 and 3).
        visual_encoder: pSp encoder (stages 2 and 3).
        hypernetwork: HyperStyle's hypernetwork (stage 2; stage 3 when `fctfg.hypernetwork` says so).
        audio_encoder: mel encoder (stage 3).
        fctfg: what is manipulated and how; None takes the paper's layers for the resolution.
        sync_expert: lip-sync expert (stage 0).
        identity_expert: face recogniser (stage 0).
        perceptual: VGG19 of the perceptual loss; its `weights` are a file, a name of the catalogue (`fctfg weights
            list`), or `random` (smoke runs only).
        lpips: stage 2's LPIPS: a file of AlexNet's or VGG16's weights or of heads, a name of the catalogue, or
            `random` (smoke runs only).
        centered_mel: each frame's mel window is centered on it instead of starting with it (Wav2Lip's inference). The
            sync expert hears the same with both.
        recompute: generator and discriminator compute each resolution again in the backward pass instead of keeping
            it: the same gradients to the bit, in more time. On the CPU it saves no memory (docs/log.md).
        compile: generator and discriminator run through torch.compile, but for the lazy terms, whose second derivatives
            it does not have. The first iterations take minutes. On CPUs it is slower (docs/log.md).
        sync_accuracy: least two-way accuracy of the sync expert that stage 3 starts with, 0 to 1: its own sound against
            one shifted by 5-15 frames, on held-out people; chance is 0.5. 0 takes any expert.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    visual_encoder: VisualEncoderConfig = field(default_factory=VisualEncoderConfig)
    hypernetwork: HypernetworkConfig = field(default_factory=HypernetworkConfig)
    audio_encoder: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)
    fctfg: FCTFGConfig | None = None
    sync_expert: SyncNetConfig = field(default_factory=SyncNetConfig)
    identity_expert: ArcFaceConfig = field(default_factory=ArcFaceConfig)
    perceptual: VGGConfig = field(default_factory=VGGConfig)
    lpips: str = "alexnet-imagenet"
    centered_mel: bool = False
    recompute: bool = False
    compile: bool = False
    sync_accuracy: float = 0.85

    def __post_init__(self) -> None:
        check_range(0, 1, group="networks", sync_accuracy=self.sync_accuracy)
        resolutions = {
            name: getattr(self, name).resolution
            for name in ("generator", "discriminator", "visual_encoder", "hypernetwork")
        }
        if len(set(resolutions.values())) != 1:
            raise ValueError(f"networks.*.resolution must agree, got {resolutions}")
        if self.fctfg is not None and self.fctfg.centered_mel and not self.centered_mel:
            raise ValueError("set networks.centered_mel instead of networks.fctfg.centered_mel: the data need it too")
        if self.visual_encoder.style_dim != self.generator.style_dim:
            raise ValueError(
                f"networks.visual_encoder.style_dim is {self.visual_encoder.style_dim}, "
                f"but networks.generator.style_dim is {self.generator.style_dim}"
            )
