"""Rows of the manifest before it exists: what is known of a video, and of what it could not give."""

from base64 import b64encode
from dataclasses import replace
from typing import Any

from fctfg.data.manifest import Clip
from fctfg.data.prepare.sources import Source


def blank_row(source: Source) -> Clip:
    """The row of a video of which nothing is known yet but its name and its rights."""
    return Clip(
        id=source.id,
        identity="",
        split=source.split or "train",
        label=source.identity if source.labelled else "",
        given_split=source.split or "",
        source=source.name,
        licence=source.rights.licence,
        licence_sha256=source.licence_sha256,
        consent=source.rights.consent,
        provenance=source.rights.provenance,
    )


def reject_row(row: Clip, stage: str, reason: str, thumbnail: bytes = b"") -> dict[str, Any]:
    """A row of what is not used, of JSON's types.

    Args:
        row: what is known.
        stage, reason: see `fctfg.data.prepare.rejected.Rejected`.
        thumbnail: a small JPEG to look at; may be empty.
    """
    rejected = {k: v for k, v in replace(row, stage=stage, reject_reason=reason).row().items() if v == v}  # no NaN
    return rejected | {"thumbnail": b64encode(thumbnail).decode()}
