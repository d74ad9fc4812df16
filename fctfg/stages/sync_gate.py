"""Stage 3 does not learn lips from a sync expert that cannot hear a shift."""

from __future__ import annotations

from fctfg.errors import FctfgError
from fctfg.weights.artifact import Artifact
from fctfg.weights.sync_measurement import read_measurement

SETTING = "networks.sync_accuracy"


def check_sync_expert(artifact: Artifact, reference: str, least: float) -> None:
    """Make sure that an expert was measured, and is good enough.

    Args:
        artifact: its weights.
        reference: what the user calls them.
        least: accuracy that is asked for; 0 asks for nothing.

    Raises:
        FctfgError: nobody has measured it, or it is worse.
    """
    if not least:
        return
    found = read_measurement(artifact)
    doctor = f"`fctfg doctor sync --expert {reference} --data DIR`"
    unless = f"{SETTING}=0 takes any expert"
    if found is None:
        raise FctfgError(
            f"{artifact.path}: nobody has measured how well this sync expert hears a shift of 5-15 frames (two-way "
            f"accuracy on held-out people; {least:g} is asked for); measure it with {doctor}; {unless}"
        )
    if found.accuracy < least:
        raise FctfgError(
            f"{artifact.path}: this sync expert tells its own sound from one shifted by {found.min_shift}-"
            f"{found.max_shift} frames in {found.accuracy:.3f} of {found.windows} windows of {found.people} held-out "
            f"people (chance {found.chance:g}), but {least:g} is asked for ({SETTING}): lips would learn noise; "
            f"{doctor} says why it is so and what to do; {unless}"
        )
