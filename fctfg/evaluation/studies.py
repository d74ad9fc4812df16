"""What only weights can be asked: canonical images, and results in which one input was exchanged."""

from __future__ import annotations

import numpy as np
import torch

from fctfg.data.shards import ClipReader
from fctfg.evaluation.cases import Drive
from fctfg.evaluation.faces import Seen
from fctfg.evaluation.judges import Judges
from fctfg.evaluation.motion import pose_track
from fctfg.evaluation.recursion import recursion
from fctfg.faces.boxes import Floats, Pixels
from fctfg.faces.head_pose import head_pose
from fctfg.faces.landmarks import enlarged
from fctfg.faces.openings import mouth_opening
from fctfg.inference import TalkingFace
from fctfg.media import FPS, SAMPLE_RATE
from fctfg.metrics.control import moved, spread
from fctfg.metrics.correlation import pearson
from fctfg.metrics.pose_error import pose_error
from fctfg.ops.pixels import to_images, to_pixels

FRAMES = 50  # of a result in which one input is exchanged
CANONICAL = 5  # frames of a clip whose canonical images are compared


def study(
    case: Drive, model: TalkingFace, reader: ClipReader, judges: Judges
) -> tuple[dict[str, float], dict[str, Floats]]:
    """Figures of a clip that need the weights.

    Args:
        case: who is shown, who drives, and somebody else.
        model: the weights.
        reader: of the data set.
        judges: that measure.

    Returns:
        Figures by name, and head poses float32 [1, 3] (yaw, pitch, roll in degrees) of `portrait pose` and `canonical
        pose`, [0, 3] without a face. The figures: `canonical spread` and `canonical CSIM[...]`: of the canonical images
        of five frames of the portrait's clip, among themselves and to the portrait; what `recursion` gives. Where the
        data set has somebody else, in the first two seconds: `moved by sound outside`: with somebody else's sound, the
        change besides the mouth over that of the mouth; `pose moved by sound`: the change of the head pose; `mouth
        moved by driver`: with somebody else as driver, 1 - the correlation of the mouth openings. NaN where no face was
        found.
    """
    source = _frames(reader, case, "source", 1)[0]
    figures, poses = _canonical(case, model, reader, judges)
    figures |= recursion(source, model, judges)
    if case.other is None:
        return figures, poses
    count = min(FRAMES, case.frames, case.other.n_frames)
    samples = round(count * SAMPLE_RATE / FPS)
    own, another = (_frames(reader, case, who, count) for who in ("driver", "other"))
    sound, wrong = (reader.sound(clip, 0, samples) for clip in (case.sound, case.other))
    plain, spoken, driven = (
        np.stack(list(model.animate(source, heard, seen, batch=8)))
        for heard, seen in ((sound, own), (wrong, own), (sound, another))
    )
    tracks = [_landmarks(frames, judges) for frames in (plain, spoken, driven)]
    scale = plain.shape[1] / enlarged(plain[0]).shape[0]
    change = moved(plain, spoken, (tracks[0] * scale, tracks[1] * scale))
    pose = pose_error(pose_track(tracks[1]), pose_track(tracks[0]))
    openings = [mouth_opening(track) for track in tracks]
    figures |= {
        "moved by sound outside": change.elsewhere / change.mouth if change.mouth else np.nan,
        "pose moved by sound": float(np.mean(pose)),
        "mouth moved by driver": 1 - pearson(openings[0], openings[2]),
    }
    return figures, poses


def _canonical(
    case: Drive, model: TalkingFace, reader: ClipReader, judges: Judges
) -> tuple[dict[str, float], dict[str, Floats]]:
    track = reader.track(case.source)
    chosen = track[np.linspace(0, len(track) - 1, CANONICAL).round().astype(int)]
    frames = reader.frames(case.source, chosen).movedim(1, -1).numpy()
    with torch.inference_mode():
        images = to_pixels(model.model.canonical_image(to_images(frames).to(model.device)))
    faces = [judges.portrait(picture) for picture in (frames[0], images[0])]
    kept = float((faces[0] * faces[1]).sum()) if all(map(len, faces)) else np.nan
    poses = {
        name: _pose(picture, judges) for name, picture in (("portrait pose", frames[0]), ("canonical pose", images[0]))
    }
    return {"canonical spread": spread(images), f"canonical CSIM[{judges.recogniser_name}]": kept}, poses


def _pose(picture: Pixels, judges: Judges) -> Floats:
    """The head pose of the largest face in a picture, float32 [1, 3]; [0, 3] where there is none."""
    faces = judges.detector.detect(enlarged(picture))
    return head_pose(faces[0].landmarks[None]) if faces else np.zeros((0, 3), np.float32)


def _frames(reader: ClipReader, case: Drive, who: str, count: int) -> Pixels:
    clip = getattr(case, who)
    found: Pixels = reader.frames(clip, reader.track(clip, 0, count)).movedim(1, -1).numpy()
    return found


def _landmarks(frames: Pixels, judges: Judges) -> Floats:
    seen = Seen(judges.detector)
    for frame in frames:
        seen.update(enlarged(frame))
    return seen.landmarks()
