"""Stage 0: the identity expert, for where no published recogniser can be had."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fctfg.data.batch import Batch
from fctfg.data.datamodule import TalkingData
from fctfg.losses.arcface_margin import arcface_margin, class_cosines
from fctfg.models.experts.arcface import ArcFace
from fctfg.ops.draws import Draws
from fctfg.ops.processes import gather
from fctfg.ranges import check_range
from fctfg.stages.networks import Networks
from fctfg.stages.one_optimizer import OneOptimizer


class IdentityExpert(OneOptimizer):
    """Trains IR-SE50 with the ArcFace loss on the training identities.

    Validation is on identities that training has not seen: cosine of two frames of one clip (`val/same`) against that
    of frames of different identities (`val/different`), and how often the former is the larger (`val/accuracy`, chance
    0.5).

    Args:
        networks: sizes; this stage builds `identity_expert`.
        init_from: `identity_expert`: weights to start from, such as `ir-se50`; none starts anew.
        seed: the run's seed.
        learning_rate: of Adam.
        margin: additive angular margin in radians (ArcFace: 0.5).
        scale: of the logits (ArcFace: 64; fewer identities want less).
    """

    stage = "identity_expert"
    follows_data = False  # one class center per training identity
    better: ClassVar[dict[str, Literal["min", "max"]]] = {"accuracy": "max"}
    roles: ClassVar[tuple[str, ...]] = ("identity_expert",)
    trains_on_source: ClassVar[bool] = True

    def __init__(
        self,
        networks: Networks,
        init_from: dict[str, str] | None = None,
        seed: int = 0,
        learning_rate: float = 1e-3,
        margin: float = 0.5,
        scale: float = 64.0,
    ) -> None:
        super().__init__(networks, init_from, seed)
        check_range(0, learning_rate=learning_rate, margin=margin, scale=scale)
        self.learning_rate, self.margin, self.scale = learning_rate, margin, scale
        self.identity_expert = self.start_from("identity_expert", "identity_expert", ArcFace(networks.identity_expert))

    def _data(self) -> TalkingData:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TalkingData)
        return data

    def check_data(self, data: TalkingData) -> None:
        """Any size will do, since faces are aligned."""

    def configure_model(self) -> None:
        if not hasattr(self, "centers"):  # the number of classes is known once the data are
            draw = torch.Generator().manual_seed(self.seed)
            self.centers = nn.Parameter(
                torch.randn(len(self._data().train.identities), self.networks.identity_expert.dim, generator=draw)
                * 0.01
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, weight_decay=5e-4, fused=True)

    def _embed(self, images: Tensor, points: Tensor, draws: Draws | None = None) -> Tensor:
        return self.identity_expert(self.identity_expert.align(images, points), draws)

    def train_part(self, batch: Batch) -> dict[str, Tensor]:
        images = torch.stack([batch.source, batch.driving[:, 0]], dim=1).flatten(0, 1)
        points = torch.stack([batch.source_points, batch.points[:, 0]], dim=1).flatten(0, 1)
        draws = self.draws("faces", len(batch.source)).repeat(2)
        cosine = class_cosines(self._embed(images, points, draws), self.centers)
        labels = batch.identity.repeat_interleave(2)
        loss = arcface_margin(cosine, labels, self.margin, self.scale)
        self.accumulate(loss, last=True)
        return {"arcface": loss, "accuracy": (cosine.argmax(1) == labels).float().mean()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        a = self._embed(batch.source, batch.source_points)
        b = self._embed(batch.driving[:, 0], batch.points[:, 0])
        a, b, identity = gather(a), gather(b), gather(batch.identity)
        cosine = class_cosines(a, b)
        same = identity[:, None] == identity[None, :]
        self.log_terms("val", {"same": cosine.diagonal().mean()}, batch_size=len(a), prog_bar=True)
        if len(self._data().val.identities) > 1:  # known to all ranks alike, whoever is in this batch
            different = cosine[~same]
            larger = (cosine.diagonal()[:, None] > different[None, :]).float()
            pairs = max(1, len(different))
            terms = {"different": different.sum() / pairs, "accuracy": larger.sum() / (pairs * len(a))}
            self.log_terms("val", terms, batch_size=len(different), prog_bar=True)

    def exports(self) -> dict[str, nn.Module]:
        return {"identity_expert": self.identity_expert}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        source = self.identity_expert.align(batch.source, batch.source_points)
        driving = self.identity_expert.align(batch.driving[:, 0], batch.points[:, 0])
        return {"aligned": torch.stack([source, driving])[:, :8]}
