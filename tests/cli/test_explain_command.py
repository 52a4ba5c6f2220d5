"""`explain`: an administrator asks before a professional calls; offline, with a person of the simulator or a userinfo file."""

import json
from pathlib import Path

import pytest
from commands import ISSUER, Command, Done
from running import DOSSIER, PRESCRIPTION, configuration

from forward_auth.simulator import people

PRESCRIBERS = ("10", "40", "50")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two apps: any professional, and prescribers."""
    return configuration(tmp_path, ISSUER)


def refused(done: Done, *words: str) -> None:
    """Exit 2, one line, no traceback, no decision."""
    assert (2, "", 1) == (done.code, done.out, len(done.lines)), done
    for word in words:
        assert word in done.err


@pytest.mark.parametrize("person", sorted(people()))
def test_each_person_of_the_simulator(command: Command, config: Path, person: str) -> None:
    """Everybody enters the record; the prescription, who has a prescriber's situation: read from the userinfo, not from the name."""
    asked = ["explain", "--config", config, "--person", person]
    record = command(*asked, "GET", DOSSIER + "/patients/42?onglet=biologie")
    assert (0, "") == (record.code, record.err)
    assert "allow" == record.out.splitlines()[0]
    assert "rule 1 (implicit) allows" in record.out
    userinfo = people()[person]["userinfo"]
    professions = {each.get("codeProfession") for each in userinfo.get("SubjectRefPro", {}).get("exercices", [])}
    expected = "allow" if professions & set(PRESCRIBERS) else "refuse"
    answer = command(*asked, "GET", PRESCRIPTION + "/x")
    assert (0, expected) == (answer.code, answer.out.splitlines()[0])
    if expected == "refuse":
        assert "profession is" in answer.out


def test_the_rule_is_named_with_its_line_and_why_the_others_are_not(command: Command, config: Path) -> None:
    """What an administrator reads: the app, how the path was read, each earlier rule and why not, the rule that decided and why."""
    lines = config.read_text().splitlines()
    rules = [number for number, line in enumerate(lines, 1) if line == "[[apps.prescription.rules]]"]
    done = command(
        *("explain", "--config", config, "--person", "infirmiere-leroy", "POST", PRESCRIPTION + "/Prescrire/?x=1")
    )
    said = done.out.splitlines()
    assert "refuse" == said[0]
    assert f"app prescription: {PRESCRIPTION}" == said[1]
    assert "path read as /Prescrire/ (open rules) and /prescrire (other rules)" == said[2]
    assert f"rule 1 ({config}:{rules[0]}) does not match: paths are /public/*" == said[3]
    assert f"rule 2 ({config}:{rules[1]}) does not match: methods are GET, HEAD" == said[4]
    assert f"rule 3 ({config}:{rules[2]}) refuses:" == said[5]
    assert "profession is 60" in said[6]


def test_open_and_ambiguous_paths(command: Command, config: Path) -> None:
    """An open rule needs no identity; the same path with a second reading is not open any more, and that is said."""
    asked = ["explain", "--config", config, "--person", "infirmiere-leroy", "GET"]
    assert "open" == command(*asked, PRESCRIPTION + "/public/a").out.splitlines()[0]
    done = command(*asked, PRESCRIPTION + "/public/%2e%2e/x")
    assert "refuse" == done.out.splitlines()[0]
    assert "two readings" in done.out


def test_json_for_programs(command: Command, config: Path) -> None:
    """The same as one object."""
    asked = ["explain", "--config", config, "--person", "docteur-dupont", "GET", DOSSIER + "/"]
    plain = command(*asked).out.splitlines()
    assert {"decision": plain[0], "why": plain[1:]} == json.loads(command(*asked, "--json").out)


def test_a_userinfo_file(command: Command, config: Path, tmp_path: Path) -> None:
    """The person is what the file says, as PSC would have sent it."""
    path = tmp_path / "camille.json"
    path.write_text(json.dumps(people()["infirmiere-leroy"]["userinfo"]))
    done = command("explain", "--config", config, "--person", path, "GET", PRESCRIPTION + "/")
    assert (0, "refuse") == (done.code, done.out.splitlines()[0])
    path.write_text(path.read_text().replace('"codeProfession": "60"', '"codeProfession": "10"'))
    done = command("explain", "--config", config, "--person", path, "GET", PRESCRIPTION + "/")
    assert (0, "allow") == (done.code, done.out.splitlines()[0])


def test_nothing_is_written(command: Command, config: Path) -> None:
    """Offline: no store, no key ring, no audit line comes of a question."""
    before = sorted(each.name for each in config.parent.iterdir())
    command("explain", "--config", config, "--person", "docteur-dupont", "GET", DOSSIER + "/")
    assert before == sorted(each.name for each in config.parent.iterdir())


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not a userinfo JSON document (JSONDecodeError)"),
        (b"{", "not a userinfo JSON document (JSONDecodeError)"),
        (b"\xff\xfe", "not a userinfo JSON document (UnicodeDecodeError)"),
        (b"[" * 200_000, "not a userinfo JSON document (RecursionError)"),
        (b"[]", "a userinfo document is a JSON object"),
        (b'"docteur-dupont"', "a userinfo document is a JSON object"),
        (b"{}", "not the userinfo of a professional: neither userinfo nor ID token has SubjectNameID"),
        (b'{"SubjectNameID": 7}', "not the userinfo of a professional"),
        (b'{"SubjectNameID": ""}', "not the userinfo of a professional"),
        (b'{"SubjectNameID": "8\\n9"}', "not the userinfo of a professional"),
    ],
    ids=lambda each: each[:20].decode("latin-1") if isinstance(each, bytes) else "",
)
def test_a_file_that_is_no_person(command: Command, config: Path, tmp_path: Path, content: bytes, word: str) -> None:
    """One line, exit 2, and never an identity made of nothing."""
    path = tmp_path / "person.json"
    path.write_bytes(content)
    refused(command("explain", "--config", config, "--person", path, "GET", DOSSIER + "/"), str(path), word)


@pytest.mark.parametrize(
    "person", ["nobody", "", "docteur dupont", "/nowhere/x.json", "a\nb", "\x00", "\udcff", "x" * 5000]
)
def test_a_name_that_is_nobody(command: Command, config: Path, person: str) -> None:
    """The people there are get named; a control character of the name stays one of ours to escape."""
    done = command("explain", "--config", config, "--person", person, "GET", DOSSIER + "/")
    refused(done)
    assert done.err[:-1].isprintable()
    if "x" * 300 not in person and "\x00" not in person:
        assert "docteur-dupont" in done.err


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/patients",
        "dossier.hopital.example/",
        "https:/dossier.hopital.example/",
        "https://",
        "ftp://dossier.hopital.example/",
        "https://a@dossier.hopital.example/",
        "https://dossier.hopital.example:x/",
        "https://dossier hopital.example/",
        "\udcff",
    ],
)
def test_an_address_that_is_none(command: Command, config: Path, url: str) -> None:
    """A slip of the keyboard is not a refusal: exit 2 and what to write."""
    done = command("explain", "--config", config, "--person", "docteur-dupont", "GET", url)
    refused(done, "not an absolute address", "write https://HOST/PATH")


@pytest.mark.parametrize("method", ["", "GE T", "GET\n", "G\x00", "GÉT", "(GET)"])
def test_a_method_that_is_none(command: Command, config: Path, method: str) -> None:
    """As for addresses."""
    refused(command("explain", "--config", config, "--person", "docteur-dupont", method, DOSSIER + "/"), "not a method")


def test_an_address_of_nobody_is_answered(command: Command, config: Path) -> None:
    """A host that no app has is a question like another: refused, as the service would, and why."""
    done = command("explain", "--config", config, "--person", "docteur-dupont", "GET", "https://autre.example/")
    assert Done(0, "refuse\nno app has the origin https://autre.example\n", "") == done


def test_an_accent_is_read_as_it_was_typed(command: Command, config: Path) -> None:
    """Both readings of a path with an accent are shown as people write it."""
    done = command("explain", "--config", config, "--person", "docteur-dupont", "GET", DOSSIER + "/été")
    assert "path read as /été (open rules) and /été (other rules)" in done.out


def test_bytes_that_are_no_text(command: Command, config: Path) -> None:
    """A path that is not UTF-8, as a shell hands it over: judged, and shown without a traceback."""
    done = command("explain", "--config", config, "--person", "docteur-dupont", "GET", DOSSIER + "/\udcff")
    assert (0, "") == (done.code, done.err)
    assert "two readings" in done.out
