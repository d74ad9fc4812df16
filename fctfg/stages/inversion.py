"""Stage 2: inversion of the generator, first the pSp encoder, then HyperStyle's hypernetwork."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fctfg.data.batch import Batch
from fctfg.errors import FctfgError
from fctfg.losses.identity import identity
from fctfg.losses.reconstruction import squared_error
from fctfg.losses.weighted import LossWeights, weighted
from fctfg.metrics.psnr import psnr
from fctfg.models.experts.arcface import ArcFace
from fctfg.models.experts.frozen import freeze
from fctfg.models.hypernetwork import Deltas, Hypernetwork, add_deltas, refine
from fctfg.models.stylegan2 import Generator
from fctfg.models.visual_encoder import VisualEncoder
from fctfg.ranges import check_range
from fctfg.stages.base import say
from fctfg.stages.networks import Networks
from fctfg.stages.one_optimizer import OneOptimizer
from fctfg.stages.ranger import Ranger
from fctfg.weights.opening import lpips_judge


@dataclass(frozen=True)
class InversionWeights(LossWeights):
    """Weights of the terms of an inversion; the defaults are pSp's and HyperStyle's.

    Attributes:
        l2: of the squared difference.
        lpips: of the LPIPS distance.
        identity: of the recogniser's distance.
    """

    l2: float = 1.0
    lpips: float = 0.8
    identity: float = 0.1


class Inversion(OneOptimizer):
    """What both steps of the inversion share: the generator and the judges, the terms, the pictures.

    Args:
        networks: sizes.
        init_from: `identity_expert`: a recogniser (a run of stage 0, `ir-se50`, or an ArcFace `.onnx`); and what the
            subclass says.
        seed: the run's seed.
        learning_rate: of Ranger (pSp, HyperStyle: 1e-4).
        weights: of the terms; in training, one of weight 0 is not computed.
        origin: role that the generator comes from.
        train_generator: whether the generator is not frozen.
    """

    better: ClassVar[dict[str, Literal["min", "max"]]] = {"psnr": "max", "lpips": "min"}
    trains_on_source: ClassVar[bool] = True

    def __init__(
        self,
        networks: Networks,
        init_from: dict[str, str] | None = None,
        seed: int = 0,
        learning_rate: float = 1e-4,
        weights: InversionWeights = InversionWeights(),
        origin: str = "inversion",
        train_generator: bool = False,
    ) -> None:
        super().__init__(networks, init_from, seed)
        check_range(0, learning_rate=learning_rate)
        self.learning_rate = learning_rate
        self.weights = weights
        generator = self.take(origin, "generator", Generator, networks.generator)
        generator.style.requires_grad_(False)  # an inversion starts from w
        self.generator = generator if train_generator else freeze(generator)
        self.identity_expert = freeze(self.take_identity_expert())
        self.lpips = lpips_judge(networks.lpips, networks.perceptual.width)
        self.frozen = {"identity_expert": "identity_expert", "lpips": None}
        if not train_generator:
            self.frozen["generator"] = origin

    def _images(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Every frame of the batch, [N, 3, H, W], and its points."""
        images = torch.cat([batch.source[:, None], batch.driving], dim=1).flatten(0, 1)
        points = torch.cat([batch.source_points[:, None], batch.points], dim=1).flatten(0, 1)
        return images, points

    def terms(self, images: Tensor, points: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """The loss terms of an inversion, each a scalar; in training those that have a weight, and always `l2`."""
        computed = self.weights.computed(self.training)
        terms = {"l2": squared_error(reconstruction, images)}
        if "lpips" in computed:
            terms["lpips"] = self.lpips(reconstruction, images)
        if "identity" in computed:
            expert = self.identity_expert
            with torch.no_grad():
                target = expert(expert.align(images, points))
            terms["identity"] = identity(expert(expert.align(reconstruction, points)), target)
        return terms

    @abstractmethod
    def invert(self, images: Tensor) -> Tensor:
        """Reconstruction of images [N, 3, H, W]."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, points = self._images(batch)
        reconstruction = self.invert(images)
        terms = self.terms(images, points, reconstruction) | {"psnr": psnr(reconstruction, images).mean()}
        self.log_terms("val", terms, batch_size=len(images), prog_bar=True)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        images = batch.source[:8]
        return {"inversion": torch.stack([images, self.invert(images)])}

    def notes(self) -> list[str]:
        return [self.lpips.description]


class EncoderStage(Inversion):
    """Trains the pSp encoder to invert the generator (Richardson et al. 2021).

    A new encoder's body starts from the identity expert's when their sizes agree, as pSp's starts from ArcFace's.

    Args:
        networks: sizes.
        init_from: `generator`: a run of stage 1; or, instead, `inversion`: a run of this stage, whose encoder and
            generator are trained further. `identity_expert`: a recogniser.
        seed: the run's seed.
        learning_rate: of Ranger (pSp: 1e-4).
        generator_learning_rate: of the generator, where it is to be trained together with the encoder; None keeps it
            frozen, as pSp does (not in the paper, which trains both in stage 3 only).
        weights: of the terms; in training, one of weight 0 is not computed.
    """

    stage = "encoder"
    roles: ClassVar[tuple[str, ...]] = ("generator", "inversion", "identity_expert")

    def __init__(
        self,
        networks: Networks,
        init_from: dict[str, str] | None = None,
        seed: int = 0,
        learning_rate: float = 1e-4,
        generator_learning_rate: float | None = None,
        weights: InversionWeights = InversionWeights(),
    ) -> None:
        check_range(0, generator_learning_rate=generator_learning_rate)
        goes_on = "inversion" in (init_from or {})
        if goes_on and "generator" in (init_from or {}):
            raise FctfgError(
                "model.init_args.init_from: generator and inversion both say where the generator comes from; name a "
                "run of stage 1, or an encoder's run"
            )
        origin, train_generator = "inversion" if goes_on else "generator", generator_learning_rate is not None
        super().__init__(networks, init_from, seed, learning_rate, weights, origin, train_generator)
        self.generator_learning_rate = generator_learning_rate
        if goes_on:
            self.visual_encoder = self.take("inversion", "visual_encoder", VisualEncoder, networks.visual_encoder)
            return
        self.visual_encoder = VisualEncoder(networks.visual_encoder)
        self.visual_encoder.set_latent_avg(self.generator.latent_avg)
        self.announce_new(visual_encoder=self.visual_encoder)
        expert = self.identity_expert
        if isinstance(expert, ArcFace) and networks.visual_encoder.body == expert.config.body:
            self.visual_encoder.input_layer.load_state_dict(expert.input_layer.state_dict())
            self.visual_encoder.body.load_state_dict(expert.body.state_dict())
            say("visual_encoder: its body starts as the identity expert's")
        else:
            say("visual_encoder: its body starts untrained (the identity expert has another one)")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [{"params": list(self.visual_encoder.parameters())}]
        if self.generator_learning_rate is not None:
            drawn = [p for p in self.generator.parameters() if p.requires_grad]
            groups.append({"params": drawn, "lr": self.generator_learning_rate})
        return Ranger(groups, self.learning_rate)

    def invert(self, images: Tensor) -> Tensor:
        return self.generator(self.visual_encoder(images))

    def train_part(self, batch: Batch) -> dict[str, Tensor]:
        images, points = self._images(batch)
        terms = self.terms(images, points, self.invert(images))
        self.accumulate(weighted(terms, self.weights), last=True)
        return terms

    def exports(self) -> dict[str, nn.Module]:
        return {"visual_encoder": self.visual_encoder, "generator": self.generator}


class HypernetworkStage(Inversion):
    """Trains the hypernetwork to refine the generator's weights for each image (Alaluf et al. 2022).

    Encoder and generator are frozen. The offsets add up over the refinement iterations; each has its own gradient, and
    one optimiser step follows the last.

    Args:
        networks: sizes; this stage builds `hypernetwork`.
        init_from: `inversion`: the encoder's run (encoder and generator); `identity_expert`: a recogniser.
        seed: the run's seed.
        learning_rate: of Ranger.
        weights: of the terms.
        refinements: iterations per image (HyperStyle: 5).
    """

    stage = "hypernetwork"
    roles: ClassVar[tuple[str, ...]] = ("inversion", "identity_expert")

    def __init__(
        self,
        networks: Networks,
        init_from: dict[str, str] | None = None,
        seed: int = 0,
        learning_rate: float = 1e-4,
        weights: InversionWeights = InversionWeights(),
        refinements: int = 5,
    ) -> None:
        check_range(1, refinements=refinements)
        super().__init__(networks, init_from, seed, learning_rate, weights)
        self.frozen["visual_encoder"] = "inversion"
        self.refinements = refinements
        encoder = self.take("inversion", "visual_encoder", VisualEncoder, networks.visual_encoder)
        self.visual_encoder = freeze(encoder)
        self.hypernetwork = Hypernetwork(networks.hypernetwork)
        self.announce_new(hypernetwork=self.hypernetwork)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return Ranger(self.hypernetwork.parameters(), self.learning_rate)

    def invert(self, images: Tensor) -> Tensor:
        codes = self.visual_encoder(images)
        return self.generator(codes, deltas=refine(self.hypernetwork, self.generator, images, codes, self.refinements))

    def train_part(self, batch: Batch) -> dict[str, Tensor]:
        images, points = self._images(batch)
        with torch.no_grad():
            codes = self.visual_encoder(images)
            reconstruction = self.generator(codes)
        deltas: Deltas | None = None
        terms: dict[str, Tensor] = {}
        for refinement in range(self.refinements):
            deltas = add_deltas(deltas, self.hypernetwork(images, reconstruction))
            reconstruction = self.generator(codes, deltas=deltas)
            terms = self.terms(images, points, reconstruction)
            self.accumulate(weighted(terms, self.weights), last=refinement == self.refinements - 1)
            reconstruction = reconstruction.detach()
            deltas = [None if delta is None else delta.detach() for delta in deltas]
        return terms

    def exports(self) -> dict[str, nn.Module]:
        return {
            "hypernetwork": self.hypernetwork,
            "visual_encoder": self.visual_encoder,
            "generator": self.generator,
        }
