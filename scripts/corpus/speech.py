"""Speech with phone times from flite, and what the mouth does for it."""

import subprocess
import tempfile
import wave
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000
CHANNELS = ("jaw", "lower", "upper", "wide", "pucker", "funnel", "tuck", "tongue")
# phone: viseme, then the target of each channel in [0, 1]
_V = {
    #          jaw   lower upper wide  puck  funn  tuck  tongue
    "pau": ("sil", (0.02, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0, 0.0)),
    "p": ("PP", (0.06, 0.00, 0.00, 0.00, 0.05, 0.00, 0.0, 0.0)),
    "f": ("FF", (0.12, 0.00, 0.45, 0.05, 0.00, 0.00, 1.0, 0.0)),
    "th": ("TH", (0.22, 0.15, 0.15, 0.05, 0.00, 0.00, 0.0, 0.7)),
    "t": ("DD", (0.20, 0.20, 0.15, 0.10, 0.00, 0.00, 0.0, 0.2)),
    "l": ("DD", (0.34, 0.20, 0.10, 0.05, 0.00, 0.00, 0.0, 0.4)),
    "k": ("KK", (0.30, 0.15, 0.10, 0.05, 0.00, 0.00, 0.0, 0.0)),
    "hh": ("KK", (0.42, 0.15, 0.10, 0.00, 0.00, 0.00, 0.0, 0.0)),
    "ch": ("CH", (0.18, 0.30, 0.30, 0.00, 0.25, 0.65, 0.0, 0.0)),
    "s": ("SS", (0.10, 0.40, 0.25, 0.40, 0.00, 0.00, 0.0, 0.0)),
    "r": ("RR", (0.24, 0.15, 0.10, 0.00, 0.35, 0.35, 0.0, 0.0)),
    "aa": ("AA", (1.00, 0.30, 0.15, 0.05, 0.00, 0.00, 0.0, 0.0)),
    "ae": ("AA", (0.88, 0.35, 0.25, 0.35, 0.00, 0.00, 0.0, 0.0)),
    "ah": ("AA", (0.74, 0.20, 0.10, 0.05, 0.00, 0.00, 0.0, 0.0)),
    "ax": ("EH", (0.42, 0.15, 0.10, 0.05, 0.00, 0.00, 0.0, 0.0)),
    "eh": ("EH", (0.66, 0.30, 0.20, 0.30, 0.00, 0.00, 0.0, 0.0)),
    "ih": ("IH", (0.38, 0.25, 0.20, 0.40, 0.00, 0.00, 0.0, 0.0)),
    "iy": ("IH", (0.26, 0.30, 0.25, 0.65, 0.00, 0.00, 0.0, 0.0)),
    "ao": ("OH", (0.80, 0.10, 0.05, 0.00, 0.35, 0.35, 0.0, 0.0)),
    "uh": ("UW", (0.36, 0.10, 0.05, 0.00, 0.55, 0.40, 0.0, 0.0)),
    "uw": ("UW", (0.24, 0.05, 0.00, 0.00, 0.95, 0.40, 0.0, 0.0)),
    "w": ("UW", (0.16, 0.00, 0.00, 0.00, 1.00, 0.20, 0.0, 0.0)),
    "er": ("RR", (0.32, 0.15, 0.10, 0.00, 0.30, 0.35, 0.0, 0.0)),
}
_SAME = {
    "b": "p", "m": "p", "v": "f", "dh": "th", "d": "t", "n": "t", "g": "k", "ng": "k", "jh": "ch", "sh": "ch",
    "zh": "ch", "z": "s", "y": "iy", "axr": "er",
}  # fmt: skip
_GLIDES = {"ay": ("aa", "iy"), "aw": ("aa", "uw"), "oy": ("ao", "iy"), "ow": ("ao", "uw"), "ey": ("eh", "iy")}
_STEP = 0.005  # s, resolution of the articulation
_SMOOTH = 0.030  # s, standard deviation of the coarticulation
_LETTERS = 16.0  # spoken per second at flite's own pace
_CLOSURE = 0.075  # s, shortest time for which lips stay closed on p, b, m


@dataclass(frozen=True)
class Voice:
    """A flite voice whose vocal tract is scaled: warp > 1 is a shorter tract and a higher pitch."""

    base: str
    warp: float


@dataclass(frozen=True)
class Style:
    """How a person's mouth moves for the same phones; the defaults are the corpus's one way of speaking."""

    smooth: float = _SMOOTH  # s, standard deviation of the coarticulation
    firmness: float = 1.0  # of the closure on p, b, m: 1 is complete
    lead: np.ndarray = field(default_factory=lambda: np.zeros(len(CHANNELS)))  # s, by which a channel is early
    gain: dict[str, np.ndarray] = field(default_factory=dict)  # viseme: factor of each channel's target
    rest: np.ndarray = field(default_factory=lambda: np.zeros(len(CHANNELS)))  # added to the targets in pauses


def varied_style(rng: np.random.Generator) -> Style:
    """Draw a person's way of speaking: wider than people differ, so that nothing can rely on one of them."""
    channels, visemes = len(CHANNELS), sorted({name for name, _ in _V.values()})
    general = rng.uniform(0.6, 1.3) * np.exp(rng.normal(size=channels) * 0.25)
    rest = np.zeros(channels)
    rest[:3] = rng.uniform(0, 0.3, size=3) * (rng.uniform() < 0.5)
    return Style(
        smooth=rng.uniform(0.018, 0.055),
        firmness=rng.uniform(0.5, 1.0),
        lead=rng.normal() * 0.008 + rng.normal(size=channels) * 0.012,
        gain={name: general * np.exp(rng.normal(size=channels) * 0.35) for name in visemes},
        rest=rest,
    )


@dataclass(frozen=True)
class Speech:
    """Sound [N] float32 at 16 kHz of a fixed length, and its phones as (name, start s, end s)."""

    text: str
    samples: np.ndarray
    phones: tuple[tuple[str, float, float], ...]


def _flite(voice: Voice, text: str, stretch: float) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["flite", "-voice", voice.base, "--setf", f"duration_stretch={stretch * voice.warp:.4f}", "-psdur"]
        said = subprocess.run([*command, "-t", text, "-o", str(path)], check=True, capture_output=True, text=True)
        with wave.open(str(path)) as sound:
            rate = sound.getframerate()
            samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16).astype(np.float64) / 32768
    # band-limited resampling: to 16 kHz, played `warp` times faster
    count = round(len(samples) * SAMPLE_RATE / rate / voice.warp)
    spectrum = np.fft.rfft(samples)
    room = np.zeros(count // 2 + 1, dtype=complex)
    room[: min(len(room), len(spectrum))] = spectrum[: len(room)]
    samples = np.fft.irfft(room, count) * count / len(samples)
    phones, start = [], 0.0
    for item in said.stdout.split():
        name, end = item.rsplit(":", 1)
        phones.append((name, start, float(end) / voice.warp))
        start = float(end) / voice.warp
    return samples, phones


def speak(voice: Voice, sentences: tuple[str, ...], seconds: float, rng: np.random.Generator) -> Speech:
    """Say as many sentences as fit into `seconds`, the speaking rate adapted to fill them."""
    order = [sentences[i] for i in rng.permutation(len(sentences))]
    room = seconds - 0.15
    texts = [" ".join(order[first : first + count]) for first in range(8) for count in (1, 2, 3, 4)]
    text = min(texts, key=lambda text: abs(np.log(len(text) / (_LETTERS * room))))
    length = len(_flite(voice, text, 1.0)[0]) / SAMPLE_RATE
    samples, phones = _flite(voice, text, float(np.clip(room / length, 0.75, 1.35)))
    total = round(seconds * SAMPLE_RATE)
    lead = max(0, min(round(0.06 * SAMPLE_RATE), total - len(samples)))
    out = np.zeros(total)
    said = samples[: total - lead]
    out[lead : lead + len(said)] = said
    fade = round(0.03 * SAMPLE_RATE)
    out[-fade:] *= np.linspace(1, 0, fade)
    out *= rng.uniform(0.5, 0.8) / np.abs(out).max()
    shift = lead / SAMPLE_RATE
    timed = [(n, a + shift, min(b + shift, seconds)) for n, a, b in phones if a + shift < seconds]
    if lead:
        timed[0] = (timed[0][0], 0.0, timed[0][2])
    if timed[-1][2] < seconds:
        timed.append(("pau", timed[-1][2], seconds))
    return Speech(text, out.astype(np.float32), tuple(timed))


def _entry(phone: str) -> tuple[str, tuple[float, ...]]:
    return _V[_SAME.get(phone, phone)]


def viseme(phone: str) -> str:
    """The viseme class of a phone; a diphthong has that of its first half."""
    return _entry(_GLIDES.get(phone, (phone,))[0])[0]


def articulate(speech: Speech, times: np.ndarray, style: Style) -> tuple[dict[str, np.ndarray], list[str]]:
    """What the mouth does at `times` [T] seconds: each channel [T] in [0, 1] plus "closed", and the visemes.

    Targets of neighbouring phones blend with a Gaussian of `style.smooth`; p, b and m close the lips at their middle,
    however short they are and completely if `style` is firm. The jaw opens wider where the sound is louder.
    """
    seconds = len(speech.samples) / SAMPLE_RATE
    clock = np.arange(0, seconds + _STEP, _STEP)
    target, closed = np.zeros((len(clock), len(CHANNELS))), np.zeros(len(clock))
    for name, start, end in speech.phones:
        halves = _GLIDES.get(name, (name,))
        for i, half in enumerate(halves):
            a, b = (start + (end - start) * k / len(halves) for k in (i, i + 1))
            shape, values = _entry(half)
            here = (clock >= a) & (clock < b)
            target[here] = np.clip(np.array(values) * style.gain.get(shape, 1.0), 0, 1)
            if shape == "sil":
                target[here] += style.rest
        if viseme(name) == "PP":
            middle, width = (start + end) / 2, max(end - start, _CLOSURE) / 2
            closed = np.maximum(closed, np.clip((width + 0.030 - np.abs(clock - middle)) / 0.030, 0, 1))
    reach = np.arange(-round(4 * style.smooth / _STEP), round(4 * style.smooth / _STEP) + 1) * _STEP
    kernel = np.exp(-0.5 * (reach / style.smooth) ** 2)
    kernel /= kernel.sum()
    edge = len(kernel) // 2
    padded = np.pad(target, ((edge, edge), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(padded[:, k], kernel, "valid") for k in range(len(CHANNELS))], 1)
    power = np.convolve(speech.samples.astype(np.float64) ** 2, np.ones(800) / 800, "same")
    loud = np.sqrt(np.interp(clock, np.arange(len(power)) / SAMPLE_RATE, power))
    smooth[:, 0] *= 0.8 + 0.35 * np.clip(loud / np.quantile(loud, 0.9), 0, 1)
    out = {name: np.interp(times + style.lead[k], clock, smooth[:, k]) for k, name in enumerate(CHANNELS)}
    out["closed"] = style.firmness * np.interp(times, clock, closed)
    names = [next((viseme(n) for n, a, b in speech.phones if a <= t < b), "sil") for t in times]
    return out, names
