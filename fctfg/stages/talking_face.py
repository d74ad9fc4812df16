"""Stage 3: the whole network, end to end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fctfg.data.batch import Batch
from fctfg.data.datamodule import TalkingData
from fctfg.errors import FctfgError
from fctfg.losses.adversarial import AdversarialForm, g_adversarial
from fctfg.losses.identity import identity
from fctfg.losses.mixup import real_shares
from fctfg.losses.orthogonality import Form, orthogonality
from fctfg.losses.perceptual import perceptual
from fctfg.losses.reconstruction import reconstruction
from fctfg.losses.sync import sync
from fctfg.losses.weighted import LossWeights, weighted
from fctfg.metrics.psnr import psnr
from fctfg.metrics.ssim import ssim
from fctfg.models.audio_encoder import AudioEncoder
from fctfg.models.discriminator import Discriminator
from fctfg.models.experts.frozen import freeze
from fctfg.models.experts.syncnet import FRAMES, SyncNet
from fctfg.models.fctfg import FCTFG, FCTFGConfig, Latent, Output
from fctfg.models.hypernetwork import Hypernetwork
from fctfg.models.stylegan2 import Generator
from fctfg.models.video_discriminator import VideoDiscriminator, VideoDiscriminatorConfig
from fctfg.models.visual_encoder import VisualEncoder
from fctfg.ops.mouth import transplant_mouth
from fctfg.ops.windows import middle_frame
from fctfg.ranges import check_range
from fctfg.stages import ema
from fctfg.stages.adversarial import discriminator_gradients, r1_gradients, scores
from fctfg.stages.base import Stage, mean_terms, say
from fctfg.stages.landmark_measures import landmark_measures
from fctfg.stages.networks import Networks
from fctfg.stages.sync_gate import check_sync_expert
from fctfg.weights.artifact import build
from fctfg.weights.config_json import config_to_dict
from fctfg.weights.opening import perceptual_judge


@dataclass(frozen=True)
class TalkingFaceWeights(LossWeights):
    """Weights of the six terms; the defaults are the paper's.

    Attributes:
        orthogonality: of Eq. 3.
        sync: of Eq. 4.
        identity: of Eq. 5.
        reconstruction: of Eq. 6.
        perceptual: of Eq. 7.
        adversarial: of Eq. 8, the generator's side.
    """

    orthogonality: float = 1.0
    sync: float = 0.1
    identity: float = 0.5
    reconstruction: float = 1.0
    perceptual: float = 1.0
    adversarial: float = 0.1


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
        init_from: `generator`: a run of stage 1 (discriminator); `inversion`: a run of stage 2 (visual encoder, the
            generator that it inverts, and the hypernetwork when `networks.fctfg.hypernetwork` uses it); or, instead of
            these two, `talking_face`: a run of this stage or the weights of one, to go on with other data (a file
            without a discriminator gets a new one). `audio_encoder`: weights that a new audio encoder starts from, such
            as Wav2Lip's (`wav2lip`), as in the paper. `sync_expert`, `identity_expert`: runs of stage 0, or published
            ones; a sync expert must be as accurate as `networks.sync_accuracy` asks, unless its term has no weight.
        seed: the run's seed.
        learning_rate: of Adam, all networks (paper: 1e-4).
        generator_learning_rate: of the generator; None takes `learning_rate`. Its weights are of unit size (equalized
            learning rate), so that it bears larger steps than the encoders.
        discriminator_learning_rate: None takes `learning_rate`.
        warm_up: iterations at the start in which only the latent networks and the audio encoder learn, and the weights
            that come from stage 2 rest (not in the paper).
        weights: of the six terms; in training, one of weight 0 is not computed, and without the adversarial one the
            discriminator rests.
        orthogonality_form: "mean" or "sum" over the channels, or "cosine", the paper's ablation.
        borrow_audio: start the audio encoder as the sync expert's where their widths agree and `init_from` has no
            `audio_encoder`.
        r1_weight: gamma of R1 on the discriminator (not in the paper; see stage 1 for sizes below 256 px).
        r1_every: iterations between two R1 terms.
        adversarial_form: "nonsaturating", the paper's logistic loss, or "least_squares".
        mixup: a of Beta(a, a), the real share of mixed images that the discriminator judges in place of real and
            generated ones (mixup: 0.2; not in the paper); 0 switches it off.
        discriminator_form: "image", the paper's, or "video", its ablation: five frames are judged together; it starts
            as the mean of the image discriminator's judgements.
        ema_decay: of the average of the whole network (not in the paper).
    """

    stage = "talking_face"
    better: ClassVar[dict[str, Literal["min", "max"]]] = {
        "psnr": "max",
        "ssim": "max",
        "sync": "min",
        "identity": "min",
        "perceptual": "min",
        "lmd_mouth": "min",
        "pose_error": "min",
    }
    roles: ClassVar[tuple[str, ...]] = (
        "generator",
        "inversion",
        "talking_face",
        "audio_encoder",
        "sync_expert",
        "identity_expert",
    )

    def __init__(
        self,
        networks: Networks,
        init_from: dict[str, str] | None = None,
        seed: int = 0,
        learning_rate: float = 1e-4,
        generator_learning_rate: float | None = None,
        discriminator_learning_rate: float | None = None,
        warm_up: int = 0,
        weights: TalkingFaceWeights = TalkingFaceWeights(),
        orthogonality_form: Form = "mean",
        borrow_audio: bool = True,
        r1_weight: float = 10.0,
        r1_every: int = 16,
        adversarial_form: AdversarialForm = "nonsaturating",
        mixup: float = 0.0,
        discriminator_form: Literal["image", "video"] = "image",
        ema_decay: float = 0.999,
    ) -> None:
        super().__init__(networks, init_from, seed)
        check_range(0, learning_rate=learning_rate, generator_learning_rate=generator_learning_rate)
        check_range(0, discriminator_learning_rate=discriminator_learning_rate, r1_weight=r1_weight, warm_up=warm_up)
        check_range(0, mixup=mixup)
        check_range(0, 1, ema_decay=ema_decay)
        check_range(1, r1_every=r1_every)
        self.frozen = {"sync_expert": "sync_expert", "identity_expert": "identity_expert", "vgg": None}
        self.learning_rate = learning_rate
        self.generator_learning_rate, self.discriminator_learning_rate = (
            learning_rate if rate is None else rate for rate in (generator_learning_rate, discriminator_learning_rate)
        )
        self.weights, self.orthogonality_form = weights, orthogonality_form
        self.r1_weight, self.r1_every = r1_weight, r1_every
        self.adversarial_form, self.mixup, self.discriminator_form = adversarial_form, mixup, discriminator_form
        self.ema_decay, self.warm_up = ema_decay, warm_up

        whole = "talking_face" if "talking_face" in self.init_from else None
        if whole and (doubled := sorted({"audio_encoder", "generator", "inversion"} & set(self.init_from))):
            raise FctfgError(
                f"model.init_args.init_from: talking_face and {doubled[0]} both say where the networks come from; "
                f"name a run of stage 3, or runs of stages 1 and 2"
            )
        generator = self.take(whole or "inversion", "generator", Generator, networks.generator)
        self.discriminator = self._discriminator(whole or "generator")
        visual_encoder = self.take(whole or "inversion", "visual_encoder", VisualEncoder, networks.visual_encoder)
        config = networks.fctfg or FCTFGConfig.for_styles(generator.n_styles)
        config = replace(config, centered_mel=networks.centered_mel)
        hypernetwork: Hypernetwork | None = None
        if config.hypernetwork != "off":
            hypernetwork = self.take(whole or "inversion", "hypernetwork", Hypernetwork, networks.hypernetwork)
        sync_expert = self.take("sync_expert", "sync_expert", SyncNet, networks.sync_expert)
        if whole:
            audio_encoder = self.take(whole, "audio_encoder", AudioEncoder, networks.audio_encoder)
            latent = self.take(whole, "latent", Latent, config)
        else:
            audio_encoder = AudioEncoder(networks.audio_encoder)
            audio_encoder, latent = self.start_from("audio_encoder", "audio_encoder", audio_encoder), Latent(config)
            self.announce_new(latent=latent)
            if borrow_audio and "audio_encoder" not in self.init_from:
                borrowed = borrow_audio_layers(audio_encoder, sync_expert)
                say(f"audio_encoder: {borrowed} of {len(audio_encoder.state_dict())} tensors start as the expert's")
        self.network = FCTFG(config, generator, visual_encoder, audio_encoder, hypernetwork, latent)
        self.network_ema = ema.shadow(self.network)
        # once: a roll-back configures the optimisers again, when `requires_grad` of those that rest is False
        self._trained = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        own = "latent.", "audio_encoder."
        from_stage_2 = [p for name, p in self._trained.items() if not name.startswith(own)]
        self._resting = from_stage_2 if warm_up else []

        self.sync_expert = freeze(sync_expert)
        self.identity_expert = freeze(self.take_identity_expert())
        self.vgg = perceptual_judge(networks.perceptual)

    def _discriminator(self, role: str) -> Discriminator | VideoDiscriminator:
        """The discriminator that `role` holds. A new one where weights to go on from have none."""
        sizes = self.networks.discriminator
        video: VideoDiscriminator | None = None
        if self.discriminator_form == "video":
            config = VideoDiscriminatorConfig(**config_to_dict(sizes), frames=FRAMES)
            if self.holds(role, "video_discriminator"):
                return self.take(role, "video_discriminator", VideoDiscriminator, config)
            video = VideoDiscriminator(config)
        if role == "talking_face" and not self.holds(role, "discriminator"):
            new = video or Discriminator(sizes)
            self.announce_new(discriminator=new)
            return new
        image = self.take(role, "discriminator", Discriminator, sizes)
        if video is None:
            return image
        video.start_as(image)
        return video

    def shown(self, frames: Tensor) -> Tensor:
        """Frames [B, T, 3, H, W] as the discriminator sees them: images [B * T, 3, H, W], or windows as they are."""
        return frames if self.discriminator_form == "video" else frames.flatten(0, 1)

    def check_data(self, data: TalkingData) -> None:
        super().check_data(data)
        if data.frames != FRAMES:
            raise FctfgError(f"data.frames is {data.frames}, but the sync expert looks at {FRAMES}; set it to {FRAMES}")

    def check_start(self) -> None:
        if self.weights.sync:
            check_sync_expert(self._load("sync_expert"), self.init_from["sync_expert"], self.networks.sync_accuracy)
        if "talking_face" in self.init_from:
            return
        trained_with = build(self._load("generator"), "generator")
        assert isinstance(trained_with, Generator)
        if not torch.equal(trained_with.latent_avg, self.network.generator.latent_avg):
            raise FctfgError(
                f"the encoder of {self.init_from['inversion']} was trained for another generator than that of "
                f"{self.init_from['generator']}; name the run of stage 1 that stage 2 started from, or train stage 2 "
                f"again"
            )

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
        drawn = list(self.network.generator.parameters())
        others = [p for name, p in self._trained.items() if not name.startswith("generator.")]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": drawn, "lr": self.generator_learning_rate}]
        return [
            torch.optim.Adam(groups, lr=self.learning_rate, betas=(0.9, 0.999), fused=True),
            torch.optim.Adam(
                self.discriminator.parameters(), lr=self.discriminator_learning_rate, betas=(0.0, 0.99), fused=True
            ),
        ]

    def periods(self) -> dict[str, int]:
        return {"r1": self.r1_every} if self.weights.adversarial else {}

    def terms(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """The six terms of the generator's side (Eq. 3-8), each a scalar; in training, a judge whose term has no weight
        is not asked."""
        computed = self.weights.computed(self.training)
        fake, real = output.frames.flatten(0, 1), batch.driving.flatten(0, 1)
        terms = {
            "orthogonality": orthogonality(output.z_canonical, output.z_motion, self.orthogonality_form),
            "reconstruction": reconstruction(fake, real),
        }
        if "sync" in computed:
            spoken = batch.mel[:, middle_frame(self.network.config.centered_mel)]  # [B, 1, 80, 16]
            sound, mouth = self.sync_expert(spoken, self.sync_expert.mouths(output.frames, batch.points))
            terms["sync"] = sync(mouth, sound)
        if "identity" in computed:
            recogniser, points = self.identity_expert, batch.points.flatten(0, 1)
            with torch.no_grad():
                person = recogniser(recogniser.align(real, points))
            terms["identity"] = identity(recogniser(recogniser.align(fake, points)), person)
        if "perceptual" in computed:
            with torch.no_grad():
                real_features = self.vgg(real)
            terms["perceptual"] = perceptual(self.vgg(fake), real_features)
        if "adversarial" in computed:
            terms["adversarial"] = g_adversarial(self.discriminator(self.shown(output.frames)), self.adversarial_form)
        return terms

    def _network_part(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of the whole network; returns its terms and `total`, and the generated frames without graph."""
        draws = self.draws("network", len(batch.source))
        output = self.network(batch.source, self.driver(batch), batch.mel, draws)
        terms = self.terms(batch, output)
        total = weighted(terms, self.weights)
        self.accumulate(total, last=True)
        return {name: term.detach() for name, term in (terms | {"total": total}).items()}, output.frames.detach()

    def _discriminator_part(self, batch: Batch, frames: Tensor) -> dict[str, Tensor]:
        """Gradients of the discriminator on generated frames; returns what to watch."""
        real, fake, judge = self.shown(batch.driving), self.shown(frames), self.discriminator
        watched = {}
        if self.iteration % self.r1_every == 0:
            watched = r1_gradients(judge, real, self.r1_weight, self.r1_every, self.accumulate)
        draws = self.draws("mixup", len(batch.source)).repeat(len(real) // len(batch.source))
        shares = real_shares(self.mixup, draws) if self.mixup else None
        return watched | discriminator_gradients(judge, real, fake, self.accumulate, self.adversarial_form, shares)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[attr-defined]

        for parameter in self._resting:
            parameter.requires_grad_(self.iteration >= self.warm_up)
        self.toggle_optimizer(optimizer_g)
        optimizer_g.zero_grad(set_to_none=True)
        trained = [self._network_part(part) for part in self.parts(batch)]
        terms = mean_terms([terms for terms, _ in trained])
        optimizer_g.step()
        self.untoggle_optimizer(optimizer_g)

        judged: dict[str, Tensor] = {}
        if self.weights.adversarial:
            self.toggle_optimizer(optimizer_d)
            optimizer_d.zero_grad(set_to_none=True)
            shown = zip(self.parts(batch), trained, strict=True)
            judged = mean_terms([self._discriminator_part(part, frames) for part, (_, frames) in shown])
            optimizer_d.step()
            self.untoggle_optimizer(optimizer_d)

        ema.update(self.network_ema, self.network, self.ema_decay, optimizer_g.found_inf)
        self.log_terms("train", terms | judged, prog_bar=True)

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
        terms = self.terms(batch, output)
        if self.weights.adversarial:
            terms |= scores(self.discriminator, self.shown(batch.driving), self.shown(output.frames))
        self.log_terms("val", terms, batch_size=len(fake), prog_bar=True)
        self.log_terms("val", measures, batch_size=count, prog_bar=True)
        moments = elsewhere.view(batch.driving.shape[:2])[:, FRAMES // 2].nonzero()[:, 0]
        fake, real, points = (field[moments, FRAMES // 2] for field in (output.frames, batch.driving, batch.points))
        self.log_terms("val", landmark_measures(fake, real, points), batch_size=len(moments), prog_bar=True)

    def exports(self) -> dict[str, nn.Module]:
        judge = "discriminator" if self.discriminator_form == "image" else "video_discriminator"
        return {"fctfg": self.network_ema, judge: self.discriminator}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        batch = Batch(*(field[:8] for field in batch))
        driver = self.driver(batch)
        output = self.network_ema(batch.source, driver, batch.mel)
        canonical = self.network_ema.canonical_image(batch.source)
        rows = torch.stack([batch.source, driver[:, 0], output.frames[:, 0], batch.driving[:, 0]])
        return {"source_driver_result_target": rows, "source_canonical": torch.stack([batch.source, canonical])}

    def video(self, source: Tensor, driving: Tensor, mel: Tensor) -> Tensor:
        """Source, driver, result and canonical image side by side, in whole windows of 5 frames."""
        windows = len(driving) // FRAMES
        driving, mel = (field[: windows * FRAMES].unflatten(0, (windows, FRAMES)) for field in (driving, mel))
        result = [self.network_ema(source[None], d[None], m[None]).frames[0] for d, m in zip(driving, mel, strict=True)]
        frames = driving.flatten(0, 1)
        canonical = self.network_ema.canonical_image(source[None])
        return torch.cat([source.expand_as(frames), frames, torch.cat(result), canonical.expand_as(frames)], dim=-1)

    def notes(self) -> list[str]:
        return [self.vgg.description]
