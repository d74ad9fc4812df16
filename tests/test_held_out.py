"""Figures of generated clips: closed forms, and a real clip of the demo corpus against its rendered truth."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tiny_talking_face import run_folder

from fctfg.data.manifest import Clip, read_manifest
from fctfg.data.prepare import prepare
from fctfg.data.shards import ClipReader
from fctfg.demo_corpus import root, truth
from fctfg.errors import FctfgError
from fctfg.faces.detector import DlibDetector
from fctfg.held_out import (
    compare_faces,
    compare_frames,
    measure_clip,
    measured_jaw,
    partners,
    picture,
    rendered_jaw,
    summary,
)
from fctfg.inference import TalkingFace
from fctfg.metrics.correlation import pearson


def test_frames_against_themselves_and_against_the_copied_source() -> None:
    true = np.full((3, 32, 32, 3), 100, np.uint8)
    true[1:] = 110
    made = np.full_like(true, 115)
    figures = compare_frames(made, true)
    assert figures["psnr"] == pytest.approx(20 * math.log10(255 / 5), abs=1e-3)
    assert figures["psnr_copy"] == pytest.approx(20 * math.log10(255 / 10), abs=1e-3)
    assert compare_frames(true, true)["ssim"] == pytest.approx(1.0, abs=1e-6)


def test_faces_are_compared_within_their_boxes() -> None:
    true = np.full((3, 32, 32, 3), 100, np.uint8)
    made = np.full_like(true, 130)  # the background is wrong, and does not count
    boxes = np.array([[0, 0, 1, 1], [0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.5, 0.25]], np.float32)
    true[1, 16:, 8:24], made[1, 16:, 8:24] = 110, 115
    true[2, :8, :16], made[2, :8, :16] = 120, 140
    figures = compare_faces(made, true, boxes)
    assert figures["psnr_face"] == pytest.approx(np.mean([20 * math.log10(255 / e) for e in (5, 20)]), abs=1e-3)
    assert figures["psnr_face_copy"] == pytest.approx(np.mean([20 * math.log10(255 / e) for e in (10, 20)]), abs=1e-3)


def test_summary_leaves_out_what_could_not_be_measured() -> None:
    rows = [{"jaw": jaw, "x": math.nan} for jaw in (0.1, 0.3, 0.6, math.nan, math.inf)]
    figures = summary(rows, ["a", "a", "b", "b", "c"])
    assert figures["jaw"] == pytest.approx({"mean": 0.4, "standard_error": 0.2, "people": 2, "clips": 3})
    assert figures["x"]["people"] == 0 and math.isnan(figures["x"]["mean"])


@pytest.fixture(scope="module")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipReader, list[Clip]]:
    """The demo corpus' test split, prepared at 64 px."""
    out = tmp_path_factory.mktemp("held_out") / "data"
    prepare(root() / "test", out, size=64)
    manifest = read_manifest(out)
    return ClipReader(manifest), [replace(clip, source=f"test/{clip.source}") for clip in manifest]


def cut(clip: Clip, frames: int, start: float = 0.0) -> Clip:
    """The first frames of a clip, as a row of the manifest."""
    return replace(clip, start=start, n_frames=frames)


def test_a_partner_is_another_person(heldout: tuple[ClipReader, list[Clip]]) -> None:
    _, clips = heldout
    assert all(one.identity != other.identity for one, other in zip(clips, partners(clips), strict=True))
    alone = [clip for clip in clips if clip.identity == clips[0].identity]
    with pytest.raises(FctfgError, match=clips[0].identity):
        partners(alone)


def test_a_clip_is_generated_and_measured(heldout: tuple[ClipReader, list[Clip]], tmp_path: Path) -> None:
    data, clips = heldout
    short = cut(clips[0], 50)
    model = TalkingFace.from_pretrained(run_folder(tmp_path / "run", resolution=64))
    figures = measure_clip(model, data, root(), short, clips[-1], DlibDetector())
    # An untrained network shows no face, so that only what needs none has a value.
    assert figures["faces_found"] == 0 and math.isnan(figures["jaw"]) and math.isnan(figures["jaw_swapped_sound"])
    assert 0 < figures["psnr"] < 15 < figures["psnr_copy"] < 30
    assert figures["psnr_hidden_lips"] != figures["psnr"]  # the driver did change
    assert abs(figures["jaw_true_frames"]) <= 1


def test_the_weights_in_the_package_speak_with_the_sound(heldout: tuple[ClipReader, list[Clip]]) -> None:
    data, clips = heldout
    model, detector = TalkingFace.from_pretrained(), DlibDetector()
    # people and a voice that no stage has seen
    figures = measure_clip(model, data, root(), clips[0], partners(clips)[0], detector)
    assert figures["faces_found"] > 0.9
    assert figures["jaw"] > 0.4 > 0.3 > figures["jaw_swapped_sound"]
    assert figures["jaw_of_swapped_sound"] > 0.4
    assert figures["jaw_hidden_lips"] > 0.4


class Actor:
    """Shows the true frames of the clip whose sound it is given: what a perfect network would be measured as."""

    def __init__(self, data: ClipReader, clips: list[Clip]) -> None:
        self.clips = [(data.sound(c), data.whole(c)) for c in clips]

    def animate(self, portrait: np.ndarray, audio: np.ndarray, driver: np.ndarray, batch: int) -> Iterator[np.ndarray]:
        for sound, frames in self.clips:
            if np.array_equal(sound[: len(audio)], audio):
                yield from frames[: len(driver)]


def test_each_curve_is_compared_with_the_jaw_that_it_should_follow(heldout: tuple[ClipReader, list[Clip]]) -> None:
    data, clips = heldout
    clip, other = cut(clips[0], 60), cut(clips[-1], 60)
    actor = cast(TalkingFace, Actor(data, [clip, other]))
    figures = measure_clip(actor, data, root(), clip, other, DlibDetector())
    assert figures["psnr"] == figures["psnr_hidden_lips"] == math.inf
    assert figures["faces_found"] > 0.9
    assert figures["jaw"] == figures["jaw_hidden_lips"] == figures["jaw_true_frames"] > 0.3
    alone = pearson(measured_jaw(data.whole(other), DlibDetector()), rendered_jaw(root(), other))
    assert figures["jaw_of_swapped_sound"] == pytest.approx(alone, abs=0.05)
    assert figures["jaw_swapped_sound"] == figures["jaw_hidden_lips_swapped_sound"]
    assert figures["jaw_swapped_sound"] < figures["jaw_of_swapped_sound"] - 0.2


def test_a_picture_shows_the_true_frames_above_the_generated_ones(
    heldout: tuple[ClipReader, list[Clip]], tmp_path: Path
) -> None:
    data, clips = heldout
    model = TalkingFace.from_pretrained(run_folder(tmp_path / "run", resolution=64))
    shown = picture(model, data, [cut(clip, 10) for clip in clips[:2]], moments=3)
    assert shown.shape == (4 * 128, 4 * 128, 3)
    above, below = shown[:128, 128:].astype(float), shown[128:256, 128:].astype(float)
    assert (shown[128:256, :128] == 255).all() and (shown[:128, :128] != 255).any()
    assert abs(above - below).mean() > 10  # an untrained network shows something else


def test_rendered_jaw_starts_where_the_clip_starts(heldout: tuple[ClipReader, list[Clip]], tmp_path: Path) -> None:
    clip = cut(heldout[1][0], 60, start=0.2)
    jaw = truth(root() / clip.source)["jaw"]
    np.testing.assert_array_equal(rendered_jaw(root(), clip), jaw[5:65])
    file = tmp_path / Path(clip.source).with_suffix(".json")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({}))
    with pytest.raises(FctfgError, match=file.name):
        rendered_jaw(tmp_path, clip)
