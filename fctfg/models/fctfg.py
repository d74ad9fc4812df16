"""FC-TFG (Jang et al. 2023): the whole network, composed as in Fig. 3 of the paper."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from fctfg.models.audio_encoder import AudioEncoder
from fctfg.models.hypernetwork import Deltas, Hypernetwork, refine
from fctfg.models.latent_mlps import CanonicalEncoder, MotionEncoder
from fctfg.models.lstm_fusion import LSTMFusion
from fctfg.models.stylegan2 import Generator
from fctfg.models.temporal_fusion import TemporalFusion
from fctfg.models.visual_encoder import VisualEncoder
from fctfg.ops.draws import Draws

# Styles of the generator -> (manipulated layers, audio layers), 0-based. The paper's layers are those of 14 styles
# (256 px); the others are inferred: the same share of coarse, middle and fine layers.
LAYERS: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {
    8: ((0, 1, 2, 3, 4, 5), (3, 4)),  # 32 px
    10: ((0, 1, 2, 3, 4, 5, 6, 7), (4, 5)),  # 64 px
    12: ((0, 1, 2, 3, 5, 6, 7, 8), (5, 6)),  # 128 px
    14: ((0, 1, 2, 3, 6, 7, 8, 9), (6, 7)),  # 256 px, the paper's
}


@dataclass(frozen=True)
class FCTFGConfig:
    """What happens in the latent space; the defaults are the paper's at 256 px.

    Attributes:
        manipulated: generator layers that the motion controls, 0-based.
        audio_layers: of these, the ones that audio enters.
        style_dim: length of each style.
        audio_dim: length of the audio embedding.
        temporal_kernel: of the temporal fusion's convolution, frames (not in the paper).
        subtract_latent_avg: the MLPs see codes less w's mean, which is added after them (not in the paper).
        centered_mel: a frame's mel window is centered on it; False: starts with it, as in Wav2Lip.
        freeze_batch_norm: E_inv and the hypernetwork keep stage 2's statistics (not in the paper).
        hypernetwork: weight offsets from the source (not in the paper).
        refinements: iterations of the hypernetwork (HyperStyle's 5).
        temporal_fusion: the paper's "convolution", or "lstm", its ablation.

    Raises:
        ValueError: if layers repeat, audio enters a layer that is not manipulated, or a size is not positive.
    """

    manipulated: tuple[int, ...] = LAYERS[14][0]
    audio_layers: tuple[int, ...] = LAYERS[14][1]
    style_dim: int = 512
    audio_dim: int = 512
    temporal_kernel: int = 3
    subtract_latent_avg: bool = True
    centered_mel: bool = False
    freeze_batch_norm: bool = True
    hypernetwork: Literal["off", "frozen", "finetuned"] = "off"
    refinements: int = 5
    temporal_fusion: Literal["convolution", "lstm"] = field(default="convolution", metadata={"added_later": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "manipulated", tuple(self.manipulated))
        object.__setattr__(self, "audio_layers", tuple(self.audio_layers))
        if not self.manipulated or list(self.manipulated) != sorted(set(self.manipulated)) or self.manipulated[0] < 0:
            raise ValueError(f"manipulated layers must be distinct, in order and from 0 on: {self.manipulated}")
        if not set(self.audio_layers) <= set(self.manipulated) or len(set(self.audio_layers)) != len(self.audio_layers):
            raise ValueError(f"audio layers {self.audio_layers} are not among the manipulated {self.manipulated}")
        if min(self.style_dim, self.audio_dim, self.refinements) < 1:
            raise ValueError(f"sizes must be positive: {self}")
        if self.temporal_kernel < 1 or self.temporal_kernel % 2 == 0:
            raise ValueError(f"temporal_kernel must be odd, not {self.temporal_kernel}")
        if self.hypernetwork not in ("off", "frozen", "finetuned"):
            raise ValueError(f'hypernetwork must be "off", "frozen" or "finetuned", not {self.hypernetwork!r}')
        if self.temporal_fusion not in ("convolution", "lstm"):
            raise ValueError(f'temporal_fusion must be "convolution" or "lstm", not {self.temporal_fusion!r}')

    @classmethod
    def for_styles(cls, n_styles: int, **fields: Any) -> Self:
        """The default layers for a generator with this many styles; other fields by keyword.

        Raises:
            ValueError: if there is no default for this many styles.
        """
        if n_styles not in LAYERS:
            raise ValueError(f"no default layers for {n_styles} styles, only for {sorted(LAYERS)}: name them")
        manipulated, audio_layers = LAYERS[n_styles]
        return cls(**{"manipulated": manipulated, "audio_layers": audio_layers, **fields})


class Source(NamedTuple):
    """What one portrait gives, computed once and used for all frames."""

    z_source: Tensor  # [B, L, D]
    z_canonical: Tensor  # [B, L', D]
    deltas: Deltas | None  # weight offsets of the generator, [B, O, I, k, k] each


class Output(NamedTuple):
    """What :meth:`FCTFG.forward` gives."""

    frames: Tensor  # [B, T, 3, H, W]
    z_canonical: Tensor  # [B, L', D]
    z_motion: Tensor  # [B, T, L', D]
    z_fused: Tensor  # [B, T, L', D]


class Latent(nn.Module):
    """The three networks that FC-TFG adds between the inversion and the generator: E_can, E_m, temporal fusion."""

    def __init__(self, config: FCTFGConfig) -> None:
        super().__init__()
        self.config = config
        layers, dim = len(config.manipulated), config.style_dim
        audio_layers = [config.manipulated.index(layer) for layer in config.audio_layers]
        self.canonical_encoder = CanonicalEncoder(layers, dim)
        self.motion_encoder = MotionEncoder(layers, dim, config.audio_dim, audio_layers)
        self.temporal_fusion: TemporalFusion | LSTMFusion
        if config.temporal_fusion == "lstm":
            self.temporal_fusion = LSTMFusion(layers, dim)
        else:
            self.temporal_fusion = TemporalFusion(layers, dim, config.temporal_kernel)


class FCTFG(nn.Module):
    """The talking-face network: the pre-trained parts and, between them, the latent space.

    Args:
        config: the latent space.
        generator: G, pre-trained in stage 1.
        visual_encoder: E_inv, pre-trained in stage 2; ``config.subtract_latent_avg`` is about its ``latent_avg``.
        audio_encoder: E_a.
        hypernetwork: needed unless ``config.hypernetwork`` is "off".
        latent: the networks of the latent space where they are trained already; new ones by default.

    Raises:
        ValueError: if the networks' sizes do not fit each other or the configuration.
    """

    def __init__(
        self,
        config: FCTFGConfig,
        generator: Generator,
        visual_encoder: VisualEncoder,
        audio_encoder: AudioEncoder,
        hypernetwork: Hypernetwork | None = None,
        latent: Latent | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(config, generator, visual_encoder, audio_encoder, hypernetwork)
        self.config = config
        self.generator = generator
        self.visual_encoder = visual_encoder
        self.audio_encoder = audio_encoder
        self.hypernetwork = hypernetwork
        self.latent = latent if latent is not None else Latent(config)
        self.register_buffer("manipulated", torch.tensor(config.manipulated), persistent=False)
        if hypernetwork is not None and config.hypernetwork == "frozen":
            hypernetwork.requires_grad_(False)
        self.train(self.training)

    manipulated: Tensor  # int64 [L']

    def train(self, mode: bool = True) -> Self:
        """Training mode, in which batch norms of the pre-trained encoders may stay in eval (see the configuration)."""
        super().train(mode)
        if self.config.freeze_batch_norm:
            for network in (self.visual_encoder, self.hypernetwork):
                for module in network.modules() if network is not None else ():
                    if isinstance(module, nn.BatchNorm2d):
                        module.eval()
        if self.config.hypernetwork == "frozen" and self.hypernetwork is not None:
            self.hypernetwork.eval()
        return self

    @property
    def center(self) -> Tensor | float:
        """What is subtracted before the MLPs and added after the fusion: latent_avg [D], or 0."""
        return self.visual_encoder.latent_avg if self.config.subtract_latent_avg else 0.0

    def encode_source(self, source: Tensor) -> Source:
        """The portrait's part: z_source = E_inv(source), z_canonical = E_can(z_source).

        Args:
            source: [B, 3, H, W] in [-1, 1].

        Returns:
            codes and, with a hypernetwork, the generator's weight offsets.
        """
        z_source = self.visual_encoder(source)
        z_canonical = self.latent.canonical_encoder(z_source[:, self.manipulated] - self.center)
        deltas: Deltas | None = None
        if self.hypernetwork is not None and self.config.hypernetwork != "off":
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.hypernetwork == "finetuned"):
                deltas = refine(self.hypernetwork, self.generator, source, z_source, self.config.refinements)
        return Source(z_source, z_canonical, deltas)

    def encode_motion(self, driving: Tensor, mel: Tensor, draws: Draws | None = None) -> Tensor:
        """The driving frames' and the sound's part: z_motion = E_m(concat(E_a(mel), E_inv(driving))).

        Args:
            driving: [B, T, 3, H, W] in [-1, 1].
            mel: [B, T, 1, 80, 16].
            draws: see :meth:`forward`.

        Returns:
            z_motion [B, T, L', D].
        """
        batch_and_time = driving.shape[:2]
        z_driving = self.visual_encoder(driving.flatten(0, 1)).unflatten(0, batch_and_time)
        of_windows = None if draws is None else draws.repeat(batch_and_time[1])
        z_audio = self.audio_encoder(mel.flatten(0, 1), of_windows).unflatten(0, batch_and_time)
        return self.latent.motion_encoder(z_audio, z_driving[:, :, self.manipulated] - self.center)

    def fuse(self, z_canonical: Tensor, z_motion: Tensor) -> Tensor:
        """z_fused = TemporalFusion(z_canonical + z_motion); [B, L', D], [B, T, L', D] -> [B, T, L', D]."""
        return self.latent.temporal_fusion(z_canonical[:, None] + z_motion) + self.center

    def codes(self, z_source: Tensor, z_fused: Tensor) -> Tensor:
        """z_fused on the manipulated layers, z_source on the others; [B, L, D], [B, T, L', D] -> [B, T, L, D]."""
        codes = z_source[:, None].expand(-1, z_fused.shape[1], -1, -1)
        return codes.index_copy(2, self.manipulated, z_fused.to(codes.dtype))

    def decode(self, z_source: Tensor, z_fused: Tensor, deltas: Deltas | None = None) -> Tensor:
        """frames = G(codes of z_source and z_fused), with fixed noise.

        Args:
            z_source: [B, L, D].
            z_fused: [B, T, L', D].
            deltas: of :meth:`encode_source`.

        Returns:
            frames [B, T, 3, H, W].
        """
        codes = self.codes(z_source, z_fused)
        return self.generator(codes.flatten(0, 1), deltas=deltas).unflatten(0, codes.shape[:2])

    def forward(self, source: Tensor, driving: Tensor, mel: Tensor, draws: Draws | None = None) -> Output:
        """Fig. 3: the source's identity with the driving frames' pose and expression and the sound's lips.

        Args:
            source: [B, 3, H, W] in [-1, 1], RGB.
            driving: [B, T, 3, H, W].
            mel: [B, T, 1, 80, 16], each driving frame's window.
            draws: of each sample, for what is random in training; None draws from torch's global generator.

        Returns:
            frames and codes; the codes z_canonical and z_motion are relative to the center.
        """
        z_source, z_canonical, deltas = self.encode_source(source)
        z_motion = self.encode_motion(driving, mel, draws)
        z_fused = self.fuse(z_canonical, z_motion)
        frames = self.decode(z_source, z_fused, deltas)
        return Output(frames, z_canonical, z_motion, z_fused)

    def canonical_image(self, source: Tensor) -> Tensor:
        """The image of z_canonical without any motion; [B, 3, H, W] -> [B, 3, H, W]."""
        z_source, z_canonical, deltas = self.encode_source(source)
        return self.decode(z_source, z_canonical[:, None] + self.center, deltas)[:, 0]


def _check_sizes(
    config: FCTFGConfig,
    generator: Generator,
    visual_encoder: VisualEncoder,
    audio_encoder: AudioEncoder,
    hypernetwork: Hypernetwork | None,
) -> None:
    """Raise ValueError, naming both numbers, where two networks do not fit each other."""
    g, e, a = generator.config, visual_encoder.config, audio_encoder.config
    pairs = [
        ("resolution of generator and visual encoder", g.resolution, e.resolution),
        ("n_styles of generator and visual encoder", g.n_styles, e.n_styles),
        ("style_dim of generator and visual encoder", g.style_dim, e.style_dim),
        ("style_dim of generator and latent space", g.style_dim, config.style_dim),
        ("dim of audio encoder and latent space's audio_dim", a.dim, config.audio_dim),
    ]
    for what, one, other in pairs:
        if one != other:
            raise ValueError(f"{what} differ: {one} and {other}")
    if config.manipulated[-1] >= g.n_styles:
        raise ValueError(f"manipulated layer {config.manipulated[-1]} does not exist: there are {g.n_styles} styles")
    if config.hypernetwork != "off":
        if hypernetwork is None:
            raise ValueError(f'hypernetwork is "{config.hypernetwork}" but none was given')
        if hypernetwork.config.generator != g:
            raise ValueError("the hypernetwork was made for a generator of another size")
