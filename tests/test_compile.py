"""`networks.compile`: the same losses, and nothing is compiled again once each phase has been seen."""

from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from trained_runs import Place, arguments

from fctfg.cli import main
from fctfg.stages.base import Stage

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untracked"), pytest.mark.timeout(600)]
LAZY = "--model.init_args.r1_every=3", "--model.init_args.path_length_every=2"
LENGTH = "--data.batches_per_epoch=12", "--trainer.max_epochs=1", "--data.val_samples=2"


def terms(run: Path) -> dict[str, float]:
    rows = [row.split(",") for row in (run / "metrics.csv").read_text().splitlines()[1:]]
    return {f"{step} {name}": float(value) for step, name, value, *_ in rows if name.startswith("train/")}


def test_a_compiled_stage_trains_alike_and_compiles_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(arguments(place, "generator", "eager", *LAZY, *LENGTH)) == 0
    graphs: list[int] = []
    start = Stage.on_train_batch_start

    def count(stage: Stage, *rest: object) -> None:
        graphs.append(counters["stats"]["unique_graphs"])
        start(stage, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Stage, "on_train_batch_start", count)
    torch.compiler.reset()
    counters.clear()
    assert main(arguments(place, "generator", "compiled", *LAZY, *LENGTH, "--networks.compile=true")) == 0
    assert graphs[0] == 0 < graphs[1]
    assert graphs[4:] == [graphs[4]] * 8, "a lazy phase is compiled again"  # 3 is the last iteration of a new phase
    eager, compiled = terms(place[1] / "eager"), terms(place[1] / "compiled")
    assert eager.keys() == compiled.keys()
    first = [name for name in eager if name.startswith("0 ")]
    assert len(first) > 8
    for name in first:
        assert compiled[name] == pytest.approx(eager[name], rel=1e-3, abs=1e-4), name
