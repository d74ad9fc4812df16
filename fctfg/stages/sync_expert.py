"""Stage 0: the lip-sync expert."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from fctfg.data.batch import Batch
from fctfg.losses.contrastive import contrastive
from fctfg.metrics.sync_accuracy import two_way_accuracy
from fctfg.models.experts.syncnet import SyncNet
from fctfg.stages.base import Stage
from fctfg.stages.networks import Networks


class SyncExpert(Stage):
    """Trains SyncNet to find the sound that belongs to five frames of a mouth.

    The negatives are the sounds of the other clips of the batch and windows of the same clip 5-15 frames away
    (`data.shifted` of them per sample). Logged beside their chance lines: the loss of a guess, and the two-way accuracy
    (the true window against one shifted window, on held-out identities; chance 0.5).

    Args:
        networks: sizes; this stage builds `sync_expert`.
        init_from: nothing is taken over.
        seed: the run's seed.
        learning_rate: of Adam (Wav2Lip: 1e-4).
        temperature: of the contrastive loss.
    """

    stage = "sync_expert"
    roles: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        networks: Networks,
        init_from: dict[str, str] | None = None,
        seed: int = 0,
        learning_rate: float = 1e-4,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(networks, init_from, seed)
        self.learning_rate = learning_rate
        self.temperature = temperature
        self.sync_expert = SyncNet(networks.sync_expert)
        self.announce_new(sync_expert=self.sync_expert)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.sync_expert.parameters(), lr=self.learning_rate, fused=True)

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Face [B, D], its sound [B, D], shifted sounds [B, K, D]."""
        faces = self.sync_expert.mouths(batch.driving, batch.points)
        sounds = torch.cat([batch.mel[:, :1], batch.mel_shifted], dim=1)  # [B, 1 + K, 1, 80, 16]
        face = self.sync_expert.embed_faces(faces)
        sound = self.sync_expert.embed_audio(sounds.flatten(0, 1)).unflatten(0, sounds.shape[:2])
        return face, sound[:, 0], sound[:, 1:]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        face, sound, shifted = self._embed(batch)
        loss = contrastive(face, sound, shifted, self.temperature)
        candidates = len(face) + shifted.shape[1]
        self.log_terms("train", {"contrastive": loss.detach(), "chance": math.log(candidates)}, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        face, sound, shifted = self._embed(batch)
        right = (face * sound).sum(1)
        wrong = (face * shifted[:, 0]).sum(1)
        self.log_terms(
            "val",
            {
                "contrastive": contrastive(face, sound, shifted, self.temperature),
                "accuracy": two_way_accuracy(right, wrong),
                "accuracy_chance": 0.5,
            },
            batch_size=len(face),
            prog_bar=True,
        )

    def exports(self) -> dict[str, nn.Module]:
        return {"sync_expert": self.sync_expert}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        mouths = self.sync_expert.mouths(batch.driving, batch.points)  # [B, 15, H/2, W] BGR in [0, 1]
        frames = mouths.unflatten(1, (batch.driving.shape[1], 3)).flip(2)
        return {"mouths": frames[:4] * 2 - 1}
