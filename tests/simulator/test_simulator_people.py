"""The people: the shapes Pro Santé Connect is known to answer, each in the file at least once."""

import json

import pytest

from forward_auth.simulator import people
from forward_auth.simulator.people import PeopleError

PEOPLE = people()
ACTIVITY = {
    "codeModeExercice", "codeSecteurDactivite", "codeSectionPharmacien", "codeRole", "codeGenreActivite", "numeroSiretSite",
    "numeroSirenSite", "numeroFinessSite", "numeroFinessetablissementJuridique", "identifiantTechniqueDeLaStructure",
    "raisonSocialeSite", "enseigneCommercialeSite", "complementDestinataire", "complementPointGeographique", "numeroVoie",
    "indiceRepetitionVoie", "codeTypeDeVoie", "libelleVoie", "mentionDistribution", "bureauCedex", "codePostal", "codeCommune",
    "codePays", "telephone", "telephone2", "telecopie", "adresseEMail", "codeDepartement", "ancienIdentifiantDeLaStructure",
    "autoriteDenregistrement",
}  # fmt: skip
EXERCISE = {
    "codeProfession", "codeCategorieProfessionnelle", "codeCiviliteDexercice", "nomDexercice", "prenomDexercice",
    "codeTypeSavoirFaire", "codeSavoirFaire",
}  # fmt: skip


def _exercises(name):
    return PEOPLE[name]["userinfo"].get("SubjectRefPro", {}).get("exercices", [])


@pytest.mark.parametrize("name", PEOPLE)
def test_every_userinfo_has_the_shape(name):
    """Ids are there and agree, business values are strings, members are named as PSC names them."""
    info = PEOPLE[name]["userinfo"]
    assert name == name.lower()
    assert PEOPLE[name]["label"]
    assert info["SubjectNameID"] == info["preferred_username"]
    assert info["sub"].isascii()
    assert 0 < len(info["sub"]) <= 255
    for claim, value in info.items():
        if claim not in ("SubjectRefPro", "SubjectRole", "otherIds", "email_verified"):
            assert isinstance(value, str), claim
    for exercise in _exercises(name):
        assert set(exercise) - {"activities"} == EXERCISE
        assert all(isinstance(value, str) for key, value in exercise.items() if key != "activities")
        for activity in exercise.get("activities", []):
            assert set(activity) == ACTIVITY
            assert all(isinstance(value, str) for value in activity.values())
    for other in info.get("otherIds", []):
        assert set(other) == {"identifiant", "origine", "qualite"}
        assert isinstance(other["qualite"], int)


def test_ids_are_unique():
    """No two people share a sub or a national id."""
    for claim in ("sub", "SubjectNameID"):
        assert len({person["userinfo"][claim] for person in PEOPLE.values()}) == len(PEOPLE)


@pytest.mark.parametrize(
    ("name", "profession", "category", "role", "sectors"),
    [
        ("docteur-dupont", "10", "C", "", ["SA07", "SA01"]),
        ("dentiste-moreau", "40", "C", "FON-02", ["SA08"]),
        ("sage-femme-petit", "50", "C", "FON-33", ["SA01"]),
        ("pharmacien-bernard", "21", "C", "FON-03", ["SA33"]),
        ("infirmiere-leroy", "60", "C", "FON-33", ["SA01", "SA08"]),
        ("interne-girard", "10", "E", "FON-48", ["SA01"]),
        ("aide-soignant-martin", "99", "C", "313", ["SA01"]),
        ("secretaire-roux", "99", "C", "331", ["SA01"]),
    ],
)
def test_the_usual_people(name, profession, category, role, sectors):
    """Profession, category, role of the first situation, and the sectors."""
    first = _exercises(name)[0]
    assert (first["codeProfession"], first["codeCategorieProfessionnelle"]) == (profession, category)
    assert first["activities"][0]["codeRole"] == role
    assert [activity["codeSecteurDactivite"] for activity in first["activities"]] == sectors


def test_the_unusual_people():
    """The variants that break careless parsers."""
    assert "SubjectRefPro" not in PEOPLE["agent-sans-profession"]["userinfo"]
    assert PEOPLE["test-edit"]["userinfo"]["SubjectNameID"] == "ANS20231122132732"
    assert PEOPLE["test-edit"]["userinfo"]["otherIds"][0]["origine"] == "EDIT"
    assert PEOPLE["employe-structure"]["userinfo"]["SubjectNameID"] == "500000001815646/CPAT00045"
    names = PEOPLE["docteur-accents"]["userinfo"]
    assert "Ł" in names["given_name"]
    assert {"’", "'", "é"} <= set(names["family_name"])
    assert len(names["family_name"]) > 60
    assert len(_exercises("biologiste-fontaine")) == 3
    assert "activities" not in _exercises("remplacant-garnier")[0]
    assert PEOPLE["docteur-psi"]["userinfo"]["PSISubjectNameID"]
    assert PEOPLE["docteur-dupont"]["userinfo"]["SubjectRefPro"]["codeCivilite"] == "M"
    assert PEOPLE["dentiste-moreau"]["userinfo"]["codeCivilite"] == "MME"
    assert PEOPLE["docteur-dupont"]["userinfo"]["sub"].startswith("f:")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"a": 1}', '{"a": {"label": "A"}}', '{"a": {"label": "A", "userinfo": {"sub": "1"}}}',
     '{"a": {"userinfo": {"sub": "1", "SubjectNameID": "1"}}}'],
)  # fmt: skip
def test_unusable_files_are_refused(tmp_path, text):
    """A file that is not people says which entry is wrong."""
    file = tmp_path / "people.json"
    file.write_text(text)
    with pytest.raises(PeopleError, match=r"people\.json"):
        people(file)


def test_another_file(tmp_path):
    """A file of one's own replaces the people."""
    file = tmp_path / "people.json"
    file.write_text(json.dumps({"moi": {"label": "Moi", "userinfo": {"sub": "1", "SubjectNameID": "2"}}}))
    assert list(people(file)) == ["moi"]
