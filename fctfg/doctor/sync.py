"""`fctfg doctor sync`: why a lip-sync expert does not learn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fctfg.data.manifest import Manifest, coded, read_manifest
from fctfg.doctor.amount import measure_amount
from fctfg.doctor.clock import measure_clock
from fctfg.doctor.evidence import Evidence
from fctfg.doctor.overfit import measure_overfit
from fctfg.doctor.rules import Finding, Verdict, diagnose, verdicts
from fctfg.doctor.shift import measure_shift
from fctfg.doctor.sound import COLUMNS, measure_sound
from fctfg.doctor.sources import measure_sources
from fctfg.doctor.training import read_training
from fctfg.errors import FctfgError, UsageError
from fctfg.models.experts.syncnet import SyncNet, SyncNetConfig
from fctfg.weights.artifact import Artifact, build, save_artifact
from fctfg.weights.opening import open_weights
from fctfg.weights.sync_measurement import CARD_KEY, SyncMeasurement, write_measurement

SMALL = SyncNetConfig(width=0.25, dim=128)  # as in configs/tiny.yaml
Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class Options:
    """What is to be looked at.

    Attributes:
        data: the data set.
        run: of stage 0; None looks at the data only.
        expert: weights to measure, as `init_from` names them; not beside a run.
        sources: folder of the raw videos; None asks none of them.
        clips: of held-out people that an expert is measured on, at most.
        overfit: whether clips are learnt by heart.
        iterations, seconds: that this may take.
        device: that computes.
        weights_out: file for a copy of the expert with what was measured in its card.

    Raises:
        UsageError: settings that do not go together, or a number that is not positive.
    """

    data: Path
    run: Path | None = None
    expert: str | None = None
    sources: Path | None = None
    clips: int = 64
    overfit: bool = True
    iterations: int = 600
    seconds: float = 100.0
    device: str = "cpu"
    weights_out: Path | None = None

    def __post_init__(self) -> None:
        if self.run is not None and self.expert is not None:
            raise UsageError("--run and --expert both say which expert to look at; give one of them")
        if self.weights_out is not None and self.expert is None:
            raise UsageError("--weights-out is a copy of the weights that --expert names; give both")
        if self.weights_out is not None and self.weights_out.suffix != ".safetensors":
            raise UsageError(
                f"--weights-out {self.weights_out}: fctfg writes safetensors; give it a name that ends in .safetensors"
            )
        for name, value in (
            ("--clips", self.clips),
            ("--overfit-iterations", self.iterations),
            ("--overfit-seconds", self.seconds),
        ):
            if not value > 0:
                raise UsageError(f"{name} must be positive, not {value:g}")


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        data: folder of the data set.
        dataset_hash: what is in it.
        expert: what the user calls the expert; None without one.
        evidence: what was measured.
        findings: the likeliest cause first; empty when nothing is wrong.
        notes: which check could not be made, and why.
    """

    data: Path
    dataset_hash: str
    expert: str | None
    evidence: Evidence
    findings: list[Finding]
    notes: list[str]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """On each check that was made."""
        return verdicts(self.evidence, self.findings)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "data": str(self.data),
            "dataset_hash": self.dataset_hash,
            "expert": self.expert,
            "checks": {
                name: {"verdict": self.verdicts[name], "measured": str(found), "figures": asdict(found)}
                for name, found in self.evidence.made()
            },
            "findings": [asdict(finding) for finding in self.findings],
            "notes": self.notes,
        }


def examine(options: Options, bar: Bar) -> tuple[Diagnosis, Artifact | None]:
    """Make all checks.

    Args:
        options: what to look at.
        bar: shows how far a check is.

    Returns:
        The diagnosis, and the expert's weights, where there is an expert.

    Raises:
        FctfgError: the data or the weights cannot be looked at.
    """
    artifact, expert = _expert(options)
    manifest = _kept(options.data)
    amount, sound = measure_amount(manifest), measure_sound(manifest)
    training = None
    if options.run is not None and artifact is not None:
        training = read_training(options.run, artifact, manifest.hash)
    sources = measure_sources(options.sources, coded(manifest, "source")[0]) if options.sources is not None else None
    with tempfile.TemporaryDirectory() as folder:
        clock = measure_clock(Path(folder))
    shift = overfit = None
    notes = []
    if expert is not None:
        with bar("shift") as show:
            shift = measure_shift(expert.to(options.device), options.data, options.clips, show)
    if options.overfit:
        sizes = SMALL if expert is None else expert.config
        given = options.iterations, options.seconds
        try:
            with bar("overfit") as show:
                overfit = measure_overfit(options.data, sizes, *given, device=options.device, show=show)
        except FctfgError as error:  # what was measured before is not lost
            notes.append(f"a few clips by heart: not looked at, {error}")
    evidence = Evidence(amount, sound, sources, clock, training, overfit, shift)
    name = options.expert or (None if options.run is None else str(options.run))
    return Diagnosis(options.data, manifest.hash, name, evidence, diagnose(evidence), notes), artifact


def keep_measurement(artifact: Artifact, measurement: SyncMeasurement, out: Path | None) -> Path:
    """Write what was measured of an expert, so that stage 3 takes it.

    Args:
        artifact: its weights.
        measurement: of it.
        out: weights file to write, a copy with the measurement in its card; None writes a small file beside the
            weights.

    Returns:
        The file that was written.

    Raises:
        FctfgError: it cannot be written.
    """
    if out is None:
        return write_measurement(artifact.path, artifact.sha256, measurement)
    networks = {name: build(artifact, name) for name in artifact.configs}
    save_artifact(out, networks, artifact.stage, artifact.card | {CARD_KEY: measurement.plain()})
    return out


def _kept(root: Path) -> Manifest:
    """The kept clips of a data set, with what the checks of the data need."""
    manifest = read_manifest(root, ("identity", "split", "reject_reason", *COLUMNS))
    return manifest.kept()


def _expert(options: Options) -> tuple[Artifact | None, SyncNet | None]:
    if options.run is None and options.expert is None:
        return None, None
    key = "--run" if options.expert is None else "--expert"
    artifact = open_weights(str(options.run or options.expert), key)
    if "sync_expert" not in artifact.configs:
        raise FctfgError(
            f"{artifact.path} (stage '{artifact.stage}') holds no lip-sync expert, only "
            f"{', '.join(artifact.configs)} ({key}); name a run of stage 0 (configs/sync_expert.yaml) or Wav2Lip's "
            f"expert"
        )
    if (out := options.weights_out) is not None and out.exists() and out.samefile(artifact.path):
        raise FctfgError(f"--weights-out {out} is the file to measure; write to another one")
    expert = build(artifact, "sync_expert")
    assert isinstance(expert, SyncNet)
    return artifact, expert.eval().requires_grad_(False)
