"""Train and run fully controllable talking faces (FC-TFG)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fctfg.inference import TalkingFace as TalkingFace

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`fctfg.TalkingFace` and `fctfg.weights`, loaded when first asked for, so that `import fctfg` stays fast."""
    if name == "TalkingFace":
        from fctfg.inference import TalkingFace

        return TalkingFace
    if name == "weights":
        return importlib.import_module("fctfg.weights")
    raise AttributeError(f"module 'fctfg' has no attribute {name!r}")
