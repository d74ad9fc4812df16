"""Stage 0: the lip-sync expert."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fctfg.data.batch import Batch
from fctfg.data.datamodule import TalkingData
from fctfg.errors import FctfgError
from fctfg.losses.contrastive import contrastive
from fctfg.metrics.sync_accuracy import sync_accuracy
from fctfg.models.experts.syncnet import FRAMES, SyncNet
from fctfg.ops.draws import Draws
from fctfg.ops.processes import gather
from fctfg.ops.windows import middle_frame
from fctfg.ranges import check_range
from fctfg.stages.networks import Networks
from fctfg.stages.one_optimizer import OneOptimizer
from fctfg.weights.sync_measurement import CARD_KEY, SyncMeasurement


def vary(batch: Batch, draws: Draws) -> Batch:
    """The batch seen and heard a little differently, each sample alike over its frames and windows.

    The points move by a similarity (turn up to 10 degrees, size and place up to 10 % of the face), which moves the
    aligned mouths; colours change by up to 25 % in contrast and 0.15 in level per channel; the sound by up to 5 dB.

    Args:
        batch: of B samples.
        draws: of each sample.
    """

    def uniform(purpose: str, *shape: int, limit: float) -> Tensor:
        return (draws.uniform(purpose, *shape) * 2 - 1) * limit

    angle, scale = uniform("angle", 1, 1, limit=math.radians(10)), 1 + uniform("scale", 1, 1, limit=0.1)
    middle = batch.points.mean((1, 2), keepdim=True)  # [B, 1, 1, 2]
    offset = batch.points - middle
    face = offset.norm(dim=-1).mean((1, 2)).view(-1, 1, 1, 1)
    x, y = offset.unbind(-1)
    turned = torch.stack([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y], dim=-1)
    points = middle + turned * scale[..., None] + uniform("shift", 1, 1, 2, limit=0.1) * face
    contrast, level = uniform("contrast", 1, 3, 1, 1, limit=0.25), uniform("level", 1, 3, 1, 1, limit=0.15)
    driving = batch.driving * (1 + contrast) + level
    louder = uniform("loudness", 1, 1, 1, 1, limit=8 * 5 / 100)  # the mel's unit is 100 / 8 dB
    return batch._replace(
        driving=driving.clamp(-1, 1),
        points=points,
        mel=(batch.mel + louder).clamp(-4, 4),
    )


def shifted_accuracy(face: Tensor, sound: Tensor) -> Tensor:
    """Two-way accuracy of each window's own sound against those shifted by 5-15 frames.

    Args:
        face, sound: [B, W, D], of windows that follow each other in steps of five frames, W >= 2.

    Returns:
        The mean over the samples, a scalar in [0, 1]; chance is 0.5.
    """
    # windows are five frames apart, so one to three of them are a shift by 5-15 frames
    return torch.stack([sync_accuracy(f, a, min_shift=1, max_shift=3) for f, a in zip(face, sound, strict=True)]).mean()


class SyncExpert(OneOptimizer):
    """Trains SyncNet to find the sound that belongs to five frames of a mouth.

    A sample is a stretch of one clip (`data.frames`), cut into windows of five frames. The negatives of a window are
    the sounds of all other windows of the batch, over all processes: those of other clips, which voice and face tell
    apart, and those of the same clip, shifted by 5 frames and more, which only the lips do. Logged beside their chance
    lines: the loss of a guess, and the two-way accuracy (a window's own sound against one shifted by 5-15 frames;
    chance 0.5), which is measured on held-out identities.

    Args:
        networks: sizes; this stage builds `sync_expert`.
        init_from: `sync_expert`: weights to start from, such as Wav2Lip's (`wav2lip-syncnet`); none starts anew. Its
            input is cut from our frames differentiably: BGR in [0, 1], aligned to a tight face, 96 px, lower half.
        seed: the run's seed.
        learning_rate: of AdamW (Wav2Lip: Adam, 1e-4).
        temperature: of the contrastive loss.
        augment: vary position, size, turn and colour of the training mouths and the loudness of the sounds, alike over
            a sample, so that small data sets are not learnt by heart.
        weight_decay: of AdamW.
    """

    stage = "sync_expert"
    better: ClassVar[dict[str, Literal["min", "max"]]] = {"accuracy": "max", "contrastive": "min"}
    roles: ClassVar[tuple[str, ...]] = ("sync_expert",)

    def __init__(
        self,
        networks: Networks,
        init_from: dict[str, str] | None = None,
        seed: int = 0,
        learning_rate: float = 1e-4,
        temperature: float = 0.07,
        augment: bool = True,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(networks, init_from, seed)
        check_range(0, learning_rate=learning_rate, weight_decay=weight_decay)
        check_range(1e-3, temperature=temperature)
        self.learning_rate = learning_rate
        self.temperature = temperature
        self.augment = augment
        self.weight_decay = weight_decay
        self.sync_expert = self.start_from("sync_expert", "sync_expert", SyncNet(networks.sync_expert))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.sync_expert.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )

    def check_data(self, data: TalkingData) -> None:
        """Any size will do, since mouths are aligned; at least two windows, so that each has a shifted negative."""
        if data.frames < 2 * FRAMES:
            raise FctfgError(
                f"data.frames is {data.frames}, but the sync expert needs stretches of at least {2 * FRAMES} frames"
            )

    def cut(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the expert looks at: the windows of five frames in each sample, and their sounds.

        Returns:
            mouths [B, W, 15, 48, 96] BGR in [0, 1], and mel windows [B, W, 1, 80, 16].
        """
        windows = batch.driving.shape[1] // FRAMES
        shape = len(batch.driving), windows, FRAMES
        frames, points = (x[:, : windows * FRAMES].unflatten(1, shape[1:]) for x in (batch.driving, batch.points))
        faces = self.sync_expert.mouths(frames.flatten(0, 1), points.flatten(0, 1))
        first = middle_frame(self.networks.centered_mel)
        return faces.unflatten(0, shape[:2]), batch.mel[:, first : windows * FRAMES : FRAMES]

    def embed(self, mouths: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of mouths and sounds as `cut` returns them: [B, W, D] each."""
        face = self.sync_expert.embed_faces(mouths.flatten(0, 1))
        sound = self.sync_expert.embed_audio(sounds.flatten(0, 1))
        return face.unflatten(0, mouths.shape[:2]), sound.unflatten(0, mouths.shape[:2])

    def contrastive_terms(self, face: Tensor, sound: Tensor) -> dict[str, Tensor]:
        """The loss of windows [N, D] among the sounds of all processes, and that of a guess: scalars."""
        sounds = gather(sound)
        loss = contrastive(face, sounds, self.temperature, first=self.global_rank * len(face))
        return {"contrastive": loss, "contrastive_chance": loss.new_tensor(math.log(len(sounds)))}

    def train_part(self, batch: Batch) -> dict[str, Tensor]:
        batch = vary(batch, self.draws("vary", len(batch.source))) if self.augment else batch
        terms = self.contrastive_terms(*(x.flatten(0, 1) for x in self.embed(*self.cut(batch))))
        self.accumulate(terms["contrastive"], last=True)
        return terms

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        face, sound = self.embed(*self.cut(batch))
        accuracy = shifted_accuracy(face, sound)
        face, sound = face.flatten(0, 1), sound.flatten(0, 1)
        terms: dict[str, Tensor | float] = {
            **self.contrastive_terms(face, sound),
            "accuracy": accuracy,
            "accuracy_chance": 0.5,
        }
        self.log_terms("val", terms, batch_size=len(face), prog_bar=True)

    def card(self, data: TalkingData) -> dict[str, Any]:
        """The last validation's accuracy, and what it was measured on."""
        if "val/accuracy" not in self.measured:
            return {}
        clips = data.val_clips()
        measurement = SyncMeasurement(
            accuracy=self.measured["val/accuracy"],
            split=data.val.split,
            dataset_hash=data.hash,
            people=len({clip.identity for clip in clips}),
            clips=len({clip.id for clip in clips}),
            windows=len(clips) * (data.frames // FRAMES),
        )
        return {CARD_KEY: measurement.plain()}

    def exports(self) -> dict[str, nn.Module]:
        return {"sync_expert": self.sync_expert}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        mouths = self.sync_expert.mouths(batch.driving[:4, :FRAMES], batch.points[:4, :FRAMES])  # [4, 15, 48, 96] BGR
        return {"mouths": mouths.unflatten(1, (FRAMES, 3)).flip(2) * 2 - 1}
