"""`fctfg bench data`: its figures, its verdict, and its errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from clip_sets import store, write_set

from fctfg.bench_data import Figure, verdict
from fctfg.cli import main
from fctfg.data.manifest import Clip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    kept = [store(root, Clip(f"c{n}", f"p{n}", "train"), frames, np.zeros(25600, np.float32)) for n in range(3)]
    return write_set(root, kept, 64)


def test_figures_and_verdict(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    words = ["bench", "data", root, "--batch", 4, "--step-ms", 50, "--workers", 2, 0, 2, "--seconds", 1, "--json", out]
    assert main([str(word) for word in words]) == 0
    content = json.loads(out.read_text())
    slow, fast = sorted((Figure(**row) for row in content["figures"]), key=lambda figure: figure.workers)
    assert (slow.workers, fast.workers, slow.kind) == (0, 2, "threads")
    per_sample = (root / "shards").joinpath(next((root / "shards").iterdir())).stat().st_size / 120 * 6 / 1e6
    assert slow.megabytes / slow.samples == pytest.approx(per_sample, rel=0.05)
    # read in turn, a batch of 4 takes 4 / rate beside the step's 50 ms
    assert slow.waiting == pytest.approx(4 / slow.samples / (4 / slow.samples + 0.05), abs=0.15)
    assert fast.waiting < slow.waiting
    told = content["verdict"]
    assert told in " ".join(capsys.readouterr().out.split())
    assert told.startswith("The network is the bottleneck: a step of 50 ms takes 80 samples a second")


def test_verdict_names_the_fewest_threads_that_suffice_or_says_that_none_do() -> None:
    def figures(*waiting: float) -> list[Figure]:
        rows = [Figure(2**number, "threads", 1.0, 1.0, share) for number, share in enumerate(waiting)]
        return [*rows, Figure(1, "processes", 1.0, 1.0, 0.0)]

    assert "with 4 threads (--data.num_workers 4) training waits 1.0%" in verdict(figures(0.5, 0.1, 0.01, 0.0), 8, 10)
    told = verdict(figures(0.5, 0.1, 0.05, 0.2), 8, 10)
    assert told.startswith("The data is the bottleneck: a step of 10 ms takes 800 samples a second")
    assert "with 4 threads training waits 5% of the time" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "0"], "--batch must be 1 or more, not 0"),
        (["--step-ms", "0"], "--step-ms must be more than 0, not 0"),
        (["--seconds", "inf"], "--seconds must be more than 0, not inf"),
        (["--workers", "1", "-2"], "--workers must be 0 or more, not -2"),
    ],
)
def test_settings_out_of_range(root: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "data", str(root), *words]) == 2
    assert said in capsys.readouterr().err


def test_no_data_set_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "data", str(tmp_path)]) == 1
    assert "is not a clip data set" in capsys.readouterr().err
