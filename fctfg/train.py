"""`fctfg train`: one stage of training from configuration files.

The only place of the command line that imports Lightning.
"""

from __future__ import annotations

import fcntl
import logging
import netrc
import os
import pickle
import re
import sys
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytorch_lightning as pl
import torch
import yaml
from jsonargparse import ActionYesNo, ArgumentError
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from fctfg.atomic import atomic_path, make_folder, remove_leftovers, write_error
from fctfg.data.datamodule import TalkingData
from fctfg.errors import FctfgError, UsageError
from fctfg.ranges import check_range
from fctfg.setting_errors import explain
from fctfg.stages import STAGES
from fctfg.stages.base import Stage, say
from fctfg.stages.batch_norm_sync import BatchNormSync
from fctfg.stages.callbacks.export import Export, ingredients
from fctfg.stages.callbacks.last_checkpoint import LastCheckpoint
from fctfg.stages.callbacks.learning_rates import LearningRates
from fctfg.stages.callbacks.progress import TrainingProgress
from fctfg.stages.callbacks.samples import Samples
from fctfg.stages.csv_log import CsvLog
from fctfg.stages.networks import Networks
from fctfg.weights.config_json import changed_fields
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
        parser.add_argument("--wandb_project", type=str, default="fctfg", help="W&B project")
        parser.add_argument(
            "--commercial_safe",
            action=ActionYesNo,
            nargs="?",
            default=False,
            help="refuse data and weights whose licence forbids commercial use, or is not known to allow it",
        )
        parser.add_class_arguments(Networks, "networks")
        parser.link_arguments("networks", "model.init_args.networks")
        parser.link_arguments("networks.centered_mel", "data.centered_mel")
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        parser.exit_on_error = False
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
        if self.config["trainer"]["accumulate_grad_batches"] != 1:
            raise UsageError("trainer.accumulate_grad_batches: set data.accumulate instead, which all stages know")
        run = self.config["run"]
        if not run or Path(run).is_absolute() or ".." in Path(run).parts or Path(run) == Path("."):
            raise UsageError(f"run={run!r}: it is the name of a folder below --runs, such as 'talking_face'")
        epochs, steps = (self.config["trainer"][name] for name in ("max_epochs", "max_steps"))
        if self.config["cool_down"] and (epochs is None or epochs < 0 or steps != -1):
            raise UsageError("cool_down needs a run of known length: set trainer.max_epochs, and no trainer.max_steps")
        self.checkpoint = self.last if self.last.is_file() else None
        self.before = _facts(self.last, self.config["model"]["class_path"]) if self.checkpoint else {}

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

    @property
    def last(self) -> Path:
        """What the run continues from."""
        return self.folder / "checkpoints" / "last.ckpt"

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        self.model.check_data(self.datamodule)
        found = ingredients(self.model, self.datamodule, self.folder if self.checkpoint else None)
        if self.config["commercial_safe"]:
            check_commercial_use(found)
        self.plain = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        self.model.settings = _settings(self.plain)
        self.wandb = self._tracker()
        given = self.config_init["trainer"]["callbacks"] or []
        callbacks: list[pl.Callback] = [
            *(given if isinstance(given, list) else [given]),
            LearningRates(self.config["cool_down"]),
            Samples(self.folder / "samples"),
            Export(self.folder, self.plain, reduce(or_, found.values(), Licences())),
            TrainingProgress(),
            LastCheckpoint(self.folder / "checkpoints"),  # last: what it saves has been exported
        ]
        settings = self.config_init["trainer"]
        synced, plugins = settings["sync_batchnorm"], settings["plugins"] or []
        trainer = super().instantiate_trainer(
            default_root_dir=str(self.folder),
            logger=[CsvLog(self.folder / "metrics.csv"), self.wandb],
            callbacks=callbacks,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_model_summary=False,
            sync_batchnorm=False,  # torch's is for GPUs only
            plugins=[*(plugins if isinstance(plugins, list) else [plugins]), *([BatchNormSync()] if synced else [])],
            **kwargs,
        )
        if isinstance(trainer.strategy, DDPStrategy):
            # where two networks take turns, each backward pass leaves the other's parameters out
            trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", self.model.takes_turns)
        return trainer

    def _check_continuation(self) -> None:
        """Refuse to continue as something else; say what else is not as it was."""
        now = self.model.facts(self.trainer, self.datamodule)
        trained, wanted = (", ".join(sorted(facts["networks"])) for facts in (self.before, now))
        if trained != wanted:
            raise FctfgError(
                f"{self.folder} was begun to train {trained}, and is now to train {wanted}; give it the settings that "
                f"it was begun with, or choose another --run name"
            )
        if changes := _changes(self.before["networks"], now["networks"]):
            raise FctfgError(
                f"{self.checkpoint} was trained with other networks ({changes}); use the same, or another --run name"
            )
        for role in now["judges"]:
            if self.before["judges"].get(role) != now["judges"][role]:
                raise FctfgError(
                    f"{self.model.init_from[role]} (model.init_args.init_from.{role}) is not what {self.folder} was "
                    f"begun with; restore it, or choose another --run name"
                )
        changes = "; ".join(filter(None, (_changes(self.before[part], now[part]) for part in ("data", "settings"))))
        if changes:
            if not self.model.follows_data and self.before["data"]["data"] != now["data"]["data"]:
                raise FctfgError(
                    f"{self.checkpoint} was trained on other data than {self.datamodule.root}, and this stage has a "
                    f"class for each person of its data; choose another --run name"
                )
            say(f"The run goes on otherwise than it began: {changes}")

    def fit(self) -> None:
        """Train, in a folder that no other process trains into meanwhile."""
        if self.checkpoint is None:
            self.model.check_start()
        else:
            self._check_continuation()
            say(f"{self.folder} goes on after {self.before['iterations']} iterations")
        with _held(self.folder):
            if self.checkpoint is None and self.last.is_file():
                raise FctfgError(
                    f"another process has begun {self.folder} meanwhile; run the command again to continue"
                )
            rank_zero_only(self._write_settings)()
            self.trainer.fit(self.model, self.datamodule, ckpt_path=self.checkpoint, weights_only=True)

    def _write_settings(self) -> None:
        with atomic_path(self.folder / "config.yaml") as partial:
            partial.write_text(yaml.safe_dump(self.plain, sort_keys=False))
        if not (self.folder / "wandb_id.txt").is_file():
            with atomic_path(self.folder / "wandb_id.txt") as partial:
                partial.write_text(f"{self.wandb.version}\n")
        self.wandb.log_hyperparams(self.plain | {"dataset_hash": self.datamodule.hash})

    def _tracker(self) -> WandbLogger:
        mode = os.environ.setdefault("WANDB_MODE", "online" if wandb_key_is_known() else "offline")
        if mode == "offline":
            say(f"W&B: offline; `wandb sync {self.folder}/wandb/offline-run-*` uploads the run")
        known = self.folder / "wandb_id.txt"
        return WandbLogger(
            project=self.config["wandb_project"],
            name=self.config["run"],
            id=known.read_text().strip() if known.is_file() else uuid.uuid4().hex[:12],
            resume="allow",
            save_dir=str(self.folder),
            offline=mode in ("offline", "dryrun"),
        )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder, made where it is missing, and locked by the first process of the run against other runs."""
    if getattr(rank_zero_only, "rank", 0) != 0:
        yield
        return
    make_folder(folder)
    lock = folder / ".lock"
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(lock.open("w"))
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FctfgError(
                f"another process is training in {folder}; wait until it is done, or choose another --run name"
            ) from error
        except OSError as error:
            raise write_error(error, lock) or error from error
        remove_leftovers(folder)
        yield


def _quieten() -> None:
    """One line for each thing that matters: ours; Lightning and W&B speak up for warnings only."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fctfg").setLevel(logging.INFO)
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("WANDB_SILENT", "true")
    for message in ("many workers", "dataloader is not resumable", "LeafSpec", "logging interval", "in eval mode"):
        warnings.filterwarnings("ignore", f".*{message}.*")


def wandb_key_is_known() -> bool:
    """Whether W&B could log in without asking: a key in the environment, or the host in the user's netrc.

    W&B itself is not asked, since an offline run that follows a failed login waits for the network.
    """
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


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
    arguments = [re.sub("^--commercial-safe(?==|$)", "--commercial_safe", argument) for argument in arguments]
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
    try:
        command.fit()
    finally:
        import wandb

        wandb.finish()  # the next run of this process is another one


def _facts(checkpoint: Path, class_path: str) -> dict[str, Any]:
    """What a checkpoint says about its run, and its iterations, once it is sure that it is readable and of the stage.

    Its tensors are mapped, not copied.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FctfgError(
            f"{checkpoint} cannot be read ({reason}); move it away to start this run afresh, or restore it"
        ) from error
    wanted = next((stage.stage for stage in STAGES if class_path.endswith(f".{stage.__name__}")), class_path)
    facts = state.get("fctfg", {}) if isinstance(state, dict) else {}
    if facts.get("stage", "unknown") != wanted:
        raise FctfgError(
            f"{checkpoint} is of stage '{facts.get('stage', 'unknown')}', not '{wanted}'; choose another --run name"
        )
    if missing := {"networks", "judges", "data", "settings"} - facts.keys():
        raise FctfgError(
            f"{checkpoint} was written by an earlier fctfg (it lacks {', '.join(sorted(missing))}); continue "
            f"with that version, or choose another --run name"
        )
    progress = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]
    return facts | {"iterations": progress["ready"]}


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """What a stage was configured with, beside its networks, its data and where it starts: plain values by name."""
    arguments, networks = config["model"]["init_args"], config["networks"]
    stage = {name: value for name, value in arguments.items() if name not in ("networks", "init_from", "seed")}
    others = {name: networks[name] for name in ("perceptual", "lpips", "centered_mel")}
    return stage | others | {"cool_down": config["cool_down"]}


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs in nested tables of plain values, such as "generator.n_mlp 2 -> 3"; empty when nothing does."""
    return "; ".join(f"{name} {a} -> {b}" for name, a, b in changed_fields(before, now))
