"""Where the shipped configurations are: `configs/` in a checkout, `fctfg/configs/` in an installed package."""

from pathlib import Path

from fctfg.errors import FctfgError

FOLDER = Path(__file__).parent / "configs"


def path(name: str) -> Path:
    """Returns the file of a shipped configuration.

    Args:
        name: name without ending, with its folder below `configs/` if any: `base`, `tiny`, `ablations/cosine`.

    Raises:
        FctfgError: no configuration has that name.
    """
    file = FOLDER / f"{name}.yaml"
    if not file.is_file():
        raise FctfgError(f"there is no configuration '{name}'; shipped are: {', '.join(names())}")
    return file


def names() -> list[str]:
    """Returns the names that `path` accepts, sorted."""
    return sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.glob("**/*.yaml"))
