"""Runs that are continued as something else, twice at once, past their end, or on a disk that is full."""

import errno
import os
import re
import shutil
from pathlib import Path

import faces_data
import pytest
import torch
from clip_sets import change_column
from cut_runs import Processes, iterations_logged
from trained_runs import Place, arguments, checkpoint

from fctfg.cli import main
from fctfg.stages.checkpoint_files import CheckpointFiles

pytestmark = pytest.mark.usefixtures("untracked")
LONGER = "--trainer.max_epochs=3"


@pytest.fixture
def copied(place: Place, tmp_path: Path) -> Place:
    """The sync expert's run of eight iterations."""
    shutil.copytree(place[1] / "sync_expert", tmp_path / "runs" / "sync_expert", symlinks=True)
    return place[0], tmp_path / "runs"


def iterations(place: Place, run: str = "sync_expert") -> int:
    return int(checkpoint(place, run)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--trainer.precision=bf16-mixed", "precision 32-true -> bf16-mixed"),
        ("--trainer.devices=2", "number of processes 1 -> 2"),
        ("--data.view=men", "clips None -> "),
    ],
)
def test_what_cannot_be_exact_is_refused(
    copied: Place, tmp_path: Path, option: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(copied[0], tmp_path / "data"))
    assert main(["data", "query", str(data), 'identity != "p0"', "--save", "men"]) == 0
    again = data, copied[1]
    before = (copied[1] / "sync_expert" / "config.yaml").read_text()
    assert main(arguments(again, "sync_expert", None, LONGER, option)) == 1
    error = capsys.readouterr().err
    assert f"cannot go on exactly as it was begun ({said}" in error and "--accept_changes" in error
    assert (copied[1] / "sync_expert" / "config.yaml").read_text() == before and iterations(copied) == 8


def test_another_data_set_is_refused_unless_accepted(
    copied: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir()
    data = faces_data.make(tmp_path / "data")
    change_column(data, "identity", lambda identity, _: f"other {identity}")
    command = arguments((data, copied[1]), "sync_expert", None, LONGER)
    assert main(command) == 1
    assert "(data set " in capsys.readouterr().err
    assert main([*command, "--accept_changes=true"]) == 0
    assert "The run goes on otherwise than it began: data " in caplog.text
    assert iterations(copied) == 12


def test_another_number_of_threads_is_said(copied: Place, caplog: pytest.LogCaptureFixture) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert main(arguments(copied, "sync_expert", None, LONGER)) == 0
    assert f"CPU with {threads} threads -> CPU with {threads + 1} threads, which rounds otherwise" in caplog.text


def test_the_length_of_an_epoch_does_not_change_within_it(copied: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(copied, "sync_expert", None, LONGER, "--trainer.max_steps=10")) == 0
    other = "--data.batches_per_epoch=3"
    assert main(arguments(copied, "sync_expert", None, LONGER, other)) == 1
    assert "set data.batches_per_epoch=4 until the epoch's end" in capsys.readouterr().err
    assert main(arguments(copied, "sync_expert", None, LONGER)) == 0
    assert main(arguments(copied, "sync_expert", None, "--data.batches_per_epoch=5", "--trainer.max_epochs=4")) == 1
    assert "12 iterations, which are no whole epochs of data.batches_per_epoch=5" in capsys.readouterr().err
    assert main(arguments(copied, "sync_expert", None, other, "--trainer.max_epochs=4")) == 0
    assert iterations(copied) == 15


def test_a_run_within_an_epoch_beyond_its_end_is_complete(copied: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Killed in its third epoch, after its last export, and then told to end after the first."""
    assert main(arguments(copied, "sync_expert", None, LONGER, "--trainer.max_steps=10")) == 0
    shutil.rmtree(copied[1] / "sync_expert" / "export")
    assert main(arguments(copied, "sync_expert", None, "--trainer.max_epochs=1")) == 0
    assert "is complete after 10 iterations" in caplog.text and iterations(copied) == 10


@pytest.mark.parametrize("limit", ["--trainer.max_epochs=1", "--trainer.max_epochs=2", "--trainer.max_steps=5"])
def test_a_run_that_is_complete_is_left_alone(copied: Place, limit: str, caplog: pytest.LogCaptureFixture) -> None:
    run = copied[1] / "sync_expert"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert main(arguments(copied, "sync_expert", None, limit)) == 0
    assert f"{run} is complete after 8 iterations" in caplog.text
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


def test_two_launches_at_once(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second one is refused, and says who the first one is; that one heeds SIGTERM."""
    command = arguments((place[0], tmp_path), "sync_expert", None, "--trainer.max_epochs=1000")
    first = Processes(command, tmp_path / "log.txt")
    while not first.wait(0.02) and not (tmp_path / "sync_expert" / "metrics.csv").exists():
        pass
    (process,) = first.ranks
    assert main(command) == 1
    assert f"(process {process.pid} on {os.uname().nodename})" in capsys.readouterr().err
    process.terminate()
    assert first.wait(100) and first.statuses == {143}
    said = (tmp_path / "log.txt").read_text()
    assert re.search(r"Interrupted; .*last.ckpt is saved", said) and "Traceback" not in said
    assert iterations((place[0], tmp_path)) == iterations_logged(tmp_path / "sync_expert")


def test_a_disk_that_is_full_for_a_while(
    copied: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Checkpoints 9 to 11 do not fit; training goes on, what there is stays, and the end is saved."""
    write, refused = CheckpointFiles.write, []

    def full(files: CheckpointFiles, iteration: int, content: object) -> Path:
        if iteration < 12:
            refused.append(sorted(path.name for path in files.folder.iterdir()))
            with monkeypatch.context() as patch:

                def no_space(*rest: object) -> None:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

                patch.setattr("torch.save", no_space)
                return write(files, iteration, content)  # type: ignore[arg-type]
        return write(files, iteration, content)  # type: ignore[arg-type]

    monkeypatch.setattr(CheckpointFiles, "write", full)
    assert main(arguments(copied, "sync_expert", None, LONGER, "--checkpoint-every=1")) == 0
    assert len(refused) == 3 and refused[0] == refused[2]
    assert caplog.text.count("Not saved, training goes on: cannot write") == 3
    assert "Troubles since the start: checkpoints that could not be written: 3" in caplog.text
    assert "no space left on the disk" in caplog.text
    assert iterations(copied) == 12


def test_a_run_whose_end_is_not_saved_has_failed(
    copied: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_space(*rest: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.save", no_space)
    assert main(arguments(copied, "sync_expert", None, LONGER)) == 1
    assert "the run has ended, but its end is not saved" in capsys.readouterr().err
    assert iterations(copied) == 8
    monkeypatch.undo()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(arguments(copied, "sync_expert", None, LONGER)) == 0
    assert iterations(copied) == 12


def test_a_folder_that_cannot_be_written(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """As root a folder is writable always; the kernel's own is not."""
    assert main(arguments((place[0], Path("/proc/runs")), "sync_expert")) == 1
    error = capsys.readouterr().err
    assert "cannot write /proc/runs" in error and "choose another folder" in error


def test_a_batch_larger_than_the_data(place: Place, tmp_path: Path) -> None:
    """A batch is drawn by position, with clips again where there are fewer."""
    more = "--data.batch_size=20", "--data.batches_per_epoch=1", "--trainer.max_epochs=1"
    assert main(arguments((place[0], tmp_path), "sync_expert", None, *more)) == 0
    assert iterations((place[0], tmp_path)) == 1


def test_a_view_without_clips(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Path(shutil.copytree(place[0], tmp_path / "data"))
    main(["data", "query", str(data), 'identity == "nobody"', "--save", "nobody"])
    capsys.readouterr()
    assert main(arguments((data, tmp_path), "sync_expert", None, "--data.view=nobody")) == 1
    assert "nobody" in capsys.readouterr().err
    assert not (tmp_path / "sync_expert").exists()


def test_a_missing_expert(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = f"--model.init_from.sync_expert={tmp_path / 'lost'}"
    assert main(arguments(place, "talking_face", "expertless", lost)) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "lost") in error and "sync_expert" in error
    assert not (place[1] / "expertless").exists()


def test_a_metric_without_a_best_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "encoder", "bests", "--keep_best=[ssim]")) == 2
    assert "keep_best: stage 'encoder' knows no best by 'ssim' (only by: psnr, lpips)" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["--checkpoint_every=0", "--keep_checkpoints=0"])
def test_numbers_of_checkpoints_that_cannot_be(place: Place, setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "encoder", "numbers", setting)) == 2
    assert "must be at least 1" in capsys.readouterr().err


def test_the_best_by_each_metric_is_kept(place: Place, tmp_path: Path) -> None:
    """The best of ten evaluations, within and at the end of epochs, as the log has it."""
    more = ("--data.batches_per_epoch=6", "--trainer.max_epochs=3", "--trainer.val_check_interval=2")
    command = arguments((place[0], tmp_path), "sync_expert", None, *more, "--model.learning_rate=3e-3")
    assert main([*command, "--keep_checkpoints=1"]) == 0
    rows = [row.split(",") for row in (tmp_path / "sync_expert" / "metrics.csv").read_text().splitlines()]
    folder = tmp_path / "sync_expert" / "checkpoints"
    for metric, best in (("accuracy", max), ("contrastive", min)):
        values = {int(row[0]): float(row[2]) for row in rows if row[1] == f"val/{metric}"}
        assert len(values) == 9
        wanted = next(iteration for iteration in values if values[iteration] == best(values.values()))
        (kept,) = folder.glob(f"best-{metric}-*.ckpt")
        assert int(kept.stem.rsplit("-", 1)[1]) == wanted
    assert len(list(folder.glob("iteration-*.ckpt"))) == 1
