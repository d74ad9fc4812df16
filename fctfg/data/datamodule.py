"""The data of a training run, as Lightning wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl

from fctfg.data.augmentation.pictures import PictureAugment
from fctfg.data.augmentation.sound import SoundAugment
from fctfg.data.batch import Batch, Sample, to_batch
from fctfg.data.dataset import TalkingClips, training_pictures
from fctfg.data.loader import BatchLoader
from fctfg.data.manifest import Clip
from fctfg.data.sampler import PositionSampler
from fctfg.data.waiting import TimedLoader
from fctfg.randomness import derive_seed
from fctfg.ranges import check_range
from fctfg.troubles import Troubles
from fctfg.weights.licences import NOT_SAID


class TalkingData(pl.LightningDataModule):
    """Training and validation samples of a prepared data set.

    Args:
        root: folder written by `fctfg prepare`.
        batch_size: samples that a process takes at once.
        accumulate: batches that a process takes one after the other in an iteration, whose gradients are averaged; for
            large batches in little memory. An iteration, which is what every interval counts, has accumulate *
            batch_size samples of each process. Batch norms and the sync expert's negatives see one batch.
        frames: T, consecutive driving frames per sample (the paper's window is 5).
        decoys: also draw another moment of the clip, whose mouths replace the driving frames' own where stage 3 looks
            at the driver, so that the lips can only come from the sound (not in the paper).
        flip: mirror half of the training samples.
        augment: change light, colour and sound of the training samples, all frames of a sample alike (not in the paper;
            not for stage 1, whose generator would learn to draw it).
        pictures: how often and how far pictures are changed where `augment` is on; none takes the defaults.
        sound: how often and how far the sound is changed where `augment` is on; none takes the defaults.
        view: name of a view of the data set (`fctfg data query`); none takes all its clips.
        batches_per_epoch: iterations per epoch; an epoch is a tick, not a pass over the data. Validation, sample
            pictures, export and checkpoint come at its end.
        val_samples: validation samples (the same at every validation and for every seed), rounded down to whole batches
            of all processes, of which there is at least one: no sample is judged twice, and no process waits for
            another.
        num_workers: threads that read ahead; 0 reads when a batch is needed.
        centered_mel: set from `networks.centered_mel`.
        seed: set from the run's seed; of the training samples.

    Raises:
        ValueError: a number is too small.
        FctfgError: the data set is missing, damaged, or has no clip that is long enough.
    """

    def __init__(
        self,
        root: str,
        batch_size: int = 8,
        accumulate: int = 1,
        frames: int = 5,
        decoys: bool = False,
        flip: bool = True,
        augment: bool = False,
        pictures: PictureAugment | None = None,
        sound: SoundAugment | None = None,
        view: str | None = None,
        batches_per_epoch: int = 1000,
        val_samples: int = 64,
        num_workers: int = 4,
        centered_mel: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range(1, group="data", batch_size=batch_size, accumulate=accumulate, frames=frames)
        check_range(1, group="data", batches_per_epoch=batches_per_epoch, val_samples=val_samples)
        check_range(0, group="data", num_workers=num_workers)
        self.root, self.frames = root, frames
        self.batch_size, self.batches_per_epoch, self.val_samples = batch_size, batches_per_epoch, val_samples
        self.accumulate, self.num_workers, self.seed = accumulate, num_workers, seed
        self.flip, self.augment, self.view = flip, augment, view
        self.troubles = Troubles()  # the run sets its own
        changes = training_pictures(pictures or PictureAugment(), augment, flip)
        heard = (sound or SoundAugment()) if augment else None
        self.train = TalkingClips(root, "train", frames, decoys, changes, heard, centered_mel, view, seed)
        self.val = TalkingClips(root, "val", frames, decoys, centered_mel=centered_mel, view=view)  # whatever the seed
        self.hash = self.train.manifest.hash
        self.licences = sorted(licence or NOT_SAID for licence in self.train.licences)

    def reorder(self, attempt: int) -> None:
        """Draw the training samples, and their order, anew for an attempt; 0 is the run's own order."""
        self.train.seed = derive_seed(self.seed, "attempt", attempt) if attempt else self.seed

    def facts(self) -> dict[str, Any]:
        """What the samples of an iteration depend on, beside the seed and the number of processes."""
        return {
            "data": self.hash,
            "frames": self.frames,
            "decoys": self.train.decoys,
            "view": self.view and self.train.selection,
            "pictures": asdict(self.train.pictures) if self.train.pictures else None,
            "sound": asdict(self.train.sound) if self.train.sound else None,
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "batches_per_epoch": self.batches_per_epoch,
        }

    def _loader(self, data: TalkingClips, size: int, batches: int, done: Callable[[], int]) -> BatchLoader:
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = PositionSampler(batches, size, rank, world, done)
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return BatchLoader(data, sampler, self.num_workers, pin=on_gpu, troubles=self.troubles)

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Batch:
        """What a step sees, in the precision that it computes in; augmentation is done here, on the device."""
        if self.trainer is None:
            return to_batch(batch, self.frames, False)
        made: Batch = self.trainer.precision_plugin.convert_input(to_batch(batch, self.frames, self.trainer.training))
        return made

    def _done(self) -> int:
        """Batches that the run has begun: Lightning's count, which a checkpoint restores."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.ready if self.trainer else 0

    def train_dataloader(self) -> TimedLoader:
        size = self.accumulate * self.batch_size
        return TimedLoader(self._loader(self.train, size, self.batches_per_epoch, self._done))

    def val_dataloader(self) -> BatchLoader:
        return self._loader(self.val, self.batch_size, self._val_batches(), lambda: 0)

    def _val_batches(self) -> int:
        """Of each process."""
        world = self.trainer.world_size if self.trainer else 1
        return max(1, self.val_samples // (self.batch_size * world))

    def val_clips(self) -> list[Clip]:
        """The clips that the samples of a validation are taken from, over all processes, one for each sample."""
        world = self.trainer.world_size if self.trainer else 1
        return [self.val.drawn_clip((0, index)) for index in range(self._val_batches() * self.batch_size * world)]
