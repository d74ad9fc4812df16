"""What a head does in one clip: pose, gaze, blinks, expression and the mouth's part in the face actions."""

from dataclasses import dataclass

import numpy as np

from corpus.speech import Speech, Style, articulate

MAX_YAW, MAX_PITCH, MAX_ROLL = 25.0, 11.0, 8.0  # degrees
JAW_ACTION = 0.56  # strength of anny's jawOpen at a jaw opening of 1
GAZE_REACH = 26.0  # degrees of eye rotation at strength 1 of the eyeLook actions


@dataclass(frozen=True)
class Motion:
    """All [T] unless said otherwise; angles in degrees, see `scene.rotation`."""

    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    shift: np.ndarray  # [T, 3] m
    blink: np.ndarray
    jaw: np.ndarray
    viseme: list[str]
    actions: np.ndarray  # [T, 52]


def _wander(times: np.ndarray, spread: float, limit: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random path within ±limit."""
    path = np.full(len(times), rng.normal() * spread * 0.7)
    for frequency in rng.uniform(0.1, 0.65, size=5):
        path += rng.normal() * spread * 0.55 * np.sin(2 * np.pi * (frequency * times + rng.uniform()))
    return limit * np.tanh(path / limit)


def _blinks(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(len(times))
    at = rng.uniform(0.3, 1.6)
    while at < times[-1] + 0.2:
        closing, opening = rng.uniform(0.07, 0.10), rng.uniform(0.13, 0.20)
        out = np.maximum(out, np.clip(np.minimum((times - at) / closing + 1, 1.25 - (times - at) / opening), 0, 1))
        at += rng.uniform(1.2, 3.2)
    return out


def move(
    action_names: tuple[str, ...], speech: Speech, times: np.ndarray, rng: np.random.Generator, style: Style
) -> Motion:
    """Draw the motion of one clip at `times` [T] seconds; the mouth follows the speech in the person's style."""
    yaw = _wander(times, rng.uniform(5, 13), MAX_YAW, rng)
    pitch = _wander(times, rng.uniform(2, 5), MAX_PITCH - 2, rng) + 2
    roll = _wander(times, rng.uniform(1.5, 4), MAX_ROLL, rng)
    shift = np.stack([_wander(times, 0.004, 0.012, rng), 0 * times, _wander(times, 0.003, 0.008, rng)], 1)
    blink = _blinks(times, rng)
    mouth, visemes = articulate(speech, times, style)
    effort = rng.uniform(0.88, 1.1)
    is_open = 1 - mouth["closed"]
    jaw = np.clip(mouth["jaw"] * effort, 0, 1) * (0.12 + 0.88 * is_open)

    actions = np.zeros((len(times), len(action_names)))

    def act(name: str, value: np.ndarray | float) -> None:
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in action_names:
                actions[:, action_names.index(full)] += value

    act("jawOpen", jaw * JAW_ACTION)
    act("mouthClose", mouth["closed"] * jaw * JAW_ACTION)
    act("mouthLowerDown", 0.8 * mouth["lower"] * is_open)
    act("mouthUpperUp", 0.8 * mouth["upper"] * is_open)
    act("mouthStretch", 0.45 * mouth["wide"])
    act("mouthPucker", 0.85 * mouth["pucker"])
    act("mouthFunnel", 0.6 * mouth["funnel"] * is_open)
    act("mouthRollLower", 0.7 * mouth["tuck"] + 0.25 * mouth["closed"])
    act("mouthRollUpper", 0.2 * mouth["closed"])
    act("mouthPress", 0.3 * mouth["closed"])
    act("tongueOut", 0.12 * mouth["tongue"])

    level = rng.uniform(-0.06, 0.45)
    smile = np.clip(level + _wander(times, 0.08, 0.2, rng), 0, 0.6) * (1 - 0.6 * mouth["pucker"])
    act("mouthSmile", smile)
    act("cheekSquint", 0.5 * smile)
    act("mouthFrown", 2 * max(0.0, -level))
    brows = np.clip(rng.uniform(-0.2, 0.6) + _wander(times, 0.2, 0.5, rng), -0.6, 1)
    act("browInnerUp", np.maximum(brows, 0))
    act("browOuterUp", 0.8 * np.maximum(brows, 0))
    act("browDown", 0.8 * np.maximum(-brows, 0))
    act("eyeSquint", np.clip(0.25 * smile + max(0.0, rng.normal() * 0.06), 0, 0.3))
    act("eyeBlink", blink)
    act("eyeWide", 0.65 * (1 - blink))

    # eyes stay near the camera while the head turns, with small jumps
    jumps = np.cumsum(rng.uniform(0.4, 1.3, size=12))
    which = np.searchsorted(jumps, times)
    look_x = (-0.75 * yaw + rng.normal(size=13)[which] * 3.0) / GAZE_REACH  # > 0 to the viewer's right
    look_y = (-0.75 * pitch + rng.normal(size=13)[which] * 1.5) / GAZE_REACH  # > 0 up
    look_x, look_y = np.clip(look_x, -0.9, 0.9), np.clip(look_y, -0.5, 0.5) * (1 - blink)
    right, left = np.maximum(look_x, 0), np.maximum(-look_x, 0)  # of the viewer
    for name, value in (("OutLeft", right), ("InRight", right), ("InLeft", left), ("OutRight", left)):
        act(f"eyeLook{name}", value)
    act("eyeLookUp", np.maximum(look_y, 0))
    act("eyeLookDown", np.maximum(-look_y, 0))
    return Motion(yaw, pitch, roll, shift, blink, jaw, visemes, actions)
