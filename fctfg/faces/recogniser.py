"""Who a face is: dlib's face recognition network."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fctfg.errors import FctfgError
from fctfg.faces.boxes import Floats, Pixels
from fctfg.faces.landmarks import dlib_weights

MODEL_FILE = "dlib_face_recognition_resnet_model_v1.dat"
DIMENSIONS = 128
SAME_PERSON = 0.6  # Euclidean distance; customary for photographs with this network

_SIDE = 200  # pixels; smaller faces are enlarged to it, because dlib takes landmarks in whole pixels
_MARGIN = 0.5  # of the landmarks' extent, more than the network looks at


class DlibRecogniser:
    """dlib's ResNet: 128 numbers a face, compared by their Euclidean distance; works offline.

    The vectors are not brought to unit length: the network was trained to put faces of one person within 0.6
    (`SAME_PERSON`) of each other as they are, lengths of about 1.4.

    The weights come with the package ``face-recognition-models`` (CC0).

    Raises:
        FctfgError: dlib or the weights are not installed.
    """

    name = "dlib"

    def __init__(self) -> None:
        self._net = _dlib_resnet(dlib_weights() / MODEL_FILE)

    def embed_many(self, frames: Sequence[Pixels], landmarks: Sequence[Floats]) -> Floats:
        """The embeddings of one face in each of several pictures, in one pass of the network.

        Args:
            frames: N pictures, uint8 [H, W, 3] each.
            landmarks: N times float32 [68, 2] (x, y) in pixels; they alone say where the face is.

        Returns:
            float32 [N, 128].

        Raises:
            ValueError: Another type or shape, landmarks outside of the picture, or the numbers differ.
        """
        chips = [_aligned(rgb, points) for rgb, points in zip(frames, landmarks, strict=True)]
        if not chips:
            return np.zeros((0, DIMENSIONS), np.float32)
        return np.array(self._net.compute_face_descriptor(chips), np.float32)


@cache
def _dlib_resnet(path: Path) -> Any:
    """The network, 22 MB, loaded once in a process."""
    try:
        import dlib
    except ImportError as error:
        raise FctfgError("recognising faces needs dlib; pip install dlib-bin") from error
    return dlib.face_recognition_model_v1(str(path))


def _aligned(rgb: Pixels, landmarks: Floats) -> Pixels:
    """The face upright in the middle of uint8 [150, 150, 3], as the network was trained."""
    import dlib

    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"a picture is uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    if landmarks.shape != (68, 2):
        raise ValueError(f"landmarks must be [68, 2], got {list(landmarks.shape)}")
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    side = float((high - low).max())
    left, top = (max(0, int(v)) for v in low - _MARGIN * side)
    right, bottom = (int(v) + 1 for v in high + _MARGIN * side)
    part = rgb[top:bottom, left:right]
    if not part.size:
        raise ValueError("the landmarks lie outside of the picture")
    scale = max(1.0, _SIDE / side)
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    enlarged = np.array(Image.fromarray(np.ascontiguousarray(part)).resize(size, Image.Resampling.BILINEAR))
    ratio = np.array(size) / (part.shape[1], part.shape[0])
    places = np.round((landmarks - (left, top)) * ratio - 0.5).astype(int)  # dlib's pixels have integer centres
    points = [dlib.point(int(x), int(y)) for x, y in places]
    whole = dlib.rectangle(0, 0, enlarged.shape[1] - 1, enlarged.shape[0] - 1)
    return np.asarray(dlib.get_face_chip(enlarged, dlib.full_object_detection(whole, points)))
