"""What all stages share: the hand-off of networks, what is random, what a checkpoint holds, the scheme of the logs."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from fctfg.data.batch import Batch
from fctfg.data.datamodule import TalkingData
from fctfg.errors import FctfgError
from fctfg.models.experts.arcface import ArcFace
from fctfg.models.experts.arcface_onnx import ArcFaceONNX
from fctfg.ops.draws import Draws
from fctfg.ops.processes import average
from fctfg.ops.recompute import Segmented
from fctfg.randomness import derive_seed
from fctfg.stages.finite import RollBack, Safety, Statistics, finite_root, gradient_norms, guard
from fctfg.stages.networks import Networks
from fctfg.troubles import Troubles
from fctfg.weights.artifact import Artifact, build, load_into
from fctfg.weights.config_json import config_differences, config_to_dict
from fctfg.weights.opening import open_weights

Network = TypeVar("Network", bound=nn.Module)


def mean_terms(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The means of scalars by name over the parts of a batch, all of which have the same names; detached."""
    return {name: torch.stack([part[name].detach() for part in parts]).mean() for name in parts[0]}


def device_name(device: torch.device) -> str:
    """What computes: the GPU's name, or on a CPU the number of threads, which sums depend on."""
    return (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU with {torch.get_num_threads()} threads"
    )


say = rank_zero_only(logging.getLogger("fctfg").info)


class Stage(pl.LightningModule, ABC):
    """A stage of training.

    A subclass gives the networks that the next stage takes over in `exports` and pictures of a fixed validation batch
    in `pictures`.

    Args:
        networks: sizes of all networks.
        init_from: where networks of earlier stages come from, by role: run folders, exported files, published files
            or names of the catalogue (`fctfg weights list`).
        seed: the run's seed.

    Attributes:
        frozen: frozen networks by attribute, with the role that each comes from. They are left out of checkpoints and
            taken over again when a run continues, from files that must not have changed.
        settings: plain values that the run was configured with; a run that continues says which have changed.
        measured: the values of the last validation, by name with `val/`.
        better: metrics of validation by which a checkpoint can be the best, and whether it is the largest or smallest.
        troubles: of the run.
        batches: of `data.batch_size` samples that an iteration takes one after the other (`data.accumulate`).
        safety: what is done about numbers that are not finite.
        attempt: how often the run has gone back to a checkpoint; each attempt sees other data, in another order.
        watched: training's terms and the norms of the gradients in this iteration, scalars on the device.
    """

    stage: ClassVar[str]
    roles: ClassVar[tuple[str, ...]] = ()  # the keys of `init_from`
    follows_data: ClassVar[bool] = True  # whether a run may go on with other data
    better: ClassVar[dict[str, Literal["min", "max"]]] = {}
    trains_on_source: ClassVar[bool] = False  # whether the source is one of the pictures trained on

    def __init__(self, networks: Networks, init_from: dict[str, str] | None = None, seed: int = 0) -> None:
        super().__init__()
        self.networks = networks
        self.init_from = init_from or {}
        self.seed = seed
        self.frozen: dict[str, str | None] = {}
        self.taken: dict[str, str] = {}  # role -> sha256 of the file that it was
        self.settings: dict[str, Any] = {}
        self.measured: dict[str, float] = {}
        self.troubles = Troubles()  # the run sets its own
        self.safety = Safety()
        self.attempt = 0
        self.watched: dict[str, Tensor] = {}
        self._guarded: dict[torch.optim.Optimizer, tuple[dict[str, list[nn.Parameter]], Statistics]] = {}
        self.automatic_optimization = False
        self.batches = 1
        self._part = 0, 1  # which part of the batch is in hand, of how many
        self._artifacts: dict[str, Artifact] = {}  # by role, until training begins
        unknown = sorted(set(self.init_from) - set(self.roles))
        if unknown:
            known = ", ".join(self.roles) or "nothing"
            raise FctfgError(f"model.init_args.init_from.{unknown[0]}: stage '{self.stage}' takes over {known}")

    def take(self, role: str, name: str, kind: type[Network], expected: Any = None) -> Network:
        """A network of an earlier stage, every tensor of it loaded.

        Args:
            role: key of `init_from`.
            name: the network's name in that stage's export.
            kind: its class.
            expected: config that this run asks for; None accepts what the export holds.

        Raises:
            FctfgError: the role is not set, or the export is damaged, incomplete, or of another size.
        """
        if role not in self.init_from:
            raise FctfgError(
                f"stage '{self.stage}' takes over '{name}' from an earlier stage: "
                f"set model.init_args.init_from.{role} to the folder of that run (or its exported file)"
            )
        artifact = self._load(role)
        network = build(artifact, name)
        assert isinstance(network, kind)
        if expected is not None and (differences := config_differences(expected, network.config)):
            raise FctfgError(
                f"{self.init_from[role]}: its {name} has another configuration than is asked for "
                f"({'; '.join(differences)}); use the same networks.* in both stages"
            )
        tensors = len(network.state_dict())
        say(f"{name}: {tensors} of {tensors} tensors from {self.init_from[role]}")
        return network

    def take_identity_expert(self) -> ArcFace | ArcFaceONNX:
        """The recogniser that `init_from.identity_expert` names: ours, IR-SE50, or one that came as ONNX.

        Raises:
            FctfgError: as `take`; the sizes of an ONNX graph are its own.
        """
        role = "identity_expert"
        if role in self.init_from and self.holds(role, "identity_expert_onnx"):
            return self.take(role, "identity_expert_onnx", ArcFaceONNX)
        return self.take(role, "identity_expert", ArcFace, self.networks.identity_expert)

    def start_from(self, role: str, name: str, network: Network) -> Network:
        """A new network, which starts from weights where `init_from` has the role.

        Args:
            role: key of `init_from`.
            name: the network's name there.
            network: as this run configures it; gets the weights.

        Raises:
            FctfgError: the weights are damaged, incomplete, or of another size.
        """
        if role not in self.init_from:
            self.announce_new(**{name: network})
            return network
        tensors = load_into(self._load(role), name, network)
        say(f"{name}: starts from {tensors} of {tensors} tensors of {self.init_from[role]}")
        return network

    def holds(self, role: str, name: str) -> bool:
        """Whether the export that `role` names has the network `name`."""
        return name in self._load(role).configs

    def _load(self, role: str) -> Artifact:
        if role not in self._artifacts:
            self._artifacts[role] = open_weights(self.init_from[role], f"model.init_args.init_from.{role}")
            self.taken[role] = self._artifacts[role].sha256
        return self._artifacts[role]

    def announce_new(self, **networks: nn.Module) -> None:
        """Says which networks start untrained."""
        for name, network in networks.items():
            say(f"{name}: new, {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters")

    def check_data(self, data: TalkingData) -> None:
        """Make sure that this stage can be trained on these data, before anything is written.

        Raises:
            FctfgError: the clips have another size than the networks, or what a stage adds.
        """
        size, wanted = data.train.size, self.networks.generator.resolution
        if size != wanted:
            raise FctfgError(
                f"the clips of {data.root} have {size} px, but the networks are made for {wanted} px; prepare them "
                f"with --size {wanted}, or choose networks of {size} px"
            )

    def check_start(self) -> None:
        """Make sure that networks taken over fit each other when a run begins; one that continues has its own.

        Raises:
            FctfgError: they do not.
        """

    # ---- to be given by each stage

    @abstractmethod
    def exports(self) -> dict[str, nn.Module]:
        """Networks that the next stage takes over, by name."""

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures of a fixed validation batch, each [rows, columns, 3, H, W] in [-1, 1], by name."""
        return {}

    def video(self, source: Tensor, driving: Tensor, mel: Tensor) -> Tensor | None:
        """A whole clip side by side, [T, 3, H, W'] in [-1, 1], from source [3, H, W], driving [T, 3, H, W] and mel
        [T, 1, 80, 16]; None where there is nothing to show. No clip is read for a stage that leaves this as it is."""
        return None

    def notes(self) -> list[str]:
        """What a reader of the results must know (stand-ins for published weights)."""
        return []

    def card(self, data: TalkingData) -> dict[str, Any]:
        """What the card of the export says of this stage's networks in particular."""
        return {}

    def periods(self) -> dict[str, int]:
        """Iterations from one computation of each lazy term to the next; the others are computed each time."""
        return {}

    # ---- one iteration

    def on_fit_start(self) -> None:
        self._artifacts.clear()
        for name, module in self.named_modules():
            if isinstance(module, Segmented):
                module.recompute = self.networks.recompute
                if self.networks.compile and "_ema" not in name and module._compiled_call_impl is None:
                    module.compile()
        for note in self.notes():
            say(note)

    @property
    def iteration(self) -> int:
        """Iterations completed so far; within a step, its 0-based number."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.completed

    def on_train_start(self) -> None:
        self._guarded = {optimizer: self._owned(optimizer) for optimizer in self.trainer.optimizers}

    def _owned(self, optimizer: torch.optim.Optimizer) -> tuple[dict[str, list[nn.Parameter]], Statistics]:
        """What an optimiser trains: parameters by network, and the statistics of these networks' batch norms."""
        trained = {p for group in optimizer.param_groups for p in group["params"]}
        networks: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter in trained:
                networks.setdefault(self._network_of(name), []).append(parameter)
        return networks, Statistics(m for m in self.modules() if trained.intersection(m.parameters(recurse=False)))

    def _network_of(self, parameter: str) -> str:
        """Name of the innermost network that a parameter belongs to: that of the last module with a `config`."""
        parts = parameter.split(".")
        owners = [end for end in range(1, len(parts)) if hasattr(self.get_submodule(".".join(parts[:end])), "config")]
        return parts[owners[-1] - 1] if owners else parts[0]

    @property
    def _attempts(self) -> tuple[int, ...]:
        """What seeds have in addition after the run has gone back to a checkpoint."""
        return (self.attempt,) if self.attempt else ()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Everything random in a step derives from its position, so that nothing random needs to be saved.
        torch.manual_seed(derive_seed(self.seed, "step", self.iteration, self.global_rank, *self._attempts))
        self.watched = {}

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Every backward pass; a loss that is not finite has no finite gradient."""
        loss.backward(finite_root(loss), *args, **kwargs)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Every optimiser step comes by here: it is skipped where its gradients are not finite.

        The gradients are the same on all processes, which so decide alike. Afterwards the optimiser's `found_inf` says
        whether its step was skipped.
        """
        networks, statistics = self._guarded[optimizer]
        norms = gradient_norms(networks)
        guard(optimizer, norms, self.safety.gradient_clip)
        statistics.settle(optimizer.found_inf)  # type: ignore[attr-defined]
        self.log_terms("train", {f"grad_norm_{name}": norm for name, norm in norms.items()})
        # Lightning counts the steps of all optimisers, but what a user calls a step is an iteration
        steps = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
        steps.ready, steps.completed = self.iteration + 1, self.iteration

    def on_validation_end(self) -> None:
        metrics = self.trainer.callback_metrics
        self.measured = {name: float(value) for name, value in metrics.items() if name.startswith("val/")}

    def log_terms(self, part: str, terms: Mapping[str, Tensor | float], **options: Any) -> None:
        """Log under `part/term`, against the iteration.

        Validation's terms are averaged over the batches of all processes, by `batch_size`. Training's go to the loggers
        every `log_every_n_steps` iterations, averaged over the processes, which exchange them in these iterations only;
        each with the values of that very iteration (`self.log` would repeat a lazy term's last value). The progress
        shows the first process's.
        """
        if part == "val":
            if "batch_size" in options:  # Lightning 2.6.6 averages these weights over the processes in whole numbers
                options["batch_size"] *= self.trainer.world_size
            for name, value in terms.items():
                self.log(f"val/{name}", value, on_step=False, on_epoch=True, sync_dist=True, **options)
            self.log("step", float(self.iteration), on_step=False, on_epoch=True)
            return
        self.watched |= {name: value for name, value in terms.items() if isinstance(value, Tensor)}
        for name, value in terms.items():
            self.log(f"{part}/{name}", value, on_step=True, logger=False, **options)
        if self.iteration % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            own = [torch.as_tensor(value, dtype=torch.float32, device=self.device) for value in terms.values()]
            values = self.trainer.strategy.reduce(torch.stack(own), reduce_op="mean").tolist()
            if self.global_rank == 0:
                named = dict(zip((f"{part}/{name}" for name in terms), values, strict=True))
                for logger in self.loggers:
                    logger.log_metrics(named, step=self.iteration)

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """The batches of `data.batch_size` that a batch is taken in, one after the other.

        While one is in hand, `accumulate` and `draws` know which. The k-th has every `data.accumulate`-th sample from
        the k-th on, as the ranks have, so that the minibatch statistics' groups are those of the whole.
        """
        for number in range(self.batches):
            self._part = number, self.batches
            yield Batch(*(field[number :: self.batches] for field in batch))
        self._part = 0, 1

    def draws(self, purpose: str, count: int) -> Draws:
        """What is random of `count` samples or images of the part in hand.

        Row i of process r, in part k of A, has the number i * A * N + k * N + r among those of all N processes; what is
        drawn depends on the run's seed, the iteration, the purpose and this number alone. So N processes that
        accumulate A batches of B draw what one process with a batch of A * N * B draws.
        """
        number, parts = self._part
        processes = self.trainer.world_size
        rows = torch.arange(count, device=self.device) * (parts * processes) + number * processes + self.global_rank
        return Draws.of_rows(derive_seed(self.seed, "step", self.iteration, purpose, *self._attempts), rows)

    def differentiate(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to the parameters'; each operation in the precision that its forward pass had.

        A training step runs under autocast, which would make the derivatives of float32 operations coarser.
        """
        with torch.autocast(self.device.type, enabled=False):
            self.manual_backward(loss)

    def accumulate(self, loss: Tensor, last: bool) -> None:
        """Add the gradients of a term of a loss, a mean over the samples of the part in hand.

        With the last term of the last part, the gradients of the parameters that are being trained become those of all
        processes. What follows looks at the gradients of the whole iteration: their norms, what guards and clips them,
        and then the optimiser's step.

        Args:
            loss: a term; its graph is freed.
            last: whether no other term follows.
        """
        number, parts = self._part
        self.differentiate(loss / parts)
        if last and number == parts - 1 and self.trainer.world_size > 1:
            average([p.grad for p in self.parameters() if p.requires_grad and p.grad is not None])

    # ---- checkpoints

    def _is_frozen(self, key: str) -> bool:
        return key.split(".", 1)[0] in self.frozen

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if not self._is_frozen(k)}
        facts = self.facts(self.trainer, self.trainer.datamodule)  # type: ignore[attr-defined]
        checkpoint["fctfg"] = facts | {"measured": self.measured, "attempt": self.attempt}

    def facts(self, trainer: pl.Trainer, data: TalkingData) -> dict[str, Any]:
        """What a run is, beside its weights; a run that continues compares it.

        Returns:
            `stage`; `networks`, the configuration of each network that is trained; `judges`, the file of each frozen
            one (sha256); `data`, what samples and draws depend on; `settings`, what terms and steps do; `machine`, what
            the last bits depend on.
        """
        networks = {
            name: config_to_dict(module.config)
            for name, module in self.named_modules()
            if hasattr(module, "config") and not self._is_frozen(name) and "_ema" not in name
        }
        judges = {role: self.taken[role] for role in self.frozen.values() if role in self.taken}
        drawn = {"seed": self.seed, "processes": trainer.world_size, "precision": str(trainer.precision)}
        return {
            "stage": self.stage,
            "networks": networks,
            "judges": judges,
            "data": data.facts() | drawn,
            "settings": self.settings,
            "machine": {"device": device_name(trainer.strategy.root_device)},
        }

    def check_finite(self) -> None:
        """Make sure that no weight is infinite or not a number, before anything is written (on all ranks alike).

        Raises:
            RollBack: a weight is not finite on some process.
        """
        names, parameters = zip(*self.named_parameters(), strict=True)
        largest = torch.stack(torch._foreach_norm([p.detach() for p in parameters], torch.inf))
        wrong = largest.isfinite().logical_not()
        if self.trainer.strategy.reduce_boolean_decision(bool(wrong.any()), all=False):
            count = int(wrong.sum())
            first = names[int(wrong.int().argmax())] if count else "a weight of another process"
            raise RollBack(f"{first} and {max(0, count - 1)} more tensors are not finite")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= {k: v for k, v in self.state_dict().items() if self._is_frozen(k)}
        self.measured = checkpoint["fctfg"]["measured"]
