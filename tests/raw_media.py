"""Videos and sounds as users have them: any frame times, containers, sound formats and flags; written with PyAV and
soundfile directly, so that the tests of `fctfg.media` have a counterpart that does not share its code."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

CLOCK = Fraction(1, 90_000)


def numbered(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture that shows its number (0..255) as two gray halves, which survive compression."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, : width // 2] = 8 + 15 * (index // 16)
    picture[:, width // 2 :] = 8 + 15 * (index % 16)
    return picture


def number_of(picture: np.ndarray) -> int:
    """The inverse of `numbered`."""
    height, width = picture.shape[:2]
    halves = picture[4 : height - 4, 4 : width // 2 - 4], picture[4 : height - 4, width // 2 + 4 : width - 4]
    high, low = (round((float(half.mean()) - 8) / 15) for half in halves)
    return 16 * high + low


def click(at: float, seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """float32 [channels, N]: silence with a short click at time `at`."""
    sound = np.zeros((channels, round(seconds * rate)), np.float32)
    begin = round(at * rate)
    sound[:, begin : begin + max(1, round(0.0005 * rate))] = 0.9
    return sound


def click_time(sound: np.ndarray, rate: int) -> float:
    """Time of the loudest sample."""
    return float(np.abs(sound).argmax()) / rate


def write_wav(path: str | Path, sound: np.ndarray, rate: int = 16_000) -> None:
    """Write float32 [N] in [-1, 1] as 16-bit mono WAV."""
    soundfile.write(path, np.clip(sound, -1, 1), rate, subtype="PCM_16", format="WAV")


def write_raw(
    path: Path,
    pictures: Iterable[np.ndarray],
    times: Sequence[float],
    sound: np.ndarray | None = None,
    rate: int = 16_000,
    layout: str = "mono",
    sound_start: float = 0.0,
    codec: str = "libx264",
    sound_codec: str = "aac",
    rotation: float | None = None,
    fps: int = 25,
) -> Path:
    """Write a video with the given time of every picture, and sound float32 [channels, N] from `sound_start` on."""
    with av.open(str(path), "w") as container:
        stream = None
        audio = container.add_stream(sound_codec, rate=rate, layout=layout) if sound is not None else None
        for picture, time in zip(pictures, times, strict=True):
            if stream is None:
                stream = container.add_stream(codec, rate=fps)
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
                stream.codec_context.time_base = CLOCK if codec == "libx264" else Fraction(1, fps)
                if rotation is not None:
                    stream.set_display_rotation(rotation)
                base = stream.codec_context.time_base
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
        if audio is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(sound_start * rate)
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path
