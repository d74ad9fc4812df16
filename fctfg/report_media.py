"""Pictures and videos within a report's one file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from fctfg.errors import FctfgError

MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}
IMAGE_STARTS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class Media:
    """A picture (png, jpg) or a video (mp4) that is embedded into the report, with a caption.

    Attributes:
        path: the file.
        caption: what it shows.
        wide: takes a row of its own in a gallery.
    """

    path: Path
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture (PNG, JPEG) in memory, with what is known of it.

    Attributes:
        content: the file's bytes; empty where there is no picture.
        alt: what it shows, for those who do not see it.
        caption: below it.
        details: (name, value) each, folded away.
        wide: takes a row of its own in a gallery.
    """

    content: bytes
    alt: str
    caption: str = ""
    details: Sequence[tuple[str, str]] = ()
    wide: bool = False


def figure(media: Media | Picture) -> str:
    """A `<figure>` element with the picture or video in it.

    Raises:
        FctfgError: the file is missing, or neither a picture nor a video.
        ValueError: a picture in memory is neither PNG nor JPEG.
    """
    row = ' class="wide"' if media.wide else ""
    element = _picture(media) if isinstance(media, Picture) else _embedded(media)
    caption = f"<figcaption>{escape(media.caption)}</figcaption>" if media.caption else ""
    details = media.details if isinstance(media, Picture) else ()
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in details)
    known = f"<details><summary>numbers</summary><dl>{pairs}</dl></details>" if pairs else ""
    return f"<figure{row}>{element}{caption}{known}</figure>\n"


def _picture(picture: Picture) -> str:
    if not picture.content:
        return "<p>no picture</p>"
    kind = next((kind for start, kind in IMAGE_STARTS.items() if picture.content.startswith(start)), None)
    if kind is None:
        raise ValueError(f"the picture {picture.alt!r} is neither PNG nor JPEG")
    return f'<img alt="{escape(picture.alt)}" src="data:{kind};base64,{base64.b64encode(picture.content).decode()}">'


def _embedded(media: Media) -> str:
    kind = MEDIA_TYPES.get(media.path.suffix.lower())
    if kind is None:
        raise FctfgError(f"{media.path} is neither a picture nor a video that a report can hold; use png, jpg or mp4")
    try:
        content = base64.b64encode(media.path.read_bytes()).decode("ascii")
    except OSError as error:
        raise FctfgError(f"cannot read {media.path} for the report: {error.strerror}; run again to make it") from error
    source = f'src="data:{kind};base64,{content}"'
    if kind.startswith("video/"):
        return f'<video controls loop playsinline preload="auto" {source}></video>'
    return f'<img alt="{escape(media.caption)}" {source}>'
