"""Pictures and videos of a fixed validation batch, every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from torchvision.utils import make_grid

from fctfg.data.batch import Batch
from fctfg.data.datamodule import TalkingData
from fctfg.media import FPS, SAMPLE_RATE, write_image, write_video
from fctfg.media.mel_picture import mel_picture
from fctfg.ops.pixels import to_images, to_pixels
from fctfg.ops.windows import mel_windows
from fctfg.stages.base import Stage


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
        self.folder.mkdir(parents=True, exist_ok=True)
        iteration = pl_module.iteration
        written: dict[str, Path] = {}
        for name, grid in pl_module.pictures(self._batch).items():
            path = self.folder / f"{name}_{iteration:06d}.png"
            picture = make_grid(grid.flatten(0, 1), nrow=grid.shape[1], padding=2, pad_value=1.0)
            write_image(path, to_pixels(picture))
            written[name] = path
        written |= self._video(trainer, pl_module, iteration)
        self._batch = None
        self._upload(trainer, written, iteration)

    def _video(self, trainer: pl.Trainer, stage: Stage, iteration: int) -> dict[str, Path]:
        """The first validation clip driven by itself, with its sound, and the picture of its mel."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TalkingData)
        clip, pixels, sound, mel = data.val.whole(0)
        length = min(clip.n_frames, self.max_frames)
        frames = to_images(pixels[:length]).to(stage.device).to(stage.dtype)
        windows = (
            mel_windows(mel, torch.arange(length), FPS, stage.networks.centered_mel).to(stage.device).to(stage.dtype)
        )
        shown = stage.video(frames[0], frames, windows)
        if shown is None:
            return {}
        video = self.folder / f"video_{iteration:06d}.mp4"
        write_video(video, to_pixels(shown), fps=FPS, audio=sound[: round(len(shown) / FPS * SAMPLE_RATE)])
        picture = self.folder / f"mel_{iteration:06d}.png"
        write_image(picture, mel_picture(mel.cpu()))
        return {"video": video, "mel": picture}

    def _upload(self, trainer: pl.Trainer, written: dict[str, Path], iteration: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                import wandb

                media = {
                    f"samples/{name}": wandb.Video(str(path), format="mp4")
                    if path.suffix == ".mp4"
                    else wandb.Image(str(path))
                    for name, path in written.items()
                }
                logger.experiment.log(media | {"trainer/global_step": iteration})
