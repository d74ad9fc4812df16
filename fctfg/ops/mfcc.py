"""The mel-frequency cepstral coefficients that SyncNet v2 hears.

They are those of python_speech_features with its default settings, which is what that network was trained on. Compared
with version 0.6 on 16-bit speech, noise, silence and cuts of 1 to 16,001 samples, the largest difference of a
coefficient was 1.9e-6: the rounding of the result to float32.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 16_000  # Hz
WINDOW = 400  # samples: 25 ms, of equal weight
HOP = 160  # samples: 100 frames per second
N_FFT = 512  # samples; the window is zero-padded to it
N_FILTERS = 26  # triangles from 0 Hz to 8 kHz, equally spaced in mel
N_MFCC = 13
LIFTER = 22
PRE_EMPHASIS = 0.97
FULL_SCALE = 32768.0  # of 16-bit sound
EPS = torch.finfo(torch.float64).eps  # stands for an energy of zero


def _hertz_to_mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


@functools.cache
@torch.inference_mode(False)  # what is kept may be needed with gradients later
def _filter_bank(device: torch.device) -> Tensor:
    """Triangular filters [N_FFT/2 + 1, 26] in float64, with edges and peaks on whole bins of the spectrum."""
    mel = torch.linspace(0.0, _hertz_to_mel(SAMPLE_RATE / 2), N_FILTERS + 2, dtype=torch.float64)
    hertz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    edges = ((N_FFT + 1) * hertz / SAMPLE_RATE).floor()  # [28] bins
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    bins = torch.arange(N_FFT // 2 + 1, dtype=torch.float64)[:, None]  # [F, 1]
    rise, fall = (bins - low) / (peak - low), (high - bins) / (high - peak)
    return torch.minimum(rise, fall).clamp_min(0.0).to(device)


@functools.cache
@torch.inference_mode(False)
def _cepstrum(device: torch.device) -> Tensor:
    """The orthonormal DCT-II and the lifter 1 + 11 sin(pi n / 22) in one matrix [26, 13], float64."""
    n = torch.arange(N_MFCC, dtype=torch.float64)
    filters = torch.arange(N_FILTERS, dtype=torch.float64)[:, None]
    dct = math.sqrt(2.0 / N_FILTERS) * torch.cos(math.pi * n * (2.0 * filters + 1.0) / (2.0 * N_FILTERS))
    dct[:, 0] /= math.sqrt(2.0)
    return (dct * (1.0 + LIFTER / 2.0 * torch.sin(math.pi * n / LIFTER))).to(device)


def mfcc(wave: Tensor) -> Tensor:
    """The cepstral coefficients of a waveform, as SyncNet v2 expects them.

    Pre-emphasis 0.97, windows of 400 samples every 160 (the last one filled with zeros), power spectrum |.|^2 / 512,
    logarithms of 26 mel filters, DCT, lifter 22; coefficient 0 is the logarithm of the window's energy instead.
    Computed in float64 on the 16-bit scale: with the scale, coefficient 0 would shift.

    Args:
        wave: floating-point [..., N], mono at 16 kHz in [-1, 1], N >= 1.

    Returns:
        float32 [..., 13, M], 100 frames per second: M = 1 + ceil((N - 400) / 160), and 1 for N <= 400.

    Raises:
        ValueError: if the waveform is empty or holds integers (whose scale would be unknown).
    """
    if not wave.is_floating_point() or wave.ndim == 0 or wave.shape[-1] == 0:
        raise ValueError(
            f"the waveform must be floating-point [..., N] in [-1, 1] with N >= 1, "
            f"not {str(wave.dtype).removeprefix('torch.')} {list(wave.shape)}"
        )
    wave = wave.double() * FULL_SCALE
    emphasized = torch.cat([wave[..., :1], wave[..., 1:] - PRE_EMPHASIS * wave[..., :-1]], dim=-1)
    steps = max(0, -(-(wave.shape[-1] - WINDOW) // HOP))  # after the first window, rounded up
    padded = F.pad(emphasized, (0, WINDOW + steps * HOP - wave.shape[-1]))
    power = torch.fft.rfft(padded.unfold(-1, WINDOW, HOP), N_FFT).abs().square() / N_FFT  # [..., M, F]
    energy, bands = power.sum(-1), power @ _filter_bank(wave.device)  # [..., M], [..., M, 26]
    energy, bands = (torch.where(x == 0, EPS, x).log() for x in (energy, bands))
    coefficients = bands @ _cepstrum(wave.device)  # [..., M, 13]
    return torch.cat([energy[..., None], coefficients[..., 1:]], dim=-1).transpose(-1, -2).float()
