"""Media: one clock for pictures and sound, whatever the file's own rates are."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from raw_media import click, click_time, number_of, numbered, write_raw

from fctfg.atomic import atomic_path, write_json
from fctfg.errors import FctfgError
from fctfg.inputs import read_portrait
from fctfg.media import (
    probe,
    read_audio,
    read_frames,
    read_image,
    write_image,
    write_video,
)

MILLISECOND = 1e-3


def steady(fps: float, seconds: float = 2.0) -> list[float]:
    return [k / fps for k in range(round(seconds * fps))]


def shown(times: list[float], moments: np.ndarray) -> list[int]:
    """Number of the picture on screen at each moment: the last one whose time has come."""
    return [int(np.flatnonzero(np.asarray(times) <= moment + 1e-6)[-1]) for moment in moments]


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov", "ts"])
@pytest.mark.parametrize("fps", [15, 25, 30, 60])
def test_any_frame_rate_keeps_its_timing(tmp_path: Path, fps: int, container: str) -> None:
    times = steady(fps)
    path = write_raw(tmp_path / f"clip.{container}", map(numbered, range(len(times))), times, fps=fps)
    found = [number_of(frame) for frame in read_frames(path)]
    assert 50 <= len(found) <= 51  # Matroska rounds to milliseconds, so its last picture may reach over 2 s
    assert found[:50] == shown(times, np.arange(50) / 25)


def test_variable_frame_rate_goes_by_time_stamps(tmp_path: Path) -> None:
    gaps = np.random.default_rng(3).integers(1, 14, 40) / 100  # pauses of 10 to 130 ms
    times = [0.0, *(float(t) + 0.005 for t in np.cumsum(gaps))]  # 5 ms away from the moments that are asked for
    path = write_raw(tmp_path / "phone.mp4", map(numbered, range(len(times))), times)
    found = [number_of(frame) for frame in read_frames(path)]
    moments = np.arange(int(times[-1] * 25)) / 25
    assert found[: len(moments)] == shown(times, moments)
    assert abs(len(found) / 25 - times[-1]) < 0.2


@pytest.mark.parametrize("frames", [0, 1, 13, 50, 60])
def test_the_beginning_of_a_video_equals_that_of_the_whole(tmp_path: Path, frames: int) -> None:
    path = write_raw(tmp_path / "clip.mp4", map(numbered, range(50)), steady(25))
    whole = [number_of(frame) for frame in read_frames(path)]
    assert [number_of(frame) for frame in read_frames(path, end=frames / 25)] == whole[:frames]


def test_missing_time_stamps_at_the_end(tmp_path: Path) -> None:
    """A raw stream without a container has no time stamps at all; frames follow each other at its rate."""
    path = tmp_path / "bare.h264"
    write_raw(tmp_path / "clip.mp4", map(numbered, range(40)), steady(25, 1.6))
    with av.open(str(tmp_path / "clip.mp4")) as source, av.open(str(path), "w", format="h264") as bare:
        stream = bare.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                bare.mux(packet)
    assert [number_of(frame) for frame in read_frames(path)] == list(range(40))


@pytest.mark.parametrize(("rotation", "corner"), [(90, "bottom left"), (-90, "top right"), (180, "bottom right")])
def test_rotation_flag_is_applied(tmp_path: Path, rotation: int, corner: str) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16] = 255  # top left, as stored
    path = write_raw(tmp_path / "turned.mp4", [picture] * 5, steady(25, 0.2), rotation=rotation)
    frame = next(read_frames(path))
    assert frame.shape == ((48, 64, 3) if rotation == 180 else (64, 48, 3))
    rows = slice(-16, None) if "bottom" in corner else slice(16)
    columns = slice(-16, None) if "right" in corner else slice(16)
    assert frame[rows, columns].mean() > 240
    assert frame.mean() < 40


def test_write_read_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(10)]
    path = tmp_path / "a folder" / "Gesicht ä ö 顔.mp4"
    assert write_video(path, pictures, crf=8) == 10
    frames = list(read_frames(path))
    assert len(frames) == 10
    for before, after in zip(pictures, frames, strict=True):
        inner = np.abs(before.astype(int) - after).reshape(6, 16, 8, 16, 3)[:, 4:12, :, 4:12]  # off the chroma's edges
        assert inner.mean() < 3


@pytest.mark.parametrize("size", [(97, 131), (96, 131), (97, 130)])
def test_odd_sizes_are_padded_to_even(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 100, np.uint8)
    write_video(tmp_path / "odd.mp4", [picture] * 3)
    frame = next(read_frames(tmp_path / "odd.mp4"))
    assert frame.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert np.abs(frame.astype(int) - 100).max() < 5  # the padding repeats the edge


@pytest.mark.parametrize("frames", [1, 24, 75])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 5.0])
def test_written_sound_is_as_long_as_the_pictures(tmp_path: Path, frames: int, seconds: float) -> None:
    sound = np.full(round(seconds * 16_000), 0.1, np.float32)
    write_video(tmp_path / "clip.mp4", [numbered(k) for k in range(frames)], audio=sound)
    assert abs(len(read_audio(tmp_path / "clip.mp4")) / 16_000 - frames / 25) <= 1 / 25
    with av.open(str(tmp_path / "clip.mp4")) as container:
        lengths = [float(stream.duration * stream.time_base) for stream in container.streams]
    assert abs(lengths[0] - lengths[1]) <= 1 / 25


@pytest.mark.parametrize("fps", [25.0, 30.0, 30000 / 1001])
def test_click_and_flash_stay_together(tmp_path: Path, fps: float) -> None:
    flash = 37
    pictures = [numbered(255 if k == flash else 0) for k in range(90)]
    write_video(tmp_path / "clip.mp4", pictures, fps=fps, audio=click(flash / fps, 90 / fps, 16_000)[0])
    times = [k / 1000 for k, frame in enumerate(read_frames(tmp_path / "clip.mp4", fps=1000)) if number_of(frame) > 128]
    assert abs(min(times) - flash / fps) <= 1.1 * MILLISECOND
    assert abs(click_time(read_audio(tmp_path / "clip.mp4"), 16_000) - flash / fps) <= MILLISECOND


@pytest.mark.parametrize(
    ("rate", "layout", "channels"), [(8_000, "mono", 1), (44_100, "stereo", 2), (48_000, "5.1", 6), (16_000, "mono", 1)]
)
@pytest.mark.parametrize("container", ["mp4", "mkv", "wav"])
def test_any_sound_format_keeps_its_timing(
    tmp_path: Path, container: str, rate: int, layout: str, channels: int
) -> None:
    path = tmp_path / f"sound.{container}"
    sound = click(1.3, 2.0, rate, channels)
    if container == "wav":
        soundfile.write(path, sound.T, rate)
    else:
        write_raw(path, [numbered(0)] * 50, steady(25), sound, rate, layout)
    found = read_audio(path)
    assert found.dtype == np.float32
    assert found.ndim == 1
    assert abs(len(found) / 16_000 - 2.0) <= (1_024 / rate if container == "mkv" else 1e-3)  # AAC's last packet
    assert abs(click_time(found, 16_000) - 1.3) <= MILLISECOND


@pytest.mark.parametrize(("layout", "channels"), [("mono", 1), ("stereo", 2), ("5.1", 6)])
def test_mix_keeps_the_level(tmp_path: Path, layout: str, channels: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)
    path = write_raw(
        tmp_path / "tone.mkv", [], [], np.tile(tone, (channels, 1)), 16_000, layout, sound_codec="pcm_s16le"
    )
    np.testing.assert_allclose(read_audio(path), tone, atol=2e-4)


def test_resampling_is_band_limited(tmp_path: Path) -> None:
    """A tone above the new Nyquist frequency must vanish, not fold back."""
    time = np.arange(48_000) / 48_000
    soundfile.write(tmp_path / "high.wav", 0.5 * np.sin(2 * np.pi * 11_000 * time), 48_000)
    assert np.abs(read_audio(tmp_path / "high.wav")[800:-800]).max() < 0.005


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("late", [-0.2, 0.3])
def test_sound_that_begins_earlier_or_later(tmp_path: Path, container: str, late: float) -> None:
    times = [t + max(0.0, -late) for t in steady(25)]
    path = write_raw(
        tmp_path / f"clip.{container}",
        [numbered(0)] * 50,
        times,
        click(0.7, 2.0, 48_000),
        48_000,
        sound_start=max(0.0, late),
    )
    assert abs(click_time(read_audio(path), 16_000) - (0.7 + late)) <= MILLISECOND


def test_hole_in_the_sound_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "dropout.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for begin, at in ((0.0, 0.1), (1.5, 1.6)):  # half a second each, one second of nothing between
            frame = av.AudioFrame.from_ndarray(
                (click(at - begin, 0.5, 16_000) * 32_767).astype(np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = 16_000, round(begin * 16_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound = read_audio(path)
    assert abs(len(sound) / 16_000 - 2.0) < 0.01
    assert abs(click_time(sound[:16_000], 16_000) - 0.1) <= MILLISECOND
    assert abs(click_time(sound[16_000:], 16_000) - 0.6) <= MILLISECOND


def test_cover_image_is_not_a_picture_track(tmp_path: Path) -> None:
    write_raw(tmp_path / "song.m4a", [], [], click(0.5, 1.0, 16_000))
    info = probe(tmp_path / "song.m4a")
    assert (info.has_video, info.has_audio, info.fps) == (False, True, 0.0)
    with pytest.raises(FctfgError, match="no pictures"):
        next(read_frames(tmp_path / "song.m4a"))


def test_same_input_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, map(numbered, range(60)), audio=click(1.0, 2.4, 16_000)[0])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_video_streams_and_has_no_b_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", (numbered(k % 200) for k in range(100)), gop=12)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.dts is not None]
    assert all(packet.pts == packet.dts for packet in packets)
    keys = [k for k, packet in enumerate(packets) if packet.is_keyframe]
    assert max(np.diff(keys)) <= 12


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("faststart", [True, False])
def test_truncated_mp4(tmp_path: Path, share: float, faststart: bool) -> None:
    path = tmp_path / "whole.mp4"
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(100)]
    if faststart:
        write_video(path, noise, audio=rng.normal(0, 0.1, 64_000).astype(np.float32))
    else:
        write_raw(path, noise, steady(25, 4.0), rng.normal(0, 0.1, (1, 64_000)).astype(np.float32))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
    for read in (lambda: probe(cut), lambda: list(read_frames(cut)), lambda: read_audio(cut)):
        with pytest.raises(FctfgError, match=r"cut\.mp4.*cut off"):
            read()


@pytest.mark.parametrize("name", ["text.mp4", "text.txt", "empty.mp4", "missing.mp4", "folder", "page.mp4"])
def test_what_is_not_media_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.mp4").write_text("no video\n" * 200)
    (tmp_path / "text.txt").write_text("no video\n" * 200)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "page.mp4").write_text("<!DOCTYPE html><html><body>not found</body></html>")
    (tmp_path / "folder").mkdir()
    for read in (probe, lambda path: list(read_frames(path)), read_audio):
        with pytest.raises(FctfgError, match=name):
            read(tmp_path / name)


def test_no_sound_track(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "mute.mp4", [numbered(0)] * 10, steady(25, 0.4))
    with pytest.raises(FctfgError, match=r"mute\.mp4 has no sound track"):
        read_audio(path)


def test_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    def frames():
        yield numbered(0)
        raise RuntimeError("the source failed")

    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="the source failed"):
        write_video(tmp_path / "out.mp4", frames())
    with pytest.raises(FctfgError, match="no frames"):
        write_video(tmp_path / "none.mp4", [])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.mp4": b"old"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: write_video(tmp_path / "clip.mp4", [numbered(0)]),
        lambda: write_image(tmp_path / "clip.png", numbered(0)),
    ):
        with pytest.raises(FctfgError, match="no space left"):
            write()
    assert not list(tmp_path.iterdir())


def test_really_full_disk(tmp_path: Path) -> None:
    """/dev/full answers every write with ENOSPC, also those that PyAV makes."""
    if not Path("/dev/full").exists():
        pytest.fail("this test needs /dev/full (Linux)")
    code = (
        "import sys, numpy as np, fctfg.atomic as a, uuid, os\n"
        "from pathlib import Path\n"
        "from fctfg.media import write_video\n"
        "class Fixed:\n    hex = 'x'\n"
        "uuid.uuid4 = lambda: Fixed\n"
        "os.symlink('/dev/full', sys.argv[1] + '/.clip.x.mp4')\n"
        "frames = [np.random.default_rng(k).integers(0, 255, (64, 64, 3), dtype=np.uint8) for k in range(200)]\n"
        "write_video(Path(sys.argv[1]) / 'clip.mp4', frames, crf=1)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "no space left" in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FctfgError, match="not a folder"), atomic_path(tmp_path / "file" / "sub" / "a.txt"):
        pass


def test_json_gets_null_for_what_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [math.nan, 1.0], "b": {"c": (math.inf,), "d": "ü"}, "e": -math.inf})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.0], "b": {"c": [None], "d": "ü"}, "e": None}


def test_atomic_path_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="stop"), atomic_path(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("half")
        raise ValueError("stop")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_pictures_are_read_upright_and_opaque(tmp_path: Path) -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:5, :5] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it
    Image.fromarray(picture).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "phone.png"), np.rot90(picture, -1))
    Image.fromarray(np.zeros((4, 4, 4), np.uint8), "RGBA").save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()
    deep = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(deep).save(tmp_path / "deep.png")  # 16 bits
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png")[..., 1], deep // 256)
    write_image(tmp_path / "x.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), picture)
    (tmp_path / "no.png").write_text("no picture")
    for name in ("no.png", "missing.png"):
        with pytest.raises(FctfgError, match=name):
            read_image(tmp_path / name)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    with pytest.raises(FctfgError, match=r"huge\.png has too many pixels; scale it down"):
        read_portrait(tmp_path / "huge.png")
