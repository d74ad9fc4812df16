"""`fctfg data`: status, query, film and remove, through the command line."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from clip_sets import store, write_set

from fctfg.cli import main
from fctfg.data.claims import Claims
from fctfg.data.dataset import TalkingClips
from fctfg.data.ledger import FOLDER, Journal, Ledger, Outcome
from fctfg.data.manifest import Clip, read_manifest, table_of
from fctfg.data.pack import loose_path
from fctfg.data.query import Query
from fctfg.data.remove import read_removed
from fctfg.data.scores.table import SCORES
from fctfg.data.shards import ClipReader
from fctfg.data.status import note_pending, read_status
from fctfg.data.views import read_view, recommended_query
from fctfg.errors import UsageError
from fctfg.media import probe, read_audio, read_frames

SIZE, LENGTH = 16, 30


def frames(number: int) -> np.ndarray:
    return np.full((LENGTH, SIZE, SIZE, 3), 20 * number, np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six clips of three people in two shards, with scores; the ledger knows them and what was rejected."""
    root = tmp_path / "set"
    kept = []
    for number in range(6):
        scores = {"confidence": float(number), "offset": float(number % 3 - 1), "face_px": 100.0 + 40 * number}
        if number == 5:
            scores["confidence"] = math.nan
        clip = Clip(f"c{number}", f"p{number // 2}", "train" if number < 4 else "val", scores=scores)
        kept.append(store(root, clip, frames(number), np.zeros(LENGTH * 640, np.float32)))
    journal = Journal(root / FOLDER, "one")
    for number in range(3):
        clips = tuple(kept[2 * number : 2 * number + 2])
        journal.append(
            Outcome(f"v{number}.mp4", "done", time=1.0 + number, seconds=2.0, video_seconds=3.0, clips=clips)
        )
    lost = Clip("bad", "p1", "train", source="bad.mp4", stage="faces", reject_reason="no face: none found")
    row = {k: v for k, v in lost.row().items() if v == v}
    rejects = ({**row, "thumbnail": ""},)
    journal.append(Outcome("bad.mp4", "rejected", "faces", "no face: none found", time=5.0, rejects=rejects))
    return write_set(root, kept, SIZE, rejects=[row], shard_bytes=2 * kept[0].bytes + 1)


def test_status(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note_pending(data, found=7, pending=3, entries=4)
    assert main(["data", "status", str(data)]) == 0
    shown = {
        a: b for a, b in (line.strip("│ ").split("│") for line in capsys.readouterr().out.splitlines() if "│" in line)
    }
    shown = {name.strip(): value.strip() for name, value in shown.items()}
    wanted = {"videos": "7", "done": "3", "rejected": "1", "failed": "0", "pending": "3", "clips kept": "6"}
    assert wanted.items() <= shown.items()
    assert shown["faces: no face"] == "1"
    assert main(["data", "status", str(data), "--failed"]) == 0
    assert "bad.mp4: faces: no face: none found" in capsys.readouterr().out
    Journal(data / FOLDER, "two").append(Outcome("v0.mp4", "failed", "work", "error: none", time=9.0))
    status = read_status(data)  # a video that was done, and was changed since
    assert (status.found, status.states["failed"], status.states["pending"]) == (7, 1, 2)
    assert main(["data", "status", str(data / "views")]) == 1
    assert "no data set" in capsys.readouterr().err


def test_status_tells_who_is_alive_by_the_file_servers_time(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: ahead)
    with Claims(data / FOLDER / "claims"):
        assert read_status(data).processes == 1
    assert read_status(data).processes == 0


def chosen(data: Path, text: str) -> list[str]:
    table = read_manifest(data).kept().table
    return table.filter(pa.array(Query(text).mask(table)))["id"].to_pylist()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("confidence > 3", "4"),
        ("not confidence > 3", "0123"),
        ("unknown(confidence)", "5"),
        ("confidence != 2", "0134"),
        ("confidence > 1 and abs(offset) <= 0 and face_px >= 180", "4"),
        ("0 < confidence <= 2 or face_px == 300", "125"),
        ("identity in ('p0', 'p2') and split == 'train'", "01"),
        ("identity not in ('p0',)", "2345"),
        ("min(confidence, 2) + 1 > 2", "234"),
        ("max(face_px - 100, 0) / 40 == confidence", "01234"),
        ("face_px / 0 > 1", ""),
        ("n_frames == 30", "012345"),
        ("-offset == 1", "03"),
        ("repeats == '' and licence == ''", "012345"),
        ("licence != ''", ""),
        ("identity != 'p1'", "0145"),
        ("identity != '' and split == 'val'", "45"),
    ],
)
def test_query(data: Path, text: str, wanted: str) -> None:
    assert chosen(data, text) == [f"c{number}" for number in wanted]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("confidance > 3", "did you mean 'confidence'?"),
        ("confidence >", "an example"),
        ("confidence + 1", "yes-or-no"),
        ("identity > 3", "a text is compared with a number"),
        ("__import__('os')", "not allowed"),
        ("confidence.real > 1", "not allowed"),
        ("[x for x in (1, 2)]", "not allowed"),
        ("(lambda: 1)() == 1", "not allowed"),
        ("confidence is 3", "only < <="),
        ("embedding == 3", "there is no 'embedding'"),
        ("", "an example"),
    ],
)
def test_query_that_cannot_be_understood(data: Path, capsys: pytest.CaptureFixture[str], text: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        Query(text).mask(read_manifest(data).table)
    assert words in str(error.value)
    assert main(["data", "query", str(data), text]) == 2
    assert "cannot understand" in capsys.readouterr().err


def test_view_is_kept_and_taken_by_training(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "query", str(data), "confidence >= 2", "--save", "sure"]) == 0
    shown = capsys.readouterr().out
    assert "all" in shown and "--data.view sure" in shown
    assert read_view(data, "sure").text == "confidence >= 2"
    view = TalkingClips(data, "train", view="sure")
    assert [view.clip(i).id for i in range(len(view))] == ["c2", "c3"]
    assert view.identities == ["p1"]
    assert main(["data", "query", str(data), "confidence >= 2", "--save", "../sure"]) == 2
    for name, words in (("nosuch", "there are sure"), ("sure", "damaged")):
        (data / "views" / "sure.json").write_text("{" if name == "sure" else (data / "views" / "sure.json").read_text())
        with pytest.raises(Exception, match=words):
            TalkingClips(data, "train", view=name)


def test_recommended_query_reads_unknown_scores_as_good() -> None:
    query = Query(recommended_query(256))
    rows = [Clip("a", "p", "train", scores={"crop_px": 200}), Clip("b", "p", "train", scores={"crop_px": 100})]
    bad = Clip("c", "p", "train", scores={"crop_px": 200, "offset": 3})
    assert query.mask(table_of(clip.row() for clip in [*rows, bad])).tolist() == [True, False, False]


def test_columns_are_listed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "query", str(data), "--columns"]) == 0
    shown = capsys.readouterr().out
    assert "confidence" in shown and "LUFS" in shown and "licence" in shown


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_film(data: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"clip{suffix}"
    assert main(["data", "film", str(data), "c3", "--out", str(out)]) == 0
    info = probe(out)
    assert (info.fps, info.has_audio) == (25.0, True)
    assert np.stack(list(read_frames(out))).shape == (LENGTH, SIZE, SIZE, 3)
    assert len(read_audio(out)) == pytest.approx(LENGTH * 640, abs=640)
    assert main(["data", "film", str(data), "nobody", "--out", str(out)]) == 1
    assert main(["data", "film", str(data), "c3", "--out", str(tmp_path / "clip.gif")]) == 2


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_remove_takes_a_person_out_of_the_shards(data: Path) -> None:
    kept, reader = read_manifest(data).kept(), ClipReader(read_manifest(data))
    before, films = {c.id: reader.whole(c) for c in kept}, {c.id: bytes(reader.film(c)) for c in kept}
    assert len(list((data / "shards").iterdir())) == 2
    assert main(["data", "remove", str(data), "--identity", "p1", "--reason", "asked us to"]) == 0
    manifest = read_manifest(data)
    assert manifest.column("id") == ["c0", "c1", "c4", "c5"]
    for clip in manifest.kept():
        np.testing.assert_array_equal(ClipReader(manifest).whole(clip), before[clip.id])
    left = everything(data / "shards")
    for name in ("c2", "c3"):
        assert films[name][-2000:] not in left and f"{name}.mov".encode() not in left
    assert b'"bad"' not in everything(data / FOLDER)  # a thumbnail of theirs may be with it
    record = json.loads((data / "removed.jsonl").read_text())
    assert (record["identity"], record["clips"], record["reason"]) == ("p1", ["bad", "c2", "c3"], "asked us to")
    assert read_removed(data).people == {"p1"}
    assert set(Ledger(data / FOLDER).outcomes) == {"v0.mp4", "v1.mp4", "v2.mp4", "bad.mp4"}
    assert main(["data", "remove", str(data), "--identity", "nobody"]) == 1
    assert main(["data", "remove", str(data / "typo"), "--identity", "p1"]) == 1
    assert not (data / "typo").exists()


def test_remove_leaves_what_is_not_packed_yet(data: Path) -> None:
    clip = store(data, Clip("new", "p0", "train"), frames(1), np.zeros(LENGTH * 640, np.float32))
    Journal(data / FOLDER, "two").append(Outcome("new.mp4", "done", time=9.0, clips=(clip,)))
    assert main(["data", "remove", str(data), "--identity", "p1"]) == 0
    assert loose_path(data, "new").is_file()
    assert main(["data", "remove", str(data), "--identity", "p1"]) == 0  # finishes what might have been broken off
    assert loose_path(data, "new").is_file()


def test_remove_waits_for_those_who_prepare(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Claims(data / FOLDER / "claims"):
        assert main(["data", "remove", str(data), "--identity", "p1"]) == 1
    assert "being prepared" in capsys.readouterr().err
    assert len(read_manifest(data).kept()) == 6


def test_docs_name_every_score_with_its_limits() -> None:
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    for name, score in SCORES.items():
        limits = [f"≥ {score.least:g}"] if score.least is not None else []
        limits += [f"≤ {score.most:g}"] if score.most is not None else []
        assert f"| `{name}` | {score.unit} | {score.meaning} | {' and '.join(limits)} |" in text
