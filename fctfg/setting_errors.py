"""What is wrong with a setting, in the words of jsonargparse, in one sentence for the user."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import get_type_hints

from fctfg.models.fctfg import FCTFGConfig
from fctfg.stages import STAGES

UNKNOWN_KEY = (  # how jsonargparse says it
    re.compile(r"Group '(?P<group>[\w.]+)' does not accept option '(?P<key>[\w.]+)'"),
    re.compile(r"Option '(?P<key>[\w.]+)' is not accepted"),
    re.compile(r"[Uu]nrecognized arguments?: (?:--)?(?P<key>[\w.]+)"),
    re.compile(r"[Kk]ey [\"'`]?(?P<key>[\w.]+)[\"'`]? is not expected"),
)
WRONG_VALUE = re.compile(  # of the innermost key, which is the last one
    r'(?P<outer>.*)Parser key "(?P<key>[\w.]+)": (?:Expected a (?P<kind>.+?)\. Got value: '
    r"|Does not validate against any of the Union subtypes Subtypes: \[(?P<kinds>.+?)\] Errors: .*?Given value: )"
    r"(?P<value>.*?)(?: - Expected a |$)"
)
OUTER_KEY = re.compile(r'Parser key "([\w.]+)"')
TYPE = re.compile(r"<class '(?:[\w.]+\.)?(\w+)'>|typing\.Literal\[(.+?)\]")


def explain(message: str, options: Sequence[str]) -> str:
    """The parser's message in one line: an unknown key with the nearest known one, a wrong value with its type.

    Args:
        message: of jsonargparse, in as many lines as it likes.
        options: keys that the parser itself knows; those of the stages are added.

    Returns:
        the line; a message of another kind as it is.
    """
    line = " ".join(message.split())
    found = next((match for pattern in UNKNOWN_KEY if (match := pattern.search(line))), None)
    if found is not None:
        group = found.groupdict().get("group")
        key = f"{group}.{found['key']}" if group else found["key"]
        near = difflib.get_close_matches(key, _known_keys(options), n=1, cutoff=0.5)
        return f"unknown key '{key}'" + (f"; did you mean '{near[0]}'?" if near else "")
    if wrong := WRONG_VALUE.match(line):
        kinds = TYPE.sub(r"\1\2", wrong["kind"] or wrong["kinds"]).replace("NoneType", "null")
        outer = ["model.init_args" if key == "model" else key for key in OUTER_KEY.findall(wrong["outer"])]
        return f"{'.'.join([*outer, wrong['key']])} is {wrong['value']!r}, but takes {kinds}"
    return line


def _known_keys(options: Sequence[str]) -> list[str]:
    keys = [*options, *(f"networks.fctfg.{field.name}" for field in fields(FCTFGConfig))]
    for stage in STAGES:
        for name, kind in get_type_hints(stage.__init__).items():
            keys.append(f"model.init_args.{name}")
            if is_dataclass(kind) and name != "networks":
                keys += [f"model.init_args.{name}.{field.name}" for field in fields(kind)]
    return keys + [".".join(key.split(".")[-parts:]) for key in keys for parts in (1, 2)]
