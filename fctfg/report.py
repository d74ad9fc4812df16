"""A report as one HTML file: text, figures, curves, pictures and videos, all inside it, readable on a phone."""

import base64
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from fctfg.atomic import atomic_path
from fctfg.chart import Series, line_chart, number_text
from fctfg.errors import FctfgError

# A metric with such an ending is what the one without it is to be compared with; both go into one chart.
REFERENCES = ("_chance", "_copy_source")

MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A paragraph that nobody should miss."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Large figures side by side: (value, label) each."""

    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table; every row is as long as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"each row of a table needs {len(self.header)} cells")


@dataclass(frozen=True)
class Timeline:
    """What was done, in order: (step, seconds) each, with bars."""

    steps: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Media:
    """A picture (png, jpg) or a video (mp4) that is embedded into the report, with a caption.

    Attributes:
        path: the file.
        caption: what it shows.
        wide: takes a row of its own in a gallery.
    """

    path: Path
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Gallery:
    """Pictures and videos beside each other where the screen is wide enough."""

    media: Sequence[Media]


@dataclass(frozen=True)
class Chart:
    """Series in one chart, as measured: (name, points) each, points are (x, y)."""

    title: str
    series: Sequence[tuple[str, Series]]


@dataclass(frozen=True)
class Curves:
    """A chart for each term of a run's `metrics.csv`; `train/sync` and `val/sync` share one, and so do references.

    Attributes:
        metrics: the file: columns iteration, name, value.
        leave_out: terms without a chart.
    """

    metrics: Path
    leave_out: Sequence[str] = ()


Block = Text | Notice | Facts | Table | Timeline | Media | Gallery | Chart | Curves


@dataclass(frozen=True)
class Section:
    """A chapter of the report."""

    title: str
    blocks: Sequence[Block]


def write_report(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Writes the report, which needs no other file and no network.

    Args:
        path: the HTML file.
        title: its title.
        lead: one or two sentences below the title.
        sections: its chapters, in order.

    Raises:
        FctfgError: a picture, a video or a metrics file is missing or damaged, or `path` cannot be written.
    """
    body = "\n".join(
        f"<section><h2>{escape(section.title)}</h2>\n{''.join(map(_html, section.blocks))}</section>"
        for section in sections
    )
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>\n<main>\n{body}\n</main>\n'
        "</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def read_metrics(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Reads a run's metrics.

    Args:
        path: `metrics.csv` in long form, columns iteration, name, value.

    Returns:
        For each name its (iteration, value) pairs, by iteration; a value may be NaN or infinite.

    Raises:
        FctfgError: the file is missing, or is not such a file.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                series.setdefault(row["name"], []).append((float(row["iteration"]), float(row["value"])))
    except OSError as error:
        raise FctfgError(f"cannot read {path}: {error.strerror}; the run has not logged anything there") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FctfgError(
            f"{path} is not a metrics file with the columns iteration, name, value; remove it and run again"
        ) from error
    return {name: sorted(points) for name, points in series.items()}


def duration_text(seconds: float) -> str:
    """Returns 0.4 s, 12 s, 3 min 05 s or 2 h 07 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _html(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{escape(text)}</p>\n"
        case Notice(text):
            return f'<p class="notice">{escape(text)}</p>\n'
        case Facts(facts):
            tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in facts)
            return f'<div class="facts">{tiles}</div>\n'
        case Table(header, rows, caption):
            head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
            body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            title = f"<caption>{escape(caption)}</caption>" if caption else ""
            return (
                f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'
            )
        case Timeline(steps):
            longest = max((seconds for _, seconds in steps), default=0.0) or 1.0
            rows = "".join(
                f"<li><span>{escape(step)}</span><time>{duration_text(seconds)}</time>"
                f'<i style="width:{100 * seconds / longest:.1f}%"></i></li>'
                for step, seconds in steps
            )
            return f'<ol class="timeline">{rows}</ol>\n'
        case Media():
            return _figure(block)
        case Gallery(media):
            return f'<div class="gallery">{"".join(map(_figure, media))}</div>\n'
        case Chart(title, series):
            legend = "".join(_legend(number, name) for number, (name, _) in enumerate(series))
            return (
                f'<figure class="curve"><h3>{escape(title)}{legend}</h3>{line_chart(series, smoothed=False)}</figure>\n'
            )
        case Curves(metrics, leave_out):
            return _curves(metrics, leave_out)


def _figure(media: Media) -> str:
    kind = MEDIA_TYPES.get(media.path.suffix.lower())
    if kind is None:
        raise FctfgError(f"{media.path} is neither a picture nor a video that a report can hold; use png, jpg or mp4")
    try:
        content = base64.b64encode(media.path.read_bytes()).decode("ascii")
    except OSError as error:
        raise FctfgError(f"cannot read {media.path} for the report: {error.strerror}; run again to make it") from error
    source = f'src="data:{kind};base64,{content}"'
    if kind.startswith("video/"):
        element = f'<video controls loop playsinline preload="auto" {source}></video>'
    else:
        element = f'<img alt="{escape(media.caption)}" {source}>'
    row = ' class="wide"' if media.wide else ""
    return f"<figure{row}>{element}<figcaption>{escape(media.caption)}</figcaption></figure>\n"


def _legend(number: int, text: str) -> str:
    return f'<span style="--line: var(--series-{number})">{escape(text)}</span>'


def _curves(metrics: Path, leave_out: Sequence[str]) -> str:
    """A chart for each term; a part (`train`, `val`) has the same color in all of them."""
    terms: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, points in read_metrics(metrics).items():
        part, _, term = name.partition("/")
        for ending in REFERENCES:
            if term.endswith(ending):
                part, term = ending.strip("_").replace("_", " "), term.removesuffix(ending)
        finite = [(iteration, value) for iteration, value in points if math.isfinite(value)]
        if term and term not in leave_out and finite:
            terms.setdefault(term, {})[part] = finite
    charts = []
    for term, parts in sorted(terms.items()):
        order = sorted(parts, key=lambda part: (part != "train", part != "val", part))
        last = {part: number_text(points[-1][1]) for part, points in parts.items()}
        legend = "".join(_legend(number, f"{part} {last[part]}") for number, part in enumerate(order))
        chart = line_chart([(part, parts[part]) for part in order])
        charts.append(f'<figure class="curve"><h3>{escape(term)}{legend}</h3>{chart}</figure>')
    if not charts:
        raise FctfgError(f"{metrics} holds no finite value of any term; the run has not logged anything yet")
    return f'<div class="curves">{"".join(charts)}</div>\n'


STYLE = """
:root { color-scheme: light dark; --page: #f7f7f5; --card: #ffffff; --ink: #1d1f23; --quiet: #646973; --rule: #e2e2de;
  --accent: #2f6f8f; --warn: #fff3d6; --warn-ink: #5b4300;
  --series-0: #2f6f8f; --series-1: #d2691e; --series-2: #5f8f3f; --series-3: #8a5fa8; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --card: #1e2125; --ink: #e9e9e6; --quiet: #9aa0aa;
  --rule: #33373d; --accent: #6fb3d2; --warn: #3a2f12; --warn-ink: #f3dfa8;
  --series-0: #6fb3d2; --series-1: #f0975a; --series-2: #9cc77a; --series-3: #c3a0dd; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
header, main { max-width: 62rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 2.5rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; margin: 0 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 0 0 .8rem; }
h3 { font-size: .9rem; margin: 0 0 .3rem; display: flex; flex-wrap: wrap; gap: .2rem .9rem; align-items: baseline; }
h3 span { font-weight: 400; color: var(--quiet); font-size: .8rem; }
h3 span::before { content: ""; display: inline-block; width: .8em; height: .2em; margin-right: .35em;
  vertical-align: middle; background: var(--line); }
p { margin: 0 0 .9rem; max-width: 46rem; }
.lead { color: var(--quiet); font-size: 1.08rem; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 1.2rem;
  margin: 1.2rem 0; }
.notice { background: var(--warn); color: var(--warn-ink); border-radius: 8px; padding: .8rem 1rem; max-width: none; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; margin: 0 0 1rem; }
.facts div { border: 1px solid var(--rule); border-radius: 8px; padding: .7rem .9rem; }
.facts b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.facts span { color: var(--quiet); font-size: .85rem; }
.wide { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; min-width: 60%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); font-size: .9rem; padding-bottom: .4rem; }
th, td { padding: .35rem .9rem .35rem 0; text-align: right; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; font-size: .85rem; color: var(--quiet); }
th:first-child, td:first-child { text-align: left; }
.timeline { list-style: none; margin: 0 0 1rem; padding: 0; }
.timeline li { display: grid; grid-template-columns: 1fr auto; gap: .1rem 1rem; padding: .3rem 0; }
.timeline time { color: var(--quiet); font-variant-numeric: tabular-nums; }
.timeline i { grid-column: 1 / -1; height: 6px; min-width: 2px; border-radius: 3px; background: var(--accent); }
figure { margin: 0 0 1rem; }
figure img, figure video { display: block; width: 100%; height: auto; border-radius: 8px; background: #000; }
figcaption { color: var(--quiet); font-size: .88rem; margin-top: .35rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: 1rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .4rem 1.4rem; }
.curve { max-width: 34rem; }
figure.wide { grid-column: 1 / -1; }
.chart { display: block; width: 100%; height: auto; }
.chart text { font: 10px system-ui, sans-serif; fill: var(--quiet); }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart polyline { fill: none; stroke: var(--line); stroke-linejoin: round; }
.chart .line { stroke-width: 1.8; }
.chart .raw { stroke-width: .8; opacity: .3; }
.chart .dot { fill: var(--line); }
"""
