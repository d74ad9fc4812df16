"""Generation: streaming against the network's own forward, lengths, drivers, and the files that are written."""

import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
import torch
from raw_media import write_wav
from tiny_talking_face import run_folder, talking_face

import fctfg
from fctfg.errors import FctfgError
from fctfg.inference import DEFAULT_WEIGHTS, TalkingFace, _long_mel, frame_count
from fctfg.inputs import back_and_forth
from fctfg.media import read_audio, read_frames, write_image, write_video
from fctfg.ops.mel import mel_spectrogram
from fctfg.ops.pixels import to_images, to_pixels
from fctfg.ops.windows import mel_windows

SIZE = 32


def picture(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * 16_000)) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * 220 * time * (1 + 0.2 * np.sin(2 * np.pi * 3 * time)))
    return (tone + 0.05 * np.random.default_rng(seed).normal(size=len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("runs") / "t")


@pytest.fixture(scope="module")
def face(run: Path) -> TalkingFace:
    return TalkingFace.from_pretrained(run)


# ---- streaming


@pytest.mark.parametrize("hypernetwork", ["off", "frozen"])
def test_streaming_equals_the_networks_forward(face: TalkingFace, hypernetwork: Literal["off", "frozen"]) -> None:
    model = talking_face(hypernetwork=hypernetwork)
    face = TalkingFace(talking_face(hypernetwork=hypernetwork), face.artifact)
    audio, source, driver = sound(0.4), picture(0), [picture(i) for i in range(1, 11)]
    streamed = np.stack(list(face.animate(source, audio, driver)))

    mel = mel_windows(mel_spectrogram(torch.from_numpy(audio)), torch.arange(10))
    with torch.no_grad():
        frames = model(
            to_images(source).expand(2, -1, -1, -1),
            to_images(np.stack(driver)).unflatten(0, (2, 5)),
            mel.unflatten(0, (2, 5)),
        ).frames
    assert np.abs(streamed.astype(int) - to_pixels(frames.flatten(0, 1)).astype(int)).max() <= 1
    assert len(np.unique(streamed)) > 50  # not a saturated picture


@pytest.mark.parametrize("batch", [2, 7])
def test_frames_do_not_depend_on_the_batch(face: TalkingFace, batch: int) -> None:
    audio, driver = sound(0.9), [picture(i) for i in range(4)]
    one = np.stack(list(face.animate(picture(9), audio, driver)))
    many = np.stack(list(face.animate(picture(9), audio, driver, batch=batch)))
    assert one.shape == many.shape == (22, SIZE, SIZE, 3)
    assert np.abs(one.astype(int) - many.astype(int)).max() <= 1


@pytest.mark.parametrize("samples", [321, 640, 3199, 3200, 3201, 16_000, 16_321])
def test_number_of_frames_is_the_rounded_length(face: TalkingFace, samples: int) -> None:
    frames = list(face.animate(picture(0), sound(2.0)[:samples]))
    assert len(frames) == round(samples * 25 / 16_000) == frame_count(sound(2.0)[:samples])
    assert frames[0].shape == (SIZE, SIZE, 3) and frames[0].dtype == np.uint8


def test_sound_and_driver_and_portrait_all_matter(face: TalkingFace) -> None:
    def frames(portrait: int = 0, audio: int = 0, driver: int | None = None) -> np.ndarray:
        driving = None if driver is None else [picture(driver)]
        return np.stack(list(face.animate(picture(portrait), sound(0.2, audio), driving)))

    first = frames()
    np.testing.assert_array_equal(first, frames())
    for other in (frames(portrait=1), frames(audio=1), frames(driver=2)):
        assert not np.array_equal(first, other)
    np.testing.assert_array_equal(first, frames(driver=0))  # without a driver, the portrait drives


def test_a_driver_is_read_only_as_far_as_it_is_needed(face: TalkingFace) -> None:
    read = []

    def endless() -> Iterator[np.ndarray]:
        for index in itertools.count():
            read.append(index)
            yield picture(index % 3)

    frames = face.animate(picture(0), sound(60.0), endless())
    for _ in range(12):
        next(frames)
    assert len(read) == 15  # three windows of five
    assert len(list(face.animate(picture(0), sound(0.5), itertools.islice(endless(), 1000)))) == 12


@pytest.mark.parametrize("samples", [640, 3999, 4000, 4001, 16_000, 33_333])
def test_mel_in_pieces_is_the_mel(samples: int) -> None:
    audio = sound(3.0)[:samples]
    whole = mel_spectrogram(torch.from_numpy(audio))
    for piece in (10, 21, 10_000):
        torch.testing.assert_close(_long_mel(audio, piece), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_short_driver_goes_back_and_forth(monkeypatch: pytest.MonkeyPatch, count: int, in_memory: bool) -> None:
    if not in_memory:
        monkeypatch.setattr("fctfg.inputs.SPOOL_BYTES", 1)
    frames = [np.full((4, 4, 3), index, np.uint8) for index in range(count)]
    seen = [int(frame[0, 0, 0]) for frame in itertools.islice(back_and_forth(iter(frames), 4), 40)]
    period = max(1, 2 * (count - 1))
    assert seen == [min(k % period, period - k % period) if count > 1 else 0 for k in range(40)]


def test_a_driver_without_frames_is_refused(face: TalkingFace) -> None:
    with pytest.raises(FctfgError, match="driver has no frames"):
        list(face.animate(picture(0), sound(0.2), []))


def test_tensors_and_other_sizes_are_taken(face: TalkingFace) -> None:
    by_array = next(face.animate(picture(0), sound(0.2)))
    by_tensor = next(face.animate(to_images(picture(0)), sound(0.2)))
    np.testing.assert_array_equal(by_array, by_tensor)
    large = np.kron(picture(0), np.ones((2, 2, 1), np.uint8))
    assert next(face.animate(large, sound(0.2), [large])).shape == (SIZE, SIZE, 3)


def test_misuse_raises_before_the_first_frame(face: TalkingFace) -> None:
    with pytest.raises(FctfgError, match="32 x 48 pixels, but a crop must be square"):
        face.animate(np.zeros((48, 32, 3), np.uint8), sound(0.2))
    with pytest.raises(ValueError, match="uint8"):
        face.animate(np.zeros((32, 32, 3), np.float32), sound(0.2))
    with pytest.raises(ValueError, match="float"):
        face.animate(picture(0), np.zeros(16_000, np.int16))
    with pytest.raises(FctfgError, match="only 10 ms long"):
        face.animate(picture(0), sound(0.01))
    with pytest.raises(FctfgError, match="not finite"):
        face.animate(picture(0), np.full(16_000, np.nan, np.float32))
    with pytest.raises(ValueError, match="at least 1"):
        face.animate(picture(0), sound(0.2), window=0)


# ---- loading


def test_weights_may_be_a_run_or_a_file(run: Path, face: TalkingFace) -> None:
    by_file = TalkingFace.from_pretrained(str(run / "export" / "weights.safetensors"))
    assert by_file.size == SIZE and by_file.artifact.sha256 == face.artifact.sha256
    assert not by_file.model.training
    assert not any(parameter.requires_grad for parameter in by_file.model.parameters())


def test_default_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert TalkingFace.from_pretrained().size == 64
    assert DEFAULT_WEIGHTS.stat().st_size <= 15e6
    monkeypatch.setattr("fctfg.inference.DEFAULT_WEIGHTS", tmp_path / "none.safetensors")
    with pytest.raises(FctfgError, match=r"without default weights; pass .*--weights"):
        TalkingFace.from_pretrained()


def test_inference_loads_no_training_libraries(run: Path) -> None:
    program = (
        "import sys, numpy, fctfg\n"
        "assert 'torch' not in sys.modules, 'import fctfg is slow'\n"
        f"face = fctfg.TalkingFace.from_pretrained({str(run)!r})\n"
        "frames = list(face.animate(numpy.zeros((32, 32, 3), numpy.uint8), numpy.zeros(3200)))\n"
        "assert len(frames) == 5\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for library in ("pytorch_lightning", "lightning", "wandb", "yaml", "jsonargparse", "pyarrow", "matplotlib"):
        assert f"'{library}'" not in done.stdout, library


# ---- files


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Portrait, sound and driver that are crops already, in a folder with spaces and non-ASCII letters."""
    folder = tmp_path / "Größe 1 日本"
    portrait, audio, driver = folder / "p ö.png", folder / "a ö.wav", folder / "d ö.mp4"
    write_image(portrait, picture(0, 64))
    write_wav(audio, sound(1.3))
    write_video(driver, [picture(i, 64) for i in range(8)])
    return portrait, audio, driver


def test_generate_writes_a_video_as_long_as_the_sound(
    face: TalkingFace, inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    portrait, audio, driver = inputs
    out = tmp_path / "new folder" / "ö o.mp4"
    calls: list[tuple[int, int]] = []
    count = face.generate(portrait, audio, out, driver, crop=False, progress=lambda *call: calls.append(call))
    assert count == round(1.3 * 25) == len(list(read_frames(out)))
    assert calls == [(done, count) for done in range(1, count + 1)]

    with av.open(str(out)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.average_rate) == (SIZE, SIZE, 25)
        assert video.codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.metadata["comment"] == f"generated by fctfg {fctfg.__version__}, synthetic face"
    heard = read_audio(out)
    assert abs(len(heard) / 16_000 - count / 25) <= 1 / 25
    expected = sound(1.3)
    both = min(len(heard), len(expected))
    lags = range(-800, 801)
    middle = slice(4000, both - 4000)
    scores = [float(np.dot(np.roll(heard[:both], -lag)[middle], expected[:both][middle])) for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) <= 16  # the sound is in step to a millisecond


def test_generate_leaves_a_record(face: TalkingFace, inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    portrait, audio, driver = inputs
    face.generate(portrait, audio, tmp_path / "o.mp4", driver, crop=False)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["o.json", "o.mp4"]
    record = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert "synthetic face" in record["comment"] and record["fctfg_version"] == fctfg.__version__
    assert record["weights"]["sha256"] == face.artifact.sha256
    assert record["weights"]["licences"] == {"data": "CC0-1.0", "weights": "Apache-2.0"}
    for name, path in (("portrait", portrait), ("audio", audio), ("driver", driver)):
        assert record["inputs"][name] == {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_generate_gives_the_same_bytes_again(
    face: TalkingFace, inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    for name in ("a.mp4", "b.mp4"):
        face.generate(*inputs[:2], tmp_path / name, crop=False)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_first_frame_of_a_video_may_be_the_portrait(
    face: TalkingFace, inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, audio, driver = inputs
    write_image(tmp_path / "first.png", next(read_frames(driver)))
    face.generate(tmp_path / "first.png", audio, tmp_path / "a.mp4", crop=False)
    face.generate(driver, audio, tmp_path / "b.mp4", crop=False)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(("rate", "channels", "suffix"), [(8000, 1, "wav"), (44_100, 2, "mp3"), (48_000, 2, "m4a")])
def test_any_sound_file_is_taken(
    face: TalkingFace, inputs: tuple[Path, Path, Path], tmp_path: Path, rate: int, channels: int, suffix: str
) -> None:
    path = tmp_path / f"s.{suffix}"
    codec = {"wav": "pcm_s16le", "mp3": "libmp3lame", "m4a": "aac"}[suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout={1: "mono", 2: "stereo"}[channels])
        tone = 0.3 * np.sin(np.arange(rate) * 2 * np.pi * 200 / rate)
        frame = av.AudioFrame.from_ndarray(np.tile(tone.astype(np.float32), (channels, 1)), "fltp", stream.layout.name)
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            format=stream.format, layout=stream.layout, rate=rate, frame_size=stream.frame_size
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    count = face.generate(inputs[0], path, tmp_path / "o.mp4", crop=False)
    assert abs(count - 25) <= 2  # mp3 states its padding, m4a too; a frame lasts 40 ms


def test_the_sound_of_a_video_is_taken(face: TalkingFace, inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    write_video(path, [picture(i) for i in range(20)], audio=sound(0.8))
    assert face.generate(inputs[0], path, tmp_path / "o.mp4", path, crop=False) == 20
