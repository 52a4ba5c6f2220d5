"""What codes are called, and what a label in the configuration means."""

import subprocess
import sys
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forward_auth.identity import Situation
from forward_auth.nomenclature import FIELDS, NEAREST, TABLES, Resolved, closed, entry, fold, label, resolve, title

SIZES = {"G15": 30, "R95": 10, "R291": 2, "R94": 26, "R09": 4, "R23": 3, "R22": 14, "R81": 3, "R11": 6, "R04": 10, "R38": 110,
         "R06": 8, "R231": 7, "R02": 69, "R21": 51, "R85": 80}  # fmt: skip
CLOSED = {"G15": 6, "R95": 5, "R291": 1, "R94": 25, "R22": 2, "R38": 4, "R02": 2, "R21": 5, "R85": 5}


def rows(table: str) -> list[list[str]]:
    text = resources.files("forward_auth.nomenclature").joinpath(f"{table}.csv").read_text("utf-8")
    return [line.split(";") for line in text.splitlines()]


@pytest.mark.parametrize("table", TABLES)
def test_files(table: str) -> None:
    """Each file names its official table, has one header, known statuses, no doubled code, and as many codes as were published."""
    (source, *_), header, *body = rows(table)
    assert source.startswith(f"# TRE_{table}-")
    assert ["code", "label", "status", "since", "instead"] == header
    assert {line[2] for line in body} <= {"active", "closed"}
    assert all(line[1] or line[2] == "closed" for line in body)
    assert all(3 <= len(line) <= 5 and line == [part.strip() for part in line] for line in body)
    assert SIZES[table] == len(body) == len({line[0] for line in body})
    assert CLOSED.get(table, 0) == sum(line[2] == "closed" for line in body)


def test_no_other_files() -> None:
    """Every CSV file of the package is a table that can be asked for."""
    files = {one.name for one in resources.files("forward_auth.nomenclature").iterdir() if one.name.endswith(".csv")}
    assert {f"{table}.csv" for table in TABLES} == files == {f"{table}.csv" for table in SIZES}


@pytest.mark.parametrize(
    ("table", "code", "expected"),
    [
        ("G15", "10", "Médecin"),
        ("G15", "35", "Aide-soignant"),
        ("R95", "71", "Ostéopathe"),
        ("R95", "171", None),
        ("R291", "99", "Acteur participant au système de santé caractérisé par rôle"),
        ("R94", "41", "Assistant de service social"),
        ("R09", "M", "Militaire"),
        ("R23", "B", "Bénévole"),
        ("R22", "GENR01", "Activité de soin et de pharmacie"),
        ("R81", "MME", "Madame"),
        ("R11", "PR", "Professeur"),
        ("R04", "S", "Spécialité ordinale"),
        ("R38", "SI07", "Infirmier(ère) anesthésiste (IADE)"),
        ("R06", "H", "Établissement de santé"),
        ("R231", "APPPRIP3", "Palier 3, authentification privée d'une personne physique"),
        ("R02", "SA69", "Maisons de naissance"),
        ("R21", "FON-AU", "Fonction non définie"),
        ("R85", "331", "Secrétaire assistante médico-administrative"),
        ("profession", "93", "Psychologue"),
        ("profession", "99", "Acteur participant au système de santé caractérisé par rôle"),
        ("role", "FON-43", "Cadre de santé"),
        ("role", "313", "Aide-soignant"),
        ("profession", "15", None),
        ("profession", "", None),
        ("sector", "sa01", None),  # a code is looked up as it is; only the configuration may be careless
    ],
)
def test_labels(table: str, code: str, expected: str | None) -> None:
    """A code has its French label; an unknown one has none, and is no error."""
    assert expected == label(table, code)


@pytest.mark.parametrize("table", ["R99", "", "../identity", "structure"])
def test_unknown_table(table: str) -> None:
    """A table that is not here is our own mistake, never a file name."""
    with pytest.raises(KeyError):
        label(table, "10")


@pytest.mark.parametrize(
    ("table", "code", "expected"),
    [
        ("profession", "10", False),
        ("profession", "35", True),
        ("G15", "93", True),
        ("profession", "93", False),  # closed in one table, in force in another
        ("R02", "SA11", True),
        ("role", "350", True),
        ("role", "372", False),
        ("profession", "nobody", False),
    ],
)
def test_closed(table: str, code: str, expected: bool) -> None:
    """A field's code is closed when no table has it in force."""
    assert expected is closed(table, code)


def test_what_took_its_place() -> None:
    """A closed code says since when, and what to write instead where that is known."""
    care = entry("profession", "35")
    assert care
    assert ("2024-12-13", "99+313") == (care.since, care.instead)
    home = entry("role", "350")
    assert home
    assert ("2025-03-28", "372") == (home.since, home.instead)
    for table in TABLES:
        for code, *rest in rows(table)[2:]:
            instead = (*rest, "", "", "")[3]
            profession, _, role = instead.rpartition("+") if "+" in instead else ("", "", "")
            assert not instead or not closed("role", role or instead)
            assert not profession or label("profession", profession), code


@pytest.mark.parametrize(
    ("field", "text", "code"),
    [
        ("profession", "10", "10"),
        ("profession", " 10 ", "10"),
        ("profession", "Médecin", "10"),
        ("profession", "MEDECIN", "10"),
        ("profession", "medecin", "10"),
        ("profession", "Me\u0301decin", "10"),
        ("profession", "sage femme", "50"),
        ("profession", "Psychologue", "93"),
        ("profession", "aide soignant", "35"),
        ("profession", "ostéopathe", "71"),
        ("role", "fon-43", "FON-43"),
        ("role", "Cadre de Santé", "FON-43"),
        ("role", "aide soignant", "313"),
        ("role", "Aide à domicile", "372"),  # 350 had the same label and is closed
        ("role", "Associé dans une société d’exercice (SEL ou SCP)", "FON-02"),
        ("sector", "sa01", "SA01"),
        ("sector", "établissement public de santé", "SA01"),
        ("speciality", "Qualifié en médecine générale", "SM26"),
        ("speciality", "Chirurgie orale (SM)", "SM56"),
        ("speciality", "Chirurgie Orale (SCD) ", "SCD02"),
        ("speciality", "Gériatrie (SM)", "SM18"),
        ("category", "étudiant", "E"),
        ("mode", "s", "S"),
        ("mode", "Salarié", "S"),
    ],
)
def test_resolve(field: str, text: str, code: str) -> None:
    """Codes and labels of the configuration are understood whatever their case, accents and punctuation."""
    assert Resolved(code, True) == resolve(field, text)


@pytest.mark.parametrize(
    ("field", "text", "nearest"),
    [
        ("profession", "Medcin", ("10 (Médecin)",)),
        ("profession", "infirmière", ("60 (Infirmier)", "69 (Infirmier psychiatrique)")),
        ("mode", "Libéral", ("L (Libéral, indépendant, artisan, commerçant)",)),
        ("speciality", "Chirurgie orale", ("SCD02 (Chirurgie orale)", "SM56 (Chirurgie orale)")),
        ("speciality", "Gériatrie (SI)", ("SM18 (Gériatrie)",)),
        ("role", "secrétaire", ("331 (Secrétaire assistante médico-administrative)",)),
        ("role", "Aide à domicil", ("372 (Aide à domicile)",)),  # and not 350, closed
        ("profession", "171x", ("171",)),
        ("profession", "15", ()),
        ("profession", "", ()),
        ("profession", "—", ()),
        ("profession", "Ж" * 40, ()),
    ],
)
def test_resolve_unknown(field: str, text: str, nearest: tuple[str, ...]) -> None:
    """What is not known, or fits several codes, stays as it was written, with the nearest known ones."""
    found = resolve(field, text)
    assert (text, False) == (found.code, found.known)
    assert nearest == found.nearest[: len(nearest) or None]


def test_resolve_other_field() -> None:
    """Fields without nomenclature are not asked for."""
    with pytest.raises(KeyError):
        resolve("structure", "R1")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*FIELDS]), st.text(st.characters(), max_size=30))
def test_resolve_anything(field: str, text: str) -> None:
    """Any text is a known code of the field, or stays what it was."""
    found = resolve(field, text)
    assert label(field, found.code) or closed(field, found.code) if found.known else text.strip() == found.code
    assert len(found.nearest) <= NEAREST


def test_every_label_resolves() -> None:
    """Each label that is in force resolves to its code, unless two codes share it."""
    for field, tables in FIELDS.items():
        labels = [(line[1], line[0]) for table in tables for line in rows(table)[2:] if line[2] == "active"]
        for name, code in labels:
            shared = {c for other, c in labels if fold(other) == fold(name)}
            found = resolve(field, name)
            assert (found.code == code and found.known) if len(shared) == 1 else not found.known


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (Situation(profession="10", speciality="SM26"), "Médecin, Qualifié en médecine générale"),
        (Situation(profession="10", category="E"), "Médecin (étudiant)"),
        (Situation(profession="60", role="FON-43"), "Infirmier, Cadre de santé"),
        (Situation(profession="99", role="331"), "Secrétaire assistante médico-administrative"),
        (Situation(profession="99"), "Acteur participant au système de santé caractérisé par rôle"),
        (
            Situation(profession="15", role="FON-99", speciality="CEX22"),
            "profession 15, rôle FON-99, savoir-faire CEX22",
        ),
        (Situation(role="313"), "Aide-soignant"),
        (Situation(sector="SA01", structure_name="Hôpital"), ""),
    ],
)
def test_title(situation: Situation, expected: str) -> None:
    """A situation is called by what the person is; what has no label is shown by its code."""
    assert expected == title(situation)


def test_nothing_is_read_early() -> None:
    """Importing costs no file and no library for files: the service starts without the tables."""
    program = (
        "import sys, forward_auth.nomenclature as n\n"
        "assert n._table.cache_info().currsize == 0\n"
        "assert not {'importlib.resources', 'difflib', 'csv'} & {*sys.modules}\n"
        "n.label('mode', 'S')\n"
        "assert n._table.cache_info().currsize == 1"
    )
    assert 0 == subprocess.run([sys.executable, "-S", "-c", program], check=False).returncode
