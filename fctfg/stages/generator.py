"""Stage 1: StyleGAN2 on the faces of the training clips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from fctfg.data.batch import Batch
from fctfg.data.datamodule import TalkingData
from fctfg.errors import FctfgError
from fctfg.losses.adversarial import AdversarialForm, g_adversarial, path_length_penalty
from fctfg.losses.mixup import real_shares
from fctfg.models.discriminator import Discriminator
from fctfg.models.stylegan2 import Generator
from fctfg.ops.draws import Draws
from fctfg.randomness import derive_seed
from fctfg.ranges import check_range
from fctfg.stages import ema
from fctfg.stages.adaptive_strength import AdaptiveAugmentation, AdaptiveStrength
from fctfg.stages.adversarial import discriminator_gradients, r1_gradients, scores
from fctfg.stages.base import Stage, mean_terms
from fctfg.stages.finite import update_where_finite
from fctfg.stages.networks import Networks


class GeneratorStage(Stage):
    """Trains the StyleGAN2 generator and discriminator on single frames (Karras et al. 2020).

    Both regularisers are folded into their losses on their own iterations and scaled by the period, so learning rate
    and betas stay as they are, without StyleGAN2's lazy-regularisation correction.

    Args:
        networks: sizes; this stage builds `generator` and `discriminator`.
        init_from: `generator`: weights to start from, an imported StyleGAN2 or a run of this stage; none starts anew.
            A file without a discriminator gets a new one.
        seed: the run's seed.
        learning_rate: of Adam (0, 0.99), both networks (StyleGAN2: 2e-3).
        r1_weight: gamma of R1 (StyleGAN2: 10 at 1024 px). It should shrink with the picture: StyleGAN2-ADA takes
            0.0002 * pixels / batch, which is 0.05 for 16 pictures of 64 px.
        r1_every: iterations between two R1 terms.
        path_length_weight: weight of the path-length term; 0 switches it off.
        path_length_every: iterations between two path-length terms.
        path_length_shrink: the path-length term uses batch / this many images.
        path_length_decay: of the running mean of the path length.
        style_mixing: probability that an image is made from two latents.
        ema_half_life: of the generator's average, in thousands of images (StyleGAN2: 10).
        adversarial_form: "nonsaturating", StyleGAN2's logistic loss, or "least_squares".
        mixup: a of Beta(a, a), the real share of mixed images that the discriminator judges in place of real and
            generated ones (mixup: 0.2); 0 switches it off.
        augmentation: adaptive augmentation of what the discriminator sees (StyleGAN2-ADA), for few images; None, the
            default, has none: with many images it changes little (140,000 faces there) and costs time.
        latent_avg_samples: mapped latents that `latent_avg` is the mean of, at export.
    """

    stage = "generator"
    roles: ClassVar[tuple[str, ...]] = ("generator",)
    trains_on_source: ClassVar[bool] = True
    mean_path_length: Tensor

    def __init__(
        self,
        networks: Networks,
        init_from: dict[str, str] | None = None,
        seed: int = 0,
        learning_rate: float = 2e-3,
        r1_weight: float = 10.0,
        r1_every: int = 16,
        path_length_weight: float = 2.0,
        path_length_every: int = 4,
        path_length_shrink: int = 2,
        path_length_decay: float = 0.01,
        style_mixing: float = 0.9,
        ema_half_life: float = 10.0,
        adversarial_form: AdversarialForm = "nonsaturating",
        mixup: float = 0.0,
        augmentation: AdaptiveAugmentation | None = None,
        latent_avg_samples: int = 100_000,
    ) -> None:
        super().__init__(networks, init_from, seed)
        check_range(0, learning_rate=learning_rate, r1_weight=r1_weight, path_length_weight=path_length_weight)
        check_range(0, mixup=mixup)
        check_range(0, 1, path_length_decay=path_length_decay, style_mixing=style_mixing)
        check_range(1, r1_every=r1_every, path_length_every=path_length_every, path_length_shrink=path_length_shrink)
        check_range(1, latent_avg_samples=latent_avg_samples)
        check_range(1e-3, ema_half_life=ema_half_life)
        self.learning_rate = learning_rate
        self.r1_weight, self.r1_every = r1_weight, r1_every
        self.path_length_weight, self.path_length_every = path_length_weight, path_length_every
        self.path_length_shrink, self.path_length_decay = path_length_shrink, path_length_decay
        self.style_mixing, self.ema_half_life = style_mixing, ema_half_life
        self.adversarial_form, self.mixup = adversarial_form, mixup
        self.latent_avg_samples = latent_avg_samples
        self.generator, self.discriminator = Generator(networks.generator), Discriminator(networks.discriminator)
        warm = "generator" in self.init_from
        if warm:
            self.start_from("generator", "generator", self.generator)
        else:
            self.announce_new(generator=self.generator)
        self.generator_ema = ema.shadow(self.generator)
        if warm and self.holds("generator", "generator_raw"):  # the average that was taken is not what was trained
            self.start_from("generator", "generator_raw", self.generator)
        if warm and self.holds("generator", "discriminator"):
            self.start_from("generator", "discriminator", self.discriminator)
        else:
            self.announce_new(discriminator=self.discriminator)
        self.register_buffer("mean_path_length", torch.zeros(()))
        if augmentation is not None and mixup:
            raise FctfgError(
                "model.init_args.mixup and augmentation are both on, but the augmentation follows what the "
                "discriminator says of real images, and with mixup it sees none; switch one of them off"
            )
        self.augment = None if augmentation is None else AdaptiveStrength(augmentation)

    def check_data(self, data: TalkingData) -> None:
        super().check_data(data)
        if data.augment:
            raise FctfgError(
                "data.augment is on, but stage 1 would learn to draw what it does to the pictures; set it to false"
            )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=(0.0, 0.99), fused=True)
            for network in (self.generator, self.discriminator)
        ]

    def periods(self) -> dict[str, int]:
        path_length = {"path_length": self.path_length_every} if self.path_length_weight else {}
        return {"r1": self.r1_every, **path_length}

    def styles(self, draws: Draws) -> Tensor:
        """W+ codes [N, L, D] of random latents, a share of them mixed from two at a random layer."""
        z = draws.normal("z", 2, self.generator.config.style_dim).to(self.dtype)
        w = self.generator.mapping(z.flatten(0, 1)).unflatten(0, (-1, 2, 1))  # [N, 2, 1, D]
        layers = self.generator.n_styles
        mixed = draws.uniform("mixed") < self.style_mixing
        crossover = 1 + (draws.uniform("crossover") * (layers - 1)).long()
        crossover = torch.where(mixed, crossover, layers)
        second = torch.arange(layers, device=self.device)[None, :] >= crossover[:, None]  # [N, L]
        return torch.where(second[..., None], w[:, 1], w[:, 0])

    def _real(self, batch: Batch) -> Tensor:
        """Source and first driving frame of each sample, [2 B, 3, H, W].

        A sample's two pictures follow each other, which brings them into different groups of the minibatch statistics
        where the group's size divides the batch's.
        """
        return torch.stack([batch.source, batch.driving[:, 0]], dim=1).flatten(0, 1)

    def _images(self, batch: Batch) -> Tensor:
        """As many generated images as there are real ones."""
        draws = self.draws("generator", len(batch.source)).repeat(2)
        return self.generator(self.styles(draws), noise=draws)

    def _path_length_part(self, batch: Batch) -> dict[str, Tensor]:
        """Gradients of the lazy path-length term; returns what to watch."""
        draws = self.draws("path_length", max(1, 2 * len(batch.source) // self.path_length_shrink))
        with torch.autocast(self.device.type, enabled=False), torch.compiler.set_stance("force_eager"):
            codes = self.styles(draws)
            images = self.generator(codes, noise=draws)
        noise = draws.normal("path_length", *images.shape[1:])
        penalty, mean = path_length_penalty(images, codes, self.mean_path_length, self.path_length_decay, noise)
        self.accumulate(penalty * (self.path_length_weight * self.path_length_every), last=False)
        return {"path_length": penalty, "mean_path_length": mean}

    def _discriminator_part(self, batch: Batch, images: Tensor | None) -> dict[str, Tensor]:
        """Gradients of the discriminator; returns what to watch."""
        if images is None:
            with torch.no_grad():
                images = self._images(batch)
        draws = self.draws("mixup", len(batch.source)).repeat(2)
        shares = real_shares(self.mixup, draws) if self.mixup else None
        real, fake = self.shown(self._real(batch), "real"), self.shown(images.detach(), "fake")
        return discriminator_gradients(self.discriminator, real, fake, self.accumulate, self.adversarial_form, shares)

    def _generator_part(self, batch: Batch, images: Tensor | None) -> dict[str, Tensor]:
        """Gradients of the generator; returns what to watch."""
        shown = self.shown(self._images(batch) if images is None else images, "generated")
        loss = g_adversarial(self.discriminator(shown), self.adversarial_form)
        self.accumulate(loss, last=True)
        return {"adversarial": loss}

    def shown(self, images: Tensor, purpose: str) -> Tensor:
        """Images [2 B, 3, H, W] as the discriminator sees them in training, two for each sample."""
        if self.augment is None:
            return images
        return self.augment(images, self.draws(f"augment_{purpose}", len(images) // 2).repeat(2))

    def _judge_for_r1(self, images: Tensor) -> Tensor:
        return self.discriminator(self.shown(images, "r1"))

    @contextmanager
    def _phase(self, optimizer: LightningOptimizer) -> Iterator[None]:
        """Within it, only the parameters of this optimiser get gradients."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """An iteration: the lazy terms, then both networks on the same generated images.

        The discriminator's step leaves the generator as it is, so one forward pass of the generator serves both. Of a
        batch in parts it is done again, since the graph of one part only is kept.
        """
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[attr-defined]
        terms: dict[str, Tensor] = {}
        optimizer_d.zero_grad(set_to_none=True)
        optimizer_g.zero_grad(set_to_none=True)
        if self.iteration % self.r1_every == 0:
            with self._phase(optimizer_d):
                r1 = [
                    r1_gradients(self._judge_for_r1, self._real(part), self.r1_weight, self.r1_every, self.accumulate)
                    for part in self.parts(batch)
                ]
                terms |= mean_terms(r1)
        with self._phase(optimizer_g):
            if self.path_length_weight and self.iteration % self.path_length_every == 0:
                terms |= mean_terms([self._path_length_part(part) for part in self.parts(batch)])
            images = self._images(batch) if self.batches == 1 else None
        with self._phase(optimizer_d):
            terms |= mean_terms([self._discriminator_part(part, images) for part in self.parts(batch)])
            optimizer_d.step()
        with self._phase(optimizer_g):
            terms |= mean_terms([self._generator_part(part, images) for part in self.parts(batch)])
            optimizer_g.step()

        skipped = optimizer_g.found_inf
        if "mean_path_length" in terms:
            update_where_finite(self.mean_path_length, terms["mean_path_length"], skipped)
        count = 2 * len(batch.source) * self.trainer.world_size
        if self.augment is not None:  # after the generator's phase, which sees what D's saw
            sign = self.trainer.strategy.reduce(terms["real_sign"], reduce_op="mean")
            self.augment.follow(sign, count, self.iteration, optimizer_d.found_inf)
            terms["augment_strength"] = self.augment.strength.clone()
        ema.update(self.generator_ema, self.generator, 0.5 ** (count / (self.ema_half_life * 1000)), skipped)
        self.log_terms("train", terms, prog_bar=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The discriminator on held-out faces and on those of the averaged generator."""
        first = batch_idx * len(batch.source)
        rows = torch.arange(first, first + len(batch.source), device=self.device)
        draws = Draws.of_rows(derive_seed("validation"), rows * self.trainer.world_size + self.global_rank)
        z = draws.normal("z", self.generator.config.style_dim).to(self.dtype)
        fake = self.generator_ema(self._repeat(self.generator_ema.mapping(z)))
        terms = scores(self.discriminator, batch.source, fake)
        self.log_terms("val", terms, batch_size=len(z), prog_bar=True)

    def _repeat(self, w: Tensor) -> Tensor:
        return w[:, None].expand(-1, self.generator.n_styles, -1)

    def exports(self) -> dict[str, nn.Module]:
        self.generator_ema.update_latent_avg(self.latent_avg_samples, seed=self.seed)
        return {"generator": self.generator_ema, "generator_raw": self.generator, "discriminator": self.discriminator}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        draw = torch.Generator(self.device).manual_seed(0)
        z = torch.randn(32, self.generator.config.style_dim, generator=draw, device=self.device).to(self.dtype)
        w = self.generator_ema.mapping(z)
        mean = w.mean(0, keepdim=True)
        truncated = mean + 0.7 * (w - mean)
        return {"samples_truncated_0.7": self.generator_ema(self._repeat(truncated)).unflatten(0, (4, 8))}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The augmentation may be switched on in a run, and starts at strength 0 then, or off, which forgets it."""
        super().on_load_checkpoint(checkpoint)
        kept = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith("augment.")}
        own = {k: checkpoint["state_dict"].get(k, v) for k, v in self.state_dict().items() if k.startswith("augment.")}
        checkpoint["state_dict"] = kept | own
