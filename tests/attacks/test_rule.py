"""RULE-01 to RULE-04: each restriction keeps out who meets all but it; what is malformed meets none; and one spelling of an identity is one identity.

The house of this file has an application with one folder per restriction.
"""

import copy
import random
from collections.abc import Iterator

import pytest
from attack_rig import APPS, DOCTOR, NURSE, WITNESS, House, Place, house
from running import Browser

FOLDERS = {
    "profession": ('profession = ["10"]', {DOCTOR}),
    "category": ('category = ["M"]', set()),
    "role": ('role = ["FON-01"]', set()),
    "speciality": ('speciality = ["SM26"]', {DOCTOR}),
    "sector": ('sector = ["SA07"]', None),
    "structure": ('structure = ["F0B0193488"]', None),
    "mode": ('mode = ["B"]', set()),
    "national_id": ('national_id = ["899700000001"]', {DOCTOR}),
    "auth_mode": ('auth_mode = ["MOBILE"]', set()),
    "acr": ('acr = ["eidas3"]', set()),
    "account": ("account = true", set()),
    "not": ('not = { profession = ["10", "50"] }', {NURSE}),
    "any": ('any = [ { profession = ["60"] }, { speciality = ["SM26"] } ]', {NURSE, DOCTOR}),
    "all": ('all = [ { profession = ["10"] }, { mode = ["L"] }, { sector = ["SA01"] } ]', set()),
}
RULES = "".join(
    f'[[apps.dossier.rules]]\npaths = ["/{name}/*"]\nrequire = {{ {require} }}\n'
    for name, (require, _) in FOLDERS.items()
)
HERE = APPS.replace(
    '[[apps.dossier.rules]]\npaths = ["/secret/*"]', RULES + '[[apps.dossier.rules]]\npaths = ["/secret/*"]'
)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house"), apps=HERE) as one:
        yield one


@pytest.mark.parametrize("name", FOLDERS)
def test_RULE_01_each_restriction(place: Place, name: str) -> None:
    """Who meets it goes in, everybody else stays out, a stranger always. (Sector and structure: as the model says of each.)"""
    wanted = FOLDERS[name][1]
    assert not place.ask(f"/{name}/x").passed
    for person in (DOCTOR, NURSE, WITNESS):
        passed = place.ask(f"/{name}/x", person).passed
        assert passed == place.may(f"/{name}/x", person)
        assert wanted is None or passed == (person in wanted)


PIECES = "public secret signer acr not any all national_id PUBLIC Secret .. . %2e%2e %2f // ; ;x %20 %73 %c3%a9 a x favicon.ico %23 %3f #"
WORDS = PIECES.split()


def test_RULE_02_random_requests(place: Place) -> None:
    """Whatever path, method and person: it passes where the model says so, and nowhere else."""
    chance = random.Random(36 if place.by_nginx else 35)
    passed = 0
    for _ in range(250):
        target = "/" + "".join(chance.choice(WORDS) + chance.choice(["/", "/", ""]) for _ in range(chance.randrange(4)))
        who = chance.choice([None, DOCTOR, NURSE, WITNESS])
        method = chance.choice(["GET", "GET", "POST", "DELETE"])
        outcome = place.ask(target, who, method=method)
        passed += outcome.passed
        if outcome.status != 400:  # nginx refuses by itself what climbs above the root
            assert outcome.passed == place.may(target, who, method=method), (target, who, method)
    assert passed > 30


MALFORMED = {
    "list": ["10"],
    "number": 10,
    "object": {"code": "10"},
    "empty": "",
    "null": None,
    "true": True,
    "blank before": " 10",
    "blank behind": "10 ",
    "line break": "10\n",
    "full-width": "１０",
    "arabic": "١٠",
    "two": "10,60",
    "with a register": "10^1.2.250.1.71.1.2.7",
    "padded": "010",
    "decimal": "10.0",
    "nul": "10\x00",
    "long": "10" * 5000,
}


@pytest.mark.parametrize("code", MALFORMED.values(), ids=MALFORMED.keys())
def test_RULE_03_malformed_claims(place: Place, code: object) -> None:
    """A profession that is not exactly the code is no doctor's."""
    person = copy.deepcopy(place.simulator.people[DOCTOR])
    person["userinfo"]["SubjectNameID"] = person["userinfo"]["preferred_username"] = "899700009999"
    person["userinfo"].pop("SubjectRole", None)
    for exercise in person["userinfo"]["SubjectRefPro"]["exercices"]:
        exercise["codeProfession"] = code
    place.simulator.people["malformed"] = person
    answer = place.sign_in(Browser(), "malformed", place.origin() + "/secret/x")
    assert answer.status in (400, 403)
    place.look_over(answer)


@pytest.mark.parametrize(
    "subject",
    [
        "0899700000001",
        "899700000001 ",
        " 899700000001",
        "899700000001\n",
        "８９９７００００００００１",
        "899700000001,899700000043",
        "99700000001",
        "8997000000010",
        "899700000001\u200b",
        "+899700000001",
        "899700000001\x00",
        "8997 00000001",
    ],
)
def test_RULE_04_another_spelling_of_an_identity(place: Place, subject: str) -> None:
    """A rule for one person: no other spelling of the id is that person, and no other person is told to the application under it."""
    person = copy.deepcopy(place.simulator.people[NURSE])
    person["userinfo"]["SubjectNameID"] = person["userinfo"]["preferred_username"] = subject
    place.simulator.people["double"] = person
    browser = Browser()
    answer = place.sign_in(browser, "double", place.origin() + "/national_id/x")
    assert answer.status in (400, 403)
    place.look_over(answer)
    inside = place.check(browser, place.origin() + "/dossier")
    assert "899700000001" != inside["X-PSC-Subject"]


@pytest.mark.parametrize("subject", [["899700000001"], 899700000001, {"id": "899700000001"}, None, ""])
def test_RULE_04_an_identity_that_is_none(place: Place, subject: object) -> None:
    """A list, a number, nothing: nobody signs in with it."""
    person = copy.deepcopy(place.simulator.people[NURSE])
    person["userinfo"]["SubjectNameID"] = subject
    place.simulator.people["double"] = person
    browser = Browser()
    answer = place.sign_in(browser, "double", place.origin() + "/national_id/x")
    assert answer.status in (400, 403)
    place.look_over(answer)
    assert place.check(browser, place.origin() + "/dossier").status in (302, 401)
