"""Sound files of our own: mono WAV."""

from pathlib import Path

import numpy as np
import soundfile

from fctfg.atomic import atomic_path
from fctfg.errors import FctfgError
from fctfg.media.units import SAMPLE_RATE, Samples


def read_wav(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Read a sound file that `write_wav` wrote, quickly; for any other sound there is `read_audio`.

    Returns:
        float32 [N] mono in [-1, 1].

    Raises:
        FctfgError: Missing, not a sound file, not mono, or of another sample rate.
    """
    path = Path(path)
    if not path.exists():
        raise FctfgError(f"{path} does not exist; check the path")
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise FctfgError(f"{path} is not a readable sound file; give a WAV or FLAC") from error
    if rate != sample_rate or samples.ndim != 1:
        raise FctfgError(f"{path} is not mono sound at {sample_rate} Hz; convert it or run `fctfg prepare` again")
    return np.asarray(samples, np.float32)


def write_wav(path: str | Path, samples: Samples, sample_rate: int = SAMPLE_RATE) -> None:
    """Write float32 [N] in [-1, 1] as 16-bit mono WAV.

    Raises:
        FctfgError: Folder not writable, disk full.
    """
    with atomic_path(path) as temporary:
        soundfile.write(temporary, np.clip(samples, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
