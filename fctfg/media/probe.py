"""What a media file says about itself."""

from dataclasses import dataclass
from pathlib import Path

import av

from fctfg.errors import FctfgError
from fctfg.media.container import audio_stream, open_media, video_stream
from fctfg.media.video import shown_size


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
        duration = float(container.duration or 0) / av.time_base
        width = height = 0
        fps = 0.0
        if video is not None:
            first = next(container.decode(video), None)
            if first is None:
                raise FctfgError(f"{path} is damaged or cut off: no picture can be decoded; copy or download it again")
            width, height = shown_size(first, video)
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
