"""Finding raw videos: which files, under which names, in any kind of folder."""

import errno
import os
import random
import re
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from fctfg.data.prepare.names import person, printable, source_id
from fctfg.data.prepare.sources import Source, find_sources
from fctfg.errors import FctfgError


def put(root: Path, *names: str) -> Path:
    """Empty files."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(root: Path, out: Path | None = None) -> dict[str, Source]:
    sources = find_sources(root, root.parent / "out" if out is None else out)
    assert [source.name for source in sources] == sorted(source.name for source in sources)
    assert len({source.id.casefold() for source in sources}) == len(sources)
    return {source.name: source for source in sources}


def problems(root: Path) -> dict[str, str]:
    return {name: source.problem for name, source in found(root).items() if source.problem}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def test_only_visible_videos(raw: Path) -> None:
    put(raw, "a.mp4", "B.MOV", "anna/c.webm", "notes.txt", "sound.wav", "mp4", ".d.mp4", ".e/f.mp4", "anna/.g/h.mp4")
    (raw / "folder.mp4").mkdir()
    put(raw, "folder.mp4/i.mkv")
    sources = found(raw)
    assert list(sources) == ["B.MOV", "a.mp4", "anna/c.webm", "folder.mp4/i.mkv"]
    assert [source.path for source in sources.values()] == [raw / name for name in sources]
    assert [source.identity for source in sources.values()] == ["B", "a", "anna", "folder.mp4"]
    assert [source.labelled for source in sources.values()] == [False, False, True, True]


def test_nothing_there(tmp_path: Path, raw: Path) -> None:
    with pytest.raises(FctfgError, match="holds no videos"):
        found(raw)
    with pytest.raises(FctfgError, match="does not exist"):
        found(tmp_path / "other")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(FctfgError, match="does not exist"):
        found(tmp_path / "loop")


def test_output_folder(tmp_path: Path, raw: Path) -> None:
    put(raw, "a.mp4", "out/clips/b.mp4", "outer/c.mp4")
    (raw / "link").symlink_to(raw / "out" / "clips")
    (raw / "link.mp4").symlink_to(raw / "out" / "clips" / "b.mp4")
    (tmp_path / "way").symlink_to(raw)
    for out in (raw / "out", tmp_path / "way" / "out", raw / "outer" / ".." / "out"):
        assert list(found(raw, out)) == ["a.mp4", "outer/c.mp4"]
    for out in (raw, tmp_path, tmp_path / "way"):
        with pytest.raises(FctfgError, match="lies in the output folder"):
            found(raw, out)


def test_links_are_followed_once(tmp_path: Path, raw: Path) -> None:
    put(raw, "z/real.mp4")
    put(tmp_path, "elsewhere/far.mp4", "elsewhere/deep/farther.mp4", "pool/one.data", "pool/.two.mp4", "pool/three.mp4")
    (raw / "a.mp4").symlink_to(raw / "z" / "real.mp4")
    (raw / "anna").symlink_to(tmp_path / "elsewhere")
    (raw / "bob").symlink_to(tmp_path / "elsewhere" / "deep")
    (raw / "one.mp4").symlink_to(tmp_path / "pool" / "one.data")
    (raw / "two.mp4").symlink_to(tmp_path / "pool" / ".two.mp4")
    (raw / "three.mp4").symlink_to(tmp_path / "pool" / "three.mp4")
    (raw / "tri.mp4").symlink_to(raw / "three.mp4")
    sources = found(raw)
    good = [name for name, source in sources.items() if not source.problem]
    assert good == ["anna/deep/farther.mp4", "anna/far.mp4", "one.mp4", "three.mp4", "two.mp4", "z/real.mp4"]
    assert len({source.path.resolve() for name, source in sources.items() if name in good}) == len(good)
    assert problems(raw) == {
        "a.mp4": "duplicate: the same file as z/real.mp4",
        "bob": "duplicate: the same folder as anna/deep",
        "tri.mp4": "duplicate: the same file as three.mp4",
    }


def test_loops_are_entered_once(tmp_path: Path, raw: Path) -> None:
    put(raw, "anna/a.mp4", "bob/b.mp4")
    put(tmp_path, "beside.mp4")
    (raw / "anna" / "self").symlink_to(raw / "anna")
    (raw / "anna" / "up").symlink_to(tmp_path)
    (raw / "bob" / "other").symlink_to(raw / "anna")
    (raw / "bob" / "own.mp4").symlink_to(raw / "bob" / "own.mp4")
    assert [name for name, source in found(raw).items() if not source.problem] == [
        "anna/a.mp4",
        "anna/up/beside.mp4",
        "bob/b.mp4",
    ]
    assert problems(raw) == {
        "anna/self": "duplicate: the same folder as anna",
        "anna/up/raw": "duplicate: the same folder as .",
        "bob/other": "duplicate: the same folder as anna",
        "bob/own.mp4": "broken link: Too many levels of symbolic links",
    }


def test_what_cannot_be_used_is_reported(raw: Path) -> None:
    put(raw, "a.mp4")
    (raw / "lost.mp4").symlink_to(raw / "nothing")
    (raw / "lost.txt").symlink_to(raw / "nothing")
    (raw / "bob").symlink_to(raw / "unplugged" / "disk")
    (raw / "link.mp4").symlink_to(raw / "pipe.mp4")
    os.mkfifo(raw / "pipe.mp4")
    assert problems(raw) == {
        "bob": "broken link: No such file or directory",
        "link.mp4": "duplicate: the same file as pipe.mp4",
        "lost.mp4": "broken link: No such file or directory",
        "pipe.mp4": "not a file",
    }
    with pytest.raises(FctfgError, match=r"pipe\.mp4 is neither a file nor a folder"):
        found(raw / "pipe.mp4")
    assert found(raw)["a.mp4"].problem == ""


def test_folders_that_may_not_be_read(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """(Simulated: the tests may run as root, who may read everything.)"""
    put(raw, "anna/a.mp4", "bob/b.mp4")
    real = os.scandir

    def guarded(secret: str) -> Callable[[str], object]:
        def call(path: str) -> object:
            if os.path.basename(os.path.normpath(path)) == secret:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(path)

        return call

    monkeypatch.setattr(os, "scandir", guarded("bob"))
    assert list(found(raw)) == ["anna/a.mp4", "bob"]
    assert problems(raw) == {"bob": "unreadable folder: Permission denied"}
    monkeypatch.setattr(os, "scandir", guarded("raw"))
    with pytest.raises(FctfgError, match=r"raw cannot be read \(unreadable folder: Permission denied\)"):
        found(raw)


NAMES = [
    "with space.mp4",
    'it\'s "quoted" `and` $HOME.mp4',
    "new\nline\tand\rothers.mp4",
    "日本語/ein Gesicht (1) é.mp4",
    "हिन्दी/वीडियो.mp4",
    "-rf.mp4",
    "semi;colon & more|.mp4",
    "100%/a:b*c?<d>.mp4",
    "back\\slash.mp4",
    "x" * 200 + ".mp4",
    "ü" * 100 + ".mp4",
    "/".join(["deep"] * 60) + "/a.mp4",
    "dots...mp4",
    "🎬.mp4",
    "con.mp4",
    "Con/aux.mp4",
    "a b/c.mp4",
    "a/b c.mp4",
    "a-b-c.mp4",
    "a/b/c.mp4",
    "A/b/c.mp4",
    "a/b/c.MP4",
    "a/b/c.mkv",
    "a-b/c.mp4",
    "e\u0301.mp4",
    "\u00e9.mp4",
]


def test_names_of_all_kinds(raw: Path) -> None:
    put(raw, *NAMES)
    sources = found(raw)
    assert len(sources) == len(NAMES)
    for source in sources.values():
        assert source.path.is_file()
        assert source.problem == ""
        check_id(source.id)
        for text in (source.name, source.identity):
            assert not any(unicodedata.category(letter) == "Cc" for letter in text)
    assert "日本語/ein Gesicht (1) é.mp4" in sources
    assert 'it\'s "quoted" `and` $HOME.mp4' in sources
    assert sources["new\\x0aline\\x09and\\x0dothers.mp4"].identity == "new\\x0aline\\x09and\\x0dothers"
    assert sources["日本語/ein Gesicht (1) é.mp4"].id.startswith("日本語-ein-Gesicht-1-é--")
    assert sources["हिन्दी/वीडियो.mp4"].id.startswith("हिन्दी-वीडियो--")


def test_names_that_are_not_utf8(raw: Path) -> None:
    """Each of them has a name and an id of its own, which a table of UTF-8 texts can hold."""
    names = [b"J\xfcrgen.mp4", b"J\xfdrgen.mp4", b"J\\xfcrgen.mp4", b"J\\udcfcrgen.mp4", "Jürgen.mp4".encode()]
    for name in [*names, b"M\xfcller/a.mp4"]:
        path = os.path.join(os.fsencode(raw), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT))
    sources = found(raw)
    assert len(sources) == 6
    assert all(source.path.is_file() for source in sources.values())
    assert sources["J\\xfcrgen.mp4"].path == Path(os.fsdecode(os.path.join(os.fsencode(raw), names[0])))
    assert sources["M\\xfcller/a.mp4"].identity == "M\\xfcller"
    texts = [text for source in sources.values() for text in (source.id, source.name, source.identity)]
    assert pa.array(texts, pa.string()).to_pylist() == texts


def check_id(text: str) -> None:
    assert 1 <= len(text.encode()) <= 120
    assert all(letter in "-_" or unicodedata.category(letter)[0] in "LMN" for letter in text)
    assert text[0] != "-" != text[-1]
    assert not re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", text.casefold())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("carla.mp4", "carla"),
        ("anna/one.mp4", "anna-one"),
        ("dev/mp4/id00012/abcdefghij_/00001.mp4", "dev-mp4-id00012-abcdefghij_-00001"),
        ("s1/bbaf2n.mpg", r"s1-bbaf2n--[0-9a-f]{12}"),
        ("WDA_BarackObama_000.mp4", r"WDA_BarackObama_000--[0-9a-f]{12}"),
        ("nul.mp4", r"nul--[0-9a-f]{12}"),
        ("???.mp4", r"video--[0-9a-f]{12}"),
        ("y" * 120 + ".mp4", "y" * 120),
        ("y" * 121 + ".mp4", "y" * 106 + r"--[0-9a-f]{12}"),
        ("ü" * 100 + ".mp4", "ü" * 53 + r"--[0-9a-f]{12}"),
    ],
)
def test_ids(path: str, expected: str) -> None:
    assert re.fullmatch(expected, source_id(path))
    check_id(source_id(path))


def random_path(rng: random.Random) -> str:
    """A path out of letters that invite collisions."""
    letters = "aaabAB01_-- .'\\\n\udce4\u00e9e\u0301Ⅷ⁄ß日"
    parts = ["".join(rng.choices(letters, k=rng.randint(1, 5))) for _ in range(rng.randint(1, 4))]
    return "/".join(part for part in parts if part.strip(".")) + rng.choice((".mp4", ".MP4", ".mkv", "", ".a.mp4"))


def test_ids_are_unique_and_safe_for_any_set_of_paths() -> None:
    rng = random.Random(0)
    paths = {random_path(rng) for _ in range(200_000)} - {""}
    assert len(paths) > 100_000
    ids = [source_id(path) for path in paths]
    # also where capitals do not count, and where accents are decomposed
    assert len({unicodedata.normalize("NFD", text).casefold() for text in ids}) == len(paths)
    for text in ids[:20_000]:
        check_id(text)


def test_ids_do_not_depend_on_other_files(raw: Path) -> None:
    """Whatever is added or removed, the other files keep their ids, names and people."""
    rng = random.Random(1)
    paths = sorted({random_path(rng).replace("\n", "") for _ in range(60)})
    put(raw, *(path for path in paths if path.endswith(("mp4", "mkv"))))
    everything = found(raw)
    assert len(everything) > 20
    for name in rng.sample(sorted(everything), 12):
        everything[name].path.unlink()
        del everything[name]
        assert found(raw) == everything


def test_printable_names_are_unique() -> None:
    rng = random.Random(2)
    letters = "a\\x0\n\udc0a"[:6] + "\udcff\udc80\x80ä"
    names = {"".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(50_000)}
    names = {name for name in names if all(not 0xD800 <= ord(letter) < 0xDC80 for letter in name)}
    texts = {printable(name) for name in names}
    assert len(texts) == len(names)
    for text in texts:
        assert text.encode().decode() == text
        assert "\n" not in text
    assert printable("日本 'x'/é.mp4") == "日本 'x'/é.mp4"
    assert person("Ju\u0308rgen") == "J\u00fcrgen"


@pytest.mark.parametrize("per_folder", [100_000, 25])
def test_a_hundred_thousand_files_within_five_seconds(raw: Path, per_folder: int) -> None:
    for first in range(0, 100_000, per_folder):
        folder = raw / f"p{first:06d}"
        folder.mkdir()
        for k in range(per_folder):
            os.close(os.open(f"{folder}/{k:06d}.mp4", os.O_CREAT))
    start = time.perf_counter()
    sources = find_sources(raw, raw / "out")
    assert time.perf_counter() - start < 5
    assert len(sources) == 100_000
    assert len({source.identity for source in sources}) == 100_000 // per_folder
