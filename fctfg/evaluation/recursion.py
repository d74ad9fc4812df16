"""What becomes of a face that is fed back: the result is the next portrait, again and again."""

from __future__ import annotations

import numpy as np

from fctfg.evaluation.judges import Judges
from fctfg.faces.boxes import Floats, Pixels
from fctfg.faces.landmarks import enlarged
from fctfg.inference import TalkingFace
from fctfg.media import FPS, SAMPLE_RATE
from fctfg.metrics.csim import csim
from fctfg.metrics.landmark_distance import landmark_distance

TIMES = (1, 2, 10, 50)  # after which somebody looks
_WINDOW = 5  # frames that are made at a time, of which the middle one is taken


def recursion(portrait: Pixels, model: TalkingFace, judges: Judges) -> dict[str, float]:
    """How far a portrait drifts when the network's result of it is its next portrait.

    Each time the portrait is driven by itself, in silence, so that a perfect network gives back what it got. Small
    errors that a single result hides add up: skin that changes its colour, features that wander.

    Args:
        portrait: uint8 [S, S, 3].
        model: the weights.
        judges: that measure.

    Returns:
        After 1, 2, 10 and 50 times: `CSIM after N[...]` to the first portrait, `colour drift after N` (mean absolute
        difference of the three mean colours, levels of 255), `shape drift after N` (landmark distance of the whole
        face, pixels of 256). NaN where no face was found.
    """
    silence = np.zeros(round(_WINDOW * SAMPLE_RATE / FPS), np.float32)
    first, shape = judges.portrait(portrait), _shape(portrait, judges)
    figures: dict[str, float] = {}
    now = portrait
    for count in range(1, TIMES[-1] + 1):
        now = list(model.animate(now, silence))[_WINDOW // 2]
        if count in TIMES:
            vector = judges.portrait(now)
            alike = float(csim(vector, first)[0]) if len(vector) and len(first) else np.nan
            figures[f"CSIM after {count}[{judges.recogniser_name}]"] = alike
            colours = now.mean((0, 1)) - portrait.mean((0, 1))
            figures[f"colour drift after {count}"] = float(np.abs(colours).mean())
            distance = landmark_distance(_shape(now, judges), shape, enlarged(now).shape[0])
            figures[f"shape drift after {count}"] = distance.face
    return figures


def _shape(picture: Pixels, judges: Judges) -> Floats:
    """The landmarks of the largest face, float32 [1, 68, 2]; NaN where there is none."""
    faces = judges.detector.detect(enlarged(picture))
    return faces[0].landmarks[None] if faces else np.full((1, 68, 2), np.nan, np.float32)
