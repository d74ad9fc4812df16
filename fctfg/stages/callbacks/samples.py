"""Pictures and videos of a fixed validation batch, every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchvision.utils import make_grid

from fctfg.atomic import make_folder
from fctfg.data.batch import Batch
from fctfg.data.datamodule import TalkingData
from fctfg.errors import FctfgError
from fctfg.media import FPS, SAMPLE_RATE, write_image, write_video
from fctfg.media.mel_picture import mel_picture
from fctfg.ops.pixels import to_images, to_pixels
from fctfg.ops.windows import mel_windows
from fctfg.stages.base import Stage
from fctfg.stages.wandb_log import WandbLog


class Samples(pl.Callback):
    """Writes what a stage shows (`Stage.pictures`, `Stage.video`) to `samples/` and to W&B after every validation.

    Args:
        folder: `samples/` of the run.
        max_seconds: longest validation video.
    """

    def __init__(self, folder: Path, max_seconds: float = 6.0) -> None:
        self.folder = folder
        self.max_frames = int(max_seconds * FPS)
        self._batch: Batch | None = None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0 and trainer.is_global_zero:
            self._batch = batch

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking or self._batch is None:
            return
        assert isinstance(pl_module, Stage)
        batch, self._batch = self._batch, None
        grids = pl_module.pictures(batch)
        try:
            written = self._pictures(grids, pl_module.iteration) | self._video(trainer, pl_module)
        except (FctfgError, OSError) as error:
            pl_module.troubles.meet(
                f"times that {self.folder} could not be written", f"Training goes on without samples: {error}"
            )
            return
        for logger in trainer.loggers:
            if isinstance(logger, WandbLog):
                logger.log_files({f"samples/{name}": path for name, path in written.items()}, pl_module.iteration)

    def _pictures(self, grids: dict[str, Tensor], iteration: int) -> dict[str, Path]:
        """Grids of pictures, each [rows, columns, 3, H, W] in [-1, 1], as files."""
        make_folder(self.folder)
        written = {name: self.folder / f"{name}_{iteration:06d}.png" for name in grids}
        for name, grid in grids.items():
            picture = make_grid(grid.flatten(0, 1), nrow=grid.shape[1], padding=2, pad_value=1.0)
            write_image(written[name], to_pixels(picture))
        return written

    def _video(self, trainer: pl.Trainer, stage: Stage) -> dict[str, Path]:
        """The first validation clip driven by itself, with its sound, and the picture of its mel."""
        if type(stage).video is Stage.video:
            return {}
        data, iteration = trainer.datamodule, stage.iteration  # type: ignore[attr-defined]
        assert isinstance(data, TalkingData)
        _, pixels, sound, mel = data.val.whole(0, self.max_frames)
        frames = to_images(pixels).to(stage.device).to(stage.dtype)
        moments = torch.arange(len(frames))
        windows = mel_windows(mel, moments, FPS, stage.networks.centered_mel).to(stage.device).to(stage.dtype)
        shown = stage.video(frames[0], frames, windows)
        if shown is None:
            return {}
        video = self.folder / f"video_{iteration:06d}.mp4"
        write_video(video, to_pixels(shown), fps=FPS, audio=sound[: round(len(shown) / FPS * SAMPLE_RATE)])
        picture = self.folder / f"mel_{iteration:06d}.png"
        write_image(picture, mel_picture(mel.cpu()))
        return {"video": video, "mel": picture}
