"""One folder with everything that users' videos are: what is good comes out, and everything else has its reason."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from raw_media import write_raw, write_wav
from raw_talking import times

from fctfg.cli import main
from fctfg.data.manifest import Clip, read_manifest
from fctfg.data.shards import ClipReader
from fctfg.demo_corpus import root
from fctfg.media import read_audio, read_frames

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FRAMES = 80
Pictures = list[np.ndarray]


@cache
def talker(person: int = 0) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """80 pictures of 128 x 128 at 25 a second, and their sound float32 [1, N]."""
    people = sorted({path.parent for path in root().rglob("*.mp4")})
    path = min(people[person].glob("*.mp4"))
    return tuple(read_frames(path))[:FRAMES], read_audio(path)[None, : FRAMES * 640]


def good(path: Path, person: int = 0, **options: object) -> None:
    pictures, sound = talker(person)
    write_raw(path, pictures, times(FRAMES), sound, **options)  # type: ignore[arg-type]


def zero_bytes(path: Path) -> None:
    path.touch()


def truncated(path: Path) -> None:
    good(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def not_a_video(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404</body></html>")


def picture_only(path: Path) -> None:
    Image.fromarray(talker()[0][0]).save(path, "PNG")


def sound_only(path: Path) -> None:
    write_wav(path.with_suffix(".wav"), talker()[1][0])
    path.with_suffix(".wav").rename(path)


def no_face(path: Path) -> None:
    write_raw(path, [np.full((128, 128, 3), 60 + k // 2, np.uint8) for k in range(FRAMES)], times(FRAMES), talker()[1])


def face_leaves(path: Path) -> None:
    """The camera turns away after 50 frames."""
    pictures, sound = talker(1)
    shown = [np.roll(np.pad(p, ((0, 0), (0, 128), (0, 0)), "edge"), 0, 1) for p in pictures]
    moved = [s if k < 50 else np.full_like(s, 90) for k, s in enumerate(shown)]
    write_raw(path, moved, times(FRAMES), sound)


def faces_cross(path: Path) -> None:
    """Two heads change sides, one in front of the other."""
    (one, sound), (two, _) = talker(0), talker(3)
    frames = []
    for k in range(FRAMES):
        canvas = np.full((160, 480, 3), 90, np.uint8)
        a, b = 10 + 4 * k, 340 - 4 * k
        canvas[16:144, b : b + 128] = two[k]
        canvas[16:144, a : a + 128] = one[k]
        frames.append(canvas)
    write_raw(path, frames, times(FRAMES), sound)


def cut_every_second(path: Path) -> None:
    pictures = [talker(person)[0] for person in (0, 3, 6, 9)]
    write_raw(path, [pictures[k // 25 % 4][k] for k in range(FRAMES)], times(FRAMES), talker()[1])


def four_k(path: Path) -> None:
    pictures, sound = talker(4)
    large = [np.array(Image.fromarray(p).resize((2160, 2160), Image.Resampling.BILINEAR)) for p in pictures[:30]]
    wide = [np.pad(p, ((0, 0), (840, 840), (0, 0)), "edge") for p in large]
    write_raw(path, wide, times(30), sound[:, : 30 * 640], codec="mpeg4")


def rate(fps: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        pictures, sound = talker(5)
        count = round(FRAMES / 25 * fps)
        shown = [pictures[min(int(k / fps * 25 + 1e-6), FRAMES - 1)] for k in range(count)]
        write_raw(path, shown, [k / fps for k in range(count)], sound, fps=round(fps))

    return make


def variable_rate(path: Path) -> None:
    pictures, sound = talker(6)
    kept = [k for k in range(FRAMES) if k % 5 != 3 and k % 7 != 2]
    write_raw(path, [pictures[k] for k in kept], [k / 25 for k in kept], sound)


def starts_late(path: Path) -> None:
    pictures, sound = talker(7)
    write_raw(path, pictures, [3 + k / 25 for k in range(FRAMES)], sound, sound_start=3.0)


def time_stamps_jump(path: Path) -> None:
    """A reset clock, as in joined transport streams."""
    pictures, sound = talker(7)
    write_raw(path.with_suffix(".mkv"), pictures, [k / 25 + (100 if k >= 40 else 0) for k in range(FRAMES)], sound)
    path.with_suffix(".mkv").rename(path)


def rotated(path: Path) -> None:
    pictures, sound = talker(8)
    turned = [np.ascontiguousarray(np.rot90(p)) for p in pictures]
    write_raw(path, turned, times(FRAMES), sound, rotation=-90)


def streamed(path: Path, aspect: Fraction | None = None, pixels: str = "yuv420p") -> None:
    """With other pixels: not square, or 10 bits deep."""
    pictures, sound = talker(2)
    width = 128 if aspect is None else round(128 / float(aspect) / 2) * 2
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 128, width, pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        voice = container.add_stream("aac", rate=16_000, layout="mono")
        for picture in pictures:
            narrow = np.array(Image.fromarray(picture).resize((width, 128)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(narrow, format="rgb24")))
        container.mux(stream.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*voice.encode(frame), *voice.encode(None)])


def anamorphic(path: Path) -> None:
    streamed(path, aspect=Fraction(4, 3))


def ten_bit(path: Path) -> None:
    streamed(path, pixels="yuv420p10le")


def heard(rate: int, channels: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        pictures, sound = talker(9)
        place = np.arange(round(FRAMES / 25 * rate)) * 16_000 / rate
        other = np.interp(place, np.arange(sound.shape[1]), sound[0]).astype(np.float32)
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
        write_raw(path, pictures, times(FRAMES), np.tile(other, (channels, 1)), rate, layout)

    return make


def delayed_sound(path: Path) -> None:
    pictures, sound = talker(0)
    write_raw(path, pictures, times(FRAMES), np.pad(sound, ((0, 0), (5 * 640, 0)))[:, : FRAMES * 640])


def sound_of_another(path: Path) -> None:
    write_raw(path, talker(0)[0], times(FRAMES), talker(9)[1])


def frozen_picture(path: Path) -> None:
    pictures, sound = talker(1)
    write_raw(path, [pictures[min(k, 20)] for k in range(FRAMES)], times(FRAMES), sound)


def black_bars(path: Path) -> None:
    pictures, sound = talker(1)
    boxed = [np.pad(p[14:114], ((14, 14), (0, 0), (0, 0))) for p in pictures]
    write_raw(path, boxed, times(FRAMES), sound)


KEPT: dict[str, Callable[[Path], None]] = {
    "good": good,
    "face leaves": face_leaves,
    "cut every second": cut_every_second,
    "four k": four_k,
    **{f"{fps} fps": rate(fps) for fps in (15, 24, 29.97, 50, 60)},
    "variable rate": variable_rate,
    "starts late": starts_late,
    "jump": time_stamps_jump,
    "rotated": rotated,
    "anamorphic": anamorphic,
    "ten bit": ten_bit,
    "8 kHz mono": heard(8_000, 1),
    "44.1 kHz stereo": heard(44_100, 2),
    "48 kHz 5.1": heard(48_000, 6),
    "delayed": delayed_sound,
    "another's": sound_of_another,
    "frozen": frozen_picture,
    "bars": black_bars,
    "with 'quotes' \" and ünïcode 日本": good,
}
LOST: dict[str, tuple[Callable[[Path], None], str]] = {
    "zero bytes": (zero_bytes, "empty"),
    "truncated": (truncated, "cut off"),
    "not a video": (not_a_video, "not a readable video"),
    "picture": (picture_only, "no sound track"),
    "sound": (sound_only, "no pictures"),
    "no face": (no_face, "no face"),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("raw videos")
    for name, make in KEPT.items():
        make(raw / f"{name}.mp4")
    for name, (make, _) in LOST.items():
        make(raw / f"{name}.mp4")
    faces_cross(raw / "cross.mp4")
    (raw / "one").mkdir()
    (raw / "two").mkdir()
    good(raw / "one" / "same.mp4", 3)
    good(raw / "two" / "same.mp4", 4)
    (raw / "one" / "loop").symlink_to(raw)
    (raw / "broken.mp4").symlink_to(raw / "nowhere.mp4")
    out = tmp_path_factory.mktemp("out") / "set"
    assert main(["prepare", str(raw), f"--out={out}", "--size=64", "--min-frames=20", "--workers=2"]) == 0
    return out


def clips_of(out: Path, name: str) -> list[Clip]:
    return [clip for clip in read_manifest(out).kept() if clip.source == f"{name}.mp4"]


def test_every_good_video_is_kept_and_every_other_has_a_reason(out: Path) -> None:
    kept = {clip.source.removesuffix(".mp4") for clip in read_manifest(out).kept()}
    assert kept - {"cross"} == {*KEPT, "one/same", "two/same"}
    reasons = {clip.source.removesuffix(".mp4"): clip.reject_reason or "" for clip in read_manifest(out)}
    for name, (_, words) in LOST.items():
        assert words in reasons[name], name
    assert "link" in reasons["broken"]


@pytest.mark.parametrize("name", [name for name in KEPT if name not in ("cut every second", "face leaves", "four k")])
def test_lengths_and_faces_are_right(out: Path, name: str) -> None:
    (clip,) = clips_of(out, name)
    assert abs(clip.n_frames - FRAMES) <= 2
    track = ClipReader(read_manifest(out)).track(clip)
    left, right = track["points"][:, 0], track["points"][:, 1]
    assert (right[:, 0] - left[:, 0] > 0.12).all()  # upright, and not narrow
    assert np.abs(left[:, 1] - right[:, 1]).max() < 0.1


def test_scores_tell_what_is_wrong(out: Path) -> None:
    by = {name: clips_of(out, name)[0] for name in KEPT}
    assert by["frozen"]["frozen"] > 2 > 0.5 > by["good"]["frozen"]
    assert by["bars"]["bars"] > 0.15 and by["good"]["bars"] < 0.02
    assert by["8 kHz mono"]["bandwidth"] < 4500 < by["48 kHz 5.1"]["bandwidth"]
    assert by["good"]["offset"] in (-1, 0, 1)
    assert by["delayed"]["offset"] in (4, 5, 6) and by["delayed"]["confidence"] > 1
    assert by["another's"]["confidence"] < by["good"]["confidence"]


def test_shots_are_never_in_one_clip(out: Path) -> None:
    pieces = sorted(clips_of(out, "cut every second"), key=lambda clip: clip.start)
    assert [round(clip.start) for clip in pieces] == [0, 1, 2]
    assert all(clip.n_frames <= 25 for clip in pieces)
    (stays,) = clips_of(out, "face leaves")
    assert 44 <= stays.n_frames <= 50


def test_delay_is_corrected_when_asked(tmp_path: Path) -> None:
    delayed_sound(tmp_path / "late.mp4")
    arguments = ["prepare", str(tmp_path / "late.mp4"), "--size=64", "--workers=0"]
    assert main([*arguments, f"--out={tmp_path / 'as it is'}"]) == 0
    assert main([*arguments, f"--out={tmp_path / 'corrected'}", "--correct-offset"]) == 0
    (before,), (after,) = (read_manifest(tmp_path / name) for name in ("as it is", "corrected"))
    assert before["raw_offset"] == before["offset"] == after["raw_offset"] != 0
    assert after["offset"] == 0
    one, two = (
        ClipReader(read_manifest(tmp_path / n)).sound(c) for n, c in (("as it is", before), ("corrected", after))
    )
    moved = int(before["raw_offset"])
    assert before.n_frames - after.n_frames in (moved, moved - 1)  # the last frames are not heard any more
    np.testing.assert_array_equal(two[: len(one) - 640 * moved], one[640 * moved :])
