"""Level, faults and kind of a clip's sound."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fctfg.media.units import SAMPLE_RATE, Samples

Reals = npt.NDArray[np.float64]

QUIETEST = -70.0  # LUFS, dB of full scale; the absolute gate of BS.1770, and what silence is given
CLIPPED = 0.99  # of full scale
PAUSE = 30.0  # dB below the speech; quieter frames are pauses
INAUDIBLE = -60.0  # dB of full scale; quieter frames are silent whatever the speech's level is
NO_SOUND = 60.0  # dB below the loudest part of the spectrum, where it is taken to have ended

# ITU-R BS.1770-4, tables 1 and 2: shelf of the head and high-pass, (numerator, denominator) at 48 kHz.
_SHELF = (1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)
_HIGH_PASS = (1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)
_DESIGN_RATE = 48_000
_BLOCK, _STEP = SAMPLE_RATE * 2 // 5, SAMPLE_RATE // 10  # samples: 400 ms every 100 ms

_FRAME = SAMPLE_RATE // 50  # samples: 20 ms

_WINDOW, _HOP = 512, 160  # samples: 32 ms every 10 ms
_RATE = SAMPLE_RATE / _HOP  # such frames a second
_LEVEL_FLOOR = 1e-5  # of full scale (about -100 dB), against a logarithm of nothing


def _check(wave: Samples) -> None:
    if wave.ndim != 1 or not len(wave):
        raise ValueError(f"wave must be [N] with N >= 1, got {list(wave.shape)}")


def _decibel(power: Any) -> Any:
    return 10 * np.log10(np.maximum(power, 1e-30))


def loudness(wave: Samples) -> float:
    """Integrated loudness of a mono sound by ITU-R BS.1770-4.

    The K weighting is the standard's own filter, taken at its design rate of 48 kHz and applied to the spectrum, so
    that it is exact at any rate. The mean square z of each block of 400 ms gives its loudness

        l = -0.691 + 10 log10 z

    and blocks below -70 LUFS, then those 10 dB below the mean of the others, are left out. A sound shorter than 400 ms
    is one block. torchaudio's function agrees to 0.1 dB, but clips loud sounds (the full-scale sine is 0.3 dB low), has
    no value for silence and fails below 400 ms.

    Args:
        wave: float32 [N] at 16 kHz.

    Returns:
        LUFS (LKFS); a full-scale sine of 997 Hz has -3.01, silence -70.

    Raises:
        ValueError: Another shape, or empty.
    """
    _check(wave)
    length = len(wave) + SAMPLE_RATE  # the filters ring for less than a second
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(length, 1 / SAMPLE_RATE) / _DESIGN_RATE)
    weight = np.ones(len(z), complex)
    for numerator, denominator in (_SHELF, _HIGH_PASS):
        weight *= np.polyval(numerator[::-1], z) / np.polyval(denominator[::-1], z)
    weighted = np.fft.irfft(np.fft.rfft(wave, length) * weight, length)[: len(wave)]

    energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
    block = min(_BLOCK, len(wave))
    begin = np.arange(0, len(wave) - block + 1, _STEP)
    power = (energy[begin + block] - energy[begin]) / block
    level = -0.691 + _decibel(power)
    loud = level > QUIETEST
    if not loud.any():
        return QUIETEST
    gate = -0.691 + _decibel(power[loud].mean()) - 10
    return float(-0.691 + _decibel(power[loud & (level > gate)].mean()))


def clipping_share(wave: Samples) -> float:
    """Share of samples at 0.99 of full scale or beyond.

    Args:
        wave: float32 [N], full scale = 1.

    Returns:
        In [0, 1].

    Raises:
        ValueError: Another shape, or empty.
    """
    _check(wave)
    return float((np.abs(wave) >= CLIPPED).mean())


def silence_ratio(wave: Samples) -> float:
    """Share of a sound in which nobody speaks.

    Of frames of 20 ms, those are silent that are 30 dB below the speech, whose level is the 95th percentile of the
    frames' levels, or below -60 dB of full scale.

    Args:
        wave: float32 [N] at 16 kHz.

    Returns:
        In [0, 1].

    Raises:
        ValueError: Another shape, or empty.
    """
    _check(wave)
    padded = np.pad(wave.astype(np.float64), (0, -len(wave) % _FRAME), mode="wrap")
    level = _decibel(np.square(padded.reshape(-1, _FRAME)).mean(axis=1))
    return float((level < max(np.quantile(level, 0.95) - PAUSE, INAUDIBLE)).mean())


def bandwidth(wave: Samples) -> float:
    """The frequency at which a sound's spectrum ends; shows telephone sound that was brought to a higher rate.

    Where the long-term power spectrum, smoothed over 125 Hz, is for the last time within 60 dB of its largest value.
    (The frequency below which 99 % of the energy lies says little: vowels hold the energy of speech at any bandwidth.)
    Wide-band speech of the demo corpus reaches 7000 Hz and more, the same speech cut at 4000 Hz up to 4100.

    Args:
        wave: float32 [N] at 16 kHz.

    Returns:
        Hz, up to 8000; 0 for silence.

    Raises:
        ValueError: Another shape, or empty.
    """
    _check(wave)
    power = _spectrogram(wave).mean(axis=1)  # 31.25 Hz apart
    smooth = np.convolve(power, np.full(4, 0.25), mode="same")
    if smooth.max() < _LEVEL_FLOOR**2:
        return 0.0
    heard = np.flatnonzero(smooth > smooth.max() * 10 ** (-NO_SOUND / 10))
    return float(heard[-1] * SAMPLE_RATE / _WINDOW)


def speech_likeness(wave: Samples) -> float:
    """Whether a sound is speech and not music, noise or tones.

    Four properties of speech (after Scheirer and Slaney, Construction and evaluation of a robust multifeature
    speech/music discriminator, 1997), each brought to [0, 1]; the least of them counts:

    - its bands' levels move at the rate of syllables: modulation between 2.5 and 8 Hz over the mean level;
    - it pauses: share of frames with less than half the mean level of the second around them;
    - vowels and consonants take turns: spread of the spectrum's centre in octaves;
    - it has no beat: the onsets' autocorrelation between 0.2 and 1 s is low.

    All 36 clips of the demo corpus have 1, with pink noise 10 dB or white noise 20 dB below 0.5 and more; 50 synthetic
    chords, melodies, drums, noises, tones and hums have 0.1 and less (tests/test_scores_sound.py has some of each).
    Speech over soft music counts as speech; white noise 10 dB below hides it.

    Args:
        wave: float32 [N] at 16 kHz; a second at least, several are better.

    Returns:
        In [0, 1]; above 0.5 speech. 0 for silence.

    Raises:
        ValueError: Another shape, or empty.
    """
    _check(wave)
    power = _spectrogram(wave)
    frames = power.shape[1]
    if frames < _RATE or np.abs(wave).max() < _LEVEL_FLOOR:
        return 0.0
    frequency = np.arange(len(power)) * SAMPLE_RATE / _WINDOW
    edges = np.searchsorted(frequency, np.geomspace(200, 6000, 9))
    bands = np.sqrt(np.add.reduceat(power, edges, axis=0)[:-1])  # [8, T]
    level = np.sqrt(power[edges[0] :].sum(axis=0))

    modulation = np.square(np.abs(np.fft.rfft(bands * np.hanning(frames), axis=1))).sum(axis=0)
    rate = np.fft.rfftfreq(frames, 1 / _RATE)
    syllables = np.sqrt(modulation[(rate >= 2.5) & (rate < 8)].sum() / modulation[rate < 0.7].sum())

    second = int(_RATE)
    mean = np.convolve(level, np.full(second, 1 / second), mode="same")
    pauses = (level < 0.5 * mean).mean()

    heard = power[:, level > 0.1 * level.max()]
    turns = np.log2((frequency @ heard) / heard.sum(axis=0)).std()

    onsets = np.maximum(np.diff(np.log(bands + 0.01 * bands.max()), axis=1), 0).sum(axis=0)
    beat = _autocorrelation(onsets - onsets.mean())[int(0.2 * _RATE) : second].max(initial=0.0)

    ramps = ((syllables, 0.1, 0.3), (pauses, 0.03, 0.2), (turns, 0.15, 0.37), (beat, 0.65, 0.42))  # value, at 0, at 1
    return float(min(np.clip((value - low) / (high - low), 0, 1) for value, low, high in ramps))


def _spectrogram(wave: Samples) -> Reals:
    """Power [257, T] of windows of 32 ms every 10 ms; a shorter sound is one window."""
    padded = torch.from_numpy(np.pad(wave, (0, max(0, _WINDOW - len(wave)))).astype(np.float32))
    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(padded, _WINDOW, _HOP, window=window, center=False, return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(dim=-1).double() / window.square().sum()
    return power.numpy() + np.finfo(np.float64).tiny


def _autocorrelation(series: Reals) -> Reals:
    """Of [T], by lag, not biased by the shorter overlap of longer lags; 1 at lag 0."""
    length = len(series)
    product = np.fft.irfft(np.square(np.abs(np.fft.rfft(series, 2 * length))))[:length] / np.arange(length, 0, -1)
    return np.asarray(product / max(product[0], np.finfo(np.float64).tiny))
