"""Embedded demo corpus: rendered talking heads (CC0, no person depicted) with exact ground truth.

`root()` holds `{train,val,test}/<identity>/<clip>.mp4`, each with its truth in `<clip>.json`; scripts/render_corpus.py
renders it, docs/demo_corpus.md describes it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fctfg.errors import FctfgError

_PER_FRAME = ("yaw", "pitch", "roll", "blink", "jaw", "lip_gap", "points")


def root() -> Path:
    """The folder of the corpus, ready for `fctfg prepare`."""
    return Path(__file__).resolve().parent


def truth(clip: str | Path) -> dict[str, Any]:
    """Ground truth of one rendered clip.

    Args:
        clip: The clip's mp4 (or its json), of this corpus or of any that scripts/render_corpus.py made.

    Returns:
        Per frame, float32 [T]: `yaw`, `pitch`, `roll` (degrees; > 0 is to the viewer's right, up, clockwise),
        `blink` (0 open, 1 closed), `jaw` (0 closed, 1 widest), `lip_gap` (px between the inner lips); `points`
        float32 [T, 5, 2] (x, y) px in ArcFace order; `viseme` str [T]. Per phone: `phone` str [N], `phone_start` and
        `phone_end` float32 [N] seconds. All other entries of the file as they are (text, voice, seed, ...).

    Raises:
        FctfgError: The file is missing or is not such a ground truth.
    """
    path = Path(clip).with_suffix(".json")
    try:
        entry = json.loads(path.read_text())
        phones = entry.pop("phones")
        out: dict[str, Any] = {name: np.array(entry.pop(name), dtype=np.float32) for name in _PER_FRAME}
        out["viseme"] = np.array(entry.pop("viseme"))
        out["phone"] = np.array([name for name, _, _ in phones])
        out["phone_start"] = np.array([start for _, start, _ in phones], dtype=np.float32)
        out["phone_end"] = np.array([end for _, _, end in phones], dtype=np.float32)
    except OSError as error:
        raise FctfgError(f"{path}: no ground truth beside the clip; only rendered clips have one") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FctfgError(f"{path}: not a ground truth of scripts/render_corpus.py") from error
    return out | entry
