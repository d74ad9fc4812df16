"""The report holds everything it shows, and its charts show what the metrics say."""

import base64
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fctfg.chart import line_chart, number_text, smooth, thinned, ticks
from fctfg.errors import FctfgError
from fctfg.report import (
    Curves,
    Facts,
    Gallery,
    Notice,
    Section,
    Table,
    Text,
    Timeline,
    duration_text,
    read_metrics,
    write_report,
)
from fctfg.report_media import Media

VOID = {"meta", "img", "br", "hr", "link", "input"}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order, and collects what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def metrics_file(folder: Path, rows: list[tuple[int, str, float]]) -> Path:
    file = folder / "metrics.csv"
    file.write_text("iteration,name,value\n" + "".join(f"{i},{name},{value}\n" for i, name, value in rows))
    return file


def polylines(svg: str) -> list[list[tuple[float, float]]]:
    found = ElementTree.fromstring(svg).iter("polyline")
    return [[(float(p.split(",")[0]), float(p.split(",")[1])) for p in line.attrib["points"].split()] for line in found]


def test_report_is_one_well_formed_file(tmp_path: Path) -> None:
    picture, video = tmp_path / "grid.png", tmp_path / "result.mp4"
    picture.write_bytes(PIXEL)
    video.write_bytes(b"not decoded here")
    metrics = metrics_file(tmp_path, [(i, f"{part}/sync", 1 / (1 + i)) for i in range(60) for part in ("train", "val")])
    blocks = [
        Text("1 < 2 & <b>not bold</b>"),
        Notice("Rendered faces."),
        Facts([("31.2 dB", "PSNR")]),
        Table(("name", "value"), [("PSNR", "31.2")], caption="Figures"),
        Timeline([("prepare", 3.0), ("train", 90.0)]),
        Gallery([Media(picture, "grid"), Media(video, "result")]),
        Curves(metrics),
    ]
    report = tmp_path / "report.html"
    write_report(report, "A <title>", "What was done.", [Section("All", blocks)])
    page = report.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    assert "script" not in parser.tags and "link" not in parser.tags
    assert len(parser.sources) == 2 and all(source.startswith("data:") for source in parser.sources)
    assert base64.b64decode(parser.sources[0].split(",")[1]) == PIXEL
    assert "<b>not bold</b>" not in page and "1 &lt; 2 &amp; &lt;b&gt;not bold" in page
    assert not re.search(r"(https?:)?//", page)
    assert "1 min 30 s" in page


def test_parts_and_references_of_a_term_share_a_chart(tmp_path: Path) -> None:
    names = ("train/psnr", "val/psnr", "val/psnr_copy_source", "val/accuracy", "val/accuracy_chance", "step")
    metrics = metrics_file(
        tmp_path, [(i, name, float(i)) for i in range(3) for name in names] + [(3, names[0], math.inf)]
    )
    write_report(tmp_path / "report.html", "t", "l", [Section("s", [Curves(metrics)])])
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r"<h3>(\w+)", page) == ["accuracy", "psnr"]
    assert page.count("copy source 2<") == page.count("chance 2<") == 1 and "train 2<" in page


def test_chart_shows_the_values() -> None:
    points = [(float(i), float(i)) for i in range(10)]
    [line] = polylines(line_chart([("train", points)]))
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    steps = [b[1] - a[1] for a, b in pairwise(line)]
    assert all(step == pytest.approx(steps[0], abs=0.11) and step < 0 for step in steps)  # SVG's y points downwards


def test_chart_survives_outliers_constants_single_and_bad_values() -> None:
    noisy = [(float(i), 1.0 + 0.1 * math.sin(i)) for i in range(200)]
    noisy[50] = (50.0, 1e9)
    noisy[51] = (51.0, math.nan)
    texts = [t.text or "" for t in ElementTree.fromstring(line_chart([("train", noisy)])).iter("text")]
    assert len(texts) >= 5
    for points in ([(0.0, 3.0)], [(0.0, 0.0), (1.0, 0.0)], [(5.0, -1.0), (9.0, -1.0)]):
        assert all(math.isfinite(v) for line in polylines(line_chart([("val", points)])) for pair in line for v in pair)
    with pytest.raises(ValueError, match="finite"):
        line_chart([("train", [(0.0, math.nan)])])


def test_smoothing_keeps_a_constant_and_thinning_the_end() -> None:
    constant = [(float(i), 2.5) for i in range(1000)]
    assert all(y == pytest.approx(2.5) for _, y in smooth(constant))
    assert thinned(constant)[-1] == constant[-1] and len(thinned(constant)) <= 301
    assert thinned([(0.0, 1.0)]) == [(0.0, 1.0)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0.0, 0.5, 1.0]), (0.0, 400.0, [0.0, 100.0, 200.0, 300.0, 400.0]), (-3.0, 3.0, [-2.0, 0.0, 2.0])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 4) == pytest.approx(expected)


def test_texts_of_numbers_and_durations() -> None:
    assert [number_text(v) for v in (0.0, 0.05, -12.0, 3000.0, 1.5e6)] == ["0", "0.05", "-12", "3k", "1.5M"]
    assert [duration_text(s) for s in (0.42, 9.97, 59.6, 185, 7620)] == [
        "0.4 s",
        "10 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 07 min",
    ]


def test_metrics_are_read_by_name(tmp_path: Path) -> None:
    file = metrics_file(tmp_path, [(2, "train/sync", 0.5), (1, "train/sync", math.inf), (1, "val/sync", 0.7)])
    assert read_metrics(file) == {"train/sync": [(1.0, math.inf), (2.0, 0.5)], "val/sync": [(1.0, 0.7)]}


@pytest.mark.parametrize("content", ["", "step,loss\n1,2\n", "iteration,name,value\n1,train/sync\n", "\x00PNG"])
def test_a_foreign_metrics_file_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text(content)
    with pytest.raises(FctfgError, match=r"metrics\.csv"):
        write_report(tmp_path / "report.html", "t", "l", [Section("s", [Curves(file)])])
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    for name in ("lost.png", "notes.txt"):
        with pytest.raises(FctfgError, match=name):
            write_report(tmp_path / "report.html", "t", "l", [Section("s", [Media(tmp_path / name, "c")])])
    with pytest.raises(ValueError, match="2 cells"):
        Table(("a", "b"), [("1",)])
