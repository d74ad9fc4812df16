"""A disk that is full while a run writes: training goes on, and nothing half-written stays."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import faces_data
import pytest
import pytorch_lightning as pl
from trained_runs import Place, arguments, numbers

from fctfg.cli import main
from fctfg.stages.csv_log import CsvLog
from fctfg.troubles import Troubles
from fctfg.weights.artifact import load_artifact

pytestmark = pytest.mark.usefixtures("untracked")


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """The operating system refuses to write beyond `size` bytes of any file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FullInValidation(pl.Callback):
    """The disk is full while the first validation runs."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self.limit = no_file_longer_than(100)
            self.limit.__enter__()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self.limit.__exit__(None, None, None)


@pytest.fixture
def own(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir()
    return faces_data.make(tmp_path / "data"), tmp_path / "runs"


def test_rows_wait_for_room_and_are_never_cut(tmp_path: Path) -> None:
    path, troubles = tmp_path / "metrics.csv", Troubles()
    log = CsvLog(path, troubles)
    values = {"x": 1.5, "a_long_name": 2.5, "another_long_name": 3.5}
    log.log_metrics({"train/x": 0.5}, 0)
    before = path.read_bytes()
    for room in (0, 5, 40):  # not a byte, half a row, several rows but not all
        with no_file_longer_than(len(before) + room):
            log.log_metrics({f"train/{name}": value for name, value in values.items()}, 1 + room)
            assert path.read_bytes() == before
    assert troubles.counts == {f"failed writes of {path}": 3}
    log.log_metrics({"train/x": 4.5}, 50)
    rows = [f"{1 + room},train/{name},{value}" for room in (0, 5, 40) for name, value in values.items()]
    assert path.read_text().split() == ["iteration,name,value", "0,train/x,0.5", *rows, "50,train/x,4.5"]
    with no_file_longer_than(100):
        log.log_metrics({"train/x": 6.5}, 51)
        log.finalize("success")
    assert troubles.counts[f"rows lost for {path}"] == 1


def test_a_full_disk_is_no_obstacle_for_going_back(tmp_path: Path) -> None:
    """What follows the checkpoint is cut off, also with half a row at the end."""
    path = tmp_path / "metrics.csv"
    log = CsvLog(path, Troubles())
    for step in range(5):
        log.log_metrics({"val/y": 1.0, "train/x": step / 3}, step)
    with path.open("ab") as file:
        file.write(b"5,train/x,0.3")
    number = path.stat().st_ino
    with no_file_longer_than(10):
        log.rewind(3)
    assert path.stat().st_ino == number
    assert path.read_text().split()[-2:] == [f"2,train/x,{2 / 3!r}", "3,val/y,1.0"]


def test_a_run_goes_on_without_samples_and_with_all_its_rows(own: Place, caplog: pytest.LogCaptureFixture) -> None:
    full = f"--trainer.callbacks={__name__}.FullInValidation"
    assert main(arguments(own, "identity_expert", "full", full)) == 0
    run = own[1] / "full"
    assert [path.name[-10:] for path in (run / "samples").glob("*")] == ["000008.png"]
    assert f"times that {run / 'samples'} could not be written: 1" in caplog.messages[-1]
    assert main(arguments(own, "identity_expert", "roomy")) == 0
    assert numbers(own, "full") == numbers(own, "roomy")


def test_the_last_export_must_be_written_sooner_or_later(
    own: Place, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own[1] / "blocked"
    run.mkdir(parents=True)
    (run / "export").write_text("a file in the way of the folder")
    command = arguments(own, "identity_expert", "blocked")
    assert main(command) == 1
    assert f"times that {run / 'export'} could not be written: 2" in caplog.messages[-1]
    assert f"cannot write {run / 'export'}" in capsys.readouterr().err
    (run / "export").unlink()
    caplog.clear()
    assert main(command) == 0
    assert load_artifact(run).stage == "identity_expert"
    assert "Troubles" not in caplog.text


@pytest.mark.slow
def test_two_processes_write_the_last_export_when_they_are_started_again(own: Place) -> None:
    run = own[1] / "blocked_two"
    run.mkdir(parents=True)
    (run / "export").write_text("a file in the way of the folder")
    command = [sys.executable, "-m", "fctfg", *arguments(own, "sync_expert", "blocked_two", "--trainer.devices=2")]
    assert subprocess.run(command, timeout=200).returncode == 1
    (run / "export").unlink()
    assert subprocess.run(command, timeout=200).returncode == 0
    assert load_artifact(run).card["iterations"] == 8
