"""`fctfg prepare` on bad input, through the command line: one clear sentence, exit status 1, nothing half-written."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from raw_media import write_raw, write_wav
from raw_talking import FRAMES, talking, times

from fctfg.cli import main
from fctfg.data.manifest import FILE_NAME, read_manifest
from fctfg.data.shards import ClipReader

OPTIONS = ("--size", "64", "--min-frames", "20", "--workers", "0")


def talker(
    path: Path, count: int = FRAMES, seconds: float | None = None, rate: int = 16_000, channels: int = 1
) -> Path:
    """A good clip, or one with other sound: `seconds` of it at `rate` with `channels`."""
    pictures, sound = talking(0)
    if seconds is not None or rate != 16_000 or channels != 1:
        wanted = round((seconds or FRAMES / 25) * rate)
        place = np.arange(wanted) * 16_000 / rate
        mono = np.interp(place, np.arange(sound.shape[1] * 3), np.tile(sound[0], 3)).astype(np.float32)
        sound = np.tile(mono, (channels, 1))
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_raw(path, pictures[:count], times(count), sound, rate, layout)


def missing(path: Path) -> None:
    """Nothing is there."""


def not_a_video(path: Path) -> None:
    path.write_text("this is no video\n" * 100)


def empty_file(path: Path) -> None:
    path.touch()


def web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404</body></html>")


def truncated(path: Path) -> None:
    talker(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def sound_only(path: Path) -> None:
    write_wav(path.with_suffix(".wav"), np.full(32_000, 0.1, np.float32))
    path.with_suffix(".wav").rename(path)


def no_sound_track(path: Path) -> None:
    write_raw(path, talking(0)[0], times())


def silence(path: Path) -> None:
    pictures, sound = talking(0)
    write_raw(path, pictures, times(), np.zeros_like(sound))


def no_face(path: Path) -> None:
    pictures, sound = talking(0)
    write_raw(path, [np.full_like(pictures[0], 60 + k) for k in range(FRAMES)], times(), sound)


def one_frame(path: Path) -> None:
    talker(path, count=1)


def too_little_sound(path: Path) -> None:
    talker(path, seconds=0.5)


def cut_off_face(path: Path) -> None:
    """The head's left part is outside the picture."""
    pictures, sound = talking(2)
    wide = [np.concatenate([picture[:, 30:], np.full_like(picture, 90)], axis=1) for picture in pictures]
    write_raw(path, wide, times(), sound)


UNUSABLE: dict[Callable[[Path], None], str] = {
    not_a_video: "not a readable video",
    empty_file: "empty",
    web_page: "not a readable video",
    truncated: "cut off",
    sound_only: "no pictures",
    no_sound_track: "no sound track",
    silence: "silence",
    no_face: "no face",
    one_frame: "too short: 1 frame",
    too_little_sound: "too little sound",
}


def run(*arguments: object) -> int:
    return main(["prepare", *map(str, arguments), *OPTIONS])


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line on stderr that is an error; there must be no traceback and nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("fctfg: error: ")]
    return line


@pytest.mark.parametrize("make", [missing, *UNUSABLE], ids=lambda make: make.__name__)
def test_single_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None]) -> None:
    path = tmp_path / "raw ä" / "my clip.mp4"
    path.parent.mkdir()
    make(path)
    assert run(path, "--out", tmp_path / "out" / "deep") == 1
    line = complaint(capsys)
    assert str(path) in line
    assert UNUSABLE.get(make, "does not exist") in line
    assert not (tmp_path / "out").exists()


def test_bad_files_do_not_stop_the_good_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    talker(raw / "good.mp4")
    for make in UNUSABLE:
        make(raw / f"{make.__name__}.mp4")
    assert run(raw, "--out", out) == 0
    manifest = read_manifest(out)
    assert manifest.kept().column("source") == ["good.mp4"]
    reasons = {clip.source: clip.reject_reason for clip in manifest if clip.reject_reason is not None}
    for make, words in UNUSABLE.items():
        assert words in reasons[f"{make.__name__}.mp4"]
        assert str(tmp_path) not in reasons[f"{make.__name__}.mp4"]  # a data set can be moved
    shown = capsys.readouterr().err
    for make in UNUSABLE:
        assert f"{make.__name__}" in shown
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "ledger", FILE_NAME, "shards", "views"]
    assert not list((out / "ledger" / "claims").iterdir())


def test_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """(Simulated: the tests may run as root, who may read everything.)"""
    talker(tmp_path / "raw" / "good.mp4")
    talker(tmp_path / "raw" / "secret.mp4")
    real = Path.open

    def guarded(path: Path, *arguments: object, **options: object) -> object:
        if path.name == "secret.mp4":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", guarded)
    assert run(tmp_path / "raw", "--out", tmp_path / "out") == 0
    reasons = {clip.source: clip.reject_reason for clip in read_manifest(tmp_path / "out")}
    assert reasons == {"good.mp4": None, "secret.mp4": "unreadable: Permission denied"}
    monkeypatch.undo()  # what failed is tried again, what was rejected is not
    assert run(tmp_path / "raw", "--out", tmp_path / "out") == 0
    assert len(read_manifest(tmp_path / "out").kept()) == 2


def test_folder_with_nothing_usable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw").mkdir()
    for make in (silence, no_face, not_a_video):
        make(tmp_path / "raw" / f"{make.__name__}.mp4")
    assert run(tmp_path / "raw", "--out", tmp_path / "out") == 1
    line = complaint(capsys)
    for words in ("none of the 3 videos", "silence", "no face", "unreadable"):
        assert words in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [(), ("notes.txt", "sound.wav")])
def test_folder_without_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: tuple[str, ...]) -> None:
    (tmp_path / "raw").mkdir()
    for name in content:
        (tmp_path / "raw" / name).write_text("x")
    assert run(tmp_path / "raw", "--out", tmp_path / "out") == 1
    assert "raw holds no videos" in complaint(capsys)
    assert not (tmp_path / "out").exists()


def test_face_too_small_for_the_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At most three quarters of the pixels of a side may be made up."""
    talker(tmp_path / "clip.mp4")
    assert (
        main(
            [
                "prepare",
                str(tmp_path / "clip.mp4"),
                "--out",
                str(tmp_path / "out"),
                "--min-frames",
                "20",
                "--size",
                "600",
                "--workers",
                "0",
            ]
        )
        == 1
    )
    assert "face too small: the crop is 128 px, 150 are the least for 600" in complaint(capsys)


def test_two_faces_close_together_are_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So close that one's crop shows the other; a clip with two people would teach the network neither."""
    (left, sound), (right, _) = talking(0), talking(2)
    both = [np.concatenate([a[:, :94], b[:, 30:]], axis=1) for a, b in zip(left, right, strict=True)]
    both = [np.pad(picture, ((32, 32), (0, 0), (0, 0)), mode="edge") for picture in both]
    write_raw(tmp_path / "pair.mp4", both, times(), sound)
    run(tmp_path / "pair.mp4", "--out", tmp_path / "out")
    assert "two faces: another face is in the crop in 32 frames" in capsys.readouterr().err


@pytest.mark.parametrize(("height", "width"), [(127, 129), (101, 128)])
def test_odd_sizes(tmp_path: Path, height: int, width: int) -> None:
    """Odd sizes exist in containers that are not 4:2:0; here losslessly in a Matroska file."""
    import av

    pictures, sound = talking(2)
    odd = [np.pad(p, ((0, 1), (0, 1), (0, 0)), mode="edge")[-height:, :width] for p in pictures]
    path = tmp_path / "odd.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "bgr0"
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for picture in odd:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
        frame = av.AudioFrame.from_ndarray((sound * 32_767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*audio.encode(frame), *audio.encode(None)])
    assert run(path, "--out", tmp_path / "out") == 0
    (clip,) = read_manifest(tmp_path / "out")
    assert clip.n_frames == FRAMES
    assert clip.crop[2] <= width
    assert clip.crop[3] <= height


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (48_000, 6)])
def test_sound_of_any_kind(tmp_path: Path, rate: int, channels: int) -> None:
    talker(tmp_path / "clip.mp4", rate=rate, channels=channels)
    assert run(tmp_path / "clip.mp4", "--out", tmp_path / "out") == 0
    (clip,) = read_manifest(tmp_path / "out")
    assert clip.n_frames == FRAMES
    heard = ClipReader(read_manifest(tmp_path / "out")).sound(clip)
    wanted = float(np.sqrt((talking(0)[1] ** 2).mean()))
    assert float(np.sqrt((heard**2).mean())) == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize(("seconds", "frames"), [(3.0, FRAMES), (1.0, 25), (1.24, FRAMES - 1)])
def test_sound_longer_or_shorter_than_the_pictures(tmp_path: Path, seconds: float, frames: int) -> None:
    """The clip is as long as the shorter of both; less than one frame of missing sound is filled up."""
    talker(tmp_path / "clip.mp4", seconds=seconds)
    assert run(tmp_path / "clip.mp4", "--out", tmp_path / "out") == 0
    (clip,) = read_manifest(tmp_path / "out")
    assert frames <= clip.n_frames <= min(frames + 1, FRAMES)


def test_partly_silent_clips_are_kept(tmp_path: Path) -> None:
    pictures, sound = talking(0)
    quiet = sound.copy()
    quiet[:, quiet.shape[1] // 2 :] = 0
    write_raw(tmp_path / "clip.mp4", pictures, times(), quiet)
    assert run(tmp_path / "clip.mp4", "--out", tmp_path / "out") == 0


def test_paths_with_spaces_and_other_letters(tmp_path: Path, fctfg_command: Callable[..., object]) -> None:
    folder = tmp_path / "Videos von Jürgen" / "日本語 'x'"
    talker(folder / "ein Gesicht (1) é.mp4")
    out = tmp_path / "Aus gabe ß"
    result = fctfg_command("prepare", folder.parent, "--out", out, *OPTIONS)
    assert result.returncode == 0, result.stderr  # type: ignore[attr-defined]
    (clip,) = read_manifest(out)
    assert clip.identity == "日本語 'x'"
    assert (out / "shards" / clip.shard).is_file()


def test_in_a_process_of_its_own(tmp_path: Path, fctfg_command: Callable[..., object]) -> None:
    result = fctfg_command("prepare", tmp_path / "no.mp4", "--out", tmp_path / "out", *OPTIONS)
    assert (result.returncode, result.stdout) == (1, "")  # type: ignore[attr-defined]
    assert result.stderr.startswith("fctfg: error: ")  # type: ignore[attr-defined]
    assert "Traceback" not in result.stderr  # type: ignore[attr-defined]
    debug = fctfg_command("--debug", "prepare", tmp_path / "no.mp4", "--out", tmp_path / "out", *OPTIONS)
    assert "Traceback" in debug.stderr  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [("--size", "63"), ("--size", "many"), ("--detector", "eyes"), ("--val", "2")])
def test_usage_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str]) -> None:
    talker(tmp_path / "clip.mp4")
    try:
        status: object = main(["prepare", str(tmp_path), "--out", str(tmp_path / "out"), *arguments])
    except SystemExit as stop:  # argparse
        status = stop.code
    assert status == 2
    assert arguments[0].strip("-") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_output_below_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talker(tmp_path / "clip.mp4")
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        assert run(tmp_path / "clip.mp4", "--out", out) == 1
        assert "not a folder" in complaint(capsys)
    assert (tmp_path / "file").read_text() == "in the way"


def refuse(code: int) -> Callable[..., None]:
    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refused


def test_output_not_writable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    talker(tmp_path / "clip.mp4")
    monkeypatch.setattr(Path, "mkdir", refuse(errno.EACCES))
    assert run(tmp_path / "clip.mp4", "--out", tmp_path / "out") == 1
    line = complaint(capsys)
    assert "not writable" in line
    assert str(tmp_path / "out") in line


@pytest.mark.parametrize(("call", "after"), [(call, after) for call in ("fsync", "replace") for after in range(3)])
def test_full_disk_leaves_the_earlier_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    """The disk fills up after some files; what was there before stays as it was, and the same command goes on."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    talker(raw / "a.mp4")
    assert run(raw, "--out", out) == 0
    before = data_set(out)
    talker(raw / "b.mp4")
    capsys.readouterr()
    real, calls = getattr(os, call), []

    def full(*arguments: object) -> object:
        calls.append(arguments)
        return real(*arguments) if len(calls) <= after else refuse(errno.ENOSPC)()

    monkeypatch.setattr(os, call, full)
    status = run(raw, "--out", out)
    monkeypatch.undo()
    if len(calls) <= after:
        pytest.fail(f"os.{call} was called {len(calls)} times only")
    assert status == 1
    assert "no space left" in complaint(capsys)
    left = data_set(out)
    assert all(left[path] == content for path, content in before.items())
    assert len(read_manifest(out)) == 1
    assert run(raw, "--out", out) == 0
    assert len(read_manifest(out).kept()) == 2
    assert not [path for path in out.rglob(".*")]


def data_set(out: Path) -> dict[Path, bytes]:
    """Manifest and shards."""
    return {path: path.read_bytes() for path in (out / FILE_NAME, *(out / "shards").iterdir())}


def test_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        talker(tmp_path / "raw" / f"{name}.mp4")

    calls = []

    def stop(*_: object) -> None:
        calls.append(0)
        if len(calls) == 4:  # within the second video
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    assert run(tmp_path / "raw", "--out", tmp_path / "out") == 130
    monkeypatch.undo()
    assert not (tmp_path / "out" / FILE_NAME).exists()
    assert run(tmp_path / "raw", "--out", tmp_path / "out") == 0
    assert run(tmp_path / "raw", "--out", tmp_path / "undisturbed") == 0
    one, two = (
        {path.name: content for path, content in data_set(tmp_path / out).items()} for out in ("out", "undisturbed")
    )
    assert one == two


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    talker(tmp_path / "clip.mp4")
    assert run(tmp_path / "clip.mp4", "--out", tmp_path / "out") == 0
    left = tmp_path / "out" / "shards" / f".000000-x.{'0' * 32}.tar"
    left.write_text("half")
    assert run(tmp_path / "clip.mp4", "--out", tmp_path / "out") == 0
    assert not left.exists()


@pytest.mark.parametrize("name", ["clips", "shards", "ledger"])
def test_folders_of_the_user_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    mine = tmp_path / "out" / name / "mine.tar"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    empty_file(tmp_path / "clip.mp4")
    assert run(tmp_path / "clip.mp4", "--out", tmp_path / "out") == 1
    assert f"holds something else already ({name})" in complaint(capsys)
    assert mine.read_text() == "mine"
