"""Reading and writing pictures, sound and video (PyAV; no ffmpeg program is needed).

One clock: time 0 of a file is the moment its first picture is shown. Frames are picked by time stamps, never by
counting, and sound is cut or padded so that sample n belongs to time n / sample_rate on that clock.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soundfile
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageOps, UnidentifiedImageError

from fctfg.atomic import atomic_path, write_error
from fctfg.errors import FctfgError

FPS = 25.0
SAMPLE_RATE = 16_000

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]

_CLOCK_ERROR = 1e-3  # s; containers with millisecond clocks (Matroska) round each stamp by up to half of it
_JUMP = 10.0  # s; a stamp further off than this is a reset clock (joined transport streams), not a pause
_GAP = 0.02  # s; a longer hole between two pieces of sound is silence, a shorter one is rounding
_SEEK = 2.0  # s; reading that starts later than this seeks to a key frame first
_WITH_INDEX = {"mov", "mp4", "matroska", "webm"}  # containers in which seeking to a time is exact
_TEXT_ART = {"tty", "bin", "xbin", "adf", "idf"}  # ffmpeg "plays" text files with these
# ITU-R BS.775: weights of the loudspeakers in a mono mix, brought to a sum of 1 in `_mono`; the LFE is left out.
_MIX = {"FL": 1.0, "FR": 1.0, "FC": 2**0.5, "BL": 0.5, "BR": 0.5, "SL": 0.5, "SR": 0.5, "BC": 0.5, "LFE": 0.0}


@dataclass(frozen=True)
class MediaInfo:
    """What a media file says about itself.

    Attributes:
        path: The file.
        width, height: Picture size in pixels as shown (turned by the rotation flag); 0 without a picture.
        fps: Average frames per second; 0 without a picture or when the file does not say.
        duration: Length in seconds; 0 when the file does not say.
        has_video, has_audio: Whether the file has pictures and sound (a cover image is not a picture track).
        sample_rate: Sound samples per second; 0 without sound.
        channels: Sound channels; 0 without sound.
    """

    path: Path
    width: int
    height: int
    fps: float
    duration: float
    has_video: bool
    has_audio: bool
    sample_rate: int
    channels: int


@contextmanager
def _open(path: Path) -> Iterator[av.container.InputContainer]:
    """Open `path` for reading; every decoding error inside the block becomes an FctfgError."""
    if not path.exists():
        raise FctfgError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise FctfgError(f"{path} is a folder, not a media file; give one file")
    if path.stat().st_size == 0:
        raise FctfgError(f"{path} is empty; copy or download it again")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if set(container.format.name.split(",")) & _TEXT_ART:
                raise FctfgError(f"{path} is not a video or sound file")
            _check_whole(path, container)
            yield container
    except av.error.InvalidDataError as error:
        if _looks_like_mp4(path):
            raise FctfgError(f"{path} is damaged or cut off; copy or download it again") from error
        raise FctfgError(f"{path} is not a readable video or sound file ({error.strerror})") from error
    except av.error.FFmpegError as error:
        raise FctfgError(f"cannot read {path}: {error.strerror}") from error


def _check_whole(path: Path, container: av.container.InputContainer) -> None:
    """Raise when an mp4's table of contents names bytes beyond the end of the file."""
    if "mp4" not in container.format.name.split(","):
        return
    for stream in container.streams:
        entries = stream.index_entries
        if len(entries) and entries[-1].pos + entries[-1].size > path.stat().st_size:
            raise FctfgError(f"{path} is damaged or cut off; copy or download it again")


def _looks_like_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")


def _video(container: av.container.InputContainer) -> av.VideoStream | None:
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    return streams[0] if streams else None


def _audio(container: av.container.InputContainer) -> av.AudioStream | None:
    streams = container.streams.audio
    return streams[0] if streams else None


def probe(path: str | Path) -> MediaInfo:
    """Read the header of a media file and decode its first picture.

    Raises:
        FctfgError: The file is missing, a folder, empty, not a media file, or cut off before its first picture.
    """
    path = Path(path)
    with _open(path) as container:
        video, audio = _video(container), _audio(container)
        if video is None and audio is None:
            raise FctfgError(f"{path} has neither pictures nor sound")
        duration = float(container.duration or 0) / av.time_base
        width = height = 0
        fps = 0.0
        if video is not None:
            first = next(container.decode(video), None)
            if first is None:
                raise FctfgError(f"{path} is damaged or cut off: no picture can be decoded; copy or download it again")
            width, height = _shown_size(first, video)
            fps = float(video.average_rate or video.guessed_rate or 0)
        return MediaInfo(
            path=path,
            width=width,
            height=height,
            fps=fps,
            duration=duration,
            has_video=video is not None,
            has_audio=audio is not None,
            sample_rate=audio.codec_context.sample_rate if audio is not None else 0,
            channels=len(audio.codec_context.layout.channels) if audio is not None else 0,
        )


def _square_width(frame: av.VideoFrame, stream: av.VideoStream) -> int:
    """Width of the picture in square pixels (differs from the stored one in anamorphic video, as DV and DVD)."""
    aspect = stream.sample_aspect_ratio
    if not aspect or abs(float(aspect) - 1) < 0.01:
        return frame.width
    return round(frame.width * float(aspect))


def _shown_size(frame: av.VideoFrame, stream: av.VideoStream) -> tuple[int, int]:
    width, height = _square_width(frame, stream), frame.height
    return (height, width) if round(frame.rotation / 90) % 2 else (width, height)


def _pixels(frame: av.VideoFrame, stream: av.VideoStream) -> Pixels:
    """The decoded frame as uint8 [H, W, 3] RGB, square pixels, turned upright."""
    array = frame.reformat(width=_square_width(frame, stream), format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(array, round(frame.rotation / 90) % 4))


class _Clock:
    """Times of decoded frames in seconds: never backwards, and going on through missing or reset stamps."""

    def __init__(self, duration: float) -> None:
        self.duration = duration  # of one frame, used where the file does not say
        self.time: float | None = None
        self._shift = 0.0

    def read(self, frame: av.VideoFrame) -> float:
        """Time at which `frame` is shown; keeps the frame's duration for the one after it."""
        expected = None if self.time is None else self.time + self.duration
        if frame.pts is None or frame.time_base is None:
            time = expected or 0.0
        else:
            time = float(frame.pts * frame.time_base) + self._shift
            if expected is not None and self.time is not None and not self.time <= time < self.time + _JUMP:
                self._shift += expected - time
                time = expected
            if frame.duration:
                self.duration = float(frame.duration * frame.time_base)
        self.time = time
        return time


def _timed(
    container: av.container.InputContainer, stream: av.VideoStream, start: float
) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """(time since the first picture, duration, frame) of every picture, from one at or before `start` on."""
    clock = _Clock(1 / float(stream.average_rate or stream.guessed_rate or FPS))
    frames = container.decode(stream)
    first = next(frames, None)
    if first is None:
        return
    origin = clock.read(first)
    if start > _SEEK and stream.time_base is not None and set(container.format.name.split(",")) & _WITH_INDEX:
        container.seek(int((origin + start) / stream.time_base), stream=stream)
        landed = next(container.decode(stream), None)
        if landed is not None and landed.time is not None and landed.time <= origin + start + _CLOCK_ERROR:
            first = landed
        else:
            container.seek(int(origin / stream.time_base), stream=stream)
            first = next(container.decode(stream))
        clock = _Clock(clock.duration)
        clock.read(first)
        frames = container.decode(stream)
    yield (clock.time or 0.0) - origin, clock.duration, first
    for frame in frames:
        yield clock.read(frame) - origin, clock.duration, frame


def read_frames(path: str | Path, fps: float = FPS, start: float = 0.0, end: float | None = None) -> Iterator[Pixels]:
    """Stream the pictures of a video at a fixed rate, picked by time stamps.

    Frame k is the picture on screen at time ``start + k / fps``; so a 60 fps video is thinned out, a 15 fps one
    repeats pictures, and a variable frame rate keeps its timing. Rotation flags are applied, anamorphic pixels made
    square. Only one picture is in memory at a time.

    Args:
        path: Any container that PyAV reads (also a still picture: one frame).
        fps: Frames per second to deliver.
        start: Time of the first frame in seconds.
        end: Stop before this time (seconds); None reads to the end.

    Yields:
        uint8 [H, W, 3] RGB.

    Raises:
        FctfgError: Missing file, no pictures, damaged, or cut off.
    """
    path = Path(path)
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    index = 0
    with _open(path) as container:
        stream = _video(container)
        if stream is None:
            raise FctfgError(f"{path} has no pictures; give a video file")
        shown: av.VideoFrame | None = None
        shown_until = 0.0
        for time, duration, frame in _timed(container, stream, start):
            while shown is not None and (now := start + index / fps) < time - _CLOCK_ERROR:
                if end is not None and now >= end - _CLOCK_ERROR:
                    return
                yield _pixels(shown, stream)
                index += 1
            shown, shown_until = frame, time + duration
        if shown is None:
            raise FctfgError(f"{path} is damaged or cut off: no picture can be decoded; copy or download it again")
        while (now := start + index / fps) < shown_until - _CLOCK_ERROR:
            if end is not None and now >= end - _CLOCK_ERROR:
                return
            yield _pixels(shown, stream)
            index += 1


def _stated_length(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """Length of the sound in seconds by an mp4's table of contents, which leaves out the filling of the last packet.

    Infinite in other containers.
    """
    if "mp4" not in container.format.name.split(",") or not stream.duration or stream.time_base is None:
        return float("inf")
    return float(stream.duration * stream.time_base)


def _first_picture_time(path: Path) -> float | None:
    """Time stamp of the first picture on the container's clock in seconds; None without pictures."""
    with _open(path) as container:
        stream = _video(container)
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
        if _GAP < -ahead < _JUMP:
            silence = np.zeros(round(-ahead * rate), np.float32)
            sent += len(silence)
            yield begin, rate, silence
        for frame in to_planar.resample(decoded):
            samples = _mono(frame)
            if _GAP < ahead < _JUMP:
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
    with _open(path) as container:
        stream = _audio(container)
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


def _even(frame: Pixels) -> Pixels:
    """Repeat the last row or column of an odd-sized picture (H.264 4:2:0 needs even sizes)."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def write_video(
    path: str | Path,
    frames: Iterable[Pixels],
    fps: float = FPS,
    audio: Samples | None = None,
    sample_rate: int = SAMPLE_RATE,
    crf: int = 18,
    gop: int = 25,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write an mp4 (H.264 yuv420p, AAC), streaming; the file appears only when it is complete.

    The sound is cut or padded with zeros to the length of the pictures. Odd sizes are padded to even by repeating
    the edge. There are no B-frames and one encoder thread, so that the stored order is the shown order and the
    same input gives the same bytes on every machine.

    Args:
        path: The file to write.
        frames: uint8 [H, W, 3] RGB each, all of one size.
        fps: Frames per second.
        audio: float32 [N] mono in [-1, 1], beginning with the first picture; None writes no sound track.
        sample_rate: Samples per second of `audio`.
        crf: x264 quality, 0 (lossless) to 51; 18 is visually lossless.
        gop: Key frame interval in frames; small values make random access fast and files larger.
        metadata: Tags of the file, by names that mp4 knows (`title`, `comment`, `copyright`, ...).

    Returns:
        Number of frames written.

    Raises:
        FctfgError: No frames, frames of different sizes, folder not writable, disk full.
    """
    path = Path(path)
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise FctfgError(f"cannot write {path}: there are no frames")
    try:
        with atomic_path(path) as temporary:
            rate = Fraction(fps).limit_denominator(1001)
            return _encode(temporary, first, iterator, rate, audio, sample_rate, crf, gop, metadata or {})
    except av.error.FFmpegError as error:
        raise write_error(OSError(error.errno, error.strerror), path) or FctfgError(
            f"cannot write {path}: {error.strerror}"
        ) from error


def _encode(
    path: Path,
    first: Pixels,
    others: Iterable[Pixels],
    fps: Fraction,
    audio: Samples | None,
    sample_rate: int,
    crf: int,
    gop: int,
    metadata: Mapping[str, str],
) -> int:
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata.update(metadata)
        picture = _add_h264(container, first, fps, crf, gop)
        sound = None if audio is None else _add_aac(container, sample_rate)
        count = 0
        for frame in chain([first], others):
            if frame.shape != first.shape:
                raise FctfgError(f"cannot write {path}: frame {count} is {frame.shape}, the first one {first.shape}")
            yuv = av.VideoFrame.from_ndarray(_even(frame), format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
            )
            yuv.pts, yuv.time_base = count, 1 / fps
            container.mux(picture.encode(yuv))
            if sound is not None and audio is not None:
                container.mux(sound.encode(_samples_of_frame(audio, count, fps, sample_rate)))
            count += 1
        container.mux(picture.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
        return count


def _add_h264(
    container: av.container.OutputContainer, first: Pixels, fps: Fraction, crf: int, gop: int
) -> av.VideoStream:
    height, width = _even(first).shape[:2]
    options = {"crf": str(crf), "bf": "0", "threads": "1"}
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.gop_size = gop
    context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
    return stream


def _add_aac(container: av.container.OutputContainer, sample_rate: int) -> av.AudioStream:
    stream = container.add_stream("aac", rate=sample_rate, layout="mono")
    stream.bit_rate = 96_000
    return stream


def _samples_of_frame(audio: Samples, index: int, fps: Fraction, sample_rate: int) -> av.AudioFrame:
    """The sound of one picture's duration, zeros where `audio` has ended."""
    begin, end = (round(k * sample_rate / fps) for k in (index, index + 1))
    piece = audio[begin:end].astype(np.float32)
    piece = np.pad(np.clip(piece, -1, 1), (0, end - begin - len(piece)))
    frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = sample_rate, Fraction(1, sample_rate), begin
    return frame


def read_image(path: str | Path) -> Pixels:
    """Read a picture upright (EXIF orientation applied), transparent parts on white.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        FctfgError: Missing or not a picture.
    """
    path = Path(path)
    if not path.exists():
        raise FctfgError(f"{path} does not exist; check the path")
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.array(image.convert("RGB"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise FctfgError(f"{path} is not a readable picture; give a PNG or JPEG") from error


def write_image(path: str | Path, image: Pixels) -> None:
    """Write uint8 [H, W, 3] RGB as PNG or JPEG, by the suffix of `path`.

    Raises:
        FctfgError: Folder not writable, disk full.
    """
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary)


def read_wav(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Read a sound file that `write_wav` wrote, quickly; for any other sound there is `read_audio`.

    Returns:
        float32 [N] mono in [-1, 1].

    Raises:
        FctfgError: Missing, not a sound file, not mono, or of another sample rate.
    """
    path = Path(path)
    if not path.exists():
        raise FctfgError(f"{path} does not exist; check the path")
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise FctfgError(f"{path} is not a readable sound file; give a WAV or FLAC") from error
    if rate != sample_rate or samples.ndim != 1:
        raise FctfgError(f"{path} is not mono sound at {sample_rate} Hz; convert it or run `fctfg prepare` again")
    return np.asarray(samples, np.float32)


def write_wav(path: str | Path, samples: Samples, sample_rate: int = SAMPLE_RATE) -> None:
    """Write float32 [N] in [-1, 1] as 16-bit mono WAV.

    Raises:
        FctfgError: Folder not writable, disk full.
    """
    with atomic_path(path) as temporary:
        soundfile.write(temporary, np.clip(samples, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
