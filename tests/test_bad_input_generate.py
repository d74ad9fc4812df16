"""`fctfg generate` on bad input: one sentence that names the file and what to do, status 1, nothing left behind."""

import errno
import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from raw_media import write_wav
from tiny_talking_face import CARD, generator, run_folder

from fctfg.cli import main
from fctfg.demo_corpus import root
from fctfg.faces.detector import DlibDetector
from fctfg.inputs import crop_portrait
from fctfg.media import read_frames, read_image, write_image, write_video
from fctfg.weights.artifact import write_export

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("runs") / "talking_face")


@pytest.fixture(scope="module")
def clips() -> list[Path]:
    """A clip of each of two people of the embedded corpus."""
    people: dict[str, Path] = {}
    for clip in sorted(root().rglob("*.mp4")):
        people.setdefault(clip.parent.name, clip)
    return list(people.values())[:2]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, clips: list[Path]) -> dict[str, Path]:
    """Inputs that work, in a folder with spaces and non-ASCII letters."""
    folder = tmp_path_factory.mktemp("inputs") / "Größe 1 日本"
    portrait, audio, driver = folder / "p ö.png", folder / "a ö.wav", folder / "d ö.mp4"
    write_image(portrait, next(read_frames(clips[0])))
    write_wav(audio, (0.1 * np.random.default_rng(0).normal(size=4800)).astype(np.float32))
    shutil.copy(clips[1], driver)
    return {"portrait": portrait, "audio": audio, "driver": driver}


@pytest.fixture
def refused(run: Path, good: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Calls `fctfg generate` with something bad and returns its one sentence."""

    def call(*flags: str, **bad: Path) -> str:
        out = bad.pop("out", tmp_path / "out" / "o.mp4")
        inputs = {"weights": run, "portrait": good["portrait"], "audio": good["audio"], **bad}
        arguments = [text for name, path in inputs.items() for text in (f"--{name}", str(path))]
        assert main(["generate", *arguments, "--out", str(out), *flags]) == 1
        printed = capsys.readouterr()
        last = printed.err.strip().splitlines()[-1]
        assert last.startswith("fctfg: error: ") and "Traceback" not in printed.err
        for path in bad.values():
            assert str(path) in last, f"{path} is not named in: {last}"
        assert not out.is_file() and not out.with_suffix(".json").is_file()
        if out.parent.is_dir():
            assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]
        return last

    return call


def text_file(path: Path) -> Path:
    path.write_text("this is neither a picture nor a sound\n" * 50, encoding="utf-8")
    return path


# ---- what works


def test_good_inputs_work_through_the_command_line(
    run: Path, good: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "Ausgabe ü" / "o ü.mp4"
    arguments = [text for name, path in good.items() for text in (f"--{name}", str(path))]
    assert main(["generate", "--weights", str(run), *arguments, "--out", str(out)]) == 0
    assert len(list(read_frames(out))) == round(4800 * 25 / 16_000)
    assert sorted(path.name for path in out.parent.iterdir()) == ["o ü.json", "o ü.mp4"]
    assert "8 frames" not in capsys.readouterr().err


def test_silence_is_a_sound(run: Path, good: dict[str, Path], tmp_path: Path) -> None:
    write_wav(tmp_path / "silence.wav", np.zeros(8000, np.float32))
    inputs = ["--portrait", str(good["portrait"]), "--audio", str(tmp_path / "silence.wav")]
    assert main(["generate", "--weights", str(run), *inputs, "--out", str(tmp_path / "o.mp4")]) == 0
    assert len(list(read_frames(tmp_path / "o.mp4"))) == 12


def test_of_two_faces_the_larger_is_taken_and_it_is_said(
    run: Path, good: dict[str, Path], clips: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large, other = (next(read_frames(clip)) for clip in clips)
    small = other[::2, ::2]
    both = np.full((large.shape[0], large.shape[1] + small.shape[1], 3), 128, np.uint8)
    both[:, : large.shape[1]] = large
    both[: small.shape[0], large.shape[1] :] = small
    both = np.kron(both, np.ones((2, 2, 1), np.uint8))
    detector = DlibDetector()
    if len(detector.detect(both)) != 2:
        pytest.fail("the detector no longer sees both faces: choose other clips")
    with caplog.at_level(logging.WARNING):
        crop = crop_portrait(both, 64, detector, "both.png")
    assert "both.png shows 2 faces; the largest is used" in caplog.text
    expected = crop_portrait(large, 64, detector, "large.png")
    correlation = np.corrcoef(crop.ravel().astype(float), expected.ravel().astype(float))[0, 1]
    assert correlation > 0.8

    write_image(tmp_path / "both.png", both)
    inputs = ["--portrait", str(tmp_path / "both.png"), "--audio", str(good["audio"])]
    caplog.clear()
    assert main(["generate", "--weights", str(run), *inputs, "--out", str(tmp_path / "o.mp4")]) == 0
    assert f"{tmp_path / 'both.png'} shows 2 faces; the largest is used" in caplog.text


# ---- inputs


@pytest.mark.parametrize("name", ["portrait", "audio", "driver", "weights"])
def test_missing_file(refused: Refused, tmp_path: Path, name: str) -> None:
    assert "exist" in refused(**{name: tmp_path / "no such ö file"})


@pytest.mark.parametrize("name", ["portrait", "audio", "driver"])
def test_a_text_file(refused: Refused, tmp_path: Path, name: str) -> None:
    assert "is not a" in refused(**{name: text_file(tmp_path / "notes.txt")})


@pytest.mark.parametrize("name", ["portrait", "audio", "driver"])
def test_a_folder(refused: Refused, tmp_path: Path, name: str) -> None:
    refused(**{name: tmp_path})


@pytest.mark.parametrize("name", ["portrait", "audio", "driver"])
def test_a_truncated_file(refused: Refused, good: dict[str, Path], tmp_path: Path, name: str) -> None:
    content = good["driver" if name == "audio" else name].read_bytes()
    path = tmp_path / f"cut{good[name].suffix if name != 'audio' else '.mp4'}"
    path.write_bytes(content[: len(content) // 2])
    refused(**{name: path})


def test_no_face_in_the_portrait(refused: Refused, tmp_path: Path) -> None:
    write_image(tmp_path / "gray.png", np.full((200, 200, 3), 120, np.uint8))
    assert "no face was found in" in refused(portrait=tmp_path / "gray.png")


def test_no_face_in_the_driver(refused: Refused, tmp_path: Path) -> None:
    write_video(tmp_path / "gray.mp4", [np.full((200, 200, 3), 120, np.uint8)] * 10)
    assert "no face was found in the driver" in refused(driver=tmp_path / "gray.mp4")


def test_a_face_that_is_cut_off(refused: Refused, good: dict[str, Path], tmp_path: Path) -> None:
    picture = read_image(good["portrait"])
    box = DlibDetector().detect(picture)[0].box
    half = picture[:, int(box[0] + 0.25 * (box[2] - box[0])) :]
    write_image(tmp_path / "half.png", half)
    text = refused(portrait=tmp_path / "half.png")
    assert "cut off by the edge" in text or "no face was found" in text


def test_no_sound_track(refused: Refused, tmp_path: Path) -> None:
    write_video(tmp_path / "mute.mp4", [np.zeros((64, 64, 3), np.uint8)] * 5)
    assert "no sound track" in refused(audio=tmp_path / "mute.mp4")


def test_a_sound_shorter_than_a_frame(refused: Refused, tmp_path: Path) -> None:
    write_wav(tmp_path / "click.wav", np.zeros(100, np.float32))
    assert "a frame lasts 40 ms" in refused(audio=tmp_path / "click.wav")


def test_a_driver_without_pictures(refused: Refused, good: dict[str, Path]) -> None:
    assert "no pictures" in refused(driver=good["audio"])


def test_a_crop_that_is_not_square(refused: Refused, tmp_path: Path) -> None:
    write_image(tmp_path / "wide.png", np.zeros((32, 48, 3), np.uint8))
    assert "must be square" in refused("--no-crop", portrait=tmp_path / "wide.png")


# ---- weights


def test_weights_of_another_stage(refused: Refused, tmp_path: Path) -> None:
    write_export(tmp_path / "g", {"generator": generator()}, "generator", CARD)
    text = refused(weights=tmp_path / "g")
    assert "stage 'generator'" in text and "stage 'talking_face' are needed" in text


def test_truncated_weights(refused: Refused, run: Path, tmp_path: Path) -> None:
    content = (run / "export" / "weights.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) * 3 // 4])
    assert "is truncated" in refused(weights=tmp_path / "cut.safetensors")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_malicious_pickle_is_not_executed(refused: Refused, tmp_path: Path, kind: str) -> None:
    path, evidence = tmp_path / "last.ckpt", tmp_path / "executed"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(evidence)))
    else:
        torch.save({"state_dict": Bomb(evidence)}, path)
    assert "is a pickle" in refused(weights=path)
    assert not evidence.exists()


def test_a_web_page_as_weights(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_text("<!doctype html><title>Not found</title>", encoding="utf-8")
    assert "is a web page" in refused(weights=tmp_path / "w.safetensors")


def test_a_run_that_has_not_been_exported(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "young run").mkdir()
    assert "has no export/weights.safetensors" in refused(weights=tmp_path / "young run")


# ---- output


def test_output_below_a_file(refused: Refused, tmp_path: Path) -> None:
    text_file(tmp_path / "file")
    assert "is not a writable folder" in refused(out=tmp_path / "file" / "o.mp4")


def test_output_folder_without_permission(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # os.access is what says so to a user; to root, as whom tests may run, every folder is writable.
    monkeypatch.setattr("fctfg.inference.os.access", lambda path, mode: False)
    assert "is not a writable folder" in refused(out=tmp_path / "o.mp4")


def test_output_of_another_kind(refused: Refused, tmp_path: Path) -> None:
    assert "ends in .mp4" in refused(out=tmp_path / "o.avi")


def test_output_that_is_a_folder(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    assert "folder.mp4 cannot be written: it is a folder" in refused(out=tmp_path / "folder.mp4")


def test_output_over_an_input(
    run: Path, good: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copy(good["driver"], tmp_path / "d.mp4"))
    before = path.read_bytes()
    inputs = ["--portrait", str(good["portrait"]), "--audio", str(good["audio"]), "--driver", str(path)]
    assert main(["generate", "--weights", str(run), *inputs, "--out", str(path)]) == 1
    assert "would overwrite an input" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_record_over_another_file(
    run: Path, good: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / "clip.json"
    truth.write_text('{"yaw": [0.1], "fctfg_version": "as in the card of a run"}')
    inputs = ["--portrait", str(good["portrait"]), "--audio", str(good["audio"])]
    assert main(["generate", "--weights", str(run), *inputs, "--out", str(truth.with_suffix(".mp4"))]) == 1
    assert f"would overwrite {truth}" in capsys.readouterr().err
    assert "yaw" in truth.read_text() and list(tmp_path.iterdir()) == [truth]
    truth.unlink()
    truth.mkdir()
    assert main(["generate", "--weights", str(run), *inputs, "--out", str(truth.with_suffix(".mp4"))]) == 1
    assert f"would overwrite {truth}" in capsys.readouterr().err and list(tmp_path.iterdir()) == [truth]


def test_disk_full(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fctfg.atomic.flush", full)
    assert "no space left" in refused()


def test_a_device_that_is_not_there(refused: Refused) -> None:
    assert "the device cuda:99 cannot be used" in refused("--device", "cuda:99")


def test_debug_shows_the_traceback(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ["--portrait", str(tmp_path / "no.png"), "--audio", str(tmp_path / "no.wav")]
    assert main(["--debug", "generate", "--weights", str(run), *inputs, "--out", str(tmp_path / "o.mp4")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_usage_errors_have_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--portrait", "p.png"]) == 2
    assert "--audio" in capsys.readouterr().err
    assert main(["generate", "--portrait=p.png", "--audio=a.wav", "--out=o.mp4", "--batch=0"]) == 2
    assert "--batch must be 1 or more, not 0" in capsys.readouterr().err


def test_through_a_process_of_its_own(fctfg_command: Callable, tmp_path: Path) -> None:
    arguments = ("--portrait", tmp_path / "p.png", "--audio", tmp_path / "a.wav", "--out", tmp_path / "o.mp4")
    done = fctfg_command("generate", "--weights", text_file(tmp_path / "w.txt"), *arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("fctfg: error: ")
