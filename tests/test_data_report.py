"""The page about a data set counts every clip, shows the right pictures, and holds everything it shows."""

from __future__ import annotations

import base64
import io
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from clip_sets import store
from PIL import Image

from fctfg.cli import main
from fctfg.data.clip_file import encode_frame
from fctfg.data.manifest import SCHEMA, Clip, read_manifest, write_table
from fctfg.data.pack import pack
from fctfg.data.query import Query
from fctfg.data.scores.table import SCORES
from fctfg.data.shards import ClipReader
from fctfg.data.views import save_view
from fctfg.histogram import count_bins, histogram_chart
from fctfg.strip import GAP, strip_frames

SIZE, LENGTH = 48, 64
VOID = {"meta", "img", "br", "line", "rect"}
EVIL = '<script>alert("1")</script>'
REASONS = (("read", "unreadable: " + EVIL), ("faces", "no face: none in 90 frames"), ("track", "too short: 30 frames"))


class Page(HTMLParser):
    """Fails on tags closed out of order; collects tags, references, pictures by their alternative texts, and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.pictures: dict[str, bytes] = {}
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "poster", "srcset", "data")]
        if tag == "img":
            self.pictures[known["alt"] or ""] = base64.b64decode((known["src"] or "").split(",")[1])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def pixels(content: bytes) -> np.ndarray:
    """A JPEG's pixels, uint8 [H, W, 3]."""
    image = Image.open(io.BytesIO(content))
    assert image.format == "JPEG"
    return np.asarray(image)


def clip_frames(number: int) -> np.ndarray:
    """Frames of one colour each, which tells the clip and the frame."""
    frames = np.zeros((LENGTH, SIZE, SIZE, 3), np.uint8)
    frames[..., 0], frames[..., 1] = 30 * number, (3 * np.arange(LENGTH))[:, None, None]
    return frames


def thumbnail(number: int) -> bytes:
    return encode_frame(np.full((24, 24, 3), 50 + 50 * number, np.uint8), "jpeg")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of four people, one of whom has a name that is no HTML, and one rejected clip of each reason."""
    root = tmp_path_factory.mktemp("report") / "clips"
    names = ["a", "b", "c & <b>d</b>", EVIL]
    splits = ["train", "train", "val", "test"]
    kept = []
    for number in range(8):
        scores = {"offset": float(number - 3), "sharpness": 100.0 * number, "crop_px": 100.0, "face_px": 60.0}
        clip = Clip(
            f"clip{number}",
            names[number // 2],
            splits[number // 2],
            source=f"{EVIL}/{number}.mp4",
            licence="CC0-1.0" if number < 6 else EVIL,
            scores=scores,
        )
        kept.append(store(root, clip, clip_frames(number), np.zeros(LENGTH * 640, np.float32)))
    lost = [
        Clip(f"lost{i}", "", "train", source=f"{EVIL}{i}.mp4", stage=stage, reject_reason=reason).row()
        | {"thumbnail": thumbnail(i) if i else None}
        for i, (stage, reason) in enumerate(REASONS)
    ]
    pack(root, kept, iter(lost), {"size": SIZE, "form": "jpeg"}, lambda table: table)
    save_view(root, "sharp", Query("sharpness >= 600"))
    return root


@pytest.fixture(scope="module")
def page(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["data", "report", str(clips), "--out", str(out)]) == 0
    return Page(out)


def test_page_is_self_contained_and_escapes_what_others_named(page: Page) -> None:
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.references and all(reference.startswith("data:image/") for reference in page.references)
    assert EVIL in page.text and "c & <b>d</b>" in page.text  # as words, which the parser has read back


def test_page_has_every_score_and_reason(page: Page) -> None:
    for name, score in SCORES.items():
        assert name in page.text and score.meaning in page.text
    for stage, reason in REASONS:
        assert reason in page.text and f"{reason.partition(':')[0]} ({stage})" in page.text
    assert "8clips" in page.text and "3clips and videos rejected" in page.text
    assert "CC0-1.0" in page.text and "not said" in page.text  # of the consent


def test_limits_and_views_are_counted(clips: Path, page: Page, tmp_path: Path) -> None:
    # offsets are -3 to 4
    assert "less than -1 frames: 2 clips (25.0 %)" in page.text and "more than 1 frames: 3 clips (37.5 %)" in page.text
    assert "3clips in the view “recommended”" in page.text
    out = tmp_path / "sharp.html"
    assert main(["data", "report", str(clips), "--out", str(out), "--view", "sharp", "--clips", "0"]) == 0
    assert "2clips in the view “sharp”" in Page(out).text


def test_strips_show_the_clips(clips: Path, page: Page) -> None:
    manifest = read_manifest(clips)
    reader = ClipReader(manifest)
    for clip in manifest.kept():
        strip = pixels(page.pictures[f"Five frames of {clip.id}"]).astype(int)
        assert strip.shape == (SIZE, 5 * SIZE + 4 * GAP, 3)
        whole = reader.whole(clip)
        for place, number in enumerate(strip_frames(clip.n_frames)):
            shown = strip[:, place * (SIZE + GAP) :][:, 4 : SIZE - 4]
            assert np.abs(shown - whole[number][:, 4 : SIZE - 4]).mean() < 3  # 5 x 3 levels lie between frames


def test_thumbnails_are_those_of_the_rejected_clips(page: Page) -> None:
    assert "Rejected: lost0" not in page.pictures and "no picture" in page.text
    for number in (1, 2):
        assert page.pictures[f"Rejected: lost{number}"] == thumbnail(number)
        assert np.abs(pixels(thumbnail(number)).astype(int) - (50 + 50 * number)).max() <= 2


def test_the_ends_of_a_score_are_in_order(page: Page) -> None:
    part = page.text[page.text.index("sharpness: median") :]
    part = part[: part.index("face_px: median")]
    assert re.findall(r"(worst|best), (\d+): clip(\d)", part) == [
        *(("worst", f"{100 * k}", f"{k}") for k in range(4)),
        *(("best", f"{100 * k}", f"{k}") for k in (7, 6, 5, 4)),
    ]


def table_of_rows(count: int) -> pa.Table:
    """Rows without media: every tenth is rejected, the scores are random and partly unknown."""
    draw = np.random.default_rng(0)
    columns: dict[str, pa.Array] = {}
    texts = {
        "id": [f"clip{i:07d}" for i in range(count)],
        "identity": [f"person{i % 5000}" for i in range(count)],
        "split": ["train"] * count,
        "reject_reason": [None if i % 10 else f"silence: {i} dB" for i in range(count)],
        "stage": ["" if i % 10 else "sound" for i in range(count)],
    }
    for field in SCHEMA:
        if field.name in texts:
            columns[field.name] = pa.array(texts[field.name], field.type)
        elif field.name in SCORES:
            values = draw.normal(size=count).astype(np.float32)
            values[draw.random(count) < 0.1] = np.nan
            columns[field.name] = pa.array(values, field.type)
        elif field.type == pa.string():
            columns[field.name] = pa.array([""] * count, field.type)
        elif field.name in ("crop", "embedding", "prints", "thumbnail"):
            empty = None if field.name == "thumbnail" else [0] * 4 if field.name == "crop" else []
            columns[field.name] = pa.array([empty] * count, field.type)
        else:
            columns[field.name] = pa.array(np.full(count, 75), field.type)
    return pa.table(columns, schema=SCHEMA)


def test_a_hundred_thousand_rows_are_counted_in_seconds(tmp_path: Path) -> None:
    write_table(tmp_path, table_of_rows(100_000), {"size": SIZE, "form": "jpeg", "shards": {}})
    begun = time.monotonic()
    assert main(["data", "report", str(tmp_path)]) == 0
    assert time.monotonic() - begun < 20
    text = (tmp_path / "report.html").read_text()
    assert len(text) < 3e6
    counted = {}
    for name, body in re.findall(r"<h3>(\w+) (.*?)</figure>", text):
        inside = sum(int(n) for n in re.findall(r"<title>[^<]*: (\d+), of them", body))
        rest = sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:below|above)", body))
        unknown = sum(int(n.replace(",", "")) for n in re.findall(r"not known: ([\d,]+)", body))
        counted[name] = inside + rest + unknown
    assert {name: counted[name] for name in SCORES} == dict.fromkeys(SCORES, 90_000)
    assert "10,000" in text  # rejected


def test_bins_count_everything_and_outliers_stay_outside() -> None:
    draw = np.random.default_rng(1)
    values = np.concatenate([draw.normal(size=1000), [1e9, -1e9, np.inf, np.nan, np.nan]])
    chosen = values > 0
    bins = count_bins(values, chosen, (0.5,))
    assert bins.counts.sum() + bins.below + bins.above + bins.unknown == len(values)
    assert bins.unknown == 2 and abs(bins.edges).max() < 4 and bins.above >= 2 and bins.below >= 1
    inside = np.digitize(values, bins.edges) - 1
    for place, (count, among) in enumerate(zip(bins.counts[:-1], bins.chosen[:-1], strict=True)):
        assert count == (inside == place).sum() and among == (chosen & (inside == place)).sum()


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf], [3.0], [0.1] * 9, [-1.0, 0.0, 1.0, 1.0]])
def test_bins_of_few_values(values: list[float]) -> None:
    bins = count_bins(np.array(values))
    assert bins.counts.sum() + bins.below + bins.above + bins.unknown == len(values)
    chart = histogram_chart("few", bins)
    assert ("<svg" in chart) == bool(np.isfinite(values).any())


def test_limits_are_within_the_picture_unless_far_away() -> None:
    values = np.linspace(10, 11.5, 100)
    assert histogram_chart("x", count_bins(values, limits=(9.0,)), (9.0,)).count('class="limit"') == 1
    still = count_bins(np.zeros(50), limits=(0.02,))  # whole numbers, but the limit lies between two
    assert still.edges[0] == 0 and still.edges[-1] == 0.02 and still.counts[0] == 50
    far = count_bins(values, limits=(-100.0,))
    assert far.edges[0] == 10 and 'class="limit"' not in histogram_chart("x", far, (-100.0,))


def test_a_set_without_kept_or_without_any_clip(tmp_path: Path) -> None:
    for name, table in (("rejected", table_of_rows(1)), ("empty", SCHEMA.empty_table())):
        write_table(tmp_path / name, table, {"size": SIZE, "form": "jpeg", "shards": {}})
        assert main(["data", "report", str(tmp_path / name)]) == 0
        assert "No clip was kept" in Page(tmp_path / name / "report.html").text


def test_errors_and_output(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "report", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is not a clip data set" in capsys.readouterr().err
    assert main(["data", "report", str(clips), "--view", "lost"]) == 1
    assert "has no view 'lost'" in capsys.readouterr().err
    assert main(["data", "report", str(clips), "--clips", "-1"]) == 2
    assert not (clips / "report.html").exists()
    capsys.readouterr()
    assert main(["data", "report", str(clips), "--clips", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(clips / "report.html")
    first = (clips / "report.html").read_bytes()
    assert main(["data", "report", str(clips), "--clips", "1"]) == 0
    assert (clips / "report.html").read_bytes() == first
