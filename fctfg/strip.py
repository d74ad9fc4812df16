"""Small pictures for reports: frames beside each other, as JPEG."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fctfg.data.manifest import Clip
from fctfg.data.shards import ClipReader
from fctfg.media import Pixels

GAP = 2  # pixels between frames


def jpeg(picture: Pixels, quality: int = 80, full_colour: bool = False) -> bytes:
    """A picture uint8 [H, W, 3] as JPEG; `full_colour` keeps the colours at full resolution."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0 if full_colour else 2)
    return file.getvalue()


def png(picture: Pixels) -> bytes:
    """A picture uint8 [H, W, 3] as PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def beside(frames: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Pictures uint8 [H, W, 3] of one height in a row, uint8 [H, sum W + gaps, 3], grey between them."""
    between = np.full((len(frames[0]), gap, 3), 128, np.uint8)
    return np.concatenate([part for frame in frames for part in (between, frame)][1:], axis=1)


def strip_frames(n_frames: int, count: int = 5) -> list[int]:
    """Which frames of a clip its strip shows: the middles of `count` equal parts."""
    return [int((k + 0.5) * n_frames / count) for k in range(count)]


def clip_strip(reader: ClipReader, clip: Clip, side: int = 96) -> bytes:
    """Five frames of a clip beside each other.

    Args:
        reader: of the data set.
        clip: a kept one.
        side: of a frame in the strip, pixels; smaller frames stay as they are.

    Returns:
        A JPEG.

    Raises:
        FctfgError: the shard is lost, cut off or damaged.
    """
    track = reader.track(clip)
    frames = []
    for number in strip_frames(clip.n_frames):
        frame = reader.frames(clip, track[number : number + 1])[0].permute(1, 2, 0).contiguous().numpy()
        picture = Image.fromarray(frame)
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        frames.append(np.asarray(picture))
    return jpeg(beside(frames))
