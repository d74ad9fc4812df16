"""Sharpness, exposure, frozen pictures, shot cuts and black bars."""

import io
import time
from collections.abc import Callable

import av
import numpy as np
import pytest
from PIL import Image, ImageFilter

from fctfg.data.scores.bars import BlackBars
from fctfg.data.scores.pictures import REPEATS, STILL, changes, exposure, frozen, sharpness
from fctfg.data.scores.shots import ShotCuts
from fctfg.demo_corpus import root
from fctfg.media import read_frames

CLIPS = sorted(root().rglob("*.mp4"))


@pytest.fixture(scope="module")
def media() -> list[np.ndarray]:
    """The pictures of two clips of each of four people, uint8 [88, 128, 128, 3] each."""
    chosen = [clip for clip in CLIPS if clip.parent.name in ("p000", "p004", "p009", "p010") and clip.stem != "c2"]
    return [np.stack(list(read_frames(clip))) for clip in chosen]


def encoded(frames: np.ndarray, crf: int = 28) -> np.ndarray:
    """What H.264 leaves of the pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def resized(frames: np.ndarray, side: int) -> np.ndarray:
    return np.stack([np.array(Image.fromarray(f).resize((side, side), Image.Resampling.BICUBIC)) for f in frames])


def noisy(frames: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, sigma, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    """Of a crop of 256 pixels, whose middle needs no scaling, by loops in float64."""
    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    luma = frame.astype(np.float64) @ [0.299, 0.587, 0.114]
    values = [
        luma[y - 1, x] + luma[y + 1, x] + luma[y, x - 1] + luma[y, x + 1] - 4 * luma[y, x]
        for y in range(65, 191)
        for x in range(65, 191)
    ]
    np.testing.assert_allclose(sharpness(frame[None]), [np.var(values)], rtol=1e-4)


def test_blur_and_enlargement_are_soft(media: list[np.ndarray]) -> None:
    for clip in media:
        frames = resized(clip[::20], 256)
        blurred = np.stack([np.array(Image.fromarray(f).filter(ImageFilter.GaussianBlur(2))) for f in frames])
        enlarged = resized(resized(clip[::20], 48), 256)
        assert (sharpness(frames) > 25).all()
        assert (sharpness(blurred) < 15).all()
        assert (sharpness(enlarged) < 15).all()
        halves = sharpness(resized(clip[::20], 512)) / sharpness(frames)
        assert ((halves > 0.5) & (halves < 1.1)).all()  # the scale hardly matters


def test_sharpness_looks_at_the_face_only() -> None:
    frame = np.full((1, 128, 128, 3), 128, np.uint8)
    frame[:, :28] = np.random.default_rng(0).integers(0, 256, (28, 128, 3))
    assert sharpness(frame)[0] < 1e-6


def test_exposure_counts() -> None:
    frame = np.full((1, 10, 10, 3), 100, np.uint8)
    frame[0, :3] = 5
    frame[0, 3:5] = 255
    np.testing.assert_allclose(exposure(frame), [[0.3 * 5 + 0.2 * 255 + 0.5 * 100, 0.3, 0.2]], rtol=1e-5)
    red = np.array([[[[255, 0, 0]]]], np.uint8)
    np.testing.assert_allclose(exposure(red), [[0.299 * 255, 0, 0]], rtol=1e-5)


def test_changes_do_not_depend_on_the_batches(media: list[np.ndarray]) -> None:
    clip = media[0]
    whole = changes(clip, None)
    parts = [changes(clip[k : k + 32], clip[k - 1] if k else None) for k in range(0, len(clip), 32)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6)
    assert np.isnan(whole[0])
    lighter = np.stack([np.full((64, 64, 3), 50, np.uint8), np.full((64, 64, 3), 53, np.uint8)])
    np.testing.assert_allclose(changes(lighter, lighter[0]), [0, 3], atol=1e-4)


def test_a_still_picture_counts_and_a_living_one_does_not(media: list[np.ndarray]) -> None:
    for clip in media:
        assert frozen(changes(clip, None)) == 0
        still = encoded(noisy(np.repeat(clip[30:31], 50, axis=0), 2))
        stuck = np.concatenate([encoded(clip[:30]), still])
        assert frozen(changes(stuck, None)) == pytest.approx(49 / 25, abs=2 / 25)


@pytest.mark.parametrize("fps", [15, 12, 10, 8])
def test_sources_of_fewer_frames_are_not_frozen(media: list[np.ndarray], fps: int) -> None:
    shown = np.arange(88) * fps // 25 * 25 // fps
    assert frozen(changes(media[0][shown], None)) == 0


def test_frozen_measures_the_longest_run() -> None:
    change = np.array([np.nan, 1, *[0] * REPEATS, 1, *[STILL / 2] * 10, 1, *[0] * 6])
    assert frozen(change) == pytest.approx(10 / 25)
    assert frozen(change, fps=50) == pytest.approx(10 / 50)
    assert frozen(change[: 3 + REPEATS]) == 0
    assert frozen(np.zeros(0)) == 0


def cuts_of(frames: np.ndarray) -> list[int]:
    shots = ShotCuts()
    found = [cut for frame in frames for cut in shots.update(frame)]
    return found + shots.finish()


@pytest.mark.parametrize("change", [lambda f: f, lambda f: noisy(f, 12), lambda f: encoded(f, 38)])
def test_cuts_are_found(media: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Between people and between clips of one person, after 3 to 40 frames."""
    lengths = [20, 3, 40, 15, 25, 8, 30, 12]
    frames = np.concatenate([clip[10 : 10 + n] for clip, n in zip(media, lengths, strict=True)])
    assert cuts_of(change(frames)) == np.cumsum(lengths)[:-1].tolist()


def test_cuts_of_a_repeating_source_and_at_the_ends(media: list[np.ndarray]) -> None:
    frames = np.concatenate([media[0][:25], media[2][:25], media[4][:25]])
    shown = np.arange(75) * 15 // 25 * 25 // 15
    expected = [int(np.argmax(shown >= 25)), int(np.argmax(shown >= 50))]
    assert cuts_of(frames[shown]) == expected
    assert cuts_of(np.concatenate([media[0][:1], media[2][:10], media[4][:1]])) == [1, 11]
    assert cuts_of(media[0][:1]) == cuts_of(media[0][:0]) == []


def test_a_zoom_from_one_frame_to_the_next_is_a_cut(media: list[np.ndarray]) -> None:
    for clip in media:
        close = resized(clip[40:, 12:112, 12:112], 128)
        assert cuts_of(np.concatenate([clip[:40], close])) == [40]


def panned(clip: np.ndarray) -> np.ndarray:
    return np.stack(
        [f[20:100, x : x + 80] for f, x in zip(clip, 24 + (22 * np.sin(np.arange(88) / 7)).astype(int), strict=True)]
    )


def zoomed(clip: np.ndarray) -> np.ndarray:
    out = []
    for frame, margin in zip(clip, np.linspace(0, 30, len(clip)), strict=True):
        box = (margin, margin, 128 - margin, 128 - margin)
        out.append(np.array(Image.fromarray(frame).resize((128, 128), Image.Resampling.BICUBIC, box=box)))
    return np.stack(out)


def flashed(clip: np.ndarray) -> np.ndarray:
    out = clip.astype(np.float32)
    out[[15, 40, 41, 70]] = out[[15, 40, 41, 70]] * 1.5 + 90
    return np.clip(out, 0, 255).astype(np.uint8)


def faded(clip: np.ndarray) -> np.ndarray:
    return (clip * np.clip(np.abs(np.arange(88) - 40) / 12, 0, 1)[:, None, None, None]).astype(np.uint8)


MOVING = {
    "as it is": lambda clip: clip,
    "pan": panned,
    "zoom": zoomed,
    "flashes": flashed,
    "fade to black and back": faded,
    "dimmed": lambda clip: np.concatenate([clip[:40], (0.7 * clip[40:]).astype(np.uint8)]),
    "noise": lambda clip: noisy(clip, 12),
    "three times as fast": lambda clip: clip[::3],
    "15 frames a second": lambda clip: clip[np.arange(88) * 15 // 25 * 25 // 15],
    "nearly black": lambda clip: (0.05 * clip).astype(np.uint8),
}


@pytest.mark.parametrize("name", MOVING)
def test_what_is_no_cut(media: list[np.ndarray], name: str) -> None:
    for clip in media[::2]:
        assert cuts_of(MOVING[name](clip)) == []


@pytest.mark.parametrize("size", [(720, 1280), (2160, 3840)])
def test_cuts_and_bars_take_no_time(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    shots, bars = ShotCuts(), BlackBars()
    begin = time.process_time()
    for _ in range(100):
        shots.update(frame)
        bars.update(frame)
    assert time.process_time() - begin < (0.3 if size[0] == 720 else 1.0)


def boxed(clip: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """Bars painted over even-sized pictures that are three times as large, and encoded."""
    large = clip.repeat(3, axis=1).repeat(3, axis=2)
    out = np.zeros_like(large)
    height, width = large.shape[1:3]
    inner = np.s_[:, top : height - bottom, left : width - right]
    out[inner] = large[inner]
    return encoded(out)


@pytest.mark.parametrize("bars", [(0, 0, 0, 0), (0, 48, 0, 48), (80, 0, 64, 0), (16, 32, 48, 0)])
def test_bars_are_measured(media: list[np.ndarray], bars: tuple[int, int, int, int]) -> None:
    finder = BlackBars()
    for frame in boxed(media[0][:30], *bars):
        finder.update(frame)
    assert np.abs(np.subtract(finder.finish(), bars)).max() <= 2  # the codec blurs the edge


def test_dark_scenes_have_no_bars(media: list[np.ndarray]) -> None:
    finder = BlackBars()
    assert finder.finish() == (0, 0, 0, 0)
    for frame in np.zeros((20, 128, 128, 3), np.uint8):
        finder.update(frame)
    assert finder.finish() == (0, 0, 0, 0)  # nothing but black
    dark = media[0].copy()
    dark[:60, :, :64] = 2  # one side is in the dark for most of the time
    for frame in dark:
        finder.update(frame)
    assert finder.finish() == (0, 0, 0, 0)


@pytest.mark.parametrize("score", [sharpness, exposure, lambda frames: changes(frames, None)])
def test_pictures_of_another_kind_are_refused(score: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        score(np.zeros((2, 16, 16, 3), np.float32))
    with pytest.raises(ValueError, match=r"uint8|at least"):
        score(np.zeros((2, 16, 16), np.uint8))
    with pytest.raises(ValueError, match="at least"):
        sharpness(np.zeros((1, 4, 4, 3), np.uint8))
