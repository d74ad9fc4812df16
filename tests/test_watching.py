"""Watching a run: its speed, its progress on the terminal, and what it leaves when it crashes."""

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import nn
from trained_runs import Place, arguments

from fctfg.cli import main
from fctfg.data.dataset import TalkingClips
from fctfg.errors import FctfgError
from fctfg.stages.callbacks import progress, speed
from fctfg.stages.callbacks.learning_rates import named_rates
from fctfg.stages.callbacks.progress import duration, speed_text, terms_text
from fctfg.stages.callbacks.speed import Mark, Rates, Speed, rates
from fctfg.stages.crash_report import advice, without_secrets

pytestmark = pytest.mark.usefixtures("untracked")


def test_rates_between_two_moments() -> None:
    before = Mark(seconds=100.0, iterations=10, images=40, waited=2.0, paused=5.0)
    now = Mark(seconds=115.0, iterations=30, images=120, waited=3.0, paused=10.0)
    found = rates(before, now)
    assert found is not None  # 20 iterations and 80 images in 15 s, 5 of which were no training
    assert vars(found) == pytest.approx(
        {"images_per_second": 8.0, "kimg_per_day": 8 * 86.4, "data_wait": 0.1, "seconds_per_iteration": 0.5}
    )
    assert rates(now, now) is None
    assert rates(before, Mark(105.0, 11, 44, 2.0, 10.0)) is None  # nothing but a pause


def test_time_left_counts_the_pauses_to_come() -> None:
    measured = Speed()
    measured.now, measured._paused, measured._pauses = Mark(0.0, 25), 12.0, 2
    assert measured.left(100, 0.5, 10) == pytest.approx(75 * 0.5 + 8 * 6.0)
    assert measured.left(25, 0.5, 10) == 0
    assert measured.left(None, 0.5, 10) is None


def test_lines() -> None:
    found = Rates(images_per_second=1234.5, kimg_per_day=106661.0, data_wait=0.034, seconds_per_iteration=0.1)
    line = "1234 images/s, 106661 kimg/day, 1:01:01 left, 3% waiting for data"
    assert speed_text(found, 3661, None) == line
    assert speed_text(found, 3661, 20.26) == line + ", 20.3 GB of GPU memory"
    assert "? left" in speed_text(found, None, None)
    terms = {"sync": 0.5, "grad_norm_generator": 2.0}
    steps = {"learning_rate_generator": 1e-3, "learning_rate_discriminator": 1e-3}
    assert terms_text(terms, steps) == "sync 0.5 | gradients generator 2 | learning rate 0.001"
    other = terms_text({}, steps | {"learning_rate_discriminator": 2e-3})
    assert other == "learning rate generator 0.001 discriminator 0.002"
    assert [duration(s) for s in (5, 65.4, 3605, 90061)] == ["0:05", "1:05", "1:00:05", "1 d 1:01:01"]


def test_learning_rates_are_named_after_the_networks_that_they_belong_to() -> None:
    module = nn.ModuleDict(
        {
            "network": nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2), "c": nn.Linear(2, 2)}),
            "judge": nn.Linear(2, 1),
        }
    )
    a, b, c = (list(module["network"][name].parameters()) for name in "abc")  # type: ignore[index]
    one = torch.optim.SGD([{"params": [*a, *b]}, {"params": c, "lr": 3.0}], lr=1.0)
    other = torch.optim.SGD(module["judge"].parameters(), lr=2.0)
    expected = {"learning_rate_network": 1.0, "learning_rate_c": 3.0, "learning_rate_judge": 2.0}
    assert named_rates(module, [one, other]) == expected
    assert named_rates(module, [torch.optim.SGD(module.parameters(), lr=4.0)]) == {"learning_rate": 4.0}
    assert named_rates(module, [torch.optim.SGD([module["judge"].bias], lr=5.0)]) == {"learning_rate_judge": 5.0}


def logged(run: Path) -> dict[str, dict[int, float]]:
    """The values of a run's metrics by name and iteration."""
    found: dict[str, dict[int, float]] = {}
    for row in (run / "metrics.csv").read_text().splitlines()[1:]:
        iteration, name, value = row.split(",")
        found.setdefault(name, {})[int(iteration)] = float(value)
    return found


def test_speed_and_learning_rates_are_logged(place: Place) -> None:
    found = logged(place[1] / "generator")
    every = set(range(8))
    for name in ("images_per_second", "kimg_per_day", "data_wait", "seconds_per_iteration"):
        assert set(found[f"speed/{name}"]) == every
    for k in every:  # two frames of each of two clips
        images = found["speed/images_per_second"][k]
        assert images * found["speed/seconds_per_iteration"][k] == pytest.approx(4)
        assert found["speed/kimg_per_day"][k] == pytest.approx(images * 86.4)
        assert 0 < found["speed/data_wait"][k] < 1  # batches are read when they are needed
    assert "speed/gpu_memory_gb" not in found
    assert set(found["train/learning_rate_generator"].values()) == {2e-3}
    assert set(found["train/learning_rate_discriminator"].values()) == {2e-3}


def test_a_loader_that_limits_is_named_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = TalkingClips.read

    def slow(*given: Any) -> Any:
        time.sleep(0.2)
        return read(*given)

    monkeypatch.setattr(speed, "WINDOW", 2)
    monkeypatch.setattr(speed, "ENOUGH", 0.7)
    for run, reads, times in (("quick", read, 0), ("slow", slow, 1)):
        monkeypatch.setattr(TalkingClips, "read", reads)
        caplog.clear()
        with caplog.at_level("INFO", "fctfg"):
            assert main(arguments(place, "identity_expert", f"{run}_data")) == 0
        assert caplog.text.count("Training waits for its data") == times
    assert "--data.num_workers 0. More threads may help" in caplog.text
    assert f"`fctfg bench data {place[0]} --batch 2 --frames 1 --step-ms" in caplog.text


def test_plain_lines_where_there_is_no_terminal(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "generator", "plain")) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("iteration ")]
    assert [line.split(" | ")[0] for line in lines] == ["iteration 1/8", "iteration 8/8"]
    pattern = (
        r" \| \S+ images/s, \S+ kimg/day, \d+:\d\d left, \d+% waiting for data \| .*discriminator .* \| .*learning"
    )
    assert all(re.search(pattern, line) for line in lines)


def test_the_end_is_that_of_max_steps_where_it_comes_first(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "sync_expert", "steps", "--trainer.max_steps=3")) == 0
    assert "\niteration 3/3 | " in capfd.readouterr().err


def test_a_bar_on_a_terminal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=150))
    monkeypatch.setenv("TERM", "xterm")
    assert main(arguments(place, "generator", "bar", "--trainer.max_epochs=1")) == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "4/4" in shown and "images/s" in shown and "learning rate 0.002" in shown and "epoch 0" in shown


class Fails(pl.Callback):
    """Ends a run after three iterations as it is told."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        if rest[-1] == 2:
            if self.kind == "stop":
                raise SystemExit(143)
            raise RuntimeError("hidden-value-1") if self.kind == "crash" else FctfgError("the disk is a sieve; mend it")


def ended(place: Place, kind: str) -> tuple[int, dict[str, Any], list[Path]]:
    """Exit status, run.json and reports of a run that ends so."""
    run = place[1] / f"ended_{kind}"
    callback = f'--trainer.callbacks={{"class_path": "test_watching.Fails", "init_args": {{"kind": "{kind}"}}}}'
    status = main(arguments(place, "generator", run.name, callback))
    return status, json.loads((run / "run.json").read_text()), list(run.glob("crash-*"))


def test_a_crash_leaves_a_page(place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hidden-value-1")
    monkeypatch.setenv("HARMLESS_VARIABLE", "harmless-value")
    with caplog.at_level("INFO", "fctfg"):
        status, state, (report,) = ended(place, "crash")
    assert status == 1
    assert f"The run crashed; {report} says where" in caplog.text
    assert (state["state"], state["iterations"], state["reason"]) == ("crashed", 3, report.name)
    page = report.read_text()
    assert "RuntimeError: ***" in page and "hidden-value" not in page and "HARMLESS" not in page
    for told in (
        "in on_train_batch_end",
        "stage generator, iteration 2 (counted from 0), epoch 0 of 2, process 0 of 1",
        "last checkpoint: none",
        "train/discriminator ",
        "GB so far; available: ",
        f"torch {torch.__version__.split('+')[0]}",
        "r1_every: 16",
        "Run the same command again",
        "--run=ended_crash",
    ):
        assert told in page
    assert "not known (" not in page
    assert len(page.splitlines()) < 100


def test_what_a_user_can_mend_is_no_crash(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    status, state, reports = ended(place, "fail")
    assert (status, reports) == (1, [])
    assert (state["state"], state["reason"]) == ("failed", "the disk is a sieve; mend it")
    assert "fctfg: error: the disk is a sieve; mend it" in capsys.readouterr().err


def test_a_stop_is_no_crash(place: Place) -> None:
    status, state, reports = ended(place, "stop")
    assert (status, state["state"], state["iterations"], reports) == (143, "stopped", 3, [])


def test_advice_and_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--fit" in advice(torch.OutOfMemoryError("CUDA out of memory"))
    assert "Another process" in advice(RuntimeError("[gloo] Connection closed by peer"))
    monkeypatch.setenv("DB_PASSWORD", "correct horse")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    assert without_secrets("a correct horse battery") == "a *** battery"
