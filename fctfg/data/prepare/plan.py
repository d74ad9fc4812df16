"""Which clips are cut from a video, and where."""

from dataclasses import dataclass, replace

import numpy as np

from fctfg.data.prepare.look import Seen, check_heard, check_length
from fctfg.data.prepare.rejected import Rejected
from fctfg.data.prepare.settings import Settings
from fctfg.faces.boxes import Box
from fctfg.faces.crop import Crop, NoCropError, tube
from fctfg.faces.track import Track, boxes_of, chunks
from fctfg.media import FPS, SAMPLE_RATE


@dataclass(frozen=True)
class Plan:
    """A clip that is going to be cut: a face, and the square that is cut out around it."""

    track: Track
    crop: Crop


def pieces_of(seen: Seen, growth: Box, settings: Settings) -> list[Track]:
    """The tracks, divided by the First Order Motion Model's rule, in the order of their ends."""
    pieces = [piece for track in seen.tracks for piece in chunks(track, growth, settings.min_iou, settings.max_frames)]
    return sorted(pieces, key=lambda piece: (piece.end, piece.start, piece.slot))


def plan(piece: Track, seen: Seen, growth: Box, settings: Settings) -> Plan:
    """Where to cut a piece.

    Raises:
        Rejected: the piece does not become a clip.
    """
    check_length(len(piece.faces), settings)
    # Sound that ends early cuts the clip; less than one missing frame is filled with zeros.
    heard = int(len(seen.sound) / SAMPLE_RATE * FPS - piece.start) + 1
    if heard < settings.min_frames:
        raise Rejected(
            "sound",
            f"too little sound: it ends at {len(seen.sound) / SAMPLE_RATE:.2f} s, which leaves {max(heard, 0)} frames "
            f"of the clip, {settings.min_frames} are the least",
        )
    piece = replace(piece, faces=piece.faces[:heard])
    try:
        crop = tube(boxes_of(piece), growth, seen.width, seen.height, settings.margin)
    except NoCropError as reason:
        raise Rejected("crop", f"no crop: {reason}") from reason
    side, least = crop[2] - crop[0], settings.size / settings.max_enlargement
    if side < least:
        raise Rejected("crop", f"face too small: the crop is {side} px, {least:g} are the least for {settings.size}")
    _check_alone(piece, seen.tracks, crop)
    begin, end = (round(k * SAMPLE_RATE / FPS) for k in (piece.start, piece.end))
    check_heard(seen.sound[begin:end], settings)
    return Plan(piece, crop)


def _check_alone(piece: Track, tracks: list[Track], crop: Crop) -> None:
    """Reject a crop that shows the middle of somebody else's face in more than a tenth of its frames."""
    seen = np.zeros(len(piece.faces), bool)
    for other in tracks:
        first, last = max(piece.start, other.start), min(piece.end, other.end)
        if other.slot == piece.slot or first >= last:
            continue
        x0, y0, x1, y1 = boxes_of(other)[first - other.start : last - other.start].T
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        inside = (crop[0] < x) & (x < crop[2]) & (crop[1] < y) & (y < crop[3])
        seen[first - piece.start : last - piece.start] |= inside
    if seen.sum() > 0.1 * len(seen):
        raise Rejected("crop", f"two faces: another face is in the crop in {seen.sum()} frames")
