"""The scores of a clip: their names, units and meanings, and which values the recommended view asks for."""

from __future__ import annotations

from typing import NamedTuple


class Score(NamedTuple):
    """One number of a clip; NaN where it could not be measured.

    Attributes:
        unit: of the number.
        meaning: in one line.
        least, most: what the recommended view asks for; None where it does not ask.
    """

    unit: str
    meaning: str
    least: float | None = None
    most: float | None = None


SCORES: dict[str, Score] = {
    "offset": Score("frames", "how late the clip's sound is (> 0: heard after it is seen)", -1, 1),
    "raw_offset": Score("frames", "the same in the raw video; differs where --correct-offset has moved the sound"),
    "confidence": Score("", "how lips and sound agree; 1 clip in 20 reaches 1 with another's sound", least=1),
    "face_px": Score("px", "median side of the face's box in the raw video"),
    "crop_px": Score("px", "side of the crop in the raw video"),
    "detection": Score("", "median confidence of the face detector, on its own scale"),
    "sharpness": Score("", "median variance of the Laplacian of luma, 0 to 255, on the face at 256 px", least=10),
    "brightness": Score("", "median of the frames' mean luma, 0 to 255", 40, 220),
    "dark": Score("share", "of the pixels that are clipped dark", most=0.3),
    "bright": Score("share", "of the pixels that are clipped bright", most=0.1),
    "bars": Score("share", "of the crop that black bars cover", most=0.02),
    "frozen": Score("s", "longest time for which the picture stands still", most=0.4),
    "yaw_min": Score("degrees", "5th percentile; > 0 is to the viewer's right", least=-45),
    "yaw_max": Score("degrees", "95th percentile", most=45),
    "pitch_min": Score("degrees", "5th percentile; > 0 is up; every face has an offset of its own", least=-35),
    "pitch_max": Score("degrees", "95th percentile", most=35),
    "roll_min": Score("degrees", "5th percentile; > 0 is clockwise as seen", least=-30),
    "roll_max": Score("degrees", "95th percentile", most=30),
    "mouth_min": Score("", "5th percentile of the mouth's opening over the distance of the eyes"),
    "mouth_max": Score("", "95th percentile of the mouth's opening", least=0.05),
    "eyes_min": Score("", "5th percentile of the eyes' aspect ratio"),
    "eyes_max": Score("", "95th percentile of the eyes' aspect ratio"),
    "silence": Score("share", "of the time in which nothing is heard", most=0.6),
    "loudness": Score("LUFS", "integrated loudness (ITU-R BS.1770)", -40, -8),
    "clipping": Score("share", "of the sound's samples at full scale", most=0.001),
    "speech": Score("", "likeness to speech, 0 (music, noise) to 1", least=0.3),
    "bandwidth": Score("Hz", "where the sound ends in height; 4000 is a telephone's", least=5000),
    "agreement": Score("", "largest distance of a frame's face embedding from the clip's median one", most=0.5),
}
