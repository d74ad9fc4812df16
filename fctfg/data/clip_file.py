"""One clip as four files in a row of a tar archive: what is known, where the face is, the mel, and a film.

``ID.json`` is the clip's row, ``ID.track.npy`` one `TRACK` record a frame, ``ID.mel.npy`` the mel spectrogram
(float32 [M, 80], time first so that a window lies in one piece), and ``ID.mov`` a QuickTime film that ordinary players
show: the sound as 16-bit PCM in one piece, then every frame by itself, as JPEG or raw RGB. `TRACK` says where each
frame lies in the film, so that training reads frames by their place and no demuxer is involved.

A shard is many such rows, one after the other (`fctfg.data.shards`).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, encode_jpeg

from fctfg.media import FPS, SAMPLE_RATE, Samples
from fctfg.ops.mel import mel_spectrogram

TRACK = np.dtype(
    [
        ("at", "<i8"),  # first byte of the frame within the film
        ("bytes", "<i4"),
        ("box", "<f4", 4),  # the detector's (x0, y0, x1, y1) as fractions of the crop
        ("points", "<f4", (5, 2)),  # (x, y) as fractions of the crop, ArcFace order
        ("landmarks", "<f4", (68, 2)),  # likewise, iBUG order
        ("pose", "<f4", 3),  # yaw, pitch, roll in degrees
    ]
)
JPEG_QUALITY = 95
FORMS = ("jpeg", "raw")
_SOUND_AT = 36  # bytes of a film before its sound
_END = 2 * tarfile.BLOCKSIZE  # zeros that end a tar archive

Track = npt.NDArray[np.void]


@dataclass(frozen=True)
class Places:
    """Where the parts of a clip begin, in bytes from the beginning of its file or shard.

    Attributes:
        film: ``ID.mov``; the places in the track count from here.
        sound: int16 samples within the film.
        mel: float32 [M, 80].
        track: `TRACK` [n_frames].
    """

    film: int
    sound: int
    mel: int
    track: int


def encode_frame(frame: npt.NDArray[np.uint8], form: str) -> bytes:
    """A frame uint8 [H, W, 3] as it is stored: JPEG (quality 95, chroma at half the resolution), or its bytes."""
    if form == "raw":
        return frame.tobytes()
    return encode_jpeg(torch.from_numpy(frame).movedim(-1, 0), JPEG_QUALITY).numpy().tobytes()


def decode_frame(stored: Tensor, size: int, form: str) -> Tensor:
    """The inverse: uint8 [bytes] -> uint8 [3, size, size] with the channels last in memory; raw frames are a view.

    Raises:
        RuntimeError: the bytes are damaged.
    """
    if form == "raw":
        return stored.view(size, size, 3).permute(2, 0, 1)
    # torchvision's operator itself: its Python function around it takes 1/15 of the time, with the interpreter's lock
    image: Tensor = torch.ops.image.decode_jpeg(stored, ImageReadMode.RGB.value, False)
    if image.shape != (3, size, size):
        raise RuntimeError(f"a picture of {list(image.shape)}, not of {size} pixels")
    return image


def film(frames: Sequence[bytes], sound: Samples, size: int, form: str) -> tuple[bytes, npt.NDArray[np.int64]]:
    """A QuickTime film of stored frames at 25 a second with mono sound at 16 kHz.

    Args:
        frames: of `encode_frame`.
        sound: float32 [N] in [-1, 1], cut or filled with zeros to the length of the frames.
        size: side of the frames in pixels.
        form: ``jpeg`` or ``raw``.

    Returns:
        The file, and where in it each frame begins.
    """
    length = round(len(frames) * SAMPLE_RATE / FPS)
    pcm = np.round(np.clip(sound[:length], -1, 1) * 32767).astype("<i2")
    pcm = np.pad(pcm, (0, length - len(pcm)))
    file = io.BytesIO()
    with av.open(file, "w", format="mov", options={"fflags": "bitexact"}) as container:
        voice = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")  # first here, first in the file
        codec, pixels = ("rawvideo", "rgb24") if form == "raw" else ("mjpeg", "yuvj420p")
        picture = container.add_stream(codec, rate=Fraction(FPS))
        assert isinstance(picture, av.VideoStream)
        picture.width, picture.height, picture.pix_fmt = size, size, pixels
        container.mux_one(_packet(pcm.tobytes(), voice, 0, length, Fraction(1, SAMPLE_RATE)))
        for index, frame in enumerate(frames):
            container.mux_one(_packet(frame, picture, index, 1, 1 / Fraction(FPS)))
    content = file.getvalue()
    sizes = np.array([len(frame) for frame in frames], np.int64)
    ends = _SOUND_AT + pcm.nbytes + np.cumsum(sizes)
    starts = ends - sizes
    if content[starts[0] : ends[0]] != frames[0] or content[starts[-1] : ends[-1]] != frames[-1]:
        raise RuntimeError("the film's parts do not lie in the expected order")  # another version of the muxer
    return content, starts


def _packet(
    content: bytes, stream: av.VideoStream | av.AudioStream, time: int, duration: int, time_base: Fraction
) -> av.Packet:
    packet = av.Packet(content)
    packet.stream, packet.time_base = stream, time_base
    packet.pts = packet.dts = time
    packet.duration, packet.is_keyframe = duration, True
    return packet


def clip_mel(sound: Samples) -> npt.NDArray[np.float32]:
    """The mel spectrogram of a clip's sound as it is stored, float32 [M, 80], of the 16-bit samples."""
    heard = np.round(np.clip(sound, -1, 1) * 32767).astype(np.float32) / 32768
    return np.ascontiguousarray(mel_spectrogram(torch.from_numpy(heard)).numpy().T)


def clip_file(
    row: Mapping[str, Any], frames: Sequence[bytes], sound: Samples, track: Track, size: int, form: str
) -> bytes:
    """A tar archive of one clip.

    The same input gives the same bytes.

    Args:
        row: what is known, of JSON's types; with `id`.
        frames: of `encode_frame`.
        sound: float32 [N] in [-1, 1] at 16 kHz, as long as the frames.
        track: `TRACK` [n_frames]; `at` and `bytes` are filled in.
        size: side of the frames in pixels.
        form: ``jpeg`` or ``raw``.

    Raises:
        ValueError: the numbers of frames, records and samples do not fit.
    """
    if not len(frames) or len(frames) != len(track) or len(sound) != round(len(frames) * SAMPLE_RATE / FPS):
        raise ValueError(f"{len(frames)} frames, {len(track)} records and {len(sound)} samples are no clip")
    movie, starts = film(frames, sound, size, form)
    track = track.copy()
    track["at"], track["bytes"] = starts, [len(frame) for frame in frames]
    name = row["id"]
    text = json.dumps(row, ensure_ascii=False, sort_keys=True, allow_nan=False).encode()
    return b"".join(
        [
            _member(f"{name}.json", text),
            _member(f"{name}.track.npy", _npy(track)),
            _member(f"{name}.mel.npy", _npy(clip_mel(sound))),
            _member(f"{name}.mov", movie),
            bytes(_END),
        ]
    )


def _npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def body_bytes(file: bytes) -> int:
    """Bytes of a clip's file that go into a shard: all but the archive's end."""
    return len(file) - _END


def read_row(file: io.BufferedIOBase, begin: int = 0) -> tuple[dict[str, Any], Places]:
    """What is known of the clip that begins at a place of a shard, and where its parts lie.

    Args:
        file: the shard, or a clip's own file.
        begin: the first byte of the clip.

    Raises:
        tarfile.TarError, ValueError: no clip begins there.
    """
    file.seek(begin)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        members = [archive.next() for _ in range(4)]
    places = [member.offset_data for member in members if member is not None]
    if len(places) < 4:
        raise ValueError("the archive ends within a clip")
    row, track, mel, movie = places
    file.seek(row)
    known = json.loads(file.read(members[0].size))  # type: ignore[union-attr]
    return known, Places(movie, movie + _SOUND_AT, _array_at(file, mel), _array_at(file, track))


def _array_at(file: io.BufferedIOBase, begin: int) -> int:
    """Where the numbers of the .npy file at `begin` start."""
    file.seek(begin)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file.tell()
