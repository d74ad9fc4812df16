"""The sound of a file, on the pictures' clock."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fctfg.errors import FctfgError
from fctfg.media.container import audio_stream, open_media, video_stream
from fctfg.media.units import SAMPLE_RATE, Samples
from fctfg.media.video import JUMP

_GAP = 0.02  # s; a longer hole between two pieces of sound is silence, a shorter one is rounding
# ITU-R BS.775: weights of the loudspeakers in a mono mix, brought to a sum of 1 in `_mono`; the LFE is left out.
_MIX = {"FL": 1.0, "FR": 1.0, "FC": 2**0.5, "BL": 0.5, "BR": 0.5, "SL": 0.5, "SR": 0.5, "BC": 0.5, "LFE": 0.0}


def _stated_length(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """Length of the sound in seconds by an mp4's table of contents, which leaves out the filling of the last packet.

    Infinite in other containers.
    """
    if "mp4" not in container.format.name.split(",") or not stream.duration or stream.time_base is None:
        return float("inf")
    return float(stream.duration * stream.time_base)


def _first_picture_time(path: Path) -> float | None:
    """Time stamp of the first picture on the container's clock in seconds; None without pictures."""
    with open_media(path) as container:
        stream = video_stream(container)
        first = next(container.decode(stream), None) if stream is not None else None
        return None if first is None or first.time is None else float(first.time)


def _mono(frame: av.AudioFrame) -> Samples:
    """Planar float frame [C, N] mixed to mono [N]; full scale on all channels stays full scale."""
    channels = frame.to_ndarray()
    if len(channels) == 1:
        return channels[0].astype(np.float32)
    weights = np.array([_MIX.get(channel.name, 0.5) for channel in frame.layout.channels], np.float32)
    if not weights.sum():
        weights += 1
    return (weights / weights.sum()) @ channels.astype(np.float32)


def _continuous(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[tuple[float, int, Samples]]:
    """(start of the stream in s, sample rate, mono samples) pieces without holes, at the file's own rate.

    Holes between the time stamps are filled with silence and overlaps are dropped, so that the sound keeps step with
    the pictures in recordings whose sound drops out.
    """
    rate = stream.codec_context.sample_rate
    to_planar: av.AudioResampler | None = None
    layout = ""
    begin: float | None = None
    sent = 0
    for decoded in container.decode(stream):
        if to_planar is None or layout != decoded.layout.name:  # the layout may change within a broadcast
            to_planar, layout = (
                av.AudioResampler(format="fltp", layout=decoded.layout.name, rate=rate),
                decoded.layout.name,
            )
        time = None if decoded.pts is None else decoded.time
        if begin is None:
            begin = float(time or 0.0)
        ahead = 0.0 if time is None else begin + sent / rate - float(time)
        if _GAP < -ahead < JUMP:
            silence = np.zeros(round(-ahead * rate), np.float32)
            sent += len(silence)
            yield begin, rate, silence
        for frame in to_planar.resample(decoded):
            samples = _mono(frame)
            if _GAP < ahead < JUMP:
                samples = samples[round(ahead * rate) :]
            sent += len(samples)
            yield begin, rate, samples


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Read the sound of a file as mono on the pictures' clock.

    Sample n belongs to time ``n / sample_rate`` after the first picture: sound that begins later is preceded by
    zeros, sound that begins earlier loses its beginning (with a file of sound only, its own beginning is time 0).
    Channels are mixed by ITU-R BS.775 (no LFE), scaled so that the mix cannot clip.

    Args:
        path: Any container or sound file that PyAV reads.
        sample_rate: Samples per second to deliver (band-limited resampling).

    Returns:
        float32 [N], nominally in [-1, 1].

    Raises:
        FctfgError: Missing file, no sound track, an empty one, damaged, or cut off.
    """
    path = Path(path)
    origin = _first_picture_time(path)
    pieces: list[Samples] = []
    with open_media(path) as container:
        stream = audio_stream(container)
        if stream is None:
            raise FctfgError(f"{path} has no sound track; give a file with sound")
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=sample_rate)
        begin = 0.0
        sent = rate = 0
        for begin, rate, samples in _continuous(container, stream):  # noqa: B007 (used after the loop)
            if not len(samples):
                continue
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), sent
            sent += len(samples)
            pieces += [out.to_ndarray()[0] for out in resampler.resample(frame)]
        if not sent:
            raise FctfgError(f"the sound track of {path} is empty; give a file with sound")
        length = min(sent / rate, _stated_length(container, stream))
        pieces += [out.to_ndarray()[0] for out in resampler.resample(None)]
    sound = np.concatenate(pieces).astype(np.float32)[: round(length * sample_rate)]
    offset = round((begin - (begin if origin is None else origin)) * sample_rate)
    return np.pad(sound, (offset, 0)) if offset > 0 else sound[-offset:]
