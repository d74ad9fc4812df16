"""Ways to keep the frames of talking clips on a disk, and to read random ones of them."""

import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from PIL import Image

from fctfg.data.clip_file import decode_frame
from fctfg.data.dataset import TalkingClips
from fctfg.data.manifest import read_manifest
from fctfg.data.shards import ClipReader
from fctfg.media import FPS, write_video

FRAMES = 5
Place = tuple[int, int, int]  # clip, source frame, first driving frame


def jpeg(quality: int, subsampling: int = 2) -> Callable[[np.ndarray], bytes]:
    """An encoder; subsampling 2 is 4:2:0, 0 is 4:4:4."""

    def encode(frame: np.ndarray) -> bytes:
        file = BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling=subsampling)
        return file.getvalue()

    return encode


def with_cv2(suffix: str, *settings: int) -> Callable[[np.ndarray], bytes]:
    """An encoder of OpenCV."""
    return lambda frame: cv2.imencode(suffix, frame[..., ::-1], settings)[1].tobytes()


def by_torchvision(stored: bytes | bytearray | memoryview, out: np.ndarray) -> None:
    image = decode_frame(torch.frombuffer(bytearray(stored), dtype=torch.uint8), len(out), "jpeg")
    np.copyto(out, image.permute(1, 2, 0).numpy())


def by_cv2(stored: bytes | bytearray | memoryview, out: np.ndarray) -> None:
    np.copyto(out, cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR_RGB))


class Form(ABC):
    """One way to keep clips.

    Args:
        folder: of its files.
        clips: frames of each clip, uint8 [T, S, S, 3].
    """

    def __init__(self, folder: Path, clips: list[np.ndarray]) -> None:
        self.folder = folder
        self.write(clips)

    @abstractmethod
    def write(self, clips: list[np.ndarray]) -> None:
        """Make the files."""

    def open(self) -> None:  # noqa: B027 (most forms keep nothing open)
        """Open the files; nothing is read yet."""

    def close(self) -> None:  # noqa: B027
        """Let go of the files."""

    @abstractmethod
    def read(self, place: Place, out: np.ndarray) -> None:
        """The source and the driving frames into `out` [6, S, S, 3]."""

    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Files(Form):
    """A file per frame."""

    def __init__(self, folder: Path, clips: list[np.ndarray], decoder: str) -> None:
        self.decoder = decoder
        super().__init__(folder, clips)

    def write(self, clips: list[np.ndarray]) -> None:
        encode = jpeg(95)
        for c, frames in enumerate(clips):
            (self.folder / str(c)).mkdir(parents=True)
            for f, frame in enumerate(frames):
                (self.folder / str(c) / f"{f:05d}.jpg").write_bytes(encode(frame))

    def read(self, place: Place, out: np.ndarray) -> None:
        clip, source, start = place
        for target, f in zip(out, (source, *range(start, start + FRAMES)), strict=True):
            path = self.folder / str(clip) / f"{f:05d}.jpg"
            if self.decoder == "cv2":
                np.copyto(target, cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
            else:
                by_torchvision(path.read_bytes(), target)


class Packed(Form):
    """All frames in one file, and a table of where each begins."""

    def __init__(
        self,
        folder: Path,
        clips: list[np.ndarray],
        encode: Callable[[np.ndarray], bytes],
        decode: Callable[[bytes, np.ndarray], None] = by_torchvision,
        mapped: bool = False,
    ) -> None:
        self.encode, self.decode, self.mapped = encode, decode, mapped
        super().__init__(folder, clips)

    def write(self, clips: list[np.ndarray]) -> None:
        self.folder.mkdir(parents=True)
        stored = [self.encode(frame) for frames in clips for frame in frames]
        self.at = np.cumsum([0, *map(len, stored)])  # where each frame begins, of all clips in a row
        self.first = np.cumsum([0, *map(len, clips)])
        (self.folder / "frames").write_bytes(b"".join(stored))

    def open(self) -> None:
        path = self.folder / "frames"
        self.file = os.open(path, os.O_RDONLY)
        self.map = memoryview(np.memmap(path, np.uint8, "r")) if self.mapped else None

    def close(self) -> None:
        os.close(self.file)
        self.map = None

    def read(self, place: Place, out: np.ndarray) -> None:
        clip, source, start = place
        for at, target in ((source, out[:1]), (start, out[1:])):
            places = self.at[self.first[clip] + at :][: len(target) + 1]
            low, high = int(places[0]), int(places[-1])
            stored = self.map[low:high] if self.map is not None else os.pread(self.file, high - low, low)
            for frame, a, b in zip(target, places - low, places[1:] - low, strict=False):
                self.decode(stored[a:b], frame)


class Tar(Packed):
    """A tar archive with a file per frame, and an index of it."""

    def write(self, clips: list[np.ndarray]) -> None:
        self.folder.mkdir(parents=True)
        self.members: list[list[tuple[int, int]]] = []
        with tarfile.open(self.folder / "frames", "w") as archive:
            for c, frames in enumerate(clips):
                for f, frame in enumerate(frames):
                    content = self.encode(frame)
                    info = tarfile.TarInfo(f"{c}/{f:05d}.jpg")
                    info.size = len(content)
                    archive.addfile(info, BytesIO(content))
        with tarfile.open(self.folder / "frames") as archive:
            all_members = iter(archive.getmembers())
            self.members = [[(m.offset_data, m.size) for _, m in zip(c, all_members, strict=False)] for c in clips]

    def read(self, place: Place, out: np.ndarray) -> None:
        clip, source, start = place
        for target, f in zip(out, (source, *range(start, start + FRAMES)), strict=True):
            at, size = self.members[clip][f]
            self.decode(os.pread(self.file, size, at), target)


class Films(Form):
    """H.264 (CRF 15) with a key frame every `gop` frames, read by seeking."""

    def __init__(self, folder: Path, clips: list[np.ndarray], gop: int) -> None:
        self.gop = gop
        super().__init__(folder, clips)

    def write(self, clips: list[np.ndarray]) -> None:
        self.folder.mkdir(parents=True)
        for c, frames in enumerate(clips):
            write_video(self.folder / f"{c}.mp4", frames, crf=15, gop=self.gop)

    def read(self, place: Place, out: np.ndarray) -> None:
        clip, source, start = place
        with av.open(str(self.folder / f"{clip}.mp4")) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            step = 1 / (FPS * stream.time_base)
            for first, target in ((source, out[:1]), (start, out[1:])):
                container.seek(round(first * step), stream=stream)
                for frame in container.decode(stream):
                    number = round(frame.pts / step)
                    if number >= first:
                        target[number - first] = frame.to_ndarray(format="rgb24")
                    if number == first + len(target) - 1:
                        break


class RawMap(Form):
    """Arrays of all frames, mapped into memory."""

    def write(self, clips: list[np.ndarray]) -> None:
        self.folder.mkdir(parents=True)
        for c, frames in enumerate(clips):
            np.save(self.folder / f"{c}.npy", frames)
        self.count = len(clips)

    def open(self) -> None:
        self.maps = [np.load(self.folder / f"{c}.npy", mmap_mode="r") for c in range(self.count)]

    def close(self) -> None:
        self.maps = []

    def read(self, place: Place, out: np.ndarray) -> None:
        clip, source, start = place
        out[0] = self.maps[clip][source]
        out[1:] = self.maps[clip][start : start + FRAMES]


class Ours(Form):
    """A data set of this project; the frames alone, or all of a training sample (`whole`)."""

    def __init__(self, data: Path, whole: bool) -> None:
        self.folder, self.whole, self.data = data, whole, TalkingClips(data, "train", FRAMES)
        self.count = 0

    def open(self) -> None:
        self.reader = ClipReader(read_manifest(self.folder))

    def close(self) -> None:
        self.reader._files.close()
        self.data._reader._files.close()

    def read(self, place: Place, out: np.ndarray) -> None:
        if self.whole:
            self.data.sample(place[0], np.random.default_rng(place), torch.from_numpy(out))
            return
        clip, source, start = self.data.clip(place[0]), *place[1:]
        for at, target in ((source, out[:1]), (start, out[1:])):
            self.reader.frames(clip, self.reader.track(clip, at, len(target)), torch.from_numpy(target))

    def bytes(self) -> int:
        """Of the pictures, as for the other forms."""
        data = self.data
        return sum(int(self.data._reader.track(data.clip(c))["bytes"].sum()) for c in range(len(data)))
