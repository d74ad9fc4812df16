"""One raw video to finished clips, and what became of it."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fctfg.data.ledger import Outcome, State
from fctfg.data.manifest import Clip
from fctfg.data.prepare.cut import cut
from fctfg.data.prepare.look import look
from fctfg.data.prepare.measure import Measure
from fctfg.data.prepare.plan import pieces_of, plan
from fctfg.data.prepare.rejected import Rejected
from fctfg.data.prepare.rows import blank_row, reject_row
from fctfg.data.prepare.settings import Settings
from fctfg.data.prepare.sources import Source
from fctfg.data.prepare.workers import Beat
from fctfg.data.scores.sync_choice import SyncChoice
from fctfg.errors import WriteError
from fctfg.faces.detector import FaceDetector
from fctfg.faces.track import Track
from fctfg.media import FPS


@dataclass(frozen=True)
class Build:
    """Makes what works on videos; travels to worker processes, which load the networks."""

    settings: Settings
    weights: Path
    root: Path
    sync_choice: SyncChoice | None = None

    def __call__(self) -> "SourceWork":
        detector, measure = self.settings.build_detector(self.weights), Measure(self.settings, self.sync_choice)
        return SourceWork(self.settings, detector, measure, self.root)


class SourceWork:
    """Works on one video after the other.

    Args:
        settings: how to cut.
        detector: finds the faces.
        measure: takes the scores.
        root: the data set.
    """

    def __init__(self, settings: Settings, detector: FaceDetector, measure: Measure, root: Path) -> None:
        self._settings, self._detector, self._measure, self._root = settings, detector, measure, root

    def __call__(self, source: Source, known: str, beat: Beat) -> Outcome:
        """Cut a video's clips; whatever is wrong with the video ends in its outcome.

        Args:
            source: the video.
            known: sha256 of the file that the ledger knows under this name; empty where it knows none. Of the same
                content nothing is done again.
            beat: called with every frame.

        Raises:
            WriteError: the data set cannot be written.
        """
        begun = time.monotonic()
        outcome = Outcome(source.name, "failed")
        try:
            if source.problem:
                raise Rejected("source", source.problem)
            size, modified = source.state()
            outcome = replace(outcome, size=size, modified=modified)
            outcome = replace(outcome, sha256=_hash(source.files, beat))
            same = outcome.sha256 == known
            outcome = replace(outcome, state="same") if same else self._work(source, outcome, beat)
        except Rejected as rejected:
            outcome = _without_clips(source, outcome, "rejected", rejected)
        except WriteError:
            raise
        except OSError as error:
            outcome = _without_clips(source, outcome, "failed", Rejected("read", f"unreadable: {error.strerror}"))
        except Exception as error:
            reason = f"error: {type(error).__name__}: {error}"
            outcome = _without_clips(source, outcome, "failed", Rejected("work", reason))
        return replace(outcome, seconds=round(time.monotonic() - begun, 3), time=time.time())

    def _work(self, source: Source, outcome: Outcome, beat: Beat) -> Outcome:
        seen = look(source, self._settings, self._detector, beat)
        outcome = replace(outcome, video_seconds=seen.frames / FPS)
        plans, rejects = [], []
        for piece in pieces_of(seen, self._detector.head, self._settings):
            row = self._row(source, outcome, piece)
            try:
                planned = plan(piece, seen, self._detector.head, self._settings)
                plans.append((replace(row, crop=planned.crop), planned))
            except Rejected as rejected:
                middle = seen.thumbnail(piece.start + len(piece.faces) // 2)
                rejects.append(reject_row(row, rejected.stage, rejected.reason, middle))
        clips = tuple(cut(source, plans, seen, self._settings, self._measure, self._root, beat))
        if clips:
            return replace(outcome, state="done", clips=tuple(sorted(clips)), rejects=tuple(rejects))
        first = rejects[0]
        return replace(
            outcome, state="rejected", stage=first["stage"], reason=first["reject_reason"], rejects=tuple(rejects)
        )

    def _row(self, source: Source, outcome: Outcome, piece: Track) -> Clip:
        return replace(
            blank_row(source),
            id=f"{source.id}-p{piece.slot + 1}-{piece.start:06d}",
            label=source.identity if source.labelled and piece.slot == 0 else "",
            source_sha256=outcome.sha256,
            person=piece.slot,
            start=piece.start / FPS,
            n_frames=len(piece.faces),
        )


def _without_clips(source: Source, outcome: Outcome, state: State, why: Rejected) -> Outcome:
    row = replace(blank_row(source), source_sha256=outcome.sha256)
    rejects = (reject_row(row, why.stage, why.reason, why.thumbnail),)
    return replace(outcome, state=state, stage=why.stage, reason=why.reason, rejects=rejects)


def _hash(files: Sequence[Path], beat: Callable[[], Any]) -> str:
    """sha256 of files one after the other; this also brings them into memory in sequential reads, for what follows."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
                beat()
    return digest.hexdigest()
