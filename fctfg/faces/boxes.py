"""Boxes around faces, in pixels.

Pixel coordinates are continuous: pixel i covers [i, i + 1), so scaling a picture by s scales coordinates by s.
"""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def box_area(box: Box) -> float:
    """Area of a box in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])
