"""The mel spectrogram by Wav2Lip's recipe, the one that its published audio networks need."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 16_000  # Hz
N_FFT = 800  # samples; also the window's length
HOP = 200  # samples: 80 mel frames per second
N_MELS = 80
F_MIN, F_MAX = 55.0, 7600.0  # Hz
PRE_EMPHASIS = 0.97
SILENCE = -4.0  # the value of a bin without sound


@functools.cache
@torch.inference_mode(False)  # what is kept may be needed with gradients later
def _filter_bank(device: torch.device) -> Tensor:
    """Slaney's mel filters [n_fft/2 + 1, 80] on a device."""
    from torchaudio.functional import melscale_fbanks  # heavy, and only needed once

    bank = melscale_fbanks(
        N_FFT // 2 + 1, F_MIN, F_MAX, N_MELS, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )  # [F, M]
    return bank.to(device)


def mel_spectrogram(wave: Tensor) -> Tensor:
    """The mel spectrogram of a waveform, as Wav2Lip's networks expect it.

    Pre-emphasis 0.97, STFT magnitude (n_fft = window = 800, hop 200, reflect padding), 80 Slaney mels between 55 and
    7600 Hz, 20 log10(max(1e-5, .)) - 20 dB, then [-100, 0] dB mapped to [-4, 4] and clipped.

    Args:
        wave: [..., N] mono at 16 kHz in [-1, 1], at least 401 samples.

    Returns:
        float32 [..., 80, 1 + N // 200] in [-4, 4].

    Raises:
        ValueError: if the waveform is shorter than half an analysis window, which cannot be reflected.
    """
    if wave.shape[-1] <= N_FFT // 2:
        raise ValueError(f"a waveform of {wave.shape[-1]} samples is too short: at least {N_FFT // 2 + 1} are needed")
    wave = wave.float()
    emphasized = torch.cat([wave[..., :1], wave[..., 1:] - PRE_EMPHASIS * wave[..., :-1]], dim=-1)
    flat = F.pad(emphasized.reshape(-1, 1, wave.shape[-1]), (N_FFT // 2, N_FFT // 2), mode="reflect")[:, 0]
    window = torch.hann_window(N_FFT, periodic=True, device=wave.device)
    magnitude = torch.stft(flat, N_FFT, HOP, window=window, center=False, return_complex=True).abs()  # [*, F, M]
    mel = _filter_bank(wave.device).t() @ magnitude  # [*, 80, M]
    decibel = 20.0 * mel.clamp_min(1e-5).log10() - 20.0
    scaled = (8.0 * (decibel + 100.0) / 100.0 - 4.0).clamp(-4.0, 4.0)
    return scaled.view(*wave.shape[:-1], N_MELS, -1)
