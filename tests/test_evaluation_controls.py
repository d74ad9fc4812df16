"""Results of which everybody knows how good they are, through `fctfg evaluate`, and what breaks on the way."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import published_files as published
import pytest
import torch
from evaluation_data import PEOPLE, film, videos

from fctfg.cli import main
from fctfg.demo_corpus import root
from fctfg.errors import FctfgError
from fctfg.evaluation import run
from fctfg.evaluation.cases import Pair, pairs
from fctfg.evaluation.footage import Footage
from fctfg.evaluation.judges import JudgeChoice, Judges
from fctfg.evaluation.measure import Measurement, measure
from fctfg.evaluation.run import Setup, evaluate
from fctfg.media import read_audio, read_frames
from fctfg.models.experts.syncnet_v2 import SyncNetV2, SyncNetV2Config

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from evaluation_controls import controls

LATE = 6  # frames
PLAIN = "--workers=1", "--no-report", "--size=64"
FRAME = 640  # samples


def results(folder: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((folder / "results.json").read_text())
    return {clip["clip"]: clip for clip in content["clips"]}


@pytest.mark.slow
def test_everybody_knows_how_good_these_are(tmp_path: Path) -> None:
    """The videos themselves, with the sound of the next, late or early by 6 frames; the first frame all the time."""
    source, out = tmp_path / "videos", tmp_path / "out"
    for person in PEOPLE:
        path = root() / "test" / person / "c0.mp4"
        sound = read_audio(path)
        film(source / f"{person}.mp4", read_frames(path), sound)
        moved = np.pad(sound, (LATE * FRAME, 0)) if person == PEOPLE[0] else sound[LATE * FRAME :]
        film(out / "moved" / f"{person}.mp4", read_frames(path), moved)
    assert controls(source, out) == 2
    told = {}
    for kind in ("real", "swapped", "still", "moved"):
        where = out / "evaluation" / kind
        assert main(["evaluate", "--pair", str(out / kind), str(source), f"--out={where}", *PLAIN]) == 0
        told[kind] = {name: clip["figures"] for name, clip in results(where).items()}
    for person in PEOPLE:
        real, swapped, still = (told[kind][person] for kind in ("real", "swapped", "still"))
        assert real["PSNR"] > 40 and real["offset error"] == 0 and real["sync confidence"] > 1
        assert swapped["sync confidence"] < 0.6 * real["sync confidence"]
        assert swapped["PSNR"] == real["PSNR"] and swapped["LMD mouth"] == real["LMD mouth"]
        assert still["jitter ratio"] < 0.8 and still["LMD mouth"] > 3 * real["LMD mouth"]
        assert still["CSIM[dlib]"] > 0.99 and not still["opening correlation"] > 0.5
        assert told["moved"][person]["offset error"] == LATE
        assert told["moved"][person]["audio-video offset"] == (LATE if person == PEOPLE[0] else -LATE)


# ---- judges that were named


@pytest.mark.slow
def test_imported_judges_give_their_figures_their_names(tmp_path: Path) -> None:
    """Random weights of SyncNet v2, and small ones of ArcFace and Wav2Lip's expert, as published files have them."""
    torch.manual_seed(0)
    files = {
        "syncnet": published.save(SyncNetV2(SyncNetV2Config()).state_dict(), tmp_path / "syncnet_v2.model"),
        "identity-expert": published.save(published.recogniser().state_dict(), tmp_path / "arcface.pth"),
        "sync-expert": published.save(
            {"state_dict": published.state(published.sync_expert())}, tmp_path / "lipsync_expert.pth"
        ),
    }
    real = videos(tmp_path / "real")
    options = [f"--{name}={path}" for name, path in files.items()]
    out = tmp_path / "out"
    assert main(["evaluate", "--pair", str(real), str(real), f"--out={out}", *PLAIN, *options]) == 0
    for clip in results(out).values():
        figures = clip["figures"]
        assert figures["LSE-D"] > 0 and figures["LSE-C"] >= 0 and math.isfinite(figures["sync confidence"])
        assert figures["CSIM[arcface]"] > 0 and "CSIM[dlib]" not in figures
    made = json.loads((out / "results.json").read_text())["made_with"]
    assert made["not_measured"] == {} and set(made["judge_hashes"]) == set(made["judges"])


def test_a_picture_without_a_face_has_no_embedding_whoever_looks(tmp_path: Path) -> None:
    file = published.save(published.recogniser().state_dict(), tmp_path / "arcface.pth")
    for choice in (JudgeChoice(), JudgeChoice(identity=str(file))):
        assert len(Judges(choice).portrait(np.zeros((64, 64, 3), np.uint8))) == 0


# ---- faces that are lost


def footage(made: Iterator[np.ndarray], shown: Iterator[np.ndarray], sound: np.ndarray) -> Footage:
    source = next(read_frames(root() / "test" / PEOPLE[0] / "c0.mp4"))
    return Footage(made, shown, source, sound, is_reference=True, says_drivers=True, is_made=False)


def test_what_is_seen_of_a_lost_face_does_not_count() -> None:
    """A tracker follows a face for some frames into grey before it notices; lips of half a clip are not judged."""
    path = root() / "test" / PEOPLE[0] / "c0.mp4"
    frames = list(islice(read_frames(path), 20))
    judges = Judges()
    judges.syncnet = SyncNetV2(SyncNetV2Config(1 / 16)).eval()
    grey = [np.full_like(frames[0], 110)] * 20
    found = measure(footage(iter(frames + grey), iter(frames + frames), read_audio(path)), judges)
    there = found.figures["faces found"] * 40
    assert 15 <= there <= 20 and len(found.embeddings["made"]) == math.ceil(there / 4)
    assert found.figures["CSIM[dlib]"] > 0.9
    assert all(math.isnan(found.figures[name]) for name in ("LSE-C", "LSE-D", "sync confidence", "offset error"))
    assert any("no face was found in 2" in note and "of the result" in note for note in found.notes)


@pytest.mark.slow
def test_faces_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a result: counted. In a real video: that case fails, with what to do, and the others are measured."""
    real = videos(tmp_path / "real")
    grey = [np.full((128, 128, 3), 110, np.uint8)] * 30
    one, other = (f"{person}/c0" for person in PEOPLE)
    film(tmp_path / "made" / f"{one}.mp4", grey)
    film(tmp_path / "made" / f"{other}.mp4", read_frames(real / f"{other}.mp4"))
    out = tmp_path / "out"
    assert main(["evaluate", "--pair", str(tmp_path / "made"), str(real), f"--out={out}", *PLAIN]) == 0
    assert f"no face was found in 1 of 2 results: {one}" in capsys.readouterr().out
    assert results(out)[one]["figures"]["faces found"] == 0 and results(out)[other]["figures"]["faces found"] == 1
    out = tmp_path / "blind"
    assert main(["evaluate", "--pair", str(real), str(tmp_path / "made"), f"--out={out}", *PLAIN]) == 0
    assert "no face was found in the real video" in results(out)[one]["failure"] and not results(out)[other]["failure"]


# ---- pictures of another size, silence, a limit, and errors


def test_a_larger_result_is_cut_at_the_same_place(tmp_path: Path) -> None:
    """A face beside an empty half, and the same picture in double size."""
    for person in PEOPLE:
        frames = [
            np.pad(frame, ((0, 0), (0, 64), (0, 0)))
            for frame in islice(read_frames(root() / "test" / person / "c0.mp4"), 8)
        ]
        film(tmp_path / "real" / f"{person}.mp4", frames)
        film(tmp_path / "made" / f"{person}.mp4", [frame.repeat(2, 0).repeat(2, 1) for frame in frames])
    out = tmp_path / "out"
    assert main(["evaluate", "--pair", str(tmp_path / "made"), str(tmp_path / "real"), f"--out={out}", *PLAIN]) == 0
    for clip in results(out).values():
        assert clip["figures"]["PSNR"] > 30 and clip["figures"]["LMD face"] < 2
        assert clip["notes"][0] == "384 x 256 px against 192 x 128 of the real video"


def test_silence_is_no_sound_in_step(capsys: pytest.CaptureFixture[str]) -> None:
    path = root() / "test" / PEOPLE[0] / "c0.mp4"
    frames = list(islice(read_frames(path), 26))
    found = measure(footage(iter(frames), iter(frames), np.zeros(26 * FRAME, np.float32)), Judges())
    assert all(math.isnan(found.figures[name]) for name in ("sync confidence", "sync distance", "offset error"))
    assert found.figures["mouth in silence"] > 0 and "its sound is silent" in found.notes


@pytest.mark.slow
def test_an_interrupt_ends_the_work_and_keeps_what_is_done(tmp_path: Path) -> None:
    """Ctrl-C reaches the command and its workers alike."""
    real = videos(tmp_path / "real")
    for number in range(12):
        for person in PEOPLE:
            shutil.copy(real / person / "c0.mp4", real / person / f"copy{number}.mp4")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fctfg", "evaluate", "--pair", str(real), str(real), f"--out={out}", "--workers=2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((out / "measured").glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    begun = time.monotonic()
    said = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130 and time.monotonic() - begun < 15 and "Traceback" not in said
    assert 1 <= len(list((out / "measured").glob("*.npz"))) < 20 and not (out / "results.json").exists()


def test_a_limit_counts_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = videos(tmp_path / "real", clips=2, frames=6)
    film(tmp_path / "made" / PEOPLE[0] / "c0.mp4", read_frames(real / PEOPLE[0] / "c0.mp4"))
    film(tmp_path / "made" / PEOPLE[0] / "c1.mp4", read_frames(real / PEOPLE[0] / "c1.mp4"))
    out = tmp_path / "out"
    assert main(["evaluate", "--pair", str(tmp_path / "made"), str(real), f"--out={out}", "--clips=2", *PLAIN]) == 0
    failures = {name: bool(clip["failure"]) for name, clip in results(out).items()}
    assert failures == {f"{PEOPLE[0]}/c0": False, f"{PEOPLE[1]}/c0": True}


def cases(tmp_path: Path) -> list[Pair]:
    for number in range(6):
        for folder in ("made", "real"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{number}.mp4").write_bytes(bytes([number]))
    return pairs(tmp_path / "made", tmp_path / "real")[0]


def slow_work(case: Pair) -> Measurement:
    time.sleep(0.5)
    (case.made.parent.parent / f"{case.name} was measured").touch()
    return Measurement({"PSNR": 1.0})


def test_an_unexpected_error_is_a_failure_of_its_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(case: Pair) -> Measurement:
        if case.name == "3":
            raise RuntimeError("CUDA out of memory")
        return Measurement({"PSNR": 1.0})

    monkeypatch.setattr(Setup, "open", lambda self: work)
    done = evaluate(cases(tmp_path), Setup(JudgeChoice()), tmp_path / "out", {})
    assert [one.row.failure for one in done if one.row.failure] == ["RuntimeError: CUDA out of memory"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_kept_ends_the_work(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: what has not begun is not begun. Threads stand for processes, which would not see the patches."""
    monkeypatch.setattr(Setup, "open", lambda self: slow_work)
    monkeypatch.setattr(run, "_work", slow_work, raising=False)
    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda max_workers, **_: ThreadPoolExecutor(max_workers))

    def full(path: Path, found: Measurement) -> None:
        raise FctfgError(f"{path}: no space left on the disk")

    monkeypatch.setattr(run, "_write", full)
    with pytest.raises(FctfgError, match="no space left"):
        evaluate(cases(tmp_path), Setup(JudgeChoice()), tmp_path / "out", {}, workers)
    assert len(list(tmp_path.glob("* was measured"))) <= 2 * workers
