"""The demo: steps are done once, continue, and are done again when what they depend on has changed; the whole road."""

import json
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from clip_sets import store, write_set
from rich.console import Console

from fctfg import demo, demo_result
from fctfg.data.manifest import Clip
from fctfg.demo import Step, Tell
from fctfg.errors import FctfgError
from fctfg.media import read_frames, write_image, write_video


def steps_that_note(out: Path, done: list[str], key: str = "k", fail: str = "") -> list[Step]:
    """Three steps that write their folder and append their name to `done`; the one named `fail` raises at its end."""

    def action(name: str) -> Callable[[Tell], None]:
        def act(tell: Tell) -> None:
            done.append(name + ("+" if (out / name / "half").exists() else ""))
            (out / name).mkdir(exist_ok=True)
            (out / name / "half").touch()
            tell("half")
            if name == fail:
                raise FctfgError("no luck")

        return act

    return [Step(name, name, [key if name == "b" else "k"], action(name)) for name in ("a", "b", "c")]


def take(out: Path, steps: list[Step]) -> str:
    text = StringIO()
    demo._take(out, steps, Console(file=text, width=200))
    return text.getvalue()


def test_complete_steps_are_not_done_again(tmp_path: Path) -> None:
    done: list[str] = []
    first = take(tmp_path, steps_that_note(tmp_path, done))
    second = take(tmp_path, steps_that_note(tmp_path, done))
    assert done == ["a", "b", "c"]
    assert "[1/3] a: 0.0 s" in first and "already" not in first
    assert second.count("already done") == 3


def test_an_interrupted_step_continues(tmp_path: Path) -> None:
    done: list[str] = []
    with pytest.raises(FctfgError):
        take(tmp_path, steps_that_note(tmp_path, done, fail="b"))
    take(tmp_path, steps_that_note(tmp_path, done))
    assert done == ["a", "b", "b+", "c"]


def test_a_changed_step_and_all_later_ones_are_done_anew(tmp_path: Path) -> None:
    done: list[str] = []
    take(tmp_path, steps_that_note(tmp_path, done))
    take(tmp_path, steps_that_note(tmp_path, done, key="changed"))
    assert done == ["a", "b", "c", "b", "c"]


def test_a_failing_command_is_named_with_its_log(tmp_path: Path) -> None:
    arguments = [
        "generate",
        "--portrait",
        str(tmp_path / "lost.png"),
        "--audio",
        "a.wav",
        "--out",
        str(tmp_path / "o.mp4"),
    ]
    with pytest.raises(FctfgError) as caught:
        demo._call(tmp_path, "result", [*arguments, "--weights", str(tmp_path / "lost")], lambda words: None)
    log = tmp_path / "logs" / "result.log"
    assert str(log) in str(caught.value) and "lost" in str(caught.value)
    assert "lost" in log.read_text()


def test_the_last_words_of_a_command_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    for text, words in [("", ""), ("half", ""), ("one\ntwo\n\nthr", "two"), ("x" * 5000 + "\n", "x" * 80)]:
        log.write_text(text)
        assert demo._last_line(log) == words


def test_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "steps.json").write_text("{")
    with pytest.raises(FctfgError, match=r"steps\.json.*delete"):
        take(tmp_path, steps_that_note(tmp_path, []))


def moving_square(count: int, size: int = 64) -> np.ndarray:
    frames = np.full((count, size, size, 3), 90, np.uint8)
    for index, frame in enumerate(frames):
        frame[20:40, index : index + 20] = (200, 120, 40)
    return frames


@pytest.fixture
def tiny_data(tmp_path: Path) -> tuple[Path, Path]:
    """A data set with one test clip of 20 frames without a face, and the corpus it came from."""
    data, corpus = tmp_path / "data", tmp_path / "corpus"
    (corpus / "test").mkdir(parents=True)
    per_frame = dict.fromkeys(("yaw", "pitch", "roll", "blink", "lip_gap", "points", "viseme"), [0] * 30)
    truth = per_frame | {"jaw": list(np.linspace(0, 1, 30)), "phones": []}
    (corpus / "test" / "x.json").write_text(json.dumps(truth))
    clip = Clip("x", "p", "test", source="test/x.mp4", start=0.2)
    write_set(data, [store(data, clip, moving_square(20), np.zeros(12_800, np.float32))], 64)
    return data, corpus


def test_result_is_measured_against_the_true_frames(tiny_data: tuple[Path, Path], tmp_path: Path) -> None:
    data, corpus = tiny_data

    def copy_the_driver(portrait: Path, audio: Path, driver: Path, video: Path) -> None:
        write_video(video, read_frames(driver), audio=np.zeros(12_800, np.float32))

    figures = demo_result.make_result(data, corpus, tmp_path / "result", copy_the_driver)
    assert figures == demo_result.read_figures(tmp_path / "result")
    assert figures.frames == 20 and figures.identity == "p"
    assert figures.psnr > 35 > 25 > figures.psnr_copy
    assert figures.ssim > 0.95 > figures.ssim_copy
    assert figures.jaw_generated is None and figures.faces_found == 0
    compared = np.stack(list(read_frames(tmp_path / "result" / "compared.mp4")))
    assert compared.shape == (20, 256, 768, 3)

    def copy_the_source(portrait: Path, audio: Path, driver: Path, video: Path) -> None:
        [first] = list(read_frames(driver, end=0.04))
        write_image(tmp_path / "first.png", first)
        write_video(video, [first] * 20, audio=np.zeros(12_800, np.float32))

    figures = demo_result.make_result(data, corpus, tmp_path / "result", copy_the_source)
    assert figures.psnr == pytest.approx(figures.psnr_copy, abs=0.3)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_whole_road(fctfg_command: Callable, tmp_path: Path) -> None:
    """With a tenth of the iterations; `FCTFG_DEMO_SHARE=1 pytest tests/test_demo.py -m slow` takes them all."""
    out = tmp_path / "runs" / "demo"
    command = "demo", "--out", out, "--share", os.environ.get("FCTFG_DEMO_SHARE", "0.1")
    result = fctfg_command(*command, timeout=2400)
    assert result.returncode == 0, result.stdout + result.stderr
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "says nothing about real faces" in page
    assert page.count("<video") >= 2 and page.count("<svg") > 10
    figures = demo_result.read_figures(out / "result")
    assert np.isfinite([figures.psnr, figures.ssim]).all()
    again = fctfg_command(*command, timeout=300)
    assert again.returncode == 0 and again.stdout.count("already done") >= 8
