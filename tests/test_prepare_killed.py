"""`fctfg prepare` killed with SIGKILL, alone and beside others, ends in the bytes of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from raw_media import write_raw
from raw_talking import talking, times

from fctfg.data.ledger import FOLDER, Ledger
from fctfg.data.manifest import FILE_NAME, read_manifest
from fctfg.data.pack import pack
from fctfg.data.prepare import prepare

KILLS = int(os.environ.get("FCTFG_KILLS", "2"))  # 20 take about four minutes
OPTIONS = ("--size=32", "--min-frames=10", "--detector=dlib")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos of four people, one of them bad."""
    root = tmp_path_factory.mktemp("raw")
    for number in range(8):
        pictures, sound = talking(number // 2)
        path = root / f"p{number // 2}" / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        if number == 5:
            path.write_bytes(b"nothing")
        else:
            count = 12 + 2 * number
            write_raw(path, pictures[:count], times(count), sound[:, : count * 640])
    return root


@pytest.fixture(scope="module")
def undisturbed(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "set"
    prepare(raw, out, size=32, min_frames=10, progress=False)
    assert len(read_manifest(out).kept()) == 7
    return contents(out)


def contents(out: Path) -> dict[str, bytes]:
    """Manifest and shards."""
    files = [out / FILE_NAME, *sorted((out / "shards").iterdir())]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@contextmanager
def started(raw: Path, out: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process group of its own, killed at the end."""
    command = [sys.executable, "-m", "fctfg", "prepare", str(raw), f"--out={out}", *OPTIONS, *options]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to it and its workers."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_at_random_moments(raw: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """The first run is timed; then a chain of kills at moments spread over twice that, and a last run to the end."""
    begun = time.monotonic()
    with started(raw, tmp_path / "timed", "--workers=2") as process:
        assert process.wait() == 0, process.stderr and process.stderr.read()
    whole = time.monotonic() - begun
    assert contents(tmp_path / "timed") == undisturbed
    out, draw = tmp_path / "out", np.random.default_rng(0)
    finished = 0
    for moment in draw.uniform(0.2, 1.0, KILLS) * whole:
        if finished and (out / FILE_NAME).exists():
            out = tmp_path / f"out{finished}"  # the last one was killed after its end: begin another chain
        with started(raw, out, "--workers=2") as process:
            try:
                process.wait(timeout=float(moment))
                finished += 1
            except subprocess.TimeoutExpired:
                kill(process)
        if (out / FILE_NAME).exists():
            assert contents(out) == undisturbed
    with started(raw, out, "--workers=2") as process:
        assert process.wait() == 0, process.stderr and process.stderr.read()
    assert contents(out) == undisturbed
    assert not [path for path in out.rglob(".*")] and not (out / "clips").exists()


def test_two_shards_one_of_them_killed(raw: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """The one that lives takes over what the dead one had claimed."""
    out = tmp_path / "out"
    with started(raw, out, "--workers=1", "--shard=1/2") as one, started(raw, out, "--workers=1", "--shard=2/2") as two:
        while not Ledger(out / FOLDER).outcomes and two.poll() is None:
            time.sleep(0.05)
        kill(two)
        assert one.wait() == 0, one.stderr and one.stderr.read()
    assert contents(out) == undisturbed


def test_two_shards_share_the_work(raw: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(raw, out, "--workers=1", "--shard=1/2") as one, started(raw, out, "--workers=1", "--shard=2/2") as two:
        assert one.wait() == two.wait() == 0
    assert contents(out) == undisturbed
    journals = sorted((out / FOLDER).glob("*.jsonl"))
    assert len(journals) == 2
    names = [set(line.split(b'"')[3] for line in journal.read_bytes().splitlines()) for journal in journals]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 8


def test_on_ray(raw: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with started(raw, tmp_path / "out", "--workers=2", "--engine=ray") as process:
        assert process.wait() == 0, process.stderr and process.stderr.read()
    assert contents(tmp_path / "out") == undisturbed


def test_packing_broken_off_after_each_file(
    raw: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several small shards; the process ends after the n-th rename within the packing, for each n."""

    def small(*arguments: object, **options: object) -> object:
        return pack(*arguments, **options, shard_bytes=100_000)  # type: ignore[arg-type, misc]

    monkeypatch.setattr("fctfg.data.prepare.run.pack", small)
    options = {"size": 32, "min_frames": 10, "progress": False}
    prepare(raw, tmp_path / "whole", **options)  # type: ignore[arg-type]
    wanted = contents(tmp_path / "whole")
    assert len(wanted) > 4
    replace = os.replace
    begun: list[bool] = []

    class KilledError(BaseException):
        """Ends the process, as far as the data set can tell."""

    def counted(source: str, target: str) -> None:
        replace(source, target)
        if "shards" in str(target) or str(target).endswith(FILE_NAME):
            begun.append(True)
            if len(begun) == limit:
                raise KilledError

    monkeypatch.setattr(os, "replace", counted)
    for limit in range(1, len(wanted)):
        begun.clear()
        out = tmp_path / f"out{limit}"
        with pytest.raises(KilledError):
            prepare(raw, out, **options)  # type: ignore[arg-type]
        limit = 0
        prepare(raw, out, **options)  # type: ignore[arg-type]
        assert contents(out) == wanted
