"""What a media file says about itself."""

from dataclasses import dataclass
from pathlib import Path

from fctfg.errors import FctfgError
from fctfg.media.container import audio_stream, open_media, video_stream


@dataclass(frozen=True)
class MediaInfo:
    """What a media file says about itself.

    Attributes:
        fps: Average frames per second; 0 without a picture or when the file does not say.
        has_video, has_audio: Whether the file has pictures and sound (a cover image is not a picture track).
    """

    fps: float
    has_video: bool
    has_audio: bool


def probe(path: str | Path) -> MediaInfo:
    """Read the header of a media file and decode its first picture.

    Raises:
        FctfgError: The file is missing, a folder, empty, not a media file, or cut off before its first picture.
    """
    path = Path(path)
    with open_media(path) as container:
        video, audio = video_stream(container), audio_stream(container)
        if video is None and audio is None:
            raise FctfgError(f"{path} has neither pictures nor sound")
        fps = 0.0
        if video is not None:
            if next(container.decode(video), None) is None:
                raise FctfgError(f"{path} is damaged or cut off: no picture can be decoded; copy or download it again")
            fps = float(video.average_rate or video.guessed_rate or 0)
        return MediaInfo(fps, has_video=video is not None, has_audio=audio is not None)
