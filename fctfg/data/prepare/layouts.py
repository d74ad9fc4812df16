"""Who is in a raw video and in which split it is, from the naming of the corpora.

A layout reads a path relative to SOURCE; it opens no video. The facts about each corpus, and where they are from, stand
at its function.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fctfg.data.manifest import SPLITS
from fctfg.data.prepare.names import person
from fctfg.errors import FctfgError

Parts = tuple[str, ...]  # of a path relative to SOURCE


class Said(NamedTuple):
    """What a path says.

    Attributes:
        identity: The person; where the path does not say one, a name for what it does say (file, video or programme).
        labelled: Whether `identity` is a person.
        split: ``train``, ``val`` or ``test``; None where the corpus leaves it open.
        sound: The file with the sound, relative to SOURCE, where it is another one (if it exists).
    """

    identity: str
    labelled: bool = True
    split: str | None = None
    sound: str | None = None


Reader = Callable[[Parts], Said | None]


@dataclass(frozen=True)
class Layout:
    """How a corpus names its files.

    Attributes:
        form: What a path looks like, for error messages.
        reader: Gives, for SOURCE, the function that reads paths; the function gives None for paths of another form.
        ignored: Folders that are left out, with all that lies in them.
    """

    form: str
    reader: Callable[[Path], Reader]
    ignored: frozenset[str] = frozenset()


def folder(parts: Parts) -> Said:
    """Any folder: the uppermost folder is the person; ``train``, ``val`` and ``test`` above the people are splits.

    A file that lies in no person's folder says nothing about who is in it. Its name stands in for the person.
    """
    split = parts[0] if parts[0] in SPLITS and len(parts) > 1 else None
    people = parts[1:] if split else parts
    if len(people) == 1:
        return Said(person(os.path.splitext(people[0])[0]), labelled=False, split=split)
    return Said(person(people[0]), split=split)


_VOX_SPLITS = {"test": "test", "vox2_test_mp4": "test", "train": "train", "val": "val"}


def voxceleb2(parts: Parts) -> Said | None:
    """VoxCeleb2: ``dev/mp4/id00012/21Uxsk56VDQ/00001.mp4``, person, YouTube video, utterance.

    The archives hold ``dev/mp4/...`` and, for the test set, ``mp4/...``, which people unpack into ``test`` or
    ``vox2_test_mp4``; sound (``aac/``, m4a) and the crawl's boxes (``txt/``) are archives of their own. The 5,994
    people of dev and the 118 of test are different ones. Sources: the archive list at huggingface.co/datasets/
    ProgramComputer/voxceleb; paths in public code that reads the corpus; PaddleSpeech, examples/voxceleb, for the
    counts.

    dev is not the same as train: nobody has defined a validation set, so dev leaves it to `assign_splits` who is in it.
    Where neither dev nor test is in the path, as when SOURCE is the ``mp4`` folder, the path leaves the split open.
    """
    if len(parts) < 3 or not re.fullmatch(r"id\d{5}/[\w-]{11}/\d{5}\.mp4", "/".join(parts[-3:]), re.ASCII):
        return None
    return Said(parts[-3], split=next((_VOX_SPLITS[part] for part in parts[:-3] if part in _VOX_SPLITS), None))


_HDTF_NAME = re.compile(r"(RD|WDA|WRA)_([A-Za-z-]+?)(\d*)(_.*)?\.mp4", re.ASCII)
_HDTF_SAME = {"WhipJimClyburn": "JamesClyburn"}  # both lists name the video gh3YqnvNdio


def hdtf(parts: Parts) -> Said | None:
    """HDTF: ``WDA_BarackObama_000.mp4``: part of the corpus, name of the video, clip; flat or in any folders.

    The corpus is three lists of YouTube videos (github.com/MRzzm/HDTF, HDTF_dataset/{RD,WDA,WRA}_video_url.txt). The
    downloaders write ``{list}_{video}_{clip:03d}.mp4`` and keep the whole videos in ``_videos_raw`` (github.com/
    universome/HDTF, download.py), which is left out: the clips are cut from them.

    In WDA and WRA a video is called after its person, with a number from the second one on (``DebFischer0``,
    ``DebFischer2``, ``CoryGardner``), so the person is the name without the number; one person is known to have two
    names. RD numbers its videos (``Radio1`` ...) and says nothing about people: they count as unlabelled, video by
    video. Whether two names are one person is not written anywhere, and nothing says that only the named person is
    shown.
    """
    match = _HDTF_NAME.fullmatch(parts[-1])
    if match is None:
        return None
    corpus, name, number, _ = match.groups()
    if corpus == "RD":
        return Said(f"{name}{number}", labelled=False)
    return Said(_HDTF_SAME.get(name, name))


_MEAD_VIEW = re.compile(
    r"(?:down|front|top|left_30|left_60|right_30|right_60)"
    r"/((?:angry|contempt|disgusted|fear|happy|neutral|sad|surprised)/level_[123]/\d{3})\.mp4",
    re.ASCII,
)


def mead(parts: Parts) -> Said | None:
    """MEAD: ``M003/video/front/angry/level_1/001.mp4`` with the sound in ``M003/audio/angry/level_1/001.m4a``.

    One folder per actor, M or W and three digits (github.com/uniBruce/Mead, README), with ``video.tar`` and
    ``audio.tar``; some actors' videos come in two archives, so other folders can lie between the actor and the view.
    Seven views share one recording of the sound. (Names of views, emotions and levels, and the two kinds of archives:
    from public code that reads the corpus, in agreement.) Whether the videos also have a sound track is not documented;
    code that reads the corpus takes the separate files, and so does this layout where they are there.
    """
    match = _MEAD_VIEW.fullmatch("/".join(parts[-4:]))
    actors = [k for k, part in enumerate(parts[:-4]) if re.fullmatch(r"[MW]\d{3}", part, re.ASCII)]
    if match is None or not actors:
        return None
    return Said(parts[actors[-1]], sound="/".join((*parts[: actors[-1] + 1], "audio", f"{match[1]}.m4a")))


def lrs2(parts: Parts, within: str = "main", listed: Mapping[str, str] | None = None) -> Said | None:
    """LRS2: ``mvlrs_v1/main/5535415699068794046/00001.mp4``: broadcast, utterance; and the same below ``pretrain``.

    The folder is a broadcast, which can show several people, and a person is in many broadcasts: nobody is labelled,
    and the broadcast stands in for the person. ``train.txt``, ``val.txt`` and ``test.txt`` list the utterances of
    ``main``; ``pretrain`` is for training. The lists divide by date (test: 03/2016 on; Afouras et al. 2018, LRS3-TED,
    table 1) and not by person. (Structure and lists: from public code that reads the corpus, in agreement.)

    Args:
        parts: The path.
        within: ``main`` or ``pretrain``, where SOURCE is that folder itself.
        listed: Split of each utterance of ``main`` (``5535415699068794046/00001``); None where there are no lists,
            which leaves all splits open.
    """
    if len(parts) < 2 or not re.fullmatch(r"\d{6,}/\d{5}\.mp4", "/".join(parts[-2:]), re.ASCII):
        return None
    within = next((part for part in reversed(parts[:-2]) if part in ("main", "pretrain")), within)
    split = None
    if listed is not None:
        split = "train" if within == "pretrain" else listed.get(f"{parts[-2]}/{parts[-1][:-4]}")
    return Said(parts[-2], labelled=False, split=split)


def _lrs2(root: Path) -> Reader:
    root = root.resolve()
    within = root.name if root.name in ("main", "pretrain") else "main"
    above = [root]
    while above[-1].name in ("main", "pretrain", "mvlrs_v1"):
        above.append(above[-1].parent)
    for place in (folder / name for folder in above for name in ("", "mvlrs_v1", "filelists")):
        lists = {split: place / f"{split}.txt" for split in SPLITS}
        if all(path.is_file() for path in lists.values()):
            return partial(lrs2, within=within, listed=_read_lists(lists))
    return partial(lrs2, within=within)


def _read_lists(lists: Mapping[str, Path]) -> dict[str, str]:
    """Split by utterance; a line is ``5535415699068794046/00001``, in test.txt with a second word."""
    listed: dict[str, str] = {}
    for split, path in lists.items():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            name = line.split()[0]
            if not re.fullmatch(r"(?:main/)?\d{6,}/\d{5}", name, re.ASCII):
                raise FctfgError(
                    f"{path}, line {number}: {name!r} is not an utterance of LRS2 like 5535415699068794046/00001; "
                    f"give the corpus with its own lists, or remove them"
                )
            listed[name.removeprefix("main/")] = split
    return listed


_GRID_SENTENCE = r"[blps][bgrw][abiw][a-vx-z][1-9z][anps]\.\w+"
_GRID_NAME = re.compile(rf"(?:id(\d+)_(?:vcd|6000)_)?{_GRID_SENTENCE}", re.ASCII)
_GRID_TALKER = re.compile(r"s(\d{1,2})(?:[._].*)?", re.ASCII)


def grid(parts: Parts) -> Said | None:
    """GRID: ``s1/video/mpg_6000/bbaf2n.mpg`` or ``s1/bbaf2n.mpg``: talker, sentence.

    Talkers are s1 to s34; there is no video of s21. A sentence is six letters: command, colour, preposition, letter
    (not w), digit (z for zero), adverb, as in "bin blue at F 2 now". The low-resolution archives
    (``s1.mpg_vcd.zip``) hold ``s1/bbaf2n.mpg``, the others (``s1.mpg_6000.part1.tar``)
    ``s1/video/mpg_6000/bbaf2n.mpg``; folders called after the archives, and files called ``id1_6000_bbaf2n``, are in
    use too. Sources: spandh.dcs.shef.ac.uk/gridcorpus and public code that downloads it, in agreement. The copy at
    zenodo.org/record/3625687 has single pictures in place of videos and cannot be read.
    """
    match = _GRID_NAME.fullmatch(parts[-1])
    if match is None:
        return None
    folders = (_GRID_TALKER.fullmatch(part) for part in reversed(parts[:-1]))
    talker = match[1] or next((found[1] for found in folders if found), "")
    return Said(f"s{int(talker)}") if talker and 1 <= int(talker) <= 34 else None


def _fixed(read: Reader) -> Callable[[Path], Reader]:
    return lambda _: read


LAYOUTS: Mapping[str, Layout] = {
    "folder": Layout("person/video.mp4", _fixed(folder)),
    "voxceleb2": Layout("dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", _fixed(voxceleb2), frozenset({"aac", "txt"})),
    "hdtf": Layout("WDA_BarackObama_000.mp4", _fixed(hdtf), frozenset({"_videos_raw"})),
    "mead": Layout("M003/video/front/angry/level_1/001.mp4", _fixed(mead)),
    "lrs2": Layout("mvlrs_v1/main/5535415699068794046/00001.mp4", _lrs2),
    "grid": Layout("s1/video/mpg_6000/bbaf2n.mpg", _fixed(grid)),
}
