"""Reading clips out of shards: any frames, any stretch of sound or mel, by their places.

A shard is a tar archive of clips (`fctfg.data.clip_file`), so `tar` lists and extracts it and the films in it play. All
reads are `pread` calls, which release the interpreter's lock and leave no position behind: any number of threads may
read at once.
"""

from __future__ import annotations

import os
import resource
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fctfg.data.clip_file import TRACK, Track, decode_frame
from fctfg.data.manifest import Clip, Manifest
from fctfg.errors import FctfgError
from fctfg.media import FPS, SAMPLE_RATE, Samples
from fctfg.ops.mel import HOP, N_MELS

FOLDER = "shards"
_SPARE_FILES = 64  # descriptors that are left to everything else
_MANY_FILES = 1 << 16  # where the system sets no limit


class ShardFiles:
    """Open files of a folder of shards; the one used least recently is closed when there are too many."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = Lock()
        self._open: OrderedDict[str, tuple[int, int]] = OrderedDict()  # name: (descriptor, readers)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        allowed = _MANY_FILES if hard == resource.RLIM_INFINITY else hard
        self._most = max(1, (allowed - _SPARE_FILES) // 2)  # there is another data set for validation

    def __getstate__(self) -> Path:
        return self.folder  # another process opens its own

    def __setstate__(self, folder: Path) -> None:
        self.__init__(folder)  # type: ignore[misc]

    def __del__(self) -> None:
        self.close()

    @contextmanager
    def descriptor(self, name: str) -> Iterator[int]:
        """A descriptor of a shard, open at least as long as the block lasts."""
        with self._lock:
            number, readers = self._open.pop(name, (-1, 0))
            if number < 0:
                self._close_idle()
                number = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
            self._open[name] = number, readers + 1
        try:
            yield number
        finally:
            with self._lock:
                self._open[name] = number, self._open[name][1] - 1

    def _close_idle(self) -> None:
        idle = (name for name, (_, readers) in self._open.items() if not readers)
        while len(self._open) >= self._most and (name := next(idle, None)) is not None:
            os.close(self._open.pop(name)[0])
            idle = (name for name, (_, readers) in self._open.items() if not readers)

    def read(self, name: str, begin: int, count: int) -> bytearray:
        """`count` bytes of a shard from `begin` on; raises as `read_into`."""
        buffer = bytearray(count)
        self.read_into(name, begin, memoryview(buffer))
        return buffer

    def read_into(self, name: str, begin: int, target: memoryview) -> None:
        """Fill memory with the bytes of a shard from `begin` on.

        Args:
            name: the shard.
            begin: its first byte that is wanted.
            target: of bytes, writable, in one piece.

        Raises:
            FctfgError: the shard is lost or cut off.
        """
        done = 0
        try:
            with self.descriptor(name) as number:
                while done < len(target) and (got := os.preadv(number, [target[done:]], begin + done)):
                    done += got
        except OSError as error:
            raise FctfgError(f"{self.folder / name} cannot be read: {error.strerror}; copy it again") from error
        if done < len(target):
            raise FctfgError(f"{self.folder / name} is cut off; copy it again or run `fctfg prepare` again")

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for number, _ in self._open.values():
                os.close(number)
            self._open.clear()


class ClipReader:
    """The contents of a data set's clips.

    Args:
        manifest: of the data set.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.root, self.size, self.form = manifest.root, manifest.size, manifest.form
        self._files = ShardFiles(manifest.root / FOLDER)

    def track(self, clip: Clip, begin: int = 0, count: int | None = None) -> Track:
        """What is known of `count` frames from `begin` on (all by default): `TRACK` [count], writable."""
        count = clip.n_frames - begin if count is None else count
        content = self._files.read(clip.shard, clip.track_at + begin * TRACK.itemsize, count * TRACK.itemsize)
        return np.frombuffer(content, TRACK)

    def frames(self, clip: Clip, track: Track, out: Tensor | None = None) -> Tensor:
        """The frames of records of :meth:`track`, in their order; all that lies between them is read too.

        Args:
            clip: the row.
            track: n records.
            out: memory for the frames, uint8 [n, S, S, 3] in one piece; None takes new memory.

        Returns:
            uint8 [n, 3, S, S] RGB, a view of `out`: the channels come last in memory.

        Raises:
            FctfgError: the shard is lost, cut off or damaged.
        """
        if out is None:
            out = torch.empty(len(track), self.size, self.size, 3, dtype=torch.uint8)
        starts, ends = track["at"], track["at"] + track["bytes"]
        begin = int(starts.min())
        if self.form == "raw" and (starts[1:] == ends[:-1]).all() and ends[-1] - begin == out.numel():
            self._files.read_into(clip.shard, clip.film_at + begin, out.numpy().data.cast("B"))
            return out.movedim(-1, 1)
        count = int(ends.max()) - begin
        content = torch.frombuffer(self._files.read(clip.shard, clip.film_at + begin, count), dtype=torch.uint8)
        try:
            for frame, first, last in zip(out, (starts - begin).tolist(), (ends - begin).tolist(), strict=True):
                frame.copy_(decode_frame(content[first:last], self.size, self.form).permute(1, 2, 0))
        except RuntimeError as error:
            raise FctfgError(
                f"{self._files.folder / clip.shard}: the clip {clip.id} is damaged; copy the file again or run "
                f"`fctfg prepare` again"
            ) from error
        return out.movedim(-1, 1)

    def mel(self, clip: Clip, begin: int = 0, count: int | None = None) -> Tensor:
        """Mel frames, float32 [80, count], from the clip's whole mel spectrogram (1 + N // 200 frames)."""
        length = 1 + self.samples(clip) // HOP
        count = length - begin if count is None else count
        content = self._files.read(clip.shard, clip.mel_at + begin * N_MELS * 4, count * N_MELS * 4)
        return torch.frombuffer(content, dtype=torch.float32).view(count, N_MELS).T

    @staticmethod
    def samples(clip: Clip) -> int:
        """Length of a clip's sound in samples."""
        return round(clip.n_frames * SAMPLE_RATE / FPS)

    def sound(self, clip: Clip, begin: int = 0, count: int | None = None) -> Samples:
        """Sound at 16 kHz, float32 [count] in [-1, 1]."""
        count = self.samples(clip) - begin if count is None else count
        content = self._files.read(clip.shard, clip.sound_at + 2 * begin, 2 * count)
        return np.frombuffer(content, "<i2").astype(np.float32) / np.float32(32768)

    def whole(self, clip: Clip, frames: int | None = None) -> npt.NDArray[np.uint8]:
        """All frames of a clip, or only the first `frames`, uint8 [T, S, S, 3] RGB."""
        count = clip.n_frames if frames is None else min(frames, clip.n_frames)
        return self.frames(clip, self.track(clip, 0, count)).movedim(1, -1).numpy()

    def film(self, clip: Clip) -> bytearray:
        """The clip as a QuickTime film that ordinary players show."""
        header = self._files.read(clip.shard, clip.film_at - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)
        size = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size
        return self._files.read(clip.shard, clip.film_at, size)
