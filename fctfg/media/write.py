"""Writing a video with its sound."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from fctfg.atomic import atomic_path, write_error
from fctfg.errors import FctfgError
from fctfg.media.units import FPS, SAMPLE_RATE, Pixels, Samples


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
