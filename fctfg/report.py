"""A report as one HTML file: text, figures, curves, pictures and videos, all inside it, readable on a phone."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from fctfg.atomic import atomic_path
from fctfg.chart import Series, line_chart, number_text
from fctfg.errors import FctfgError
from fctfg.histogram import Bins, histogram_chart
from fctfg.report_media import Media, Picture, figure
from fctfg.report_style import STYLE

# A metric with such an ending is what the one without it is to be compared with; both go into one chart.
REFERENCES = ("_chance", "_copy_source")


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
    """A table; every row is as long as the header.

    Attributes:
        header: names of the columns.
        rows: cells; the first column is of words, the others are of numbers.
        caption: above it.
        words: names of other columns of words.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: Sequence[str] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"each row of a table needs {len(self.header)} cells")


@dataclass(frozen=True)
class Timeline:
    """What was done, in order: (step, seconds) each, with bars."""

    steps: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Gallery:
    """Pictures and videos beside each other where the screen is wide enough.

    Attributes:
        media: in order.
        column: least width of a column in rem; None stretches what there is over the whole width.
    """

    media: Sequence[Media | Picture]
    column: float | None = None


@dataclass(frozen=True)
class Heading:
    """A title within a section."""

    text: str


@dataclass(frozen=True)
class Bars:
    """Bars of lengths that can be compared: (name, value, what is written beside it) each; values are not negative."""

    bars: Sequence[tuple[str, float, str]]


@dataclass(frozen=True)
class Histogram:
    """How values are spread.

    Attributes:
        title: of what.
        unit: of the values; may be empty.
        meaning: in one line.
        bins: the counts.
        limits: values that are drawn as lines.
        notes: lines below.
    """

    title: str
    unit: str
    meaning: str
    bins: Bins
    limits: Sequence[float] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Histograms:
    """Histograms beside each other, with a key that names what is drawn.

    Attributes:
        histograms: in order.
        all_name, chosen_name, limit_name: what the pale bars, the firm ones and the lines are; empty ones are not
            named.
    """

    histograms: Sequence[Histogram]
    all_name: str = ""
    chosen_name: str = ""
    limit_name: str = ""


@dataclass(frozen=True)
class Chart:
    """Series in one chart, as measured: (name, points) each, points are (x, y)."""

    title: str
    series: Sequence[tuple[str, Series]]


@dataclass(frozen=True)
class Drawing:
    """A drawing of the report's own, such as `fctfg.scatter` makes.

    Attributes:
        title: of what.
        svg: an `<svg>` element.
    """

    title: str
    svg: str


@dataclass(frozen=True)
class Drawings:
    """Drawings beside each other."""

    drawings: Sequence[Drawing]


@dataclass(frozen=True)
class Curves:
    """A chart for each term of a run's `metrics.csv`; `train/sync` and `val/sync` share one, and so do references.

    Attributes:
        metrics: the file: columns iteration, name, value.
        leave_out: terms without a chart, or parts such as `speed`.
    """

    metrics: Path
    leave_out: Sequence[str] = ()


Block = (
    Text
    | Notice
    | Heading
    | Facts
    | Table
    | Timeline
    | Bars
    | Media
    | Picture
    | Gallery
    | Chart
    | Curves
    | Histograms
    | Drawings
)


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
        case Table(header, rows, caption, words):
            kinds = [' class="words"' if name in words else "" for name in header]
            head = "".join(f"<th{kind}>{escape(cell)}</th>" for cell, kind in zip(header, kinds, strict=True))
            lines = (zip(row, kinds, strict=True) for row in rows)
            cells = ("".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in line) for line in lines)
            body = "".join(f"<tr>{line}</tr>" for line in cells)
            title = f"<caption>{escape(caption)}</caption>" if caption else ""
            return (
                f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'
            )
        case Timeline(steps):
            return _bars("timeline", [(step, seconds, duration_text(seconds)) for step, seconds in steps])
        case Bars(bars):
            return _bars("bars", bars)
        case Heading(text):
            return f'<h3 class="line">{escape(text)}</h3>\n'
        case Media() | Picture():
            return figure(block)
        case Gallery(media, column):
            kind = '"gallery"' if column is None else f'"gallery columns" style="--column: {column:g}rem"'
            return f"<div class={kind}>{''.join(map(figure, media))}</div>\n"
        case Histograms(histograms):
            return _key(block) + f'<div class="curves">{"".join(map(_histogram, histograms))}</div>\n'
        case Chart(title, series):
            legend = "".join(_legend(number, name) for number, (name, _) in enumerate(series))
            return (
                f'<figure class="curve"><h3>{escape(title)}{legend}</h3>{line_chart(series, smoothed=False)}</figure>\n'
            )
        case Drawings(drawings):
            figures = (f'<figure class="curve"><h3>{escape(one.title)}</h3>{one.svg}</figure>' for one in drawings)
            return f'<div class="curves">{"".join(figures)}</div>\n'
        case Curves(metrics, leave_out):
            return _curves(metrics, leave_out)


def _bars(kind: str, bars: Sequence[tuple[str, float, str]]) -> str:
    longest = max((value for _, value, _ in bars), default=0.0) or 1.0
    rows = "".join(
        f"<li><span>{escape(name)}</span><time>{escape(text)}</time>"
        f'<i style="width:{100 * value / longest:.1f}%"></i></li>'
        for name, value, text in bars
    )
    return f'<ol class="{kind}">{rows}</ol>\n'


def _key(block: Histograms) -> str:
    names = {"all": block.all_name, "chosen": block.chosen_name, "limit": block.limit_name}
    entries = "".join(f'<i class="{kind}"></i>{escape(name)}' for kind, name in names.items() if name)
    return f'<p class="key">{entries}</p>\n' if entries else ""


def _histogram(block: Histogram) -> str:
    unit = f"<small>{escape(block.unit)}</small>" if block.unit else ""
    lines = "<br>".join(map(escape, (block.meaning, *block.notes)))
    chart = histogram_chart(block.title, block.bins, block.limits)
    return (
        f'<figure class="curve"><h3>{escape(block.title)} {unit}</h3>{chart}<figcaption>{lines}</figcaption></figure>'
    )


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
        if term and not {part, term} & set(leave_out) and finite:
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
