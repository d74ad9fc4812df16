"""Fits the rigid face template of fctfg/faces/head_pose.py to a rendered corpus, and measures it on held-out people.

    python scripts/fit_face_template.py [--corpus FOLDER]

With the true rotation R of each frame known, its landmarks are p = s R[:2] x + t (scaled orthography). The template x,
shared by all frames of the people of `train`, and the scale s of each frame are found by alternating least squares.
Then head pose and the openings of mouth and eyes are measured on the people of `val` and `test`, with the template that
was just fitted. Takes half a minute on one core.
"""

import argparse
from pathlib import Path

import numpy as np

from fctfg.demo_corpus import root, truth
from fctfg.faces.detector import DlibDetector
from fctfg.faces.head_pose import RIGID, head_pose, rotation_matrix
from fctfg.faces.openings import eye_aspect_ratio, mouth_opening
from fctfg.media import read_frames
from fctfg.metrics.correlation import pearson

ROUNDS = 30  # of the alternation
EYE_CORNERS = RIGID.index(36), RIGID.index(45)
MIRRORED = [3, 2, 1, 0, 4, 5, 6, 7, 12, 11, 10, 9, 8, 16, 15, 14, 13]  # the places in RIGID of each point's partner


def landmarks_of(clip: Path, detector: DlibDetector) -> np.ndarray:
    """float32 [T, 68, 2]: the face of the first frame, followed."""
    found: list[np.ndarray] = []
    face = None
    for frame in read_frames(clip):
        face = detector.detect(frame)[0] if face is None else detector.follow(frame, face) or face
        found.append(detector.landmarks68(frame, face.box))
    return np.stack(found)


def fit(landmarks: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The template.

    Args:
        landmarks: [T, 68, 2] in pixels.
        pose: [T, 3] true yaw, pitch, roll in degrees.

    Returns:
        float64 [P, 3], centred, mirror-symmetric, the outer corners of the eyes at distance 1.
    """
    points = landmarks[:, RIGID].astype(np.float64)
    points -= points.mean(axis=1, keepdims=True)
    turn = rotation_matrix(pose)[:, :2]  # [T, 2, 3]
    scale = np.linalg.norm(points, axis=(1, 2))
    for _ in range(ROUNDS):
        design = (turn * scale[:, None, None]).reshape(-1, 3)
        template = np.linalg.lstsq(design, points.transpose(0, 2, 1).reshape(len(design), -1), rcond=None)[0].T
        template /= np.linalg.norm(template[EYE_CORNERS[0]] - template[EYE_CORNERS[1]])
        projected = np.einsum("tij,pj->tpi", turn, template)
        scale = (projected * points).sum((1, 2)) / np.square(projected).sum((1, 2))
    return (template + template[MIRRORED] * (-1, 1, 1)) / 2


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=root(), help="rendered corpus with train, val and test")
    corpus = parser.parse_args().corpus
    detector = DlibDetector()
    measured, true = {}, {}
    for clip in sorted(corpus.rglob("*.mp4")):
        measured[clip], true[clip] = landmarks_of(clip, detector), truth(clip)
    seen = [clip for clip in measured if clip.relative_to(corpus).parts[0] == "train"]
    held_out = [clip for clip in measured if clip not in seen]

    poses = {clip: np.stack([true[clip][axis] for axis in ("yaw", "pitch", "roll")], axis=1) for clip in measured}
    template = fit(np.concatenate([measured[clip] for clip in seen]), np.concatenate([poses[clip] for clip in seen]))
    print("TEMPLATE = np.array(\n    [")
    for point in template:
        print(f"        [{', '.join(f'{value:.3f}' for value in point)}],")
    print("    ]\n)")

    columns = {}
    for number, axis in enumerate(("yaw", "pitch", "roll")):
        columns[axis] = [(head_pose(measured[clip], template)[:, number], true[clip][axis]) for clip in held_out]
    columns["lip_gap"] = [(mouth_opening(measured[clip]), true[clip]["lip_gap"]) for clip in measured]
    columns["blink"] = [(eye_aspect_ratio(measured[clip]), true[clip]["blink"]) for clip in measured]
    for name, pairs in columns.items():
        found, truly = (np.concatenate(side) for side in zip(*pairs, strict=True))
        within = np.mean([pearson(*pair) for pair in pairs])
        error = f", mean error {np.abs(found - truly).mean():.2f} degrees" if name in ("yaw", "pitch", "roll") else ""
        print(f"{name}: {len(pairs)} clips, r {pearson(found, truly):.3f}, mean r in a clip {within:.3f}{error}")


if __name__ == "__main__":
    main()
