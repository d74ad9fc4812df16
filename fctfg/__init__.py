"""Train and run fully controllable talking faces (FC-TFG)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fctfg.inference import TalkingFace as TalkingFace

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`fctfg.TalkingFace`, loaded when it is first asked for, so that `import fctfg` stays fast."""
    if name == "TalkingFace":
        from fctfg.inference import TalkingFace

        return TalkingFace
    raise AttributeError(f"module 'fctfg' has no attribute {name!r}")
