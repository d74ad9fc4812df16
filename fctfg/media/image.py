"""Pictures."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fctfg.atomic import atomic_path
from fctfg.errors import FctfgError
from fctfg.media.units import Pixels


def read_image(path: str | Path) -> Pixels:
    """Read a picture upright (EXIF orientation applied), transparent parts on white.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        FctfgError: Missing, not a picture, or one of more pixels than Pillow takes for harmless (179 million).
    """
    path = Path(path)
    if not path.exists():
        raise FctfgError(f"{path} does not exist; check the path")
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            if image.mode.startswith("I"):  # 16 bits a pixel, of which `convert` would clip the upper half
                image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
            return np.array(image.convert("RGB"), dtype=np.uint8)
    except Image.DecompressionBombError as error:
        raise FctfgError(f"{path} has too many pixels; scale it down") from error
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise FctfgError(f"{path} is not a readable picture; give a PNG or JPEG") from error


def write_image(path: str | Path, image: Pixels) -> None:
    """Write uint8 [H, W, 3] RGB as PNG or JPEG, by the suffix of `path`.

    Raises:
        FctfgError: Folder not writable, disk full.
    """
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary)
