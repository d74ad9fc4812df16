"""One fixed square crop for a whole chunk (First Order Motion Model's tube), and cutting it out."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from fctfg.faces.boxes import Box, Floats, Pixels

Crop = tuple[int, int, int, int]


class NoCropError(ValueError):
    """A chunk that no acceptable crop exists for; the message is the reason."""


def head_box(box: Box, growth: Box) -> Box:
    """A detector's box grown to the whole head.

    Args:
        box: (x0, y0, x1, y1) in pixels.
        growth: How far to move the left, upper, right and lower edge outwards, in widths or heights of the box.

    Returns:
        (x0, y0, x1, y1) in pixels.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    return (
        box[0] - growth[0] * width,
        box[1] - growth[1] * height,
        box[2] + growth[2] * width,
        box[3] + growth[3] * height,
    )


def _union(boxes: npt.NDArray[np.floating]) -> Box:
    x0, y0 = boxes[:, :2].min(axis=0)
    x1, y1 = boxes[:, 2:].max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def tube(boxes: Floats, growth: Box, width: int, height: int, margin: float = 0.1) -> Crop:
    """The fixed square crop of a chunk.

    The union of the head boxes is enlarged by `margin` on each side and made square. Where that is larger than the
    picture, the crop is as large as the picture allows; where it sticks out, it is moved inside. The detector's own
    boxes (the inner face) must stay in the crop in all frames.

    Args:
        boxes: [T, 4] the detector's boxes in pixels.
        growth: `FaceDetector.head`.
        width, height: Size of the picture.
        margin: FOMM's 0.1.

    Returns:
        (x0, y0, x1, y1) in whole pixels, square, inside the picture.

    Raises:
        NoCropError: The face leaves the picture, or moves too far for a crop of the picture's height.
    """
    face = _union(boxes)
    slack = 0.1 * float(np.median(boxes[:, 2] - boxes[:, 0]))
    if face[0] < -slack or face[1] < -slack or face[2] > width + slack or face[3] > height + slack:
        raise NoCropError("the face is cut off by the edge of the picture")
    head = _union(np.array([head_box(tuple(map(float, box)), growth) for box in boxes]))  # type: ignore[arg-type]
    wanted = (1 + 2 * margin) * max(head[2] - head[0], head[3] - head[1])
    side = min(math.ceil(wanted), width, height)
    if max(face[2] - face[0], face[3] - face[1]) > side + slack:
        raise NoCropError("the face moves too far for one crop")
    x0 = _place((head[0] + head[2]) / 2, side, face[0], face[2], width)
    y0 = _place((head[1] + head[3]) / 2, side, face[1], face[3], height)
    return x0, y0, x0 + side, y0 + side


def _place(center: float, side: int, low: float, high: float, length: int) -> int:
    """Begin of a span of `side` pixels around `center` that holds [low, high] and lies in [0, length]."""
    begin = min(max(center - side / 2, high - side), low)
    return round(min(max(begin, 0.0), float(length - side)))


def cut_out(rgb: Pixels, crop: Crop, size: int) -> Pixels:
    """Cut a crop out of a picture and resize it with anti-aliasing (bicubic over the area of the target pixel).

    Args:
        rgb: uint8 [H, W, 3].
        crop: (x0, y0, x1, y1) in whole pixels.
        size: Side of the result.

    Returns:
        uint8 [size, size, 3].
    """
    x0, y0, x1, y1 = crop
    part = np.ascontiguousarray(rgb[y0:y1, x0:x1])
    if part.shape[:2] == (size, size):
        return part
    return np.array(Image.fromarray(part).resize((size, size), Image.Resampling.BICUBIC))


def in_crop(coordinates: Floats, crop: Crop) -> Floats:
    """Pixel coordinates [..., 2 or 4] (x, y alternating) as fractions of the crop.

    Returns:
        float32, same shape; 0 and 1 are the crop's edges.
    """
    corner = np.resize(np.array(crop[:2], np.float64), coordinates.shape[-1])
    return np.asarray((coordinates - corner) / (crop[2] - crop[0]), np.float32)
