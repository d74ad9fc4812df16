"""`fctfg demo`: the whole road once, at tiny size, on the rendered clips in the package, with a report.

Each step is a call of the command line, as a user would make it, and leaves its output in `OUT/logs/`. A step that is
complete is not done again, an interrupted one continues; deleting OUT starts anew.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from fctfg import config_files
from fctfg.atomic import make_folder, write_json
from fctfg.demo_corpus import root
from fctfg.demo_report import write_demo_report
from fctfg.demo_result import make_result
from fctfg.errors import FctfgError, UsageError
from fctfg.file_hash import sha256
from fctfg.inference import DEFAULT_WEIGHTS
from fctfg.report import duration_text

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Training:
    """One run of `fctfg train`.

    Attributes:
        stage: name of the configuration and of the run.
        title: for the reader.
        epochs: how often it is validated, pictured and exported.
        batches: iterations per epoch.
        batch_size: samples per iteration.
        settings: of the stage, where the published ones are meant for a thousand times as many iterations.
        init_from: role -> earlier stage that it takes networks over from.
    """

    stage: str
    title: str
    epochs: int
    batches: int
    batch_size: int
    settings: Mapping[str, float]
    init_from: Mapping[str, str] = field(default_factory=dict)

    @property
    def configs(self) -> tuple[str, ...]:
        """Names of the configuration files, in their order."""
        return "base", self.stage, "tiny"

    def command(self, out: Path) -> list[str]:
        """Arguments of `fctfg` that train the stage below the folder `out`."""
        configs = [f"--config={config_files.path(name)}" for name in self.configs]
        run = [f"--runs={out.parent}", f"--run={out.name}/{self.stage}", f"--data.root={out / 'data'}"]
        length = [f"--trainer.max_epochs={self.epochs}", f"--data.batches_per_epoch={self.batches}"]
        settings = [f"--model.init_args.{name}={value}" for name, value in self.settings.items()]
        taken = [f"--model.init_args.init_from.{role}={out / stage}" for role, stage in self.init_from.items()]
        return ["train", *configs, *run, *length, f"--data.batch_size={self.batch_size}", *settings, *taken]


_IDENTITY = {"identity_expert": "identity_expert"}
_EXPERTS = _IDENTITY | {"sync_expert": "sync_expert"}

# Lengths that fit into a quarter of an hour on two cores, installation included.
TRAININGS = (
    Training("sync_expert", "Stage 0: lip-sync expert", 3, 100, 4, {"learning_rate": 1e-3}),
    Training("identity_expert", "Stage 0: identity expert", 2, 50, 16, {"learning_rate": 1e-3}),
    Training("generator", "Stage 1: StyleGAN2", 3, 150, 8, {"ema_half_life": 0.5, "r1_weight": 0.1}),
    Training(
        "encoder",
        "Stage 2: pSp encoder",
        3,
        100,
        4,
        {"learning_rate": 1e-3, "generator_learning_rate": 3e-3},
        _IDENTITY | {"generator": "generator"},
    ),
    Training(
        "hypernetwork", "Stage 2: hypernetwork", 2, 10, 4, {"learning_rate": 1e-3}, _IDENTITY | {"inversion": "encoder"}
    ),
    Training(
        "talking_face",
        "Stage 3: the whole network",
        5,
        50,
        4,
        {"generator_learning_rate": 1e-3, "ema_decay": 0.98, "weights.reconstruction": 4.0},
        _EXPERTS | {"generator": "generator", "inversion": "hypernetwork"},
    ),
)

Tell = Callable[[str], None]
"""Shows a few words about how far a step is."""


@dataclass(frozen=True)
class Step:
    """Something to do once.

    Attributes:
        name: of its record, its log and its folder below OUT.
        title: for the reader.
        key: what it depends on, beside the steps before it; the step is done again when this has changed.
        action: does it; continues what an interrupted call has left.
    """

    name: str
    title: str
    key: Sequence[str]
    action: Callable[[Tell], None]


def run_demo(out: Path, share: float = 1.0) -> Path:
    """Prepares the embedded clips, trains all stages, generates and measures, and writes the report.

    Args:
        out: folder of everything the demo writes, `runs/demo` by default.
        share: of the iterations, above 0; less is only a check that everything works here.

    Returns:
        The report, `OUT/report.html`.

    Raises:
        UsageError: the share is not above 0, or more than 1.
        FctfgError: a step failed; the message names its log.
    """
    if not 0 < share <= 1:
        raise UsageError(f"--share must be above 0 and at most 1, not {share:g}")
    make_folder(out)
    size = _frame_size()
    data = out / "data"
    prepare = ["prepare", str(root()), "--out", str(data), "--size", str(size), "--licence", "CC0-1.0"]
    steps = [Step("data", "Preparation", prepare, lambda tell: _call(out, "data", prepare, tell))]
    for full in TRAININGS:
        training = replace(full, batches=max(1, round(share * full.batches)))
        command = training.command(out)
        settings = [config_files.path(name).read_text(encoding="utf-8") for name in training.configs]
        steps.append(Step(training.stage, training.title, [*command, *settings], _trains(out, training.stage, command)))
    weights = ["--weights", str(out / "talking_face")]
    steps.append(Step("result", "Generation and measurement", weights, _generates(out, "result", weights)))
    if DEFAULT_WEIGHTS.is_file():
        title = "The same with the weights in the package"
        digest = sha256(DEFAULT_WEIGHTS)
        steps.append(Step("packaged", title, [digest], _generates(out, "packaged", [])))

    console = Console(highlight=False)
    seconds = _take(out, steps, console)
    report = out / "report.html"
    write_demo_report(report, out, [(step.title, seconds[step.name]) for step in steps], [t.stage for t in TRAININGS])
    console.print(f"Report: {report} (delete {out} to start anew)", soft_wrap=True)
    return report


def _frame_size() -> int:
    """Resolution of the tiny networks, in pixels."""
    tiny = yaml.safe_load(config_files.path("tiny").read_text(encoding="utf-8"))
    return int(tiny["networks"]["generator"]["resolution"])


def _trains(out: Path, stage: str, command: Sequence[str]) -> Callable[[Tell], None]:
    return lambda tell: _call(out, stage, command, tell)


def _generates(out: Path, name: str, weights: Sequence[str]) -> Callable[[Tell], None]:
    """Generation for the held-out person into OUT/NAME, and its measurement."""

    def act(tell: Tell) -> None:
        def generate(portrait: Path, audio: Path, driver: Path, video: Path) -> None:
            inputs = ["--portrait", str(portrait), "--audio", str(audio), "--driver", str(driver), "--no-crop"]
            _call(out, name, ["generate", *weights, *inputs, "--out", str(video)], tell)

        make_result(out / "data", root(), out / name, generate)

    return act


def _take(out: Path, steps: Sequence[Step], console: Console) -> dict[str, float]:
    """Takes the steps that are not complete yet; returns how long each took, in seconds, over all calls."""
    records = _read_records(out)
    for number, step in enumerate(steps, start=1):
        label = f"[{number}/{len(steps)}] {step.title}"
        record = records.get(step.name, {})
        if record.get("key") != list(step.key) or not (out / step.name).is_dir():
            shutil.rmtree(out / step.name, ignore_errors=True)
            record = {}
        if record.get("complete"):
            console.print(f"{label}: already done, {duration_text(record['seconds'])}")
            continue
        # What follows was made from what is now made anew.
        records = {other.name: records[other.name] for other in steps[: number - 1]}
        before, start = record.get("seconds", 0.0), time.monotonic()
        complete = False
        try:
            with console.status(label) as status:
                step.action(_teller(label, start, status.update))
            complete = True
        finally:
            seconds = before + time.monotonic() - start
            records[step.name] = {"key": list(step.key), "complete": complete, "seconds": seconds}
            _write_records(out, records)
        console.print(f"{label}: {duration_text(seconds)}")
    return {step.name: records[step.name]["seconds"] for step in steps}


def _teller(label: str, start: float, show: Callable[[str], None]) -> Tell:
    return lambda words: show(f"{label}: {duration_text(time.monotonic() - start)}{words and ' | ' + words}")


def _read_records(out: Path) -> dict[str, dict[str, Any]]:
    file = out / "steps.json"
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FctfgError(f"{file} is damaged; delete {out} and run again") from error


def _write_records(out: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    write_json(out / "steps.json", records)


def _call(out: Path, name: str, arguments: Sequence[str], tell: Tell) -> None:
    """Calls `fctfg ARGUMENTS…` in a process of its own, with its output in `OUT/logs/NAME.log`.

    Raises:
        FctfgError: it failed.
    """
    log = out / "logs" / f"{name}.log"
    make_folder(log.parent)
    environment = os.environ | {"WANDB_MODE": "offline"}  # the demo sends nothing
    with log.open("ab") as output:
        command = [sys.executable, "-m", "fctfg", *arguments]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                tell(_last_line(log))
                time.sleep(POLL_SECONDS)
        finally:
            # After Ctrl-C the process, which got it too, is still saving its checkpoint.
            status = process.wait()
    if status != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["no output"]
        reason = next((line for line in reversed(lines) if line.startswith("fctfg: error: ")), lines[-1])
        raise FctfgError(f"the step '{name}' failed: {reason.removeprefix('fctfg: error: ')}; its output is in {log}")


def _last_line(log: Path) -> str:
    """What a command has printed last, in at most 80 characters."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip()[:80] for line in reversed(lines[:-1]) if line.strip()), "")
