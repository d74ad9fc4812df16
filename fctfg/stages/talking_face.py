"""Stage 3: the whole network, end to end."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fctfg.data.batch import Batch
from fctfg.losses.adversarial import g_nonsaturating
from fctfg.losses.identity import identity
from fctfg.losses.orthogonality import orthogonality
from fctfg.losses.perceptual import perceptual
from fctfg.losses.reconstruction import reconstruction
from fctfg.losses.sync import sync
from fctfg.losses.weighted import weighted
from fctfg.metrics.psnr import psnr
from fctfg.metrics.ssim import ssim
from fctfg.models.audio_encoder import AudioEncoder
from fctfg.models.experts.arcface import ArcFace
from fctfg.models.experts.frozen import freeze
from fctfg.models.experts.syncnet import SyncNet
from fctfg.models.experts.vgg import VGG19
from fctfg.models.fctfg import FCTFG, FCTFGConfig, Output
from fctfg.models.hypernetwork import Hypernetwork
from fctfg.models.stylegan2 import Discriminator, Generator
from fctfg.models.visual_encoder import VisualEncoder
from fctfg.ops.mouth import transplant_mouth
from fctfg.stages import ema
from fctfg.stages.adversarial import discriminator_loss, discriminator_terms
from fctfg.stages.base import Stage, say
from fctfg.stages.inversion import check_same_generator
from fctfg.stages.networks import Networks

WEIGHTS = {  # paper, section 2
    "orthogonality": 1.0,
    "sync": 0.1,
    "identity": 0.5,
    "reconstruction": 1.0,
    "perceptual": 1.0,
    "adversarial": 0.1,
}


def borrow_audio_layers(encoder: AudioEncoder, expert: SyncNet) -> int:
    """Start the audio encoder as the sync expert's, where both have the same layer.

    The paper starts from Wav2Lip's trained encoder. Where there is none, the expert's is the nearest thing: Wav2Lip's
    two audio networks differ by one residual block, the expert's twelfth.

    Returns:
        Number of tensors copied: all, or none when the widths differ.
    """
    extra = len(expert.audio_encoder) - 3
    theirs = [layer for index, layer in enumerate(expert.audio_encoder) if index != extra]
    mine, given = encoder.layers.state_dict(), nn.Sequential(*theirs).state_dict()
    if any(mine[key].shape != given[key].shape for key in mine):
        return 0
    encoder.layers.load_state_dict(given)
    return len(given)


class TalkingFaceStage(Stage):
    """Trains FC-TFG on source frame, driving frames and sound of one clip (paper, Eq. 1-9).

    Generator, visual encoder and audio encoder are fine-tuned, the latent networks are new, the experts are frozen.
    Adam with the paper's learning rate; the discriminator's betas, the average of the weights and the lazy R1 are not
    in the paper.

    Args:
        networks: sizes; this stage builds the audio encoder and the latent networks.
        init_from: `generator`: a run of stage 1 (generator, discriminator); `inversion`: a run of stage 2 (visual
            encoder, and hypernetwork when `networks.fctfg.hypernetwork` uses it); `sync_expert`, `identity_expert`:
            runs of stage 0.
        seed: the run's seed.
        learning_rate: of Adam, all networks (paper: 1e-4).
        discriminator_learning_rate: None takes `learning_rate`.
        weights: of the six terms.
        r1_weight: gamma of R1 on the discriminator (not in the paper).
        r1_every: iterations between two R1 terms.
        ema_decay: of the average of the whole network (not in the paper).
        clip_gradient: largest gradient norm of the generator's side; None does not clip (not in the paper).
    """

    stage = "talking_face"
    roles: ClassVar[tuple[str, ...]] = ("generator", "inversion", "sync_expert", "identity_expert")
    frozen: ClassVar[tuple[str, ...]] = ("sync_expert", "identity_expert", "vgg")

    def __init__(
        self,
        networks: Networks,
        init_from: dict[str, str] | None = None,
        seed: int = 0,
        learning_rate: float = 1e-4,
        discriminator_learning_rate: float | None = None,
        weights: dict[str, float] = WEIGHTS,  # never written to
        r1_weight: float = 10.0,
        r1_every: int = 16,
        ema_decay: float = 0.999,
        clip_gradient: float | None = None,
    ) -> None:
        super().__init__(networks, init_from, seed)
        self.automatic_optimization = False
        self.learning_rate = learning_rate
        self.discriminator_learning_rate = discriminator_learning_rate or learning_rate
        self.weights, self.r1_weight, self.r1_every = weights, r1_weight, r1_every
        self.ema_decay, self.clip_gradient = ema_decay, clip_gradient

        generator = self.take("generator", "generator", networks.generator)
        discriminator = self.take("generator", "discriminator", networks.discriminator)
        visual_encoder = self.take("inversion", "visual_encoder", networks.visual_encoder)
        assert isinstance(generator, Generator)
        assert isinstance(discriminator, Discriminator)
        assert isinstance(visual_encoder, VisualEncoder)
        check_same_generator(generator, visual_encoder, self.init_from)
        config = networks.fctfg or FCTFGConfig.for_styles(generator.n_styles)
        hypernetwork: Hypernetwork | None = None
        if config.hypernetwork != "off":
            taken = self.take("inversion", "hypernetwork", networks.hypernetwork)
            assert isinstance(taken, Hypernetwork)
            hypernetwork = taken
        audio_encoder = AudioEncoder(networks.audio_encoder)
        sync_expert = self.take("sync_expert", "sync_expert", networks.sync_expert)
        assert isinstance(sync_expert, SyncNet)
        borrowed = borrow_audio_layers(audio_encoder, sync_expert)
        self.network = FCTFG(config, generator, visual_encoder, audio_encoder, hypernetwork)
        self.discriminator = discriminator
        self.announce_new(audio_encoder=audio_encoder, latent=self.network.latent)
        say(f"audio_encoder: {borrowed} of {len(audio_encoder.state_dict())} tensors start as the sync expert's")
        self.network_ema = ema.shadow(self.network)

        identity_expert = self.take("identity_expert", "identity_expert", networks.identity_expert)
        assert isinstance(identity_expert, ArcFace)
        self.sync_expert = freeze(sync_expert)
        self.identity_expert = freeze(identity_expert)
        self.vgg = VGG19(networks.perceptual)

    def driver(self, batch: Batch) -> Tensor:
        """What the network sees of the driving frames, [B, T, 3, H, W].

        A driving frame is also the target, so its lips would give away what the sound is to tell. With `data.decoys`
        they are exchanged for those of another moment of the clip, and only the sound tells (not in the paper).
        """
        if batch.decoy.shape[1] == 0:
            return batch.driving
        fields = batch.driving, batch.points, batch.decoy, batch.decoy_points
        return transplant_mouth(*(field.flatten(0, 1) for field in fields)).view_as(batch.driving)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return [
            torch.optim.Adam(trained, lr=self.learning_rate, betas=(0.9, 0.999), fused=True),
            torch.optim.Adam(
                self.discriminator.parameters(), lr=self.discriminator_learning_rate, betas=(0.0, 0.99), fused=True
            ),
        ]

    def terms(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """The six terms of the generator's side (Eq. 3-8), each a scalar."""
        fake, real = output.frames.flatten(0, 1), batch.driving.flatten(0, 1)
        points = batch.points.flatten(0, 1)
        experts = self.sync_expert, self.identity_expert
        sound, mouth = experts[0](batch.mel[:, 0], experts[0].mouths(output.frames, batch.points))
        with torch.no_grad():
            person = experts[1](experts[1].align(real, points))
            real_features = self.vgg(real)
        return {
            "orthogonality": orthogonality(output.z_canonical, output.z_motion),
            "sync": sync(mouth, sound),
            "identity": identity(experts[1](experts[1].align(fake, points)), person),
            "reconstruction": reconstruction(fake, real),
            "perceptual": perceptual(self.vgg(fake), real_features),
            "adversarial": g_nonsaturating(self.discriminator(fake)),
        }

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[attr-defined]

        self.toggle_optimizer(optimizer_g)
        output = self.network(batch.source, self.driver(batch), batch.mel)
        terms = self.terms(batch, output)
        loss = weighted(terms, self.weights)
        self.descend(loss, optimizer_g, list(self.network.parameters()), self.clip_gradient)
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        real, fake = batch.driving.flatten(0, 1), output.frames.detach().flatten(0, 1)
        judged = discriminator_terms(self.discriminator, real, fake, self.iteration, self.r1_weight, self.r1_every)
        self.descend(discriminator_loss(judged), optimizer_d, list(self.discriminator.parameters()))
        self.untoggle_optimizer(optimizer_d)

        ema.update(self.network_ema, self.network, self.ema_decay)
        shown = {name: term.detach() for name, term in (terms | judged).items()}
        self.log_terms("train", shown | {"total": loss.detach()}, prog_bar=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        output = self.network_ema(batch.source, self.driver(batch), batch.mel)
        fake, real = output.frames.flatten(0, 1), batch.driving.flatten(0, 1)
        copied = batch.source[:, None].expand_as(batch.driving).flatten(0, 1)
        elsewhere = (copied != real).flatten(1).any(1)  # the source frame itself may be among the driving frames
        count = int(elsewhere.sum())
        measures = {
            name: measure(frames, real).where(elsewhere, 0.0).sum() / max(1, count)
            for name, measure, frames in (
                ("psnr", psnr, fake),
                ("psnr_copy_source", psnr, copied),
                ("ssim", ssim, fake),
                ("ssim_copy_source", ssim, copied),
            )
        }
        self.log_terms("val", self.terms(batch, output), batch_size=len(fake), prog_bar=True)
        self.log_terms("val", measures, batch_size=count, prog_bar=True)

    def exports(self) -> dict[str, nn.Module]:
        return {"fctfg": self.network_ema, "discriminator": self.discriminator}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        batch = Batch(*(field[:8] for field in batch))
        driver = self.driver(batch)
        output = self.network_ema(batch.source, driver, batch.mel)
        canonical = self.network_ema.canonical_image(batch.source)
        rows = torch.stack([batch.source, driver[:, 0], output.frames[:, 0], batch.driving[:, 0]])
        return {"source_driver_result_target": rows, "source_canonical": torch.stack([batch.source, canonical])}

    def video(self, source: Tensor, driving: Tensor, mel: Tensor) -> Tensor:
        """Source, driver, result and canonical image side by side, in whole windows of 5 frames."""
        windows = len(driving) // 5
        driving, mel = (field[: windows * 5].unflatten(0, (windows, 5)) for field in (driving, mel))
        result = [self.network_ema(source[None], d[None], m[None]).frames[0] for d, m in zip(driving, mel, strict=True)]
        frames = driving.flatten(0, 1)
        canonical = self.network_ema.canonical_image(source[None])
        return torch.cat([source.expand_as(frames), frames, torch.cat(result), canonical.expand_as(frames)], dim=-1)

    def notes(self) -> list[str]:
        return [self.vgg.description]
