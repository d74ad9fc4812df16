"""Faces: found, followed, cut into chunks and cropped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from raw_talking import talking
from torch.nn import functional as F

from fctfg.demo_corpus import root, truth
from fctfg.errors import FctfgError
from fctfg.faces.boxes import Box, box_iou
from fctfg.faces.crop import NoCropError, cut_out, head_box, in_crop, tube
from fctfg.faces.detector import DlibDetector, Face, InsightFaceDetector
from fctfg.faces.track import Track, Tracker, boxes_of, chunks, points_of
from fctfg.media import read_frames

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
NO_GROWTH: Box = (0.0, 0.0, 0.0, 0.0)


class SquareDetector:
    """Takes every patch of one of the pure `COLORS` for a face; sees nothing in frames whose first pixel is white."""

    name = "square"
    head = NO_GROWTH

    def detect(self, rgb: np.ndarray) -> list[Face]:
        return [] if (rgb[0, 0] == 255).all() else self._find(rgb)

    def follow(self, rgb: np.ndarray, face: Face) -> Face | None:
        return max(self._find(rgb), key=lambda other: box_iou(face.box, other.box), default=face)

    def _find(self, rgb: np.ndarray) -> list[Face]:
        faces = []
        for color in COLORS:
            rows, columns = np.nonzero((rgb == color).all(-1))
            if len(rows):
                box = tuple(map(float, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))
                corner = np.float32([box[0], box[1]])
                faces.append(Face(box, np.tile(corner, (5, 1)), 1.0, np.tile(corner, (68, 1))))
        return faces


def scene(*squares: tuple[int, int, int], blind: bool = False, size: int = 20) -> np.ndarray:
    """A picture with squares (color number, x, y)."""
    picture = np.zeros((100, 200, 3), np.uint8)
    for color, x, y in squares:
        picture[y : y + size, x : x + size] = COLORS[color]
    picture[0, 0] = 255 if blind else 0
    return picture


def track_of(scenes: list[np.ndarray], **options: int) -> list[Track]:
    tracker = Tracker(SquareDetector(), **options)
    for picture in scenes:
        tracker.update(picture)
    return tracker.finish()


@pytest.fixture(scope="module")
def dlib() -> DlibDetector:
    return DlibDetector()


@pytest.mark.parametrize("person", range(6))
def test_dlib_finds_the_one_face(dlib: DlibDetector, person: int) -> None:
    picture = talking(person)[0][0]
    (face,) = dlib.detect(picture)
    left_eye, right_eye, nose, left_mouth, right_mouth = face.points
    assert left_eye[0] < nose[0] < right_eye[0] or abs(right_eye[0] - left_eye[0]) < 0.35 * (face.box[2] - face.box[0])
    assert left_eye[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    inside = (face.points > face.box[:2]) & (face.points < face.box[2:])
    assert inside.all()


@pytest.mark.parametrize("scale", [0.5, 2, 5])
def test_dlib_scales_with_the_picture(dlib: DlibDetector, scale: float) -> None:
    picture = talking(2)[0][0]
    size = round(picture.shape[0] * scale)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    scaled = (
        F.interpolate(image, (size, size), mode="bicubic", antialias=True)
        .clamp(0, 255)
        .byte()[0]
        .permute(1, 2, 0)
        .numpy()
    )
    (one,), (other,) = dlib.detect(picture), dlib.detect(scaled)
    side = one.box[2] - one.box[0]
    assert np.abs(other.points / scale - one.points).max() < 0.06 * side
    assert box_iou(one.box, tuple(value / scale for value in other.box)) > 0.85


def test_dlib_landmarks_do_not_depend_on_where_the_face_is(dlib: DlibDetector) -> None:
    picture = talking(2)[0][0]
    moved = np.zeros((300, 400, 3), np.uint8)
    moved[101 : 101 + picture.shape[0], 203 : 203 + picture.shape[1]] = picture
    (face,) = dlib.detect(picture)
    box = face.box[0] + 203, face.box[1] + 101, face.box[2] + 203, face.box[3] + 101
    np.testing.assert_allclose(
        dlib.landmarks68(moved, box) - [203, 101], dlib.landmarks68(picture, face.box), atol=0.05 * (box[2] - box[0])
    )


def test_dlib_follows_like_it_detects(dlib: DlibDetector) -> None:
    pictures = talking(0)[0]
    (face,) = dlib.detect(pictures[0])
    for picture in pictures[1:20]:
        followed = dlib.follow(picture, face)
        assert followed is not None
        face = followed
    (found,) = dlib.detect(pictures[19])
    assert np.abs(face.points - found.points).mean() < 0.03 * (found.box[2] - found.box[0])


def test_tracked_points_agree_with_the_ground_truth(dlib: DlibDetector) -> None:
    """Mean error per coordinate over a clip; dlib's nose tip is another point than the truth's, so it is out."""
    path = min(root().rglob("*.mp4"))
    tracker = Tracker(dlib)
    for frame in read_frames(path):
        tracker.update(frame)
    (track,) = tracker.finish()
    error = np.abs(points_of(track) - truth(path)["points"])[:, [0, 1, 3, 4]]
    assert error.mean() < 0.015 * frame.shape[1]


def test_dlib_finds_two_faces_and_none(dlib: DlibDetector) -> None:
    two = np.concatenate([talking(0)[0][0], talking(2)[0][0]], axis=1)
    assert len(dlib.detect(two)) == 2
    assert dlib.detect(np.full((120, 160, 3), 128, np.uint8)) == []
    assert dlib.detect(np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)) == []
    with pytest.raises(ValueError, match="uint8"):
        dlib.detect(np.zeros((3, 64, 64), np.float32))


def test_insightface_without_weights_says_what_to_do(tmp_path) -> None:
    with pytest.raises(FctfgError) as error:
        InsightFaceDetector(tmp_path)
    for word in (str(tmp_path), "det_10g.onnx", "non-commercial", "--detector"):
        assert word in str(error.value)
    (tmp_path / "det_10g.onnx").write_text("no network")
    with pytest.raises(FctfgError, match=r"det_10g\.onnx is not a readable"):
        InsightFaceDetector(tmp_path)


def test_insightface_looks_at_a_frame_once_for_all_its_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Net:
        def prepare(self, **_: object) -> None:
            pass

        def detect(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            seen.append(bgr)
            x = 20.0 + bgr[0, 0, 0]
            boxes = np.float32([[x, 10, x + 40, 50, 0.9], [x + 80, 10, x + 120, 50, 0.8]])
            return boxes, np.zeros((2, 5, 2), np.float32)

    (tmp_path / "det_10g.onnx").touch()
    monkeypatch.setattr("insightface.model_zoo.get_model", lambda *_, **__: Net())
    tracker = Tracker(InsightFaceDetector(tmp_path), every=5)
    for number in range(12):
        tracker.update(np.full((100, 200, 3), number, np.uint8))
    assert len(seen) == 12
    tracks = tracker.finish()
    assert [(track.start, track.end) for track in tracks] == [(0, 12), (0, 12)]
    np.testing.assert_array_equal(boxes_of(tracks[1])[:, 0], 100 + np.arange(12))


def test_iou() -> None:
    assert box_iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert box_iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0


def test_two_faces_give_two_tracks_with_their_own_slots() -> None:
    tracks = track_of([scene((0, 20 + k, 10), (1, 120 - k, 50)) for k in range(20)])
    assert [(track.start, track.end, track.slot) for track in tracks] == [(0, 20, 0), (0, 20, 1)]
    np.testing.assert_array_equal(boxes_of(tracks[0])[:, 0], 20 + np.arange(20))
    np.testing.assert_array_equal(boxes_of(tracks[1])[:, 0], 120 - np.arange(20))
    assert points_of(tracks[0]).shape == (20, 5, 2)


def test_track_ends_with_the_last_confirmed_frame() -> None:
    seen, gone = scene((0, 20, 20)), scene()
    (track,) = track_of([seen] * 13 + [gone] * 30, every=5, patience=2)
    assert (track.start, track.end) == (0, 11)  # detections at 0, 5, 10 saw it


def test_track_survives_a_detector_that_blinks() -> None:
    pictures = [scene((0, 20, 20), blind=5 <= k <= 14) for k in range(30)]
    assert [(t.start, t.end) for t in track_of(pictures, every=5, patience=2)] == [(0, 30)]
    assert [(t.start, t.end) for t in track_of(pictures, every=5, patience=1)] == [(0, 1), (15, 30)]


def test_face_that_comes_back_is_a_new_track() -> None:
    seen, gone = scene((0, 20, 20)), scene()
    tracks = track_of([seen] * 10 + [gone] * 30 + [seen] * 10)
    assert [(t.start, t.end) for t in tracks] == [(0, 6), (40, 50)]
    assert [t.slot for t in tracks] == [0, 0]


def test_chunks_end_where_the_face_has_left_its_first_place() -> None:
    x = np.cumsum(np.random.default_rng(0).integers(0, 5, 60))
    (track,) = track_of([scene((0, int(v), 30)) for v in x])
    pieces = chunks(track, NO_GROWTH, min_iou=0.25)
    expected, first = [0], 0
    for k in range(60):  # IoU of two squares of 20 px, d apart: (20 - d) / (20 + d) < 0.25 from d = 12.01 on
        if x[k] - x[first] > 12:
            expected.append(k)
            first = k
    assert [piece.start for piece in pieces] == expected
    assert [piece.end for piece in pieces] == [*expected[1:], 60]


def test_chunks_are_limited_in_length() -> None:
    (track,) = track_of([scene((0, 20, 20))] * 50)
    assert [len(piece.faces) for piece in chunks(track, NO_GROWTH, max_frames=20)] == [20, 20, 10]


def test_tube_holds_all_faces_and_lies_in_the_picture() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        width, height = rng.integers(80, 400, 2)
        side = rng.uniform(20, min(width, height) / 2)
        corner = rng.uniform(0, [width - side, height - side]) + rng.uniform(-5, 5, (8, 2)) * side / 60
        corner = corner.clip(0, [width - side, height - side])
        boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
        x0, y0, x1, y1 = tube(boxes, DlibDetector.head, int(width), int(height))
        assert x1 - x0 == y1 - y0
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert (boxes[:, :2].min(0) >= [x0 - 1, y0 - 1]).all()
        assert (boxes[:, 2:].max(0) <= [x1 + 1, y1 + 1]).all()


def test_tube_is_fomms_where_there_is_room() -> None:
    """Union of the head boxes, 10 % more on each side, square around its center."""
    boxes = np.float32([[200, 200, 260, 260], [210, 204, 270, 264]])
    heads = np.array([head_box(tuple(map(float, box)), (0.25, 0.5, 0.25, 0.25)) for box in boxes])
    union = np.concatenate([heads[:, :2].min(0), heads[:, 2:].max(0)])
    x0, y0, x1, y1 = tube(boxes, (0.25, 0.5, 0.25, 0.25), 640, 480)
    assert x1 - x0 == np.ceil(1.2 * max(union[2:] - union[:2]))
    np.testing.assert_allclose([(x0 + x1) / 2, (y0 + y1) / 2], (union[:2] + union[2:]) / 2, atol=1)


def test_tube_says_why_there_is_none() -> None:
    with pytest.raises(NoCropError, match="cut off"):
        tube(np.float32([[-20, 10, 40, 70]]), NO_GROWTH, 200, 200)
    with pytest.raises(NoCropError, match="moves too far"):
        tube(np.float32([[0, 10, 60, 70], [240, 10, 300, 70]]), NO_GROWTH, 300, 100)


def test_cut_out_is_anti_aliased() -> None:
    checkers = np.indices((256, 256)).sum(0) % 2 * 255
    picture = np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8)
    assert np.abs(cut_out(picture, (10, 20, 210, 220), 50).astype(int) - 127).max() <= 2
    noise = np.random.default_rng(0).integers(0, 255, (120, 120, 3), dtype=np.uint8)
    reference = F.interpolate(
        torch.from_numpy(noise[10:110, 10:110]).permute(2, 0, 1)[None].double(),
        (37, 37),
        mode="bicubic",
        antialias=True,
    )
    reference = reference[0].permute(1, 2, 0).clamp(0, 255).numpy()
    assert np.abs(cut_out(noise, (10, 10, 110, 110), 37) - reference).max() < 2


def test_fractions_of_the_crop() -> None:
    points = np.float32([[10, 20], [60, 70], [35, 45]])
    np.testing.assert_allclose(in_crop(points, (10, 20, 60, 70)), [[0, 0], [1, 1], [0.5, 0.5]])
    np.testing.assert_allclose(in_crop(np.float32([[10, 20, 60, 45]]), (10, 20, 60, 70)), [[0, 0, 1, 0.5]])
