"""Rates and array types that all media files share."""

import numpy as np
import numpy.typing as npt

FPS = 25.0  # frames per second of every prepared and generated video
SAMPLE_RATE = 16_000  # samples per second of every prepared and generated sound

Pixels = npt.NDArray[np.uint8]  # [H, W, 3] RGB
Samples = npt.NDArray[np.float32]  # [N] mono in [-1, 1]
