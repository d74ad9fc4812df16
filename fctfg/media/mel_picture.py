"""Mel spectrograms to look at."""

import numpy as np
import numpy.typing as npt

from fctfg.media.units import Pixels


def mel_picture(mel: npt.ArrayLike) -> Pixels:
    """Mel spectrogram [80, M] in [-4, 4] as a picture, uint8 [160, 2M, 3], low frequencies below."""
    import matplotlib  # heavy

    colored = matplotlib.colormaps["magma"]((np.asarray(mel)[::-1] + 4) / 8)[..., :3]
    return np.repeat(np.repeat((colored * 255).astype(np.uint8), 2, axis=0), 2, axis=1)
