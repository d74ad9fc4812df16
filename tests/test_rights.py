"""What the folders say about licence, consent and origin."""

import hashlib
import json
from pathlib import Path

import pytest

from fctfg.data.prepare.rights import Rights, is_withdrawn, licence_name
from fctfg.data.prepare.sources import Source, find_sources
from fctfg.errors import FctfgError


def corpus(root: Path, *names: str) -> Path:
    """Empty videos."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def say(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


def found(root: Path, **options: str) -> dict[str, Source]:
    return {source.name: source for source in find_sources(root, root / "out", **options)}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SPDX-License-Identifier: CC-BY-NC-4.0\n", "CC-BY-NC-4.0"),
        ("<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\nsome text", "MIT OR Apache-2.0"),
        ("Attribution-NonCommercial-ShareAlike 4.0 International\n\n=====\nCreative Commons ...", "CC-BY-NC-SA-4.0"),
        ("# Creative Commons Attribution 3.0 Unported\n", "CC-BY-3.0"),
        ("Creative Commons Attribution-NoDerivatives 4.0", "CC-BY-ND-4.0"),
        ("These videos are under CC BY-NC-SA 4.0.", "CC-BY-NC-SA-4.0"),
        ("CC0 1.0 Universal\n\nCREATIVE COMMONS CORPORATION IS NOT A LAW FIRM", "CC0-1.0"),
        ("MIT License\n\nCopyright (c) 2020", "MIT"),
        ("    Apache License\n    Version 2.0, January 2004", "Apache-2.0"),
        ("BSD 3-Clause License", "BSD-3-Clause"),
        ("Videos are CC BY 4.0, labels are CC0.", "Videos are CC BY 4.0, labels are CC0."),  # of two, none is taken
        ("\n## Terms of use of our studio ##\nfor research", "Terms of use of our studio"),
        ("x" * 500, "x" * 200),
        ("one\n" * 10 + "CC BY 4.0", "one"),
        ("\n \n", ""),
    ],
)
def test_name_of_a_licence(text: str, name: str) -> None:
    assert licence_name(text) == name


@pytest.mark.parametrize("name", ["LICENSE", "LICENCE", "licence.txt", "LICENSE.md", "License.TXT"])
def test_licence_text_of_the_nearest_folder(tmp_path: Path, name: str) -> None:
    corpus(tmp_path, "anna/a.mp4", "bob/deep/b.mp4", "c.mp4")
    say(tmp_path, name, "CC BY 4.0\n")
    say(tmp_path, f"bob/{name}", "Our terms\nmore")
    sources = found(tmp_path)
    assert {one: source.rights.licence for one, source in sources.items()} == {
        "anna/a.mp4": "CC-BY-4.0",
        "bob/deep/b.mp4": "Our terms",
        "c.mp4": "CC-BY-4.0",
    }
    assert sources["c.mp4"].licence_sha256 == hashlib.sha256(b"CC BY 4.0\n").hexdigest()
    assert sources["bob/deep/b.mp4"].licence_sha256 == hashlib.sha256(b"Our terms\nmore").hexdigest()
    overridden = found(tmp_path, licence="bought")["anna/a.mp4"]
    assert (overridden.rights.licence, overridden.licence_sha256) == ("bought", "")


def test_each_kind_of_statement_has_its_own_nearest_folder(tmp_path: Path) -> None:
    corpus(tmp_path, "anna/a.mp4", "bob/b.mp4")
    say(tmp_path, "provenance.json", json.dumps({"licence": "all", "consent": "all asked", "source": "studio"}))
    say(tmp_path, "anna/provenance.json", json.dumps({"consent": "in writing"}))
    say(tmp_path, "bob/LICENSE", "MIT License")
    say(tmp_path, "bob/provenance.json", json.dumps({"licence": "MIT, videos only", "source": "bob's phone"}))
    sources = found(tmp_path)
    assert sources["anna/a.mp4"].rights == Rights("all", "in writing", "studio")
    assert sources["bob/b.mp4"].rights == Rights("MIT, videos only", "all asked", "bob's phone")
    assert sources["bob/b.mp4"].licence_sha256 == hashlib.sha256(b"MIT License").hexdigest()  # beside it


def test_consent_by_person_and_file(tmp_path: Path) -> None:
    corpus(
        tmp_path, "anna/a.mp4", "anna/b.mp4", "bob/b.mp4", "carla.mp4", "dan/2020/d.mp4", "dan/2021/d.mp4", "eve/e.mp4"
    )
    say(tmp_path, "provenance.json", json.dumps({"consent": "general"}))
    say(
        tmp_path,
        "consent.csv",
        "\ufeffIdentity, file, consent, contact, note\n"
        'anna,,form 1,"anna@example.org","said yes, twice"\n'
        "\n"
        "anna,anna/b.mp4,form 2\n"
        "carla,,form 3\n"
        ",dan/*,form 4\n"
        ",dan/2021/*,form 5\n"
        "anna,*,form 6\n",
    )
    say(tmp_path, "eve/consent.csv", "file,consent\ne.mp4,form 7\n")
    assert {name: source.rights.consent for name, source in found(tmp_path).items()} == {
        "anna/a.mp4": "form 6",  # the last row about the file
        "anna/b.mp4": "form 6",
        "bob/b.mp4": "general",
        "carla.mp4": "form 3",
        "dan/2020/d.mp4": "form 4",
        "dan/2021/d.mp4": "form 5",
        "eve/e.mp4": "form 7",
    }


@pytest.mark.parametrize("word", ["withdrawn", "Withdrawn ", "no", "REFUSED", "revoked", "denied"])
def test_withdrawn_consent_is_not_overridden(tmp_path: Path, word: str) -> None:
    corpus(tmp_path, "anna/a.mp4", "bob/b.mp4")
    say(tmp_path, "consent.csv", f"identity,consent\nanna,{word}\n")
    say(tmp_path, "anna/consent.csv", "file,consent\n*,given\n")
    for consent in ("", "everybody agreed"):
        problems = {name: source.problem for name, source in found(tmp_path, consent=consent).items()}
        assert problems == {"anna/a.mp4": "consent: withdrawn", "bob/b.mp4": ""}
    assert is_withdrawn(word)


def test_a_consent_that_only_has_the_word_is_not_withdrawn(tmp_path: Path) -> None:
    assert not any(map(is_withdrawn, ("", "given", "not withdrawn", "none needed", "Norway")))
    say(corpus(tmp_path, "a.mp4"), "provenance.json", json.dumps({"consent": "no"}))
    assert found(tmp_path)["a.mp4"].problem == "consent: withdrawn"


def test_expired_consent(tmp_path: Path) -> None:
    corpus(tmp_path, "anna/a.mp4", "bob/b.mp4")
    say(
        tmp_path,
        "consent.csv",
        "identity,consent,date,expires\nanna,given,2019-01-01,2020-01-01\nbob,given,,2999-12-31\n",
    )
    problems = {name: source.problem for name, source in found(tmp_path).items()}
    assert problems == {"anna/a.mp4": "consent: expired on 2020-01-01", "bob/b.mp4": ""}
    assert found(tmp_path, consent="renewed")["anna/a.mp4"].problem == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("identity,consent,phone\nanna,given,1\n", "line 1: the column 'phone' is not known"),
        ("identity;consent\nanna;given\n", "line 1: the column 'identity;consent' is not known"),
        ("identity\nanna\n", "line 1: the columns are identity"),
        ("consent\ngiven\n", "line 1: the columns are consent"),
        ("identity,consent,consent\nanna,a,b\n", "line 1: the columns are identity, consent, consent"),
        ("", "line 1: the columns are lost"),
        ("identity,consent\nanna,given\nbob,given\nanna,withdrawn\n", "line 4: 'anna' stands in line 2"),
        ("file,consent\na.mp4,given\na.mp4,asked\n", "line 3: 'a.mp4' stands in line 2"),
        ("identity,consent\nanna,\n", "line 2: the consent is empty"),
        ("identity,consent\n,given\n", "line 2: neither identity nor file"),
        ("identity,consent\nanna,yes, of course\n", "line 2: more cells than columns"),
        ("identity,consent,expires\nanna,given,1.2.2030\n", "line 2: expires is '1.2.2030'"),
        ("identity,consent,date\nanna,given,2030-02-30\n", "line 2: date is '2030-02-30'"),
        ('identity,consent\nanna,"given\n', "not CSV"),
    ],
)
def test_wrong_consent_files(tmp_path: Path, text: str, message: str) -> None:
    say(corpus(tmp_path, "anna/a.mp4"), "anna/consent.csv", text)
    with pytest.raises(FctfgError, match=r"anna/consent\.csv, line \d+: ") as error:
        found(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_same_row_twice_is_no_error(tmp_path: Path) -> None:
    say(corpus(tmp_path, "anna/a.mp4"), "consent.csv", "identity,consent\nanna,given\nanna,given\n")
    assert found(tmp_path)["anna/a.mp4"].rights.consent == "given"


def test_unreadable_files_about_rights(tmp_path: Path) -> None:
    corpus(tmp_path, "a.mp4")
    (tmp_path / "consent.csv").write_bytes(b"identity,consent\nJ\xfcrgen,given\n")
    with pytest.raises(FctfgError, match=r"consent\.csv is not UTF-8"):
        found(tmp_path)
    (tmp_path / "consent.csv").unlink()
    (tmp_path / "LICENSE").symlink_to(tmp_path / "lost")
    with pytest.raises(FctfgError, match=r"LICENSE cannot be read \(No such file"):
        found(tmp_path)
    (tmp_path / "LICENSE").unlink()
    (tmp_path / "provenance.json").write_text("[1")
    with pytest.raises(FctfgError, match=r"provenance\.json is not a JSON object"):
        found(tmp_path)


def test_a_single_file_has_the_rights_of_its_folder(tmp_path: Path) -> None:
    corpus(tmp_path, "a.mp4", "b.mp4")
    say(tmp_path, "consent.csv", "file,consent\na.mp4,withdrawn\n")
    say(tmp_path, "LICENSE", "CC BY 4.0")
    (source,) = find_sources(tmp_path / "a.mp4", tmp_path / "out")
    assert (source.problem, source.rights.licence) == ("consent: withdrawn", "CC-BY-4.0")
    (source,) = find_sources(tmp_path / "b.mp4", tmp_path / "out")
    assert source.problem == ""


def test_names_in_another_unicode_form(tmp_path: Path) -> None:
    """A name typed on one system is found in a folder that another system has written."""
    corpus(tmp_path, "Ju\u0308rgen/a.mp4", "Zoe\u0308.mp4")
    say(tmp_path, "consent.csv", "identity,file,consent\nJ\u00fcrgen,,form 1\n,Zo\u00eb.mp4,form 2\n")
    assert [source.rights.consent for source in found(tmp_path).values()] == ["form 1", "form 2"]
