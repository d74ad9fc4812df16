"""The weights that come with the package, from a run of stage 3."""

from pathlib import Path
from typing import Any

from fctfg.atomic import atomic_path
from fctfg.errors import FctfgError
from fctfg.weights.artifact import FCTFG_PARTS, build, load_artifact, require, save_artifact

LIMIT = 15_000_000  # bytes: what a repository and a wheel carry without complaint


def package_weights(run: Path, out: Path, limit: int = LIMIT) -> int:
    """Writes only the network that generates, in half precision, with the card of its run less the names of folders.

    Args:
        run: run folder of stage 3, or the file that it exported.
        out: file to write.
        limit: largest size in bytes.

    Returns:
        Size in bytes.

    Raises:
        FctfgError: weights of another stage, the result is too large, or it cannot be written.
    """
    artifact = load_artifact(run)
    require(artifact, "talking_face")
    card = _without_folders(artifact.card)
    card["parameters"] = {name: n for name, n in card.get("parameters", {}).items() if name in FCTFG_PARTS}
    card["notes"] = [*card.get("notes", []), "stored in half precision; the metrics are of the float32 weights"]
    with atomic_path(out) as partial:
        save_artifact(partial, {"fctfg": build(artifact, "fctfg")}, "talking_face", card, dtype="float16")
        size = partial.stat().st_size
        if size > limit:
            raise FctfgError(
                f"the weights of {run} take {size / 1e6:.1f} MB, more than {limit / 1e6:.1f} MB; train smaller networks"
            )
    return size


def _without_folders(value: Any) -> Any:
    """A card whose absolute paths have lost what only the machine of the run knows: their folders."""
    if isinstance(value, dict):
        return {name: _without_folders(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value
