"""Checkpoint files: the newest intact one is used whatever happened to the others, and none is lost to a full disk."""

import errno
import hashlib
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trained_runs import Place, arguments, checkpoint, numbers

from fctfg.atomic import remove_leftovers
from fctfg.cli import main
from fctfg.errors import FctfgError, WriteError
from fctfg.stages.checkpoint_files import CheckpointFiles

TORN = int(os.environ.get("FCTFG_TORN", "20"))  # damaged files


def content(iteration: int) -> dict[str, Any]:
    return {"iteration": iteration, "weights": torch.full((64,), float(iteration))}


def written(folder: Path, *iterations: int, keep: int = 3) -> CheckpointFiles:
    files = CheckpointFiles(folder, keep)
    for iteration in iterations:
        files.write(iteration, content(iteration))
    return files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".sha256")


def hashes_hold(folder: Path) -> bool:
    """Whether `sha256sum` itself agrees with every hash, and every checkpoint has one."""
    hashed = sorted(folder.glob("*.sha256"))
    assert [path.name.removesuffix(".sha256") for path in hashed] == [n for n in names(folder) if n != "last.ckpt"]
    return subprocess.run(["sha256sum", "--check", "--quiet", *hashed], cwd=folder).returncode == 0


def test_the_newest_are_kept_with_their_hashes(tmp_path: Path) -> None:
    files = written(tmp_path, 9, 10, 100, 1000)
    assert names(tmp_path) == [*(f"iteration-{n:08d}.ckpt" for n in (10, 100, 1000)), "last.ckpt"]
    assert hashes_hold(tmp_path)
    assert torch.load(files.last, weights_only=True)["iteration"] == 1000
    assert files.newest().path == tmp_path / "iteration-00001000.ckpt"


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    assert CheckpointFiles(tmp_path / "none").newest().path is None


def test_order_is_by_iteration_not_by_the_clock(tmp_path: Path) -> None:
    """The clock was set back between two checkpoints."""
    files = written(tmp_path, 1, 2, 3)
    for iteration in (1, 2, 3):
        os.utime(tmp_path / f"iteration-{iteration:08d}.ckpt", (2e9 - iteration * 1e8,) * 2)
    assert files.newest().path == tmp_path / "iteration-00000003.ckpt"
    files.write(4, content(4))
    assert names(tmp_path)[0] == "iteration-00000002.ckpt"


def test_the_same_iteration_again_is_another_file(tmp_path: Path) -> None:
    files = written(tmp_path, 5, 5, 5)
    assert files.newest().path == tmp_path / "iteration-00000005-3.ckpt"
    assert len(names(tmp_path)) == 4 and hashes_hold(tmp_path)


def damage(path: Path, draw: np.random.Generator) -> None:
    """A file that is cut off, or has a wrong bit, as a torn write or a bad disk leaves it."""
    whole = bytearray(path.read_bytes())
    if draw.random() < 0.5:
        path.write_bytes(whole[: draw.integers(len(whole))])
    else:
        whole[draw.integers(len(whole))] ^= 1 << int(draw.integers(8))
        path.write_bytes(whole)


def test_damaged_files_are_noticed(tmp_path: Path) -> None:
    """Through the link, as a user would see it; the one before is used, and the run goes on above it."""
    draw = np.random.default_rng(0)
    for number in range(TORN):
        folder = tmp_path / str(number)
        files = written(folder, 1, 2, 3)
        damage(files.last, draw)
        newest = files.newest()
        assert newest.path == folder / "iteration-00000002.ckpt"
        ((path, why),) = newest.damaged
        assert path == folder / "iteration-00000003.ckpt" and "SHA-256" in why
        files.go_on_from(newest.path)
        assert files.newest().path == newest.path and not files.newest().damaged
        files.write(3, content(3))
        assert files.newest().path == folder / "iteration-00000003.ckpt"
        assert len(names(folder)) == 4 and hashes_hold(folder)


def test_several_damaged_files_and_lost_ones(tmp_path: Path) -> None:
    files = written(tmp_path, 1, 2, 3)
    draw = np.random.default_rng(1)
    damage(tmp_path / "iteration-00000003.ckpt", draw)
    (tmp_path / "iteration-00000002.ckpt").unlink()
    assert files.newest().path == tmp_path / "iteration-00000001.ckpt"
    damage(tmp_path / "iteration-00000001.ckpt", draw)
    with pytest.raises(FctfgError, match=r"iteration-00000003.ckpt cannot be read .*nor 1 older ones.*move it away"):
        files.newest()


def test_a_checkpoint_without_a_hash_is_read_instead(tmp_path: Path) -> None:
    """Put there by hand, or of an earlier version: only `last.ckpt`."""
    files = CheckpointFiles(tmp_path)
    torch.save(content(7), tmp_path / "last.ckpt")
    assert files.newest().path == tmp_path / "last.ckpt"
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FctfgError, match=r"last.ckpt cannot be read"):
        files.newest()


def test_a_full_disk_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write or flush is the first that the disk refuses."""
    flush, replace = os.fsync, os.replace
    for refused in range(6):
        folder = tmp_path / str(refused)
        files = written(folder, 1, 2, keep=1)
        before = names(folder)
        calls: list[bool] = []

        def full(*rest: Any, real: Any, calls: list[bool] = calls, refused: int = refused) -> Any:
            calls.append(True)
            if len(calls) == refused + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*rest)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda *rest: full(*rest, real=flush))
            patch.setattr(os, "replace", lambda *rest: full(*rest, real=replace))
            try:
                files.write(3, content(3))
            except WriteError as error:
                assert "no space left" in str(error)
        stands = (folder / "iteration-00000003.ckpt").exists()
        assert stands or names(folder) == before
        newest = files.newest().path
        assert newest is not None and torch.load(newest, weights_only=True)["iteration"] == (3 if stands else 2)
        remove_leftovers(folder)
        files.go_on_from(newest)
        files.write(4, content(4))
        assert names(folder) == ["iteration-00000004.ckpt", "last.ckpt"] and hashes_hold(folder)


def test_a_large_file_that_does_not_fit(tmp_path: Path) -> None:
    """The write itself is refused, by the limit of the process, which is told as a full disk is."""
    files = written(tmp_path, 1)
    limit, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(WriteError, match="cannot write"):
            files.write(2, {"weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    assert files.newest().path == tmp_path / "iteration-00000001.ckpt"
    assert names(tmp_path) == ["iteration-00000001.ckpt", "last.ckpt"] and hashes_hold(tmp_path)


def test_what_a_killed_process_leaves_is_cleared_away(tmp_path: Path) -> None:
    """Killed before the rename: a temporary file, and the hash of a checkpoint that never stood."""
    files = written(tmp_path, 1, 2)
    (tmp_path / f".iteration-00000003.{'0' * 32}.ckpt").write_bytes(b"half")
    (tmp_path / "iteration-00000003.ckpt.sha256").write_text("0 iteration-00000003.ckpt\n")
    newest = files.newest()
    assert newest.path == tmp_path / "iteration-00000002.ckpt" and not newest.damaged
    remove_leftovers(tmp_path)
    files.go_on_from(newest.path)
    assert names(tmp_path) == ["iteration-00000001.ckpt", "iteration-00000002.ckpt", "last.ckpt"]
    assert hashes_hold(tmp_path)


def test_the_best_takes_no_space_of_its_own_and_outlives_the_rest(tmp_path: Path) -> None:
    files = written(tmp_path, 1)
    files.keep_as_best("psnr", tmp_path / "iteration-00000001.ckpt")
    one, best = tmp_path / "iteration-00000001.ckpt", tmp_path / "best-psnr-00000001.ckpt"
    assert one.samefile(best)
    for iteration in (2, 3, 4):
        files.write(iteration, content(iteration))
    assert not one.exists() and torch.load(best, weights_only=True)["iteration"] == 1
    files.keep_as_best("psnr", tmp_path / "iteration-00000004.ckpt")
    files.keep_as_best("psnr_copy", tmp_path / "iteration-00000003.ckpt")
    assert [n for n in names(tmp_path) if n.startswith("best")] == [
        "best-psnr-00000004.ckpt",
        "best-psnr_copy-00000003.ckpt",
    ]
    assert hashes_hold(tmp_path)
    assert files.newest().path == tmp_path / "iteration-00000004.ckpt"


def test_the_best_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = written(tmp_path, 1)

    def no_links(*rest: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    files.keep_as_best("psnr", tmp_path / "iteration-00000001.ckpt")
    kept = (tmp_path / "best-psnr-00000001.ckpt").read_bytes()
    assert hashlib.sha256(kept).hexdigest() in (tmp_path / "best-psnr-00000001.ckpt.sha256").read_text()


@pytest.fixture
def copied(place: Place, tmp_path: Path) -> Place:
    """The recogniser's run, which has two checkpoints: after 4 and 8 iterations."""
    shutil.copytree(place[1] / "identity_expert", tmp_path / "runs" / "identity_expert", symlinks=True)
    return place[0], tmp_path / "runs"


@pytest.mark.usefixtures("untracked")
def test_a_run_goes_on_from_the_one_before(copied: Place, caplog: pytest.LogCaptureFixture) -> None:
    folder = copied[1] / "identity_expert" / "checkpoints"
    intact, rows = checkpoint(copied, "identity_expert"), numbers(copied, "identity_expert")
    damage(folder / "last.ckpt", np.random.default_rng(2))
    assert main(arguments(copied, "identity_expert")) == 0
    assert "iteration-00000008.ckpt cannot be used" in caplog.text
    assert "iteration-00000004.ckpt is used instead" in caplog.text
    assert "goes on after 4 iterations" in caplog.text
    again = checkpoint(copied, "identity_expert")
    assert torch.equal(again["state_dict"]["centers"], intact["state_dict"]["centers"])
    assert numbers(copied, "identity_expert") == rows
    assert not list(folder.glob("*.aside")) and hashes_hold(folder)
