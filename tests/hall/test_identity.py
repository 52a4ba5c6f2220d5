"""What becomes of PSC's claims: every shape it was seen to send, and shapes nobody should send."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forward_auth.identity import (
    CODE_CHARACTERS,
    ERROR_CODES,
    OTHER_IDS,
    SITUATIONS,
    TEXT_BYTES,
    Identity,
    IdentityError,
    Situation,
    clean,
    cut,
    from_record,
    read_identity,
    to_record,
)

ISSUER = "https://auth.psc.example/realms/esante-wallet"
SUB = "5d3b1f6e-0000-4000-8000-000000000001"
ID_CLAIMS = {"sub": SUB, "acr": "eidas1", "auth_time": 1_800_000_000}

# A general practitioner with a practice of her own and a hospital, as a card sign-in shows her.
PRACTICE = {
    "codeModeExercice": "L",
    "codeSecteurDactivite": "SA07",
    "codeSectionPharmacien": "",
    "codeRole": "",
    "codeGenreActivite": "GENR01",
    "numeroSiretSite": "",
    "numeroFinessSite": "",
    "identifiantTechniqueDeLaStructure": "R900001",
    "raisonSocialeSite": "CABINET MARTEL",
    "ancienIdentifiantDeLaStructure": "499700000042001",
}
HOSPITAL = {
    "codeModeExercice": "S",
    "codeSecteurDactivite": "SA01",
    "codeRole": "FON-35",
    "codeGenreActivite": "GENR01",
    "numeroSirenSite": "123456782",
    "numeroSiretSite": "12345678200010",
    "numeroFinessSite": "0B0199999",
    "numeroFinessetablissementJuridique": "1B0099999",
    "identifiantTechniqueDeLaStructure": "F0B0199999",
    "raisonSocialeSite": "",
    "enseigneCommercialeSite": "Hôpital de l’Île",
}
EXERCICE = {
    "codeProfession": "10",
    "codeCategorieProfessionnelle": "C",
    "nomDexercice": "MARTEL",
    "prenomDexercice": "INÈS",
    "codeTypeSavoirFaire": "S",
    "codeSavoirFaire": "SM26",
    "activities": [PRACTICE, HOSPITAL],
}
USERINFO: dict[str, Any] = {
    "sub": SUB,
    "SubjectNameID": "899700000042",
    "preferred_username": "899700000042",
    "given_name": "INÈS MARIE",
    "family_name": "DUBOIS",
    "authMode": "CARD",
    "SubjectRefPro": {"codeCivilite": "MME", "exercices": [EXERCICE]},
    "otherIds": [{"identifiant": "899700000042", "origine": "RPPS", "qualite": 1}],
}


def read(userinfo: object = USERINFO, id_claims: object = ID_CLAIMS, **more: str) -> Identity:
    return read_identity(userinfo, id_claims, issuer=ISSUER, **more)  # type: ignore[arg-type]


def read_exercices(exercices: object) -> tuple[Situation, ...]:
    return read({**USERINFO, "SubjectRefPro": {"exercices": exercices}}).situations


def refused(userinfo: object = USERINFO, id_claims: object = ID_CLAIMS, **more: str) -> str:
    with pytest.raises(IdentityError) as raised:
        read(userinfo, id_claims, **more)
    assert raised.value.code in ERROR_CODES
    assert "8997" not in str(raised.value), "an error names claims, never people"
    return raised.value.code


# -- who it is ---------------------------------------------------------------------------------------------------------


def test_whole_person() -> None:
    """A professional with two activities is one identity with two situations, each value from the claim it belongs to."""
    assert read() == Identity(
        issuer=ISSUER,
        sub=SUB,
        subject="899700000042",
        given_name="INÈS MARIE",
        family_name="DUBOIS",
        civility="MME",
        acr="eidas1",
        auth_mode="CARD",
        auth_time=1_800_000_000,
        other_ids=(("RPPS", "899700000042"),),
        situations=(
            Situation(
                profession="10",
                category="C",
                speciality="SM26",
                speciality_type="S",
                sector="SA07",
                mode="L",
                activity_kind="GENR01",
                structure="R900001",
                structure_name="CABINET MARTEL",
                structures=("R900001", "499700000042001"),
                given_name="INÈS",
                family_name="MARTEL",
            ),
            Situation(
                profession="10",
                category="C",
                role="FON-35",
                speciality="SM26",
                speciality_type="S",
                sector="SA01",
                mode="S",
                activity_kind="GENR01",
                structure="F0B0199999",
                structure_name="Hôpital de l’Île",
                structures=("F0B0199999", "0B0199999", "1B0099999", "12345678200010", "123456782"),
                given_name="INÈS",
                family_name="MARTEL",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("subject", "rpps"),
    [
        ("899700000042", "99700000042"),
        ("810005678901", "10005678901"),  # fails Luhn, and is in the ANS's own documents
        ("ANS20231122132732", ""),
        ("500000001815646/CPAT00045", ""),
        ("0123456789", ""),
        ("89970000004", ""),
        ("8997000000420", ""),
        ("899700000042/1", ""),
        ("5d3b1f6e-aaaa-4000-8000-000000000001", ""),
        ("310000001/DURAND A", ""),
    ],
)
def test_national_ids(subject: str, rpps: str) -> None:
    """Every kind of national id is taken as it is; only `8` + 11 digits is an RPPS number, and no key is checked."""
    identity = read({**USERINFO, "SubjectNameID": subject})
    assert (subject, rpps) == (identity.subject, identity.rpps)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "no_subject"),
        ("", "no_subject"),
        (899700000042, "bad_subject"),
        (0, "bad_subject"),
        (False, "bad_subject"),
        (["899700000042"], "bad_subject"),
        ({"value": "899700000042"}, "bad_subject"),
        ("8" * 256, "bad_subject"),
        ("899700000042\n", "bad_subject"),
        ("8997\x00", "bad_subject"),
        ("\r\nSet-Cookie: a=b", "bad_subject"),
        (" 899700000042", "bad_subject"),
        ("899700000042 ", "bad_subject"),
        (" ", "bad_subject"),
        ("８99700000042", "bad_subject"),  # a full-width 8
        ("8997\u200b", "bad_subject"),
        ("8997\ud800", "bad_subject"),
    ],
)
def test_subject_that_is_none(value: object, code: str) -> None:
    """RULE-04: a national id that is missing, no string, too long, or could look like another one is refused."""
    assert code == refused({**USERINFO, "SubjectNameID": value})
    assert code == refused({}, {**ID_CLAIMS, "SubjectNameID": value})


def test_longest_subject() -> None:
    """255 characters are an id, one character is too."""
    for length in (1, 2, 255):
        assert "8" * length == read({**USERINFO, "SubjectNameID": "8" * length}).subject


def test_subject_is_nowhere() -> None:
    """Claims that look like an id never stand in for the one that was asked for."""
    userinfo = {name: value for name, value in USERINFO.items() if name != "SubjectNameID"}
    assert "no_subject" == refused(userinfo)
    assert "no_subject" == refused(USERINFO, subject_claim="PSISubjectNameID")


def test_other_subject_claim() -> None:
    """The operator may name another claim for the key of a person."""
    userinfo = {**USERINFO, "PSISubjectNameID": "psi-1"}
    assert "psi-1" == read(userinfo, subject_claim="PSISubjectNameID").subject


@pytest.mark.parametrize("name", ["SubjectNameID", "sub"])
def test_two_persons(name: str) -> None:
    """Userinfo of one person with the ID token of another is nobody."""
    theirs = {**ID_CLAIMS, "SubjectNameID": "899700000042", name: "899700000099"}
    assert {"SubjectNameID": "subject_differs", "sub": "sub_differs"}[name] == refused(USERINFO, theirs)


def test_same_subject_twice() -> None:
    """An ID token that repeats the national id is no contradiction."""
    assert "899700000042" == read(USERINFO, {**ID_CLAIMS, "SubjectNameID": "899700000042"}).subject


@pytest.mark.parametrize("value", [None, "", 7, ["x"], "a\nb"])
def test_sub_is_missing(value: object) -> None:
    """Without a `sub` in the ID token there is nothing to compare userinfo with."""
    assert refused(USERINFO, {**ID_CLAIMS, "sub": value}) in ("no_sub", "bad_subject")
    assert refused({**USERINFO, "sub": None}, {**ID_CLAIMS, "sub": value}) in ("no_sub", "bad_subject")


def test_unbound_userinfo() -> None:
    """Userinfo without `sub` is believed only if the ID token states the same national id."""
    userinfo = {name: value for name, value in USERINFO.items() if name != "sub"}
    assert "unbound" == refused(userinfo)
    nameless = {name: value for name, value in userinfo.items() if name != "SubjectNameID"}
    assert "unbound" == refused(nameless, {**ID_CLAIMS, "SubjectNameID": "899700000042"})
    assert "899700000042" == read(userinfo, {**ID_CLAIMS, "SubjectNameID": "899700000042"}).subject


def test_without_userinfo() -> None:
    """With userinfo switched off everything is read from the ID token, and what it lacks is empty."""
    identity = read({}, {**ID_CLAIMS, "SubjectNameID": "899700000042", "given_name": "INÈS", "family_name": "MARTEL"})
    assert ("899700000042", "INÈS", "MARTEL", ()) == (
        identity.subject,
        identity.given_name,
        identity.family_name,
        identity.situations,
    )


# -- authentication context --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, "", 1, True, ["eidas1"], {"eidas1": 1}, "eid\x00as1", "eidas1\n", "é", "x" * 65]
)
def test_RULE_03_acr_that_is_none(value: object) -> None:
    """A malformed `acr` is no `acr`, and userinfo cannot supply one."""
    assert "" == read({**USERINFO, "acr": "eidas1"}, {**ID_CLAIMS, "acr": value}).acr


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_800_000_000, 1_800_000_000),
        (1_800_000_000.9, 1_800_000_000),
        (0, 0),
        (-5, 0),
        (True, 0),
        ("1800000000", 0),
        (None, 0),
        (1e300, 0),
        (10**400, 0),
        (float("nan"), 0),
        (float("inf"), 0),
        ([1_800_000_000], 0),
    ],
)
def test_auth_time(value: object, seconds: int) -> None:
    """The time of authentication is a sane number of the ID token, or unknown; `iat` and userinfo never replace it."""
    claims = {**ID_CLAIMS, "auth_time": value, "iat": 1_800_000_500}
    assert seconds == read({**USERINFO, "auth_time": 1_800_000_000}, claims).auth_time


def test_auth_mode() -> None:
    """The signed statement of how the person signed in goes before the unsigned one."""
    assert "CARD" == read().auth_mode
    assert "MOBILE" == read(USERINFO, {**ID_CLAIMS, "authMode": "MOBILE"}).auth_mode


# -- situations --------------------------------------------------------------------------------------------------------


def test_userinfo_without_subject_ref_pro() -> None:
    """The short userinfo that was seen in the field: names, civility beside, and no situation."""
    identity = read(
        {"sub": SUB, "SubjectNameID": "899700000042", "codeCivilite": "M", "given_name": "Ali", "family_name": "B"}
    )
    assert ("M", "Ali", "B", ()) == (
        identity.civility,
        identity.given_name,
        identity.family_name,
        identity.situations,
    )


def test_exercice_without_activities() -> None:
    """A card of 2021: an exercice alone is a situation, with no structure."""
    exercice = {"codeProfession": "10", "nomDexercice": "MARTEL", "prenomDexercice": "INÈS", "codeTypeSavoirFaire": "S"}
    assert (
        Situation(profession="10", speciality_type="S", given_name="INÈS", family_name="MARTEL"),
    ) == read_exercices([exercice])


@pytest.mark.parametrize("activities", [None, "", [], {}, "x", 7, [None, "x", 7, []]])
def test_activities_of_any_shape(activities: object) -> None:
    """Activities that are none leave the exercice."""
    assert ["10"] == [one.profession for one in read_exercices([{**EXERCICE, "activities": activities}])]


@pytest.mark.parametrize(
    "exercices", [None, "", [], {}, "x", 7, [None, "x", 7, [EXERCICE]], [{}], [{"activities": [{}]}]]
)
def test_exercices_of_any_shape(exercices: object) -> None:
    """Exercices that say nothing are no situation."""
    assert () == read_exercices(exercices)


@pytest.mark.parametrize("reference", [None, "", [], {}, "x", 7, [None, "x"]])
def test_subject_ref_pro_of_any_shape(reference: object) -> None:
    """A SubjectRefPro that is none is as good as absent."""
    assert () == read({**USERINFO, "SubjectRefPro": reference}).situations


def test_object_where_a_list_is_expected() -> None:
    """One object instead of a list of one is read, at each level, and so is a list of one where one object is expected."""
    userinfo = {**USERINFO, "SubjectRefPro": [{"exercices": {**EXERCICE, "activities": HOSPITAL}}]}
    assert ["F0B0199999"] == [one.structure for one in read(userinfo).situations]


def test_many_exercices() -> None:
    """One situation per exercice and activity, in PSC's order."""
    nurse = {"codeProfession": "60", "codeCategorieProfessionnelle": "C", "activities": [HOSPITAL]}
    found = read_exercices([EXERCICE, nurse, {"codeProfession": "71"}])
    assert [("10", "SA07"), ("10", "SA01"), ("60", "SA01"), ("71", "")] == [
        (one.profession, one.sector) for one in found
    ]


def test_names_of_exercise() -> None:
    """Names come from the exercice, each one it lacks from the civil name."""
    found = read_exercices([{"codeProfession": "60", "nomDexercice": "MARTEL", "prenomDexercice": ""}])
    assert [("INÈS MARIE", "MARTEL")] == [(one.given_name, one.family_name) for one in found]


def test_care_assistant() -> None:
    """Since the end of 2024 care assistants are profession 99 with a role; both are kept in one situation."""
    found = read_exercices([{"codeProfession": "99", "activities": [{"codeRole": "313"}]}])
    assert [("99", "313")] == [(one.profession, one.role) for one in found]


def test_unknown_codes_are_kept() -> None:
    """A code that no nomenclature knows passes through."""
    assert ["NEW-1/2"] == [one.profession for one in read_exercices([{"codeProfession": "NEW-1/2"}])]


@pytest.mark.parametrize(
    "value",
    [
        10,
        10.0,
        True,
        ["10"],
        {"10": "10"},
        "1\x000",
        "10\n",
        " 10",
        "10 ",
        "１０",
        "1\u200b0",
        "10" + "0" * CODE_CHARACTERS,
    ],
)
def test_RULE_03_malformed_code(value: object) -> None:
    """A code that is no plain string is unknown: it is not repaired into a code that some rule allows."""
    exercice = {**EXERCICE, "codeProfession": value, "activities": [{**HOSPITAL, "codeSecteurDactivite": value}]}
    assert [("", "")] == [(one.profession, one.sector) for one in read_exercices([exercice])]


def test_civility_and_kind_at_top_level() -> None:
    """Since 2023 civility and kind of activity stand beside SubjectRefPro; the kind is believed of a single situation only."""
    userinfo = {**USERINFO, "codeCivilite": "M", "codeGenreActivite": "GENR09"}
    bare = {**userinfo, "SubjectRefPro": {"exercices": [{"codeProfession": "60"}]}}
    two = {**userinfo, "SubjectRefPro": {"exercices": [{"codeProfession": "60"}, {"codeProfession": "71"}]}}
    assert "MME" == read(userinfo).civility
    assert "M" == read(bare).civility
    assert ["GENR01", "GENR01"] == [one.activity_kind for one in read(userinfo).situations]
    assert ["GENR09"] == [one.activity_kind for one in read(bare).situations]
    assert ["", ""] == [one.activity_kind for one in read(two).situations]


TOP_LEVEL = {
    "sub": SUB,
    "SubjectNameID": "500000001815646/CPAT00045",
    "given_name": "Zoé",
    "family_name": "Petit",
    "Secteur_Activite": "SA01^1.2.250.1.71.4.2.4",
    "SubjectOrganization": "HÔPITAL DE L’ÎLE",
    "SubjectOrganizationID": "F0B0199999",
    "SubjectRole": ["10^1.2.250.1.213.1.1.5.5"],
}


@pytest.mark.parametrize("reference", [None, {}, {"codeCivilite": "MME"}])
def test_secretary_without_exercices(reference: object) -> None:
    """Who has only top-level claims has the structure and sector they state, and no profession."""
    expected = Situation(
        sector="SA01",
        structure="F0B0199999",
        structure_name="HÔPITAL DE L’ÎLE",
        structures=("F0B0199999",),
        given_name="Zoé",
        family_name="Petit",
    )
    assert (expected,) == read({**TOP_LEVEL, "SubjectRefPro": reference}).situations


@pytest.mark.parametrize("exercices", [[], None, "x", [{}]])
def test_top_level_claims_never_amend_exercices(exercices: object) -> None:
    """Where PSC lists exercices, none means none."""
    assert () == read({**TOP_LEVEL, "SubjectRefPro": {"exercices": exercices}}).situations


@pytest.mark.parametrize(
    "sector",
    ["SA01", "SA01^", "SA01^1.2.250.1.71.4.2.40", "SA01^1.2.250.1.213.1.1.5.5", "^1.2.250.1.71.4.2.4", ["SA01^1.2.250.1.71.4.2.4"],
     "SA01^SA02^1.2.250.1.71.4.2.4", "SA01^1x2.250.1.71.4.2.4"],
)  # fmt: skip
def test_sector_of_another_table(sector: object) -> None:
    """A top-level sector counts only with the OID of the table of sectors."""
    found = read({**TOP_LEVEL, "Secteur_Activite": sector}).situations
    assert [("", "F0B0199999")] == [(one.sector, one.structure) for one in found]


def test_top_level_without_structure() -> None:
    """A sector alone is a situation without any structure."""
    found = read({**TOP_LEVEL, "SubjectOrganizationID": "", "SubjectOrganization": None}).situations
    assert [("SA01", "", ())] == [(one.sector, one.structure, one.structures) for one in found]


def test_bounds() -> None:
    """However much is claimed, what is kept is bounded; texts are cut between characters, controls and line breaks dropped."""
    userinfo = {
        **USERINFO,
        "given_name": "é" * 5000,
        "family_name": "DU\r\nB\x00O\u2028I\ud800S\t",
        "SubjectRefPro": {"exercices": [{"codeProfession": "10", "activities": [HOSPITAL] * 10}] * 100},
        "otherIds": [{"identifiant": str(number), "origine": "X"} for number in range(100)],
    }
    identity = read(userinfo)
    assert "é" * (TEXT_BYTES // 2) == identity.given_name
    assert "DUBOIS" == identity.family_name
    assert SITUATIONS == len(identity.situations)
    assert OTHER_IDS == len(identity.other_ids)


@pytest.mark.parametrize("name", ["otherIds", "otherIDs"])
@pytest.mark.parametrize("wrap", [lambda one: [None, one, 3, {"origine": "RPPS"}, {"identifiant": 5}], lambda one: one])
def test_other_ids(name: str, wrap: Any) -> None:
    """Other ids are read in both spellings; those without identifier are passed over."""
    userinfo = {key: value for key, value in USERINFO.items() if key != "otherIds"}
    userinfo[name] = wrap({"identifiant": "ANS1", "origine": "EDIT", "qualite": "1"})
    assert (("EDIT", "ANS1"),) == read(userinfo).other_ids


@pytest.mark.parametrize(
    ("text", "limit", "kept"), [("aé", 3, "aé"), ("aé", 2, "a"), ("€", 2, ""), ("😀b", 4, "😀"), ("", 0, "")]
)
def test_cut(text: str, limit: int, kept: str) -> None:
    """A text is cut at bytes and never inside a character."""
    assert kept == cut(text, limit)


# -- garbage and records -----------------------------------------------------------------------------------------------

CLAIMS = st.sampled_from(
    [*USERINFO, *TOP_LEVEL, *ID_CLAIMS, *EXERCICE, *HOSPITAL, "exercices", "otherIDs", "identifiant", "codeCivilite"]
)
TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["10", SUB, "899700000042", "SA01^1.2.250.1.71.4.2.4", "é" * 600]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(CLAIMS | TEXT, inner, max_size=6),
    max_leaves=25,
)
OBJECT = st.dictionaries(CLAIMS | TEXT, JSON, max_size=8)
REFERENCE = st.fixed_dictionaries(
    {},
    optional={
        "exercices": st.lists(
            st.dictionaries(st.sampled_from([*EXERCICE]), JSON, max_size=6)
            | st.fixed_dictionaries({"activities": st.lists(st.dictionaries(st.sampled_from([*HOSPITAL]), JSON))}),
            max_size=3,
        )
    },
)
SAID = st.sampled_from(
    [{"sub": SUB, "SubjectNameID": "899700000042"}, {"sub": SUB}, {"SubjectNameID": "899700000042"}, {}]
)


@settings(max_examples=300, deadline=None)
@given(OBJECT, OBJECT, SAID, SAID, REFERENCE | JSON)
def test_any_claims(userinfo: Any, id_claims: Any, here: Any, there: Any, reference: Any) -> None:
    """Whatever JSON arrives, the answer is an identity within its bounds or an IdentityError, and records keep it."""
    try:
        identity = read({**userinfo, "SubjectRefPro": reference, **here}, {**id_claims, **there})
    except IdentityError as error:
        assert error.code in ERROR_CODES  # noqa: PT017 - an identity is as good an answer
        return
    assert identity.subject
    assert identity.sub == {**id_claims, **there}["sub"]
    assert len(identity.situations) <= SITUATIONS
    for text in _texts(to_record(identity)):
        assert len(text.encode()) <= TEXT_BYTES
        assert text == clean(text)
    assert from_record(json.loads(json.dumps(to_record(identity)))) == identity


PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SITUATION = st.builds(
    Situation,
    **{name: PLAIN for name in Situation.__slots__ if name != "structures"},
    structures=st.lists(PLAIN).map(tuple),
)
IDENTITY = st.builds(
    Identity,
    **dict.fromkeys(("given_name", "family_name", "civility", "acr", "auth_mode"), PLAIN),
    **dict.fromkeys(("issuer", "sub", "subject"), PLAIN.filter(bool)),
    situations=st.lists(SITUATION, max_size=3).map(tuple),
    auth_time=st.integers(0, 2**40),
    other_ids=st.lists(st.tuples(PLAIN, PLAIN), max_size=3).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(IDENTITY)
def test_record_round_trip(identity: Identity) -> None:
    """A record gives back the identity it was made of, also through JSON."""
    assert identity == from_record(to_record(identity))
    assert identity == from_record(json.loads(json.dumps(to_record(identity))))


def test_record_of_a_newer_version() -> None:
    """Members that this version does not know are ignored."""
    record = {**to_record(read()), "shoe_size": 42}
    record["situations"] = [{**one, "colour": "red"} for one in record["situations"]]  # type: ignore[attr-defined]
    assert read() == from_record(record)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": 7},
        {"auth_time": "1"},
        {"auth_time": True},
        {"situations": "x"},
        {"situations": [7]},
        {"situations": [{"profession": ["10"]}]},
        {"situations": [{"structures": "R1"}]},
        {"situations": [{"structures": [1]}]},
        {"other_ids": [["a"]]},
        {"other_ids": [["a", 1]]},
        {"other_ids": {"a": "b"}},
    ],
)
def test_record_of_another_shape(change: dict[str, object]) -> None:
    """A record whose members have other types is refused, not half believed."""
    with pytest.raises(IdentityError) as raised:
        from_record({**to_record(read()), **change})
    assert "bad_record" == raised.value.code


@pytest.mark.parametrize("name", ["issuer", "sub", "subject"])
def test_record_without_key(name: str) -> None:
    """A record that does not say whose it is is refused."""
    record = to_record(read())
    del record[name]
    with pytest.raises(IdentityError):
        from_record(record)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    return [text for one in value for text in _texts(one)] if isinstance(value, list | tuple) else []
