"""Loudness, faults and kind of sounds."""

import numpy as np
import pytest
import torch
import torchaudio

from fctfg.data.scores.sound import (
    QUIETEST,
    bandwidth,
    clipping_share,
    loudness,
    silence_ratio,
    speech_likeness,
)
from fctfg.demo_corpus import root
from fctfg.media import SAMPLE_RATE, read_audio

SECONDS = 6
TIME = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
SPEECH = ("train/p000/c0", "train/p003/c1", "train/p008/c2", "val/p009/c0", "test/p010/c1", "test/p011/c2")


def sine(frequency: float, amplitude: float = 1.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * TIME)).astype(np.float32)


def white(seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(len(TIME))).astype(np.float32)


def pink() -> np.ndarray:
    spectrum = np.fft.rfft(white(1))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return (30 * np.fft.irfft(spectrum, len(TIME))).astype(np.float32)


def music(beats: float, decay: float, voices: tuple[int, ...] = (0, 4, 7), drum: bool = False) -> np.ndarray:
    """Random chords (or a melody, with one voice) at `beats` a second, each fading at `decay` a second."""
    rng = np.random.default_rng(round(10 * beats + decay))
    out = np.zeros(len(TIME) + 2 * SAMPLE_RATE)
    length = np.arange(int(1.5 * SAMPLE_RATE / beats)) / SAMPLE_RATE
    for beat in range(int(SECONDS * beats)):
        pitch = 110 * 2 ** (rng.integers(12) / 12)
        begin = int(beat * SAMPLE_RATE / beats)
        for voice in voices:
            for k in range(1, 9):
                tone = np.sin(2 * np.pi * pitch * 2 ** (voice / 12) * k * length) / k
                out[begin : begin + len(length)] += tone * np.exp(-decay * length) * np.minimum(length / 0.01, 1)
        if drum:
            hit = rng.standard_normal(2000) * np.exp(-np.arange(2000) / 400)
            out[begin + 3000 : begin + 5000] += 3 * hit
    return (0.5 * out[: len(TIME)] / np.abs(out).max()).astype(np.float32)


def cut_at(wave: np.ndarray, frequency: float) -> np.ndarray:
    """What is left of a sound that was stored with 2 * frequency samples a second."""
    spectrum = np.fft.rfft(wave)
    spectrum[int(len(spectrum) * frequency / (SAMPLE_RATE / 2)) :] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> dict[str, np.ndarray]:
    return {name: read_audio(root() / f"{name}.mp4") for name in SPEECH}


def test_loudness_of_the_standards_own_tone() -> None:
    assert loudness(sine(997)) == pytest.approx(-3.01, abs=0.01)
    assert loudness(sine(997, 0.1)) == pytest.approx(-23.01, abs=0.01)


def test_loudness_agrees_with_torchaudio(speech: dict[str, np.ndarray]) -> None:
    for wave in (*speech.values(), 0.3 * white(), sine(100, 0.1), sine(5000, 0.1)):
        expected = torchaudio.functional.loudness(torch.from_numpy(wave)[None], SAMPLE_RATE).item()
        assert loudness(wave) == pytest.approx(expected, abs=0.1)


def test_loudness_leaves_out_pauses() -> None:
    tone = sine(997, 0.1)
    with_pause = np.concatenate([tone, np.zeros(10 * SAMPLE_RATE, np.float32), 0.01 * tone])
    assert loudness(with_pause) == pytest.approx(loudness(tone), abs=0.15)  # (blocks at the edges count)


def test_loudness_of_silence_and_of_a_moment() -> None:
    assert loudness(np.zeros(SAMPLE_RATE, np.float32)) == QUIETEST
    assert loudness(sine(997)[:3200]) == pytest.approx(-3.01, abs=0.1)


def test_clipping() -> None:
    wave = sine(199.7, 0.5)
    assert clipping_share(wave) == 0
    # |4 sin| >= 0.99 except where |sin| < 0.2475
    assert clipping_share(np.clip(8 * wave, -1, 1)) == pytest.approx(1 - 2 / np.pi * np.arcsin(0.2475), abs=0.01)


def test_silence_ratio_counts_pauses_at_any_level() -> None:
    wave = sine(300, 0.3)
    wave[: len(wave) // 4] = 0
    assert silence_ratio(wave) == pytest.approx(0.25, abs=0.01)
    assert silence_ratio(0.1 * wave) == pytest.approx(0.25, abs=0.01)
    assert silence_ratio(wave + 1e-3 * white()) == pytest.approx(0.25, abs=0.01)
    assert silence_ratio(1e-4 * wave) == 1
    assert silence_ratio(sine(300)) == 0
    assert silence_ratio(sine(300)[:100]) == 0


@pytest.mark.parametrize("name", SPEECH)
def test_bandwidth_shows_telephone_sound(speech: dict[str, np.ndarray], name: str) -> None:
    assert bandwidth(speech[name]) > 6500
    assert bandwidth(cut_at(speech[name], 4000)) == pytest.approx(4000, abs=150)
    stored = np.round(32767 * cut_at(speech[name], 3400)) / 32767  # 16 bits
    assert bandwidth(stored.astype(np.float32)) == pytest.approx(3400, abs=150)


def test_bandwidth_of_simple_sounds() -> None:
    assert bandwidth(white()) > 7800
    assert bandwidth(sine(1000)) == pytest.approx(1000, abs=150)
    assert bandwidth(np.zeros(SAMPLE_RATE, np.float32)) == 0


@pytest.mark.parametrize("name", SPEECH)
def test_speech_is_speech(speech: dict[str, np.ndarray], name: str) -> None:
    wave = speech[name]
    assert speech_likeness(wave) > 0.9
    assert speech_likeness(0.01 * wave) == pytest.approx(speech_likeness(wave), abs=0.01)
    assert speech_likeness(cut_at(wave, 4000)) > 0.5
    for noise, below in ((white(), 20), (pink(), 10)):  # dB
        scaled = noise[: len(wave)] / noise.std() * wave.std() * 10 ** (-below / 20)
        assert speech_likeness((wave + scaled).astype(np.float32)) > 0.5


OTHER = {
    **{f"chords {b}/{d}": music(b, d) for b in (1.3, 2.0, 4.0) for d in (1, 4, 10)},
    **{f"melody {b}": music(b, 6, (12,)) for b in (2.0, 4.0)},
    **{f"drums {b}": music(b, 6, (0, 4, 7), drum=True) for b in (1.7, 3.0)},
    "white": white(),
    "pink": pink(),
    "pulsing noise": (white() * (1 + np.sin(2 * np.pi * 4 * TIME))).astype(np.float32),
    "tone": sine(440, 0.3),
    "hum": sum((sine(50 * k, 0.1 / k) for k in range(1, 6)), 0.01 * white()),
    "sweep": (0.3 * np.sin(2 * np.pi * (100 * TIME + 300 * TIME**2))).astype(np.float32),
    "silence": np.zeros(len(TIME), np.float32),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_sounds_are_not_speech(name: str) -> None:
    assert speech_likeness(OTHER[name]) < 0.3


@pytest.mark.parametrize("score", [loudness, clipping_share, silence_ratio, bandwidth, speech_likeness])
def test_sounds_of_another_shape_are_refused(score) -> None:
    for wave in (np.zeros(0, np.float32), np.zeros((1, 100), np.float32)):
        with pytest.raises(ValueError, match=r"\[N\]"):
            score(wave)
    assert np.isfinite(score(np.full(10, 0.1, np.float32)))  # no sound is too short to have a score
