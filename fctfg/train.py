"""`fctfg train`: one stage of training from configuration files.

What else of the command line needs Lightning takes it from `fctfg.stages`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from contextlib import nullcontext
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import yaml
from jsonargparse import ActionYesNo, ArgumentError
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from fctfg.atomic import atomic_path
from fctfg.continuation import Begun, begun, check
from fctfg.data.datamodule import TalkingData
from fctfg.errors import FctfgError, UsageError
from fctfg.ranges import check_range
from fctfg.run_lock import held
from fctfg.setting_errors import explain
from fctfg.stages import STAGES
from fctfg.stages.base import Stage, say
from fctfg.stages.batch_norm_sync import BatchNormSync
from fctfg.stages.callbacks.checkpoints import Checkpoints
from fctfg.stages.callbacks.export import Export, exported_iterations, ingredients
from fctfg.stages.callbacks.learning_rates import LearningRates
from fctfg.stages.callbacks.peers_alive import Launcher, PeersAlive
from fctfg.stages.callbacks.progress import TrainingProgress
from fctfg.stages.callbacks.run_status import RunStatus
from fctfg.stages.callbacks.samples import Samples
from fctfg.stages.callbacks.skipped_steps import SkippedSteps
from fctfg.stages.callbacks.speed import Speed
from fctfg.stages.callbacks.stop_signals import stop_at_once
from fctfg.stages.checkpoint_files import CheckpointFiles
from fctfg.stages.csv_log import CsvLog
from fctfg.stages.exchange import exchange_by_hand
from fctfg.stages.finite import RollBack, Safety
from fctfg.stages.networks import Networks
from fctfg.stages.rollbacks import Rollbacks
from fctfg.stages.trial import trial_trainer, try_out
from fctfg.stages.wandb_log import tracker
from fctfg.weights.licences import Licences, check_commercial_use

OWN_SETTINGS = {  # of the trainer, which the command sets itself, with their defaults
    "default_root_dir": None,
    "logger": None,
    "enable_checkpointing": None,
    "num_sanity_val_steps": None,
    "use_distributed_sampler": True,
    "enable_model_summary": None,
}


class TrainCommand(LightningCLI):
    """LightningCLI with one folder per run and the networks' sizes as a group of their own."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=str, required=True, help="name of the run: its folder below --runs")
        parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
        parser.add_argument(
            "--cool_down",
            type=float,
            default=0.0,
            help="last share of the run, 0 to 1, over which the learning rates fall in a line towards 0; 0: constant",
        )
        parser.add_argument(
            "--checkpoint_every",
            type=int,
            default=1000,
            help="iterations between two checkpoints; the end of an epoch is saved too",
        )
        parser.add_argument("--keep_checkpoints", type=int, default=3, help="how many of the newest are kept")
        parser.add_argument(
            "--keep_best",
            type=list[str] | None,
            default=None,
            help="metrics of validation by which the best checkpoint is kept too; null: those that the stage "
            "recommends, []: none",
        )
        parser.add_argument(
            "--accept_changes",
            action=ActionYesNo,
            nargs="?",
            default=False,
            help="go on although the data set, the number of processes or the precision is another than before",
        )
        parser.add_argument("--wandb_project", type=str, default="fctfg", help="W&B project")
        parser.add_argument(
            "--commercial_safe",
            action=ActionYesNo,
            nargs="?",
            default=False,
            help="refuse data and weights whose licence forbids commercial use, or is not known to allow it",
        )
        parser.add_argument(
            "--dry_run",
            action=ActionYesNo,
            nargs="?",
            default=False,
            help="train one batch of each phase and print sizes, memory and times; nothing is written",
        )
        parser.add_argument(
            "--fit",
            action=ActionYesNo,
            nargs="?",
            default=False,
            help="print the largest data.batch_size that fits into memory; nothing is written",
        )
        parser.add_class_arguments(Networks, "networks")
        parser.add_class_arguments(Safety, "safety")
        parser.link_arguments("networks", "model.init_args.networks")
        parser.link_arguments("networks.centered_mel", "data.centered_mel")
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        parser.exit_on_error = False
        self.arguments = list(args)
        try:
            self.config = parser.parse_args(args)
        except (ArgumentError, TypeError, ValueError) as error:
            options = [action.dest for action in parser._actions]
            raise UsageError(explain(str(error), options)) from error

    def before_instantiate_classes(self) -> None:
        precision = str(self.config["trainer"]["precision"])
        if precision in ("16-mixed", "16-true", "16"):
            raise UsageError(
                f"trainer.precision={precision}: float16 needs a loss scale, which stages with two networks "
                f"that take turns do not have; use bf16-mixed"
            )
        for name, default in OWN_SETTINGS.items():
            if self.config["trainer"][name] != default:
                raise UsageError(f"trainer.{name}: fctfg train sets it itself; leave it out")
        if self.config["trainer"]["gradient_clip_val"] is not None:
            raise UsageError("trainer.gradient_clip_val: stages with two networks refuse it; set safety.gradient_clip")
        if self.config["trainer"]["accumulate_grad_batches"] != 1:
            raise UsageError("trainer.accumulate_grad_batches: set data.accumulate instead, which all stages know")
        run = self.config["run"]
        if not run or Path(run).is_absolute() or ".." in Path(run).parts or Path(run) == Path("."):
            raise UsageError(f"run={run!r}: it is the name of a folder below --runs, such as 'talking_face'")
        epochs, steps = (self.config["trainer"][name] for name in ("max_epochs", "max_steps"))
        if self.config["cool_down"] and (epochs is None or epochs < 0 or steps != -1):
            raise UsageError("cool_down needs a run of known length: set trainer.max_epochs, and no trainer.max_steps")
        for name in ("checkpoint_every", "keep_checkpoints"):
            if self.config[name] < 1:
                raise UsageError(f"{name} is {self.config[name]}, but must be at least 1")
        self.files = CheckpointFiles(self.folder / "checkpoints", self.config["keep_checkpoints"])
        self.there = self.files.paths()
        newest = self.files.newest()
        for path, why in newest.damaged:
            rank_zero_only(logging.getLogger("fctfg").warning)(
                f"{path} cannot be used ({why}); {newest.path} is used instead"
            )
        self.checkpoint = newest.path
        self.before = begun(newest.path, self.config["model"]["class_path"]) if newest.path else None

    def instantiate_classes(self) -> None:
        try:
            check_range(1, group="trainer", log_every_n_steps=self.config["trainer"]["log_every_n_steps"])
            super().instantiate_classes()
        except Exception as error:  # jsonargparse wraps what a constructor raises
            root = _root(error)
            wrong = isinstance(root, ValueError | MisconfigurationException)
            raise UsageError(str(root)) if wrong else root from error

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.config["runs"]) / self.config["run"]

    def _best(self) -> dict[str, Literal["min", "max"]]:
        """Metrics by which the best checkpoint is kept, and the direction of each."""
        names = self.config["keep_best"]
        for name in names or ():
            if name not in self.model.better:
                known = ", ".join(self.model.better) or "none"
                raise UsageError(f"keep_best: stage '{self.model.stage}' knows no best by '{name}' (only by: {known})")
        return {name: self.model.better[name] for name in (self.model.better if names is None else names)}

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        self.model.check_data(self.datamodule)
        found = ingredients(self.model, self.datamodule, self.folder if self.checkpoint else None)
        if self.config["commercial_safe"]:
            check_commercial_use(found)
        self.model.batches = self.datamodule.accumulate
        if self.trial:
            return trial_trainer(self, pl.Callback(), 1)
        self.plain = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        self.model.settings = _settings(self.plain)
        self.model.troubles = self.datamodule.troubles
        self.model.safety = self.config_init["safety"]
        names = self.config["wandb_project"], self.config["run"]
        self.wandb = tracker(self.folder, *names, self.model.troubles)
        self.peers = PeersAlive()
        given = self.config_init["trainer"]["callbacks"] or []
        speed = Speed()
        callbacks: list[pl.Callback] = [
            speed,  # first, so that it sees what the others take
            *(given if isinstance(given, list) else [given]),
            LearningRates(self.config["cool_down"]),
            SkippedSteps(self.folder),
            Samples(self.folder / "samples"),
            Export(self.folder, self.plain, reduce(or_, found.values(), Licences())),
            TrainingProgress(speed),
            RunStatus(self.folder, self.arguments, speed),
            self.peers,
            Checkpoints(self.files, self.config["checkpoint_every"], self._best()),  # last: what it saves is exported
        ]
        settings = self.config_init["trainer"]
        synced, plugins = settings["sync_batchnorm"], settings["plugins"] or []
        trainer = super().instantiate_trainer(
            default_root_dir=str(self.folder),
            logger=[CsvLog(self.folder / "metrics.csv", self.model.troubles), self.wandb],
            callbacks=callbacks,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_model_summary=False,
            sync_batchnorm=False,  # torch's is for GPUs only
            plugins=[*(plugins if isinstance(plugins, list) else [plugins]), *([BatchNormSync()] if synced else [])],
            **kwargs,
        )
        if isinstance(before := trainer.strategy.launcher, _SubprocessScriptLauncher):
            trainer.strategy._launcher = Launcher(before.cluster_environment, before.num_processes, before.num_nodes)
        # Lightning asks before each batch whether to stop, and waits for the GPU; `StopSignals` asks on the host
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        exchange_by_hand(trainer)
        return trainer

    def _is_complete(self, before: Begun) -> bool:
        """Whether the run has already reached the end that is asked for."""
        epochs, steps = self.trainer.max_epochs, self.trainer.max_steps
        return (epochs is not None and 0 <= epochs <= before.epochs) or 0 <= steps <= before.iterations

    @property
    def trial(self) -> bool:
        """Whether nothing is to be trained in earnest."""
        return bool(self.config["dry_run"] or self.config["fit"])

    def fit(self) -> None:
        """Train, in a folder that no other process trains into meanwhile."""
        if self.before is None:
            self.model.check_start()
        else:
            now = self.model.facts(self.trainer, self.datamodule)
            accepted, taken = self.config["accept_changes"], self.model.init_from
            if changes := check(self.before, now, self.model.follows_data, accepted, taken):
                say(f"The run goes on otherwise than it began: {changes}")
        first = getattr(rank_zero_only, "rank", 0) == 0
        with held(self.folder) if first else nullcontext():
            if first:
                if self.files.paths() != self.there:
                    raise FctfgError(
                        f"another process has trained in {self.folder} meanwhile; run the command again to continue"
                    )
                self.files.go_on_from(self.checkpoint)
            if self.before is not None:
                done = f"{self.before.iterations} iterations"
                exported = exported_iterations(self.folder) == self.before.iterations
                if self._is_complete(self.before) and (exported or (self.before.within and self.trainer.max_steps < 0)):
                    say(f"{self.folder} is complete after {done}; a larger trainer.max_epochs goes on")
                    return
                say(f"{self.folder} goes on after {done}")
            rank_zero_only(self._write_settings)()
            self._fit_and_go_back()

    def _fit_and_go_back(self) -> None:
        """Train to the end; from the last checkpoint again, with other data, where numbers are not finite any more."""
        rollbacks = Rollbacks(self.folder, self.before.facts.get("attempt", 0) if self.before else None)
        checkpoint = self.checkpoint
        while True:
            self.model.attempt = rollbacks.attempt
            self.datamodule.reorder(rollbacks.attempt)
            try:
                self.trainer.fit(self.model, self.datamodule, ckpt_path=checkpoint, weights_only=True)
                return
            except RollBack as trouble:
                reason = str(trouble)
            except Exception as error:
                if not self.peers.verdict:
                    raise
                raise FctfgError(
                    f"{self.peers.verdict}, so the other processes stop too; the same command continues {self.folder}"
                ) from error
            checkpoint = self.files.newest().path
            rollbacks.go_back(reason, checkpoint, self.model.safety)
            self.trainer.strategy._launcher = None  # the processes are running

    def _write_settings(self) -> None:
        with atomic_path(self.folder / "config.yaml") as partial:
            partial.write_text(yaml.safe_dump(self.plain, sort_keys=False))
        if not (self.folder / "wandb_id.txt").is_file():
            with atomic_path(self.folder / "wandb_id.txt") as partial:
                partial.write_text(f"{self.wandb.version}\n")
        self.wandb.start(self.plain | {"dataset_hash": self.datamodule.hash})


def _quieten() -> None:
    """One line for each thing that matters: ours; Lightning and W&B speak up for warnings only."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fctfg").setLevel(logging.INFO)
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("WANDB_SILENT", "true")
    for message in ("many workers", "dataloader is not resumable", "LeafSpec", "logging interval", "in eval mode"):
        warnings.filterwarnings("ignore", f".*{message}.*")


def _root(error: BaseException) -> BaseException:
    """The exception that started a chain of them."""
    while (cause := error.__cause__ or error.__context__) is not None and not isinstance(error, FctfgError):
        error = cause
    return error


def train(arguments: list[str]) -> None:
    """Run one stage; continue it when the run exists.

    Args:
        arguments: what follows `fctfg train` on the command line.

    Raises:
        UsageError: an unknown or ill-typed setting.
        FctfgError: data, weights or a checkpoint that cannot be used.
    """
    _quieten()
    arguments = [re.sub(r"^--[a-z-]+(?==|$)", lambda name: "--" + name[0][2:].replace("-", "_"), a) for a in arguments]
    argv, sys.argv = sys.argv, sys.argv[:1]  # Lightning warns when both are given
    try:
        command = TrainCommand(
            Stage,
            TalkingData,
            subclass_mode_model=True,
            save_config_callback=None,
            seed_everything_default=0,
            args=arguments,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={
                "prog": "fctfg train",
                "usage": "%(prog)s --config configs/base.yaml --config configs/STAGE.yaml --run NAME [--KEY VALUE ...]",
                "description": "Train one stage; run it again to continue.",
                "epilog": "A stage's own settings (losses, learning rates, where it starts): fctfg train --model.help "
                + ", or ".join(stage.__name__ for stage in STAGES),
                "allow_abbrev": False,
            },
        )
    finally:
        sys.argv = argv
    if command.trial:
        if command.before is None:
            command.model.check_start()
        try_out(command, arguments)
        return
    try:
        with stop_at_once():
            command.fit()
    finally:
        command.wandb.finish()
        command.model.troubles.conclude()


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """What a stage was configured with, beside its networks, its data and where it starts: plain values by name."""
    arguments, networks = config["model"]["init_args"], config["networks"]
    stage = {name: value for name, value in arguments.items() if name not in ("networks", "init_from", "seed")}
    others = {name: networks[name] for name in ("perceptual", "lpips", "centered_mel")}
    return stage | others | {"cool_down": config["cool_down"], "gradient_clip": config["safety"]["gradient_clip"]}
