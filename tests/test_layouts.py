"""Layouts: who and which split the paths of the corpora name."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fctfg.data.prepare.layouts import LAYOUTS, Parts, Said, folder, grid, hdtf, lrs2, mead, voxceleb2
from fctfg.data.prepare.sources import Source, find_sources
from fctfg.data.prepare.splits import assign_splits, shares_left
from fctfg.errors import FctfgError, UsageError

Read = Callable[[Parts], Said | None]

PATHS: list[tuple[Read, str, Said | None]] = [
    (folder, "anna/one.mp4", Said("anna")),
    (folder, "anna/2024/one.mp4", Said("anna")),
    (folder, "one.take.mp4", Said("one.take", labelled=False)),
    (folder, "train/anna/one.mp4", Said("anna", split="train")),
    (folder, "test/one.mp4", Said("one", labelled=False, split="test")),
    (folder, "anna/test/one.mp4", Said("anna")),
    (folder, "train.mp4", Said("train", labelled=False)),
    (folder, "Ju\u0308rgen/x.mp4", Said("J\u00fcrgen")),  # as macOS writes the umlaut
    (voxceleb2, "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", Said("id00012")),
    (voxceleb2, "test/mp4/id00017/01dfn2spqyE/00001.mp4", Said("id00017", split="test")),
    (voxceleb2, "vox2_test_mp4/mp4/id00017/01dfn2spqyE/00001.mp4", Said("id00017", split="test")),
    (voxceleb2, "v2/test/mp4/mp4/id00017/01dfn2spqyE/00001.mp4", Said("id00017", split="test")),
    (voxceleb2, "mp4/id00017/_mjZ87sK6cA/00095.mp4", Said("id00017")),
    (voxceleb2, "id00019/-lmvY4AiroM/00121.mp4", Said("id00019")),
    (voxceleb2, "id00019/00121.mp4", None),
    (voxceleb2, "dev/mp4/id0012/21Uxsk56VDQ/00001.mp4", None),
    (voxceleb2, "dev/mp4/id00012/21Uxsk56VD/00001.mp4", None),
    (voxceleb2, "dev/aac/id00012/21Uxsk56VDQ/00001.m4a", None),
    (hdtf, "WDA_BarackObama_000.mp4", Said("BarackObama")),
    (hdtf, "WRA_AdamKinzinger1_000_cfr25.mp4", Said("AdamKinzinger")),
    (hdtf, "WRA_CoryGardner0_001.mp4", Said("CoryGardner")),
    (hdtf, "WRA_CoryGardner_000.mp4", Said("CoryGardner")),
    (hdtf, "WDA_LucilleRoybal-Allard_000.mp4", Said("LucilleRoybal-Allard")),
    (hdtf, "WDA_XavierBecerra_001/WDA_XavierBecerra_001_clip_0001.mp4", Said("XavierBecerra")),
    (hdtf, "clips/WDA_WhipJimClyburn_000.mp4", Said("JamesClyburn")),
    (hdtf, "WDA_JamesClyburn1_002.mp4", Said("JamesClyburn")),
    (hdtf, "RD_Radio10_000.mp4", Said("Radio10", labelled=False)),
    (hdtf, "RD_Radio1_000.mp4", Said("Radio1", labelled=False)),
    (hdtf, "BarackObama_000.mp4", None),
    (hdtf, "WDA_000.mp4", None),
    (mead, "M003/video/front/angry/level_1/001.mp4", Said("M003", sound="M003/audio/angry/level_1/001.m4a")),
    (mead, "W009/video/left_30/neutral/level_1/040.mp4", Said("W009", sound="W009/audio/neutral/level_1/040.m4a")),
    (mead, "MEAD/M042/video_2/2/top/sad/level_3/012.mp4", Said("M042", sound="MEAD/M042/audio/sad/level_3/012.m4a")),
    (mead, "video/front/angry/level_1/001.mp4", None),
    (mead, "M003/video/front/angry/level_4/001.mp4", None),
    (mead, "M003/video/left_45/angry/level_1/001.mp4", None),
    (mead, "M3/video/front/angry/level_1/001.mp4", None),
    (lrs2, "mvlrs_v1/main/5535415699068794046/00001.mp4", Said("5535415699068794046", labelled=False)),
    (lrs2, "mvlrs_v1/pretrain/5535415699068794046/00001.mp4", Said("5535415699068794046", labelled=False)),
    (lrs2, "5535415699068794046/00001.mp4", Said("5535415699068794046", labelled=False)),
    (lrs2, "main/news/00001.mp4", None),
    (lrs2, "00001.mp4", None),
    (grid, "s1/bbaf2n.mpg", Said("s1")),
    (grid, "s34/video/mpg_6000/swwp2s.mpg", Said("s34")),
    (grid, "s23.mpg_6000.part1/s23/video/mpg_6000/bbad1s.mpg", Said("s23")),
    (grid, "s1.mpg_vcd/s1/lrbczp.mpg", Said("s1")),
    (grid, "s1_processed/video/mpg_6000/bbaf2n.mpg", Said("s1")),
    (grid, "videos/id2_6000_swwp2s.mpg", Said("s2")),
    (grid, "s02/sgat9n.avi", Said("s2")),
    (grid, "bbaf2n.mpg", None),
    (grid, "s35/bbaf2n.mpg", None),
    (grid, "s1/bbaw2n.mpg", None),  # w is not among the letters
    (grid, "s1/bbaf0n.mpg", None),  # zero is written z
]


@pytest.mark.parametrize(("read", "path", "said"), PATHS, ids=[f"{read.__name__}-{path}" for read, path, _ in PATHS])
def test_paths_of_the_corpora(read: Read, path: str, said: Said | None) -> None:
    assert read(tuple(path.split("/"))) == said


def test_every_form_in_an_error_message_is_read_by_its_layout(tmp_path: Path) -> None:
    for layout in LAYOUTS.values():
        assert layout.reader(tmp_path)(tuple(layout.form.split("/"))) is not None


def put(root: Path, *names: str) -> Path:
    """Empty files."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(root: Path, layout: str) -> dict[str, Source]:
    return {source.name: source for source in find_sources(root, root / "out", layout)}


def test_voxceleb2_has_a_validation_set_from_dev(tmp_path: Path) -> None:
    """Everybody of test is in test, and nobody else; dev is divided among the two others by person."""
    people = [f"id{k:05d}" for k in range(60)]
    put(tmp_path, *(f"dev/mp4/{name}/abcdefghij{k}/0000{k}.mp4" for name in people[10:] for k in range(2)))
    put(tmp_path, *(f"test/mp4/{name}/abcdefghijk/00001.mp4" for name in people[:10]))
    put(tmp_path, "dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "dev/txt/id00012/21Uxsk56VDQ/00001.txt")
    sources = list(found(tmp_path, "voxceleb2").values())
    assert len(sources) == 110
    given = {source.identity: source.split for source in sources}
    assert {name for name, split in given.items() if split == "test"} == set(people[:10])
    shares = shares_left(given.values(), (0.8, 0.1, 0.1))
    rest = assign_splits([name for name, split in given.items() if split is None], shares)
    assert set(rest) == set(people[10:])
    assert set(rest.values()) == {"train", "val"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], (0.8, 0.15, 0.05)),
        ([None], (0.8, 0.15, 0.05)),
        (["test", None], (0.8 / 0.95, 0.15 / 0.95, 0.0)),
        (["train", "test"], (0.8 / 0.95, 0.15 / 0.95, 0.0)),
        (["train", "val", "test", None], (1.0, 0.0, 0.0)),
    ],
)
def test_shares_of_the_people_without_a_split(given: list[str | None], expected: tuple[float, ...]) -> None:
    assert shares_left(given, (0.8, 0.15, 0.05)) == pytest.approx(expected)


def test_shares_when_nothing_is_left() -> None:
    assert shares_left(["val"], (0.0, 0.5, 0.5)) == (0.0, 0.0, 1.0)
    assert shares_left(["val", "test"], (0.0, 0.5, 0.5)) == (1.0, 0.0, 0.0)


def test_hdtf_leaves_the_whole_videos_out(tmp_path: Path) -> None:
    put(tmp_path, "WDA_BarackObama_000.mp4", "RD_Radio1_000.mp4", "_videos_raw/WDA_BarackObama.mp4")
    assert set(found(tmp_path, "hdtf")) == {"WDA_BarackObama_000.mp4", "RD_Radio1_000.mp4"}


def test_mead_takes_the_sound_that_is_there(tmp_path: Path) -> None:
    put(
        tmp_path,
        *(f"M003/video/{view}/angry/level_1/00{k}.mp4" for view in ("front", "top") for k in (1, 2)),
        "M003/audio/angry/level_1/001.m4a",
    )
    sounds = {name: source.sound for name, source in found(tmp_path, "mead").items()}
    for view in ("front", "top"):
        assert sounds[f"M003/video/{view}/angry/level_1/001.mp4"] == tmp_path / "M003/audio/angry/level_1/001.m4a"
        assert sounds[f"M003/video/{view}/angry/level_1/002.mp4"] is None


@pytest.mark.parametrize("where", ["", "mvlrs_v1", "filelists"])
@pytest.mark.parametrize("source", ["", "mvlrs_v1", "mvlrs_v1/main"])
def test_lrs2_reads_its_lists(tmp_path: Path, where: str, source: str) -> None:
    names = [f"55354156990687940{k}/0000{k}" for k in range(4)]
    put(tmp_path, *(f"mvlrs_v1/main/{name}.mp4" for name in names), f"mvlrs_v1/pretrain/{names[2]}.mp4")
    (tmp_path / where).mkdir(exist_ok=True)
    for split, lines in (("train", f"{names[0]}\n"), ("val", f"{names[1]}\n\n"), ("test", f"{names[2]} NF\n")):
        (tmp_path / where / f"{split}.txt").write_text(lines)
    sources = found(tmp_path / source, "lrs2")
    assert [one.split for name, one in sources.items() if "pretrain" not in name] == ["train", "val", "test", None]
    assert {one.split for name, one in sources.items() if "pretrain" in name} <= {"train"}
    assert found(tmp_path / "mvlrs_v1" / "pretrain", "lrs2")[f"{names[2]}.mp4"].split == "train"


def test_lrs2_without_lists_and_with_others(tmp_path: Path) -> None:
    put(tmp_path, "main/5535415699068794046/00001.mp4", "pretrain/5535415699068794046/00002.mp4")
    assert {source.split for source in found(tmp_path, "lrs2").values()} == {None}
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.txt").write_text("5535415699068794046/00001\nhello world\n")
    with pytest.raises(FctfgError, match=r"train\.txt, line 2: 'hello'"):
        found(tmp_path, "lrs2")


def test_one_broadcast_or_loose_name_in_two_splits_is_not_one_person(tmp_path: Path) -> None:
    put(tmp_path, "train/a.mp4", "test/a.mp4", "train/anna/b.mp4")
    assert {source.split for source in found(tmp_path, "folder").values()} == {"train", "test"}
    put(tmp_path, "test/anna/c.mp4")
    with pytest.raises(FctfgError, match="'anna' is in two splits"):
        found(tmp_path, "folder")


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"folder"}))
def test_another_corpus_is_refused(tmp_path: Path, layout: str) -> None:
    put(tmp_path, "anna/one.mp4", "anna/two.mp4", "bob/one.mp4")
    with pytest.raises(FctfgError) as error:
        found(tmp_path, layout)
    assert str(error.value) == (
        f"{tmp_path} does not look like {layout}: 'anna/one.mp4' is not of the form {LAYOUTS[layout].form} "
        f"(0 of 3 videos are); choose another --layout, or the folder above or below"
    )


def test_single_strays_are_reported_and_do_not_stop_the_corpus(tmp_path: Path) -> None:
    put(tmp_path, "s1/bbaf2n.mpg", "s2/bbaf2n.mpg", "s1/test.mpg")
    sources = found(tmp_path, "grid")
    assert [name for name, source in sources.items() if source.problem] == ["s1/test.mpg"]
    assert sources["s1/test.mpg"].problem == "layout: the path is not of the form s1/video/mpg_6000/bbaf2n.mpg"
    put(tmp_path, "s1/three.mpg", "s1/four.mpg")
    with pytest.raises(FctfgError, match=r"'s1/four\.mpg' .* \(2 of 5 videos are\)"):
        found(tmp_path, "grid")


def test_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--layout must be one of folder, voxceleb2, .*, not 'vox'"):
        find_sources(put(tmp_path, "a.mp4"), tmp_path / "out", "vox")


def test_no_layout_fails_on_any_path() -> None:
    """Random paths out of pieces of all corpora are read or refused, and what is read is text and a known split."""
    rng = random.Random(0)
    pieces = [part for _, path, _ in PATHS for part in path.split("/")] + [
        "",
        " ",
        "id",
        "s",
        "\udcff",
        "Ä",
        "-",
        "M000",
    ]
    for _ in range(20_000):
        parts = tuple(rng.choice(pieces) for _ in range(rng.randint(1, 6)))
        for read in (folder, voxceleb2, hdtf, mead, lrs2, grid):
            said = read(parts)
            if said is not None:
                said.identity.encode()
                assert said.split in (None, "train", "val", "test")
