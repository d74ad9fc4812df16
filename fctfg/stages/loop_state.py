"""Lightning's loop state, brought into forms from which a run goes on exactly.

What Lightning 2.6 saves within an epoch, it does not continue as an undisturbed run would: counters drift, an
evaluation that was due is left out, or the end of an epoch is run twice. So a checkpoint has one of two forms: within
an epoch (some batches are done, and possibly an evaluation comes next), or between two epochs.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loops.evaluation_loop import RestartStage


def evaluation_follows(trainer: pl.Trainer) -> bool:
    """Whether an evaluation belongs to the end of the current batch."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return loop._should_check_val_fx(fetcher)


def settle(state: dict[str, Any], trainer: pl.Trainer, in_batch: bool) -> None:
    """Bring the loop state of a checkpoint into form.

    Args:
        state: `loops.fit_loop` of the checkpoint; changed.
        trainer: saves in `on_train_batch_end`, in the evaluation that follows it, or in `on_train_epoch_end`.
        in_batch: whether not in the latter.
    """
    batches, epochs, counted = (
        state[key] for key in ("epoch_loop.batch_progress", "epoch_progress", "epoch_loop.state_dict")
    )
    if in_batch:
        for part in ("total", "current"):
            batches[part]["completed"] = batches[part]["processed"]
        counted["_batches_that_stepped"] += 1
    within = in_batch or not trainer.fit_loop.epoch_loop._num_ready_batches_reached()  # the latter: max_steps
    if within and not in_batch:
        for part in ("total", "current"):
            epochs[part]["processed"] -= 1
    if within and evaluation_follows(trainer):
        counted["_batches_that_stepped"] -= 1  # Lightning goes through the end of this batch again
    if not within:
        for part in ("total", "current"):
            epochs[part]["completed"] = epochs[part]["processed"]


def go_on(trainer: pl.Trainer, evaluate: bool) -> None:
    """Have a run go on from a checkpoint in form; in `on_train_start`, when all is restored.

    Args:
        trainer: has restored its loops.
        evaluate: whether an evaluation comes first, which was due and had not been done.
    """
    fit_loop = trainer.fit_loop
    epochs, validation = fit_loop.epoch_progress.total.state_dict(), fit_loop.epoch_loop.val_loop
    if epochs["processed"] == epochs["ready"]:  # between two epochs
        fit_loop._restarting = False  # its setter would have a run with max_steps restart
        fit_loop.epoch_loop.restarting = False
    else:
        validation.restarting = False
        if evaluate:
            validation._restart_stage = RestartStage.RESTARTED_MID_EVALUATION
