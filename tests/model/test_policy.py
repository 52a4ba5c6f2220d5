"""RULE-02: the program and a second, independent account of the policy agree on whatever rules, people and requests there are.

Twice: at the gate, with rules made by hand, where Hypothesis makes what it finds short; and through the whole service, with rules as TOML, people who
have signed in, and bytes on a socket. `make witness` asks the second a million times.
"""

import ast
import os
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hall_samples import HOST, NOW, House, a_login, a_person, a_rule, told
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from forward_auth.decision import Allow, Refuse, SignIn, Why
from forward_auth.headers import HeaderPlan
from forward_auth.identity import Identity, Situation
from forward_auth.original import read_path
from forward_auth.policy import Require, Rule
from model import draws, policy, triples
from model.triples import Somebody, expectation

SEED = int(os.environ.get("WITNESS_SEED") or time.time_ns() % 2**32)
MODEL = ("policy.py", "session.py", "signin.py", "headers.py")
by_chance = st.randoms(use_true_random=False)

# -- from the model's words to the program's -----------------------------------------------------------------------------


def a_require(table: Mapping[str, Any]) -> Require:
    changes: dict[str, Any] = {}
    for key, value in table.items():
        if key in ("all", "any"):
            changes[key] = tuple(a_require(each) for each in value)
        elif key == "not":
            changes["not_"] = a_require(value)
        elif key == "national_id_file":
            changes["national_ids"] = frozenset(value)
        elif key in ("max_age", "account"):
            changes[key] = value
        else:
            changes[key] = tuple(value)
    return Require(**changes)


def compiled(number: int, rule: Mapping[str, Any]) -> Rule:
    made = a_rule(number, *rule["paths"], methods=rule.get("methods"), open=rule.get("open", False))
    return made if made.open else Rule(made.id, number, 0, made.paths, made.methods, False, a_require(rule["require"]))


def an_identity(person: Mapping[str, Any]) -> Identity:
    situations = [
        Situation(**{**each, "structures": tuple(each.get("structures", ()))}) for each in person["situations"]
    ]
    facts = {key: person[key] for key in ("auth_mode", "acr", "auth_time", "given_name", "family_name")}
    return a_person(subject=person["national_id"], **facts, situations=tuple(situations))


def asked_of_the_gate(house: House, ticket: bytes | None, method: bytes, path: bytes) -> tuple[int, dict[str, str]]:
    """Its decision as a proxy hears it."""
    decision = house.check(path, ticket, method=method)
    if isinstance(decision, Allow):
        return 200, told(decision)
    if isinstance(decision, SignIn):
        assert (decision.why is Why.STEP_UP) == (ticket is not None)
        assert ticket is None or decision.acr or decision.max_age is not None
        return 401, {}
    assert isinstance(decision, Refuse)
    return 403, {}


def a_house(rules: list[draws.Rule]) -> House:
    house = House()
    house.site.app = type(house.app)("dossier", [compiled(number, rule) for number, rule in enumerate(rules, 1)])
    house.site.plan = HeaderPlan()
    return house


def entered(house: House, number: int, person: draws.Person) -> bytes:
    ticket, identity = house.ticket(), an_identity(person)
    login = a_login(number, identity, ends=NOW + 100, auth_time=identity.auth_time)
    house.memory.remember(house.memory.host(HOST), ticket, login)
    return ticket


# -- the laws ------------------------------------------------------------------------------------------------------------


@seed(SEED)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(by_chance)
def test_RULE_02_the_gate_and_the_model_agree(random: Random) -> None:
    """For every person, and for nobody; asked twice, for the second answer comes from memory."""
    rules = [draws.a_rule(random) for _ in range(random.randrange(6))]
    house = a_house(rules)
    tickets: list[tuple[bytes | None, Somebody]] = [(None, triples.NOBODY)]
    for number in (1, 2):
        person = draws.a_person(random) | {"auth_time": NOW - random.choice((0, *draws.AGES)) - random.randrange(2)}
        tickets.append((entered(house, number, person), Somebody(person, b"")))
    for _ in range(6):
        method, path = draws.a_method(random), draws.a_path(random)
        for ticket, who in tickets:
            # At the gate an app without rules has none; what the configuration makes of that is asked below.
            expected = expectation(rules, who, method, path, NOW) if rules else (403, {})
            for _ in range(2):
                assert expected == asked_of_the_gate(house, ticket, method, path), (rules, who.person, method, path)


@seed(SEED)
@settings(max_examples=1500, deadline=None)
@given(by_chance)
def test_PATH_the_two_readings_of_a_path_agree(random: Random) -> None:
    """Malformed, ambiguous, and both forms, on nothing but hostile paths."""
    path = draws.a_path(random)
    reading = read_path(path)
    assert policy.well_formed(path) == (reading is not None)
    if reading is None:
        return
    assert policy.ambiguous(path) == reading.ambiguous
    assert policy.exact(path) == reading.exact.encode("latin-1")
    if not reading.ambiguous:
        assert policy.loose(policy.meant(path)) == reading.folded


def test_RULE_the_service_and_the_model_agree() -> None:
    """Some thousand (rules, identity, request) triples, by another seed each time; a wrong answer is printed as short as it will go."""
    print(f"WITNESS_SEED={SEED}")
    tally = triples.ask(1_000_000, SEED, seconds=12)
    print(tally)
    assert tally.triples > 1000
    assert min(tally.answers[status] for status in ("200", "401", "403")) > tally.triples // 50, "one-sided questions"
    assert 0 == tally.refused


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        (b"GET", b"/public/x", ("open",)),
        (b"GET", b"/favicon.ico", ("open",)),
        (b"POST", b"/prescrire/1", ("allow", 0)),
        (b"GET", b"/prescrire/1", ("allow", 0)),
        (b"GET", b"/public/../x", ("allow", 0)),
        (b"POST", b"/public//x", ("allow", 0)),
        (b"GET", b"/Public/x", ("allow", 0)),
    ],
)
def test_the_example_of_the_contract(method: bytes, path: bytes, expected: tuple[Any, ...]) -> None:
    """Contract §3, for a doctor of the public sector, and refused to a pharmacist of a pharmacy wherever it is not open."""
    rules: list[dict[str, Any]] = [
        {"paths": ["/public/*", "/favicon.ico"], "open": True},
        {
            "paths": ["/prescrire/*"],
            "methods": ["POST"],
            "require": {"profession": ["10", "40", "50"], "sector": ["SA01"], "acr": ["eidas1"], "max_age": 900},
        },
        {
            "paths": ["/*"],
            "require": {"any": [{"profession": ["10"]}, {"role": ["313"]}, {"national_id_file": ["899700000099"]}]},
        },
    ]
    house = a_house(rules)
    doctor = {
        "national_id": "899700000042",
        "given_name": "CAMILLE",
        "family_name": "MARTIN",
        "auth_mode": "CARD",
        "acr": "eidas1",
        "auth_time": NOW,
        "situations": [{"profession": "10", "sector": "SA01"}],
    }
    pharmacist = {**doctor, "national_id": "899700000043", "situations": [{"profession": "21", "sector": "SA33"}]}
    for number, (person, so) in enumerate([(doctor, expected), (pharmacist, None)], 1):
        decided = policy.decide(rules, person, method, path, NOW)
        ticket = entered(house, number, person)
        assert expectation(rules, Somebody(person, b""), method, path, NOW) == asked_of_the_gate(
            house, ticket, method, path
        )
        assert decided == so if so is not None else decided[0] == ("open" if expected == ("open",) else "refuse")


def test_the_model_is_a_second_witness() -> None:
    """Its parts import nothing of the program, nor of anybody but each other, and are short enough to be read beside the contract."""
    sources = [Path(policy.__file__).with_name(name).read_text("utf-8") for name in MODEL]
    imported = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.ImportFrom):
            # `from model import policy` is an import of model.policy.
            imported |= {f"model.{each.name}" for each in node.names} if node.module == "model" else {str(node.module)}
        elif isinstance(node, ast.Import):
            imported |= {each.name for each in node.names}
    parts = {f"model.{name.removesuffix('.py')}" for name in MODEL}
    assert imported <= {"unicodedata", "collections.abc", "typing", "functools", "dataclasses", "urllib.parse", *parts}
    assert sum(len(source.splitlines()) for source in sources) <= 600
