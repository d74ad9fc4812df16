"""Workers that crash, hang or cannot write: each costs its own video only; and who has claimed what."""

import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fctfg.data.claims import DEAD, Claims
from fctfg.data.ledger import Journal, KeptClip, Ledger, Outcome, forget
from fctfg.data.prepare.ray_engine import RayActors
from fctfg.data.prepare.sources import Source
from fctfg.data.prepare.workers import Beat, Engine, Processes, Work, lost
from fctfg.errors import FctfgError, WriteError


def work(source: Source, known: str, beat: Beat) -> Outcome:
    """What the name of the video says."""
    if source.name.startswith("crash"):
        ctypes.string_at(0)
    if source.name.startswith("hang"):
        time.sleep(1000)
    if source.name.startswith("slow"):
        for _ in range(30):
            beat()
            time.sleep(0.1)
    if source.name.startswith("full"):
        raise WriteError("no space left on the disk")
    return Outcome(source.name, "done", reason=known, time=time.time(), seconds=os.getpid())


def build() -> Work:
    return work


def no_weights() -> Work:
    raise FctfgError("the weights are missing")


def source(name: str) -> Source:
    return Source(Path("/nowhere") / name, name, name, name, None)


def run(engine: Engine, names: list[str]) -> dict[str, Outcome]:
    done: dict[str, Outcome] = {}
    waiting = [source(name) for name in names]
    while len(done) < len(names):
        while waiting and engine.room():
            engine.submit(waiting.pop(0), "abc")
        done |= {worked.name: outcome for worked, outcome in engine.wait(0.5)}
    return done


NAMES = ["a", "crash", "b", "hang", "c", "slow", "d"]


def check(done: dict[str, Outcome], crash: str) -> None:
    assert {name for name, outcome in done.items() if outcome.state == "done"} == {"a", "b", "c", "d", "slow"}
    assert done["a"].reason == "abc"
    assert crash in done["crash"].reason
    assert done["hang"].reason.startswith("hangs: no new frame for 2 s")
    for name in ("crash", "hang"):
        assert (done[name].state, done[name].stage) == ("failed", "work")
        assert [row["id"] for row in done[name].rejects] == [name]


def test_a_crash_and_a_hang_cost_one_video_each() -> None:
    with closing(Processes(build, 2, patience=2)) as engine:
        check(run(engine, NAMES), "crash: the worker was ended by SIGSEGV")


def test_a_lost_video_is_known_again_by_its_picture_and_sound(tmp_path: Path) -> None:
    picture, sound = tmp_path / "a.mpg", tmp_path / "a.wav"
    for file in (picture, sound):
        file.write_text("damaged")
    one = Source(picture, "a.mpg", "a", "a", None, sound=sound)
    assert lost(one, "crash: SIGSEGV", 1.0).unchanged(*one.state())


@pytest.mark.slow
def test_a_crash_and_a_hang_on_a_ray_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the actors' way to `work`
    with closing(RayActors(build, 2, patience=2)) as engine:
        check(run(engine, NAMES), "crash: ")


@pytest.mark.parametrize("make", [build, no_weights])
def test_what_stops_the_run_is_raised(make: Callable[[], Work]) -> None:
    with closing(Processes(make, 1, patience=60)) as engine:
        engine.submit(source("full"), "")
        with pytest.raises(FctfgError, match=r"no space left|weights are missing"):
            while True:
                engine.wait(1)


def test_workers_end_with_the_engine() -> None:
    engine = Processes(build, 2, patience=60)
    for name in ("hang1", "hang2"):
        engine.submit(source(name), "")
    processes = [worker.process for worker in engine._workers]
    engine.close()
    assert not any(process.is_alive() for process in processes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "claims"


def test_a_claim_is_held_by_one(folder: Path) -> None:
    with Claims(folder) as one, Claims(folder) as other:
        assert one.take("a.mp4") and not other.take("a.mp4")
        assert other.take("b.mp4") and one.others() == other.others() == 1
        one.release("a.mp4")
        assert other.take("a.mp4")
    assert not list(folder.iterdir())


def test_claims_of_the_dead_are_void(folder: Path) -> None:
    with Claims(folder) as one:
        claim = folder / "x"
        assert one.take("a")
        (claim,) = folder.glob("*.claim")
        for writer, age, void in (
            ("elsewhere-1-abcd", 0, False),  # another machine: its sign of life counts
            ("elsewhere-1-abcd", DEAD + 1, True),
            (f"{one.writer.rsplit('-', 2)[0]}-{2**22 + 7}-abcd", 0, True),  # this machine, where no such process runs
            ("elsewhere-2-abcd", None, True),  # it has cleared up
        ):
            claim.write_text(writer)
            sign = folder / f"{writer}.alive"
            if age is not None:
                sign.touch()
                os.utime(sign, (time.time() - age, time.time() - age))
            with Claims(folder) as other:
                assert other.take("a") == void, writer
                other._held.clear()
            sign.unlink(missing_ok=True)


def test_containers_of_one_host_name_do_not_see_each_others_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def other_namespace(path: Any, *args: Any, **kwargs: Any) -> Any:
        return SimpleNamespace(st_ino=1) if path == "/proc/self/ns/pid" else real(path, *args, **kwargs)

    with monkeypatch.context() as container:
        container.setattr(os, "stat", other_namespace)
        container.setattr(os, "getpid", lambda: 2**22 + 7)  # no process has this number here
        theirs = Claims(folder)
    with theirs, Claims(folder) as ours:
        assert theirs.take("a") and not ours.take("a") and ours.others() == 1
        sign = folder / f"{theirs.writer}.alive"
        os.utime(sign, (time.time() - DEAD - 1,) * 2)
        assert ours.others() == 0 and ours.take("a")


def outcomes(folder: Path) -> Iterator[tuple[str, str]]:
    yield from sorted((name, outcome.state) for name, outcome in Ledger(folder).outcomes.items())


def test_the_latest_word_counts_and_half_a_line_does_not(tmp_path: Path) -> None:
    one, other = (Journal(tmp_path, name) for name in ("z", "a"))
    clips = (KeptClip("k", "f" * 64, 7, 70),)
    one.append(Outcome("v", "failed", time=1.0, rejects=({"id": "v", "thumbnail": ""},)))
    ledger = Ledger(tmp_path)
    other.append(Outcome("v", "done", time=2.0, sha256="s", size=5, modified=6, clips=clips, rejects=({"id": "r"},)))
    other.append(Outcome("w", "rejected", "faces", "no face: none", time=3.0, rejects=({"id": "w"},)))
    one.append(Outcome("v", "same", time=4.0, sha256="s", size=5, modified=60))
    one.append(Outcome("w", "same", time=4.0, sha256="other", size=50, modified=60))
    ledger.refresh()
    for seen in (ledger, Ledger(tmp_path)):
        assert seen.outcomes["v"].clips == clips
        assert seen.outcomes["v"].unchanged(5, 60) and not seen.outcomes["w"].unchanged(50, 60)
        assert [row["id"] for outcome in seen.complete() for row in outcome.rejects] == ["r", "w"]

    whole = (tmp_path / "a.jsonl").read_bytes()
    for cut in range(1, len(whole.splitlines()[1])):  # killed while the second line was written
        (tmp_path / "a.jsonl").write_bytes(whole[:-cut])
        assert list(outcomes(tmp_path)) == [("v", "done")]
    (tmp_path / "a.jsonl").write_bytes(whole.replace(b'"rejected"', b'"rejec\xff'))
    assert list(outcomes(tmp_path)) == [("v", "done")]

    (tmp_path / "a.jsonl").write_bytes(whole)
    forget(tmp_path, frozenset("r"))
    assert [row["id"] for outcome in Ledger(tmp_path).complete() for row in outcome.rejects] == ["w"]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "a")
    journal.append(Outcome("v", "done"))
    real = os.write
    monkeypatch.setattr(os, "write", lambda number, line: real(number, line[:10]))
    with pytest.raises(WriteError, match="no space left"):
        journal.append(Outcome("w", "done"))
    monkeypatch.undo()
    journal.append(Outcome("x", "done"))
    assert list(outcomes(tmp_path)) == [("v", "done"), ("x", "done")]
    assert all(json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines())
