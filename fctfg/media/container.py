"""Opening media files with PyAV, and finding their streams."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from fctfg.errors import FctfgError

_TEXT_ART = {"tty", "bin", "xbin", "adf", "idf"}  # ffmpeg "plays" text files with these


@contextmanager
def open_media(path: Path) -> Iterator[av.container.InputContainer]:
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


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    return streams[0] if streams else None


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    streams = container.streams.audio
    return streams[0] if streams else None
