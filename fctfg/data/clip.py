"""Random access to the frames of a prepared clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from fctfg.errors import FctfgError
from fctfg.media import FPS


def read_clip(path: Path, indices: Sequence[int]) -> np.ndarray:
    """The frames `indices` of a prepared clip, in the order asked for.

    Prepared clips have 25 frames per second from time 0 and key frames at short distances, so a frame is found by
    seeking to its time. The file is opened once; a frame that follows the one before is decoded without a seek.

    Args:
        path: clip written by `fctfg prepare`.
        indices: 0-based frame numbers.

    Returns:
        uint8 [n, H, W, 3] RGB.

    Raises:
        FctfgError: the clip cannot be decoded or is shorter than an index asks for.
    """
    found: dict[int, np.ndarray] = {}
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # a thread per sample is cheaper than threads per frame
            time_base = stream.time_base
            if time_base is None:
                raise FctfgError(f"{path}: the video stream has no time base; run `fctfg prepare` again")
            last = -1  # the frame that the decoder gave last
            decoder = None
            for index in sorted(set(indices)):
                if decoder is None or index > last + 12:
                    container.seek(round(index / FPS / time_base), stream=stream)
                    decoder = container.decode(stream)
                for frame in decoder:
                    last = round(float((frame.pts or 0) * time_base) * FPS)
                    if last >= index:
                        found[last] = frame.to_ndarray(format="rgb24")
                        break
    except (av.FFmpegError, OSError, IndexError) as error:
        raise FctfgError(f"{path}: cannot be decoded ({error}); run `fctfg prepare` again") from error
    missing = [index for index in indices if index not in found]
    if missing:
        raise FctfgError(f"{path}: frame {missing[0]} is not in the clip; run `fctfg prepare` again")
    return np.stack([found[index] for index in indices])
