"""Changes of speed, room, noise and loudness that leave every sound at its picture."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fctfg.ops.hash_noise import hash_normal
from fctfg.ops.mel import SAMPLE_RATE
from fctfg.ranges import check_range

HALF_WIDTH, KAISER = 16, 6.0  # of the interpolating kernel, in samples on each side; the shape of its window
PHASES = 256  # places between two samples at which the kernel is computed; it is linear between them
FRAME = 320  # samples: 20 ms, the piece of sound that is speech or a pause
PAUSE = 10**-2.5  # a pause has less than this share of the loudest frame's power (-25 dB)
LOWEST = 50.0  # Hz: noise below is not heard, and pink noise would consist of it


class SoundChange(NamedTuple):
    """What happens to the sound of one sample; `default_collate` puts a `B` before each shape."""

    speed: Tensor  # [] factor
    rt60: Tensor  # [] s, in which the reverberation falls by 60 dB
    reverberation: Tensor  # [] root of its energy over that of the direct sound
    noise: Tensor  # [] root of its power over that of the speech
    colour: Tensor  # [] 0 white, 1 pink
    gain: Tensor  # [] factor
    seed: Tensor  # [] int64, of room and noise


@dataclass(frozen=True)
class SoundAugment:
    """How often and how far the sound is changed. Not in the paper.

    Speed and loudness are drawn evenly on their logarithmic scales about no change. Between two limits, all else is
    drawn evenly.

    Args:
        speed_chance, speed: share of the samples, and the largest factor of the speed (the least is its inverse);
            pictures and pitch go with it.
        reverberation_chance: share of the samples heard in a room.
        rt60_min, rt60_max: time in which the reverberation falls by 60 dB, seconds.
        direct_min, direct_max: ratio of direct to reverberant sound, dB.
        noise_chance: share of the samples with noise.
        snr_min, snr_max: ratio of speech to noise, dB.
        pink: share of pink noise, the rest is white.
        gain_chance, gain: share of the samples, and the largest change of loudness up or down, dB.

    Raises:
        ValueError: a setting is out of range.
    """

    speed_chance: float = 0.5
    speed: float = 1.05
    reverberation_chance: float = 0.3
    rt60_min: float = 0.1
    rt60_max: float = 0.6
    direct_min: float = 3.0
    direct_max: float = 15.0
    noise_chance: float = 0.3
    snr_min: float = 10.0
    snr_max: float = 30.0
    pink: float = 0.5
    gain_chance: float = 0.5
    gain: float = 6.0

    def __post_init__(self) -> None:
        group = "data.sound"
        check_range(
            0,
            1,
            group,
            speed_chance=self.speed_chance,
            reverberation_chance=self.reverberation_chance,
            noise_chance=self.noise_chance,
            pink=self.pink,
            gain_chance=self.gain_chance,
        )
        check_range(1, 1.5, group, speed=self.speed)
        check_range(0.02, 5, group, rt60_min=self.rt60_min)
        check_range(self.rt60_min, 5, group, rt60_max=self.rt60_max)
        check_range(-20, 60, group, direct_min=self.direct_min, snr_min=self.snr_min)
        check_range(self.direct_min, 60, group, direct_max=self.direct_max)
        check_range(self.snr_min, 60, group, snr_max=self.snr_max)
        check_range(0, 40, group, gain=self.gain)

    def draw(self, rng: np.random.Generator) -> SoundChange:
        """The change of one sample.

        The same numbers are taken from the generator whatever the settings, so that no effect moves with another one's.

        Args:
            rng: where everything random comes from, also the seed of room and noise.

        Returns:
            Tensors on the CPU; an effect that does not happen has its neutral value.
        """
        seed = int(rng.integers(2**63))
        faster, room, noisy, louder, pink = rng.random(5) < [
            self.speed_chance,
            self.reverberation_chance,
            self.noise_chance,
            self.gain_chance,
            self.pink,
        ]
        speed, gain = rng.uniform(-1, 1, 2)
        rt60, direct, snr = rng.random(3)
        direct = self.direct_min + (self.direct_max - self.direct_min) * direct
        snr = self.snr_min + (self.snr_max - self.snr_min) * snr
        values = {
            "speed": self.speed ** (faster * speed),
            "rt60": self.rt60_min + (self.rt60_max - self.rt60_min) * rt60,
            "reverberation": room * 10 ** (-direct / 20),
            "noise": noisy * 10 ** (-snr / 20),
            "colour": float(pink),
            "gain": 10 ** (louder * gain * self.gain / 20),
        }
        tensors = {name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()}
        return SoundChange(**tensors, seed=torch.tensor(seed))


@functools.cache
@torch.inference_mode(False)
def unchanged_sound() -> SoundChange:
    """No change of a sample's sound; always the same tensors, which must not be written to."""
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    return SoundChange(one, one, zero, zero, zero, one, torch.tensor(0))


def speed_frames(start: int | Tensor, count: int, change: SoundChange) -> Tensor:
    """The video frames that belong to the changed sound.

    Frame k of the sample shows what is heard k / 25 s after the anchor of the changed sound, which is the sound's own
    k speed / 25 s after it. Frames cannot be divided, so that picture and sound are up to half a frame (20 ms) apart.

    Args:
        start: frame at the anchor, 0-based; int64 [B] where the change is collated.
        count: frames of the sample.
        change: of one sample, or collated.

    Returns:
        int64 [count] or [B, count], ascending: start + k speed, rounded (halves up). The last one may lie up to
        (count - 1) (speed - 1) beyond start + count - 1.
    """
    steps = torch.arange(count, device=change.speed.device) * change.speed.double()[..., None]
    return (steps + 0.5).floor().long() + torch.as_tensor(start, device=steps.device)[..., None]


def change_sound(wave: Tensor, change: SoundChange, anchor: int | Tensor) -> Tensor:
    """Change the speed, then add the room, then noise, then change the loudness.

    Args:
        wave: float32 [B, S], mono at 16 kHz in [-1, 1]: the sound that is wanted and enough around it to draw from, in
            front for the reverberation, on both sides for the speed. Beyond its ends there is silence.
        change: collated, on the same device.
        anchor: the sample that stays in its place, an index or int64 [B]; all others move with the speed.

    Returns:
        float32 [B, S]; a sample without any change is equal to the bit. The result is not clipped: with more loudness,
        noise or reverberation it may leave [-1, 1].

    Raises:
        ValueError: the shapes do not fit.
    """
    if wave.ndim != 2 or len(wave) != len(change.speed):
        raise ValueError(f"wave must be [B, S] with the change's B = {len(change.speed)}, not {list(wave.shape)}")
    size = wave.shape[1]
    for_room, for_noise = hash_normal(change.seed, (2, size)).unbind(1)
    wave = change_speed(wave, change.speed, anchor)
    echo = reflections(for_room, change.rt60, change.reverberation)
    wave = wave + torch.fft.irfft(torch.fft.rfft(wave, 2 * size) * torch.fft.rfft(echo, 2 * size), 2 * size)[:, :size]
    noise = coloured_noise(for_noise, change.colour) * (speech_power(wave).sqrt() * change.noise)[:, None]
    return (wave + noise) * change.gain[:, None]


def change_speed(wave: Tensor, speed: Tensor, anchor: int | Tensor) -> Tensor:
    """Play faster or slower: y(n) = x(anchor + (n - anchor) speed).

    Between samples, x is interpolated by a sinc of 32 samples under a Kaiser window, whose cut-off goes down with a
    higher speed, so that nothing folds back. Places are computed in float64.

    Args:
        wave: float32 [B, S].
        speed: [B], factor above 0.
        anchor: index of the sample that stays, or int64 [B].

    Returns:
        float32 [B, S], with silence from beyond the ends; at speed 1 the wave itself.
    """
    size = wave.shape[1]
    batch = torch.arange(len(wave), device=wave.device)[:, None]
    fixed = anchor.view(-1, 1) if isinstance(anchor, Tensor) else anchor
    place = fixed + (torch.arange(size, device=wave.device) - fixed) * speed.double()[:, None]  # [B, S]
    below = place.floor()

    taps = torch.arange(1 - HALF_WIDTH, HALF_WIDTH + 1, device=wave.device)
    distance = torch.arange(PHASES + 1, device=wave.device)[:, None] / PHASES - taps  # [257, 32], from sample to place
    cutoff = speed.clamp_min(1).reciprocal().view(-1, 1, 1)  # of Nyquist's frequency
    window = torch.special.i0(KAISER * (1 - (distance / HALF_WIDTH).square()).clamp_min(0).sqrt()) / float(
        np.i0(KAISER)
    )
    kernels = cutoff * torch.sinc(cutoff * distance) * window  # [B, 257, 32]
    phase = (place - below) * PHASES
    row = phase.long()
    kernel = torch.lerp(kernels[batch, row], kernels[batch, row + 1], (phase - row).float()[..., None])  # [B, S, 32]

    windows = F.pad(wave, (2 * HALF_WIDTH, 2 * HALF_WIDTH)).unfold(1, 2 * HALF_WIDTH, 1)  # the outermost are silent
    start = (below.long() + HALF_WIDTH + 1).clamp(0, windows.shape[1] - 1)
    return torch.where((speed == 1)[:, None], wave, (windows[batch, start] * kernel).sum(-1))


def reflections(white: Tensor, rt60: Tensor, level: Tensor) -> Tensor:
    """The impulse response of a synthetic room without the direct sound, which is 1 at delay 0: noise that decays.

    The model is Moorer's ("About this reverberation business", Computer Music Journal 3(2), 1979). Since the direct
    sound comes first and unchanged, nothing shifts in time.

    Args:
        white: [B, L], standard normal noise.
        rt60: [B] s, above 0; energy falls by 60 dB in that time.
        level: [B], root of the ratio of reverberant to direct energy; 0 is no room.

    Returns:
        [B, L] at 16 kHz, 0 at delay 0.
    """
    time = torch.arange(white.shape[1], device=white.device) / SAMPLE_RATE
    tail = white * 10.0 ** (-3.0 * time / rt60[:, None])
    tail[:, 0] = 0.0
    return tail * (level / tail.norm(dim=1).clamp_min(1e-12))[:, None]


def coloured_noise(white: Tensor, colour: Tensor) -> Tensor:
    """Noise with power 1 whose spectrum falls as 1 / frequency^colour above 50 Hz, with nothing below.

    Args:
        white: [B, S], standard normal noise at 16 kHz.
        colour: [B], 0 is white, 1 pink.

    Returns:
        [B, S].
    """
    hertz = torch.arange(white.shape[1] // 2 + 1, device=white.device) * (SAMPLE_RATE / white.shape[1])
    shape = hertz.clamp_min(LOWEST) ** (-colour[:, None] / 2) * (hertz >= LOWEST)
    noise = torch.fft.irfft(torch.fft.rfft(white) * shape, white.shape[1])
    return noise / noise.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)


def speech_power(wave: Tensor) -> Tensor:
    """Mean power of the sound without its pauses, the idea of ITU-T P.56's active speech level.

    Pauses are the 20 ms frames more than 25 dB below the loudest one.

    Args:
        wave: [B, S] at 16 kHz.

    Returns:
        [B]; 0 for silence.
    """
    frames = F.pad(wave, (0, -wave.shape[1] % FRAME)).unflatten(1, (-1, FRAME))
    power = frames.square().mean(2)  # [B, frames]
    speech = power > PAUSE * power.amax(1, keepdim=True)
    return (power * speech).sum(1) / speech.sum(1).clamp_min(1)
