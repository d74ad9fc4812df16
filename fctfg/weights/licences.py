"""What licences allow, and which went into some weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from fctfg.atomic import write_json
from fctfg.errors import FctfgError
from fctfg.weights import catalogue

NOT_SAID = "not said"
RECORD = "licences.json"  # in the folder of a run

PURPOSES = "research|academic|personal|educational|evaluation"
FORBIDS = re.compile(
    rf"""non-?\s?commercial | \bby[- ]nc\b | \bno\s commercial | \bnot\s for\s commercial
    | \bcommercial\s (use|purposes?)\s ((is|are)\s)? (not|forbidden|prohibited|excluded)
    | \b({PURPOSES}) (\s (use|purposes?))? (\s is)? \s only | \bonly\s for\s ({PURPOSES})
    | \bfor\s ({PURPOSES})\s (use|purposes?)""",
    re.IGNORECASE | re.VERBOSE,
)
NAMES = (
    r"cc[- ]?0([- ]1\.0)?( universal)?",
    r"cc[- ]by([- ]sa)?",
    r"creative commons (zero|attribution([- ]?share[- ]?alike)?)",
    r"public domain( dedication)?|pddl|odc-by|cdla-permissive",
    r"mit|isc|zlib|unlicense|bsd([- ][0-4][- ]clause)?|apache( software)?",
    r"(gnu )?[al]?gpl|mpl|mozilla public",
    r"our own|(our )?own (clips|data|footage|recordings?|videos?|weights|work)",
    r"commercial use (is )?(allowed|permitted|licensed|granted)",
)
ALLOWS = re.compile(
    rf"(the )?({'|'.join(f'({name})' for name in NAMES)})([- ]v?\d+(\.\d+)*)?"
    r"([- ](only|or-later|international|unported))?( licen[cs]e)?( v?\d+(\.\d+)*)?",
    re.IGNORECASE,
)
NEUTRAL = re.compile(r"((the )?(written )?consent( of the people shown)?|stock footage)", re.IGNORECASE)
PARTS = re.compile(r"[;,/+&()]|\.(?=\s|$)|\b(?:and|with)\b|\sor\s", re.IGNORECASE)
VERSION = re.compile(r",?\s+version\s+(?=v?\d)", re.IGNORECASE)

# SPDX expressions: "A AND B" asks for both, "A OR B" leaves the choice, and AND binds tighter
NAME = re.compile(r"(cc )?[\w.-]+( v?\d+(\.\d+)*)?", re.IGNORECASE)
OR = re.compile(r"\sOR\s")
EXPRESSION = re.compile(r"(?:[^;,.:()\n]|\.(?=\S))+")  # as far as one can reach, parentheses apart
IN_PARENTHESES = re.compile(r"\(([^()]*\s(?:AND|OR)\s[^()]*)\)")
STANDS_FOR = {"no": "non-commercial", "unknown": "unknown", "yes": "CC0-1.0"}  # the worst first


def commercial_use(licence: str) -> Literal["yes", "no", "unknown"]:
    """Whether a licence allows commercial use.

    Args:
        licence: SPDX name or expression, or a plain sentence, which is taken at its word.

    Returns:
        "no" when any of it forbids commercial use; "yes" when all of it consists of names known to allow it; "unknown"
        otherwise. Of names with `OR` between them, the best one counts.
    """
    if inner := IN_PARENTHESES.search(licence):
        return commercial_use(licence[: inner.start()] + STANDS_FOR[commercial_use(inner[1])] + licence[inner.end() :])
    licence = EXPRESSION.sub(_chosen, VERSION.sub(" ", licence))
    if FORBIDS.search(licence):
        return "no"
    parts = _parts(licence)
    known = [part for part in parts if not NEUTRAL.fullmatch(part)]
    return "yes" if known and all(ALLOWS.fullmatch(part) for part in known) else "unknown"


def _parts(licence: str) -> list[str]:
    return [part.strip() for part in PARTS.split(licence) if part.strip()]


def _chosen(expression: re.Match[str]) -> str:
    """The best branch; all of it where there is no choice, or a branch is more than names."""
    branches = OR.split(expression[0])
    if len(branches) == 1 or not all(_names(branch) for branch in branches):
        return expression[0]
    return max(branches, key=lambda branch: list(STANDS_FOR).index(commercial_use(branch)))


def _names(branch: str) -> bool:
    return all(ALLOWS.fullmatch(part) or NAME.fullmatch(part) for part in _parts(branch))


@dataclass(frozen=True)
class Licences:
    """Licences of all that went into some weights, however many stages ago; `|` puts two of them together.

    Attributes:
        data: of the recordings.
        weights: of the published weights, by name.
    """

    data: frozenset[str] = frozenset()
    weights: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: Licences) -> Licences:
        return Licences(self.data | other.data, {**self.weights, **other.weights})

    def plain(self) -> dict[str, Any]:
        """As cards hold them: {"data": [...], "weights": {name: licence}}."""
        return {"data": sorted(self.data), "weights": dict(sorted(self.weights.items()))}


def from_card(said: Any, shown: str) -> Licences:
    """The licences of a card.

    Args:
        said: its entry `licences`; where it is missing or older than this record, what is unknown is "not said".
        shown: how to call weights that the card does not name.
    """
    said = said if isinstance(said, Mapping) else {}
    data, weights = said.get("data", NOT_SAID), said.get("weights", NOT_SAID)
    return Licences(
        frozenset([data] if isinstance(data, str) else map(str, data)),
        {str(k): str(v) for k, v in weights.items()} if isinstance(weights, Mapping) else {shown: str(weights)},
    )


def of_weights(place: str | Path) -> Licences:
    """The licences of all that went into weights.

    Args:
        place: a run folder or an exported file, whose card says it; or the name or the file of an entry of the
            catalogue. Of any other file the licence is "not said".
    """
    path = Path(place)
    entry = (None if path.exists() else catalogue.catalogue().get(str(place))) or catalogue.entry_of_file(path)
    same_size = entry is None or not path.is_file() or entry.size in (None, path.stat().st_size)
    if entry is not None and (same_size or not entry.commercial):  # another file may be called alex.pth, too
        return Licences(weights={entry.name: entry.licence})
    file = path / "export" / "weights.safetensors" if path.is_dir() else path
    try:
        with safe_open(str(file), framework="np") as stream:
            card = json.loads((stream.metadata() or {})["card"])
        return from_card(card.get("licences"), str(place))
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError):
        return Licences(weights={str(place): NOT_SAID})


def record(run: Path, licences: Licences) -> None:
    """Writes what goes into a run, for the cards of its exports and for the run when it goes on."""
    write_json(run / RECORD, licences.plain())


def recorded(run: Path) -> Licences:
    """What has gone into a run so far; what an earlier fctfg did not record is "not said"."""
    try:
        return from_card(json.loads((run / RECORD).read_text(encoding="utf-8")), str(run))
    except (OSError, ValueError):
        return of_weights(run)


def check_commercial_use(ingredients: Mapping[str, Licences]) -> None:
    """Makes sure that everything that goes into a run may be used commercially.

    Args:
        ingredients: licences by what the user calls it (a folder, a setting).

    Raises:
        FctfgError: a licence forbids it, or does not say; the message names each one.
    """
    wrong = list(_complaints(ingredients))
    if wrong:
        raise FctfgError(
            f"the run is not safe for commercial use: {'; '.join(wrong)}; use other data and weights, prepare data "
            f"whose licence is not said with --licence, or leave --commercial_safe out"
        )


def _complaints(ingredients: Mapping[str, Licences]) -> Iterator[str]:
    for place, licences in ingredients.items():
        parts = [("data", licence) for licence in sorted(licences.data)] + sorted(licences.weights.items())
        for part, licence in parts:
            use = commercial_use(licence)
            if use != "yes":
                verdict = "forbids it" if use == "no" else "does not clearly allow it"
                yield f"{place}: the licence of {part} ({licence}) {verdict}"
