"""`fctfg train --dry-run` and `--fit`: a few iterations that leave nothing behind."""

from __future__ import annotations

from functools import partial

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningCLI

from fctfg.data.datamodule import TalkingData
from fctfg.errors import FctfgError
from fctfg.stages.base import Stage
from fctfg.stages.dry_run import show_dry_run
from fctfg.stages.fitting import fit_on_cpu, fit_on_gpu


def trial_trainer(command: LightningCLI, callback: pl.Callback, iterations: int) -> pl.Trainer:
    """A trainer of one process, which writes nothing.

    Args:
        command: of `fctfg train`, whose other settings of the trainer hold.
        callback: the only one.
        iterations: to train; one batch of validation follows.
    """
    devices = command.config["trainer"]["devices"]
    return LightningCLI.instantiate_trainer(
        command,
        logger=False,
        callbacks=[callback],
        devices=devices[:1] if isinstance(devices, list) else 1,
        num_nodes=1,
        strategy="auto",
        max_epochs=1,
        max_steps=-1,
        limit_train_batches=iterations,
        limit_val_batches=1,
        val_check_interval=1.0,
        check_val_every_n_epoch=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def try_out(command: LightningCLI, arguments: list[str]) -> None:
    """The dry run, or the search for the largest batch.

    Args:
        command: of `fctfg train`, with its stage, its data and a trainer of `trial_trainer`.
        arguments: that it was called with.

    Raises:
        FctfgError: not even one sample fits.
    """
    stage, data, make_trainer = command.model, command.datamodule, partial(trial_trainer, command)
    assert isinstance(stage, Stage) and isinstance(data, TalkingData)
    if not command.config["fit"]:
        epochs = command.config["trainer"]["max_epochs"]
        known = epochs is not None and epochs >= 0
        show_dry_run(stage, data, make_trainer, epochs if known else None)
        return
    on_gpu = command.trainer.strategy.root_device.type == "cuda"
    size = fit_on_gpu(stage, data, make_trainer) if on_gpu else fit_on_cpu(arguments, data)
    if not size:
        raise FctfgError("not even one sample fits into memory; choose smaller networks, or fewer data.frames")
    clips = " (as many as there are clips)" if size == len(data.train) else ""
    how = "tried out" if on_gpu else "predicted from the memory of smaller ones"
    print(f"The largest batch that fits is {size}{clips}, {how}: --data.batch_size {size}")
