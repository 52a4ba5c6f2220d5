"""RULE-02: the gate and a second, independent account of the policy agree on whatever rules, people and requests there are."""

import ast
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import policy_model
import pytest
from hall_samples import HOST, NOW, ORIGIN, House, a_login, a_person, a_rule, told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_model import decide

from forward_auth.decision import Allow, Refuse, SignIn, Why
from forward_auth.headers import HeaderPlan
from forward_auth.identity import Identity, Situation
from forward_auth.original import read_path
from forward_auth.policy import Require, Rule

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
    """`structure_name` tells the situations apart in the headers."""
    situations = [
        Situation(structure_name=f"situation-{index}", **{**each, "structures": tuple(each.get("structures", ()))})
        for index, each in enumerate(person["situations"])
    ]
    facts = {key: person[key] for key in ("auth_mode", "acr", "auth_time")}
    return a_person(situations=tuple(situations), subject=person["national_id"], **facts)


def asked_of_the_gate(house: House, ticket: bytes | None, method: bytes, path: bytes) -> tuple[Any, ...]:
    """Its decision in the model's words."""
    decision = house.check(path, ticket, method=method)
    if isinstance(decision, Allow):
        if decision.outcome == "open":
            assert {""} == set(told(decision).values())
            return ("open",)
        name = told(decision)["X-PSC-Structure-Name"]
        return ("allow", int(name.removeprefix("situation-")) if name else None)
    if isinstance(decision, SignIn):
        assert (decision.why is Why.STEP_UP) == (ticket is not None)
        assert ticket is None or decision.acr or decision.max_age is not None
        return ("sign in",)
    assert isinstance(decision, Refuse)
    return ("refuse", decision.rule)


# -- rules and people ----------------------------------------------------------------------------------------------------

CODES = ["a", "b"]
some_codes = st.lists(st.sampled_from(CODES), min_size=1, max_size=2, unique=True)
ages = st.integers(min_value=0, max_value=3)


def a_table(inner: st.SearchStrategy[dict[str, Any]] | None) -> st.SearchStrategy[dict[str, Any]]:
    keys: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(("profession", "role", "sector", "structure", "national_id"), some_codes),
        **dict.fromkeys(("category", "speciality", "mode", "auth_mode", "acr"), some_codes),
        "national_id_file": st.lists(st.sampled_from(CODES), max_size=2),
        "max_age": ages,
        "account": st.booleans(),
    }
    if inner is not None:
        several = st.lists(inner, min_size=1, max_size=3)
        keys |= {"all": several, "any": several, "not": inner}
    nearly = st.sampled_from([*keys, *(key for key in keys if key != "account")] * 2 + ["profession", "sector"] * 3)
    return st.lists(nearly, max_size=3, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({key: keys[key] for key in chosen})
    )


tables = st.recursive(a_table(None), a_table, max_leaves=6)

PATTERNS = ["/", "/*", "/secret", "/secret/*", "/public/*", "/public/page", "/Public", "/a/b/*", "/a", "/été/*", "/été"]
PATTERNS += ["/favicon.ico", "/a/secret", "/public/secret/*", "/%7Ea/*", "/stra\u00dfe", "/a.b/*"]
METHODS = [b"GET", b"POST", b"PUT"]

patterns = st.lists(st.sampled_from([*PATTERNS, "/*", "/*", "/secret/*", "/public/*"]), min_size=1, max_size=3)
methods = st.lists(st.sampled_from([each.decode() for each in METHODS]), min_size=1, max_size=2)
open_rules = st.fixed_dictionaries({"paths": patterns, "open": st.just(True)}, optional={"methods": methods})
other_rules = st.fixed_dictionaries({"paths": patterns, "require": tables}, optional={"methods": methods})
policies = st.lists(st.one_of(other_rules, other_rules, open_rules), max_size=5)

code_or_none = st.sampled_from(["", *CODES])
situations = st.fixed_dictionaries(
    dict.fromkeys(policy_model.ONE_SITUATION, code_or_none), optional={"structures": st.lists(st.sampled_from(CODES))}
)
people = st.fixed_dictionaries(
    {
        "national_id": st.sampled_from(CODES),
        "auth_mode": code_or_none,
        "acr": code_or_none,
        "auth_time": ages.map(lambda age: NOW - age),
        "situations": st.lists(situations, max_size=3),
    }
)

# -- hostile paths -------------------------------------------------------------------------------------------------------

SEGMENTS = ["secret", "public", "page", "a", "b", "été", "favicon.ico", "~a", "stra\u00dfe", "a.b", "", "x"]


def one_escape(upper: bool, which: int) -> Callable[[str], str]:
    """One of its characters as an escape."""

    def spelt(word: str) -> str:
        at = which % max(1, len(word))
        escaped = "".join(f"%{byte:02x}" for byte in word[at : at + 1].encode("utf-8", "surrogateescape"))
        return word[:at] + (escaped.upper() if upper else escaped) + word[at + 1 :]

    return spelt


SPELLINGS: list[Callable[[str], str]] = [
    str.upper,
    str.title,
    lambda word: unicodedata.normalize("NFD", word),
    lambda word: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in word),  # full-width
    lambda word: word.replace("s", "\u017f"),  # a long s folds to s
    lambda word: "".join(f"%{byte:02X}" for byte in word.encode("utf-8", "surrogateescape")),
    *[one_escape(upper, which) for upper in (False, True) for which in range(4)],
]
ENDS = [
    "",
    ".",
    "%20",
    " ",
    "..",
    ";x=1",
    "%00",
    "%3b",
    "\\",
    "%5C",
    "%2e",
    "%25",
    "%0a",
    "\t",
    "?",
    "\u00a0",
    "\udcff",
]
JOINTS = ["/", "//", "/./", "/../", "/..;/", "/%2e%2e/", "/.%2E/", "%2f", "%2F", "\\", "%5c", "%252f", ";/", "\uff0f"]
JOINTS += ["\u2025/", "/\uff0e\uff0e/", "%c0%af", "%ef%bc%8f", "/%"]

words = st.tuples(
    st.sampled_from(SEGMENTS),
    st.lists(st.sampled_from(SPELLINGS), max_size=2),
    st.sampled_from([""] * 70 + ENDS),
)


def written(word: tuple[str, list[Callable[[str], str]], str]) -> str:
    text, spellings, end = word
    for spell in spellings:
        text = spell(text)
    return text + end


joints = st.sampled_from(["/"] * 90 + JOINTS)  # many a path must stay plain, or rules are never told apart
paths = st.tuples(
    st.lists(st.tuples(joints, words), min_size=1, max_size=4), st.sampled_from(["", "", "", "/", "/.", ".", "%20/"])
).map(
    lambda made: (
        ("".join(joint + written(word) for joint, word in made[0]) + made[1])
        .encode("utf-8", "surrogateescape")
        .partition(b"?")[0]
    )
)
garbage = st.binary(max_size=12).map(lambda rest: b"/" + rest.partition(b"?")[0])
raw_paths = st.integers(min_value=0, max_value=9).flatmap(lambda number: paths if number else garbage)
some_methods = st.sampled_from([*METHODS * 6, b"get", b"", b"GET\n", b"A" * 33])


# -- the laws ------------------------------------------------------------------------------------------------------------


@settings(max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    policies,
    st.lists(people, min_size=2, max_size=3),
    st.lists(st.tuples(some_methods, raw_paths), min_size=5, max_size=8),
)
def test_RULE_02_the_gate_and_the_model_agree(
    policy: list[dict[str, Any]], several: list[dict[str, Any]], requests: list[tuple[bytes, bytes]]
) -> None:
    """For every person, and for nobody; asked twice, for the second answer comes from memory. Some 10 000 triples."""
    house = House()
    house.site.app = type(house.app)("dossier", [compiled(number, rule) for number, rule in enumerate(policy, 1)])
    house.site.plan = HeaderPlan()
    tickets: list[tuple[bytes | None, dict[str, Any] | None]] = [(None, None)]
    for number, person in enumerate(several, 1):
        identity = an_identity(person)
        ticket = house.ticket()
        house.memory.remember(
            house.memory.host(HOST), ticket, a_login(number, identity, ends=NOW + 100, auth_time=identity.auth_time)
        )
        tickets.append((ticket, person))
    for method, path in requests:
        for ticket_of, person_or_nobody in tickets:
            expected = decide(policy, person_or_nobody, method, path, NOW)
            for _ in range(2):
                assert expected == asked_of_the_gate(house, ticket_of, method, path), (method, path)


@settings(max_examples=1500, deadline=None)
@given(raw_paths)
def test_PATH_the_two_readings_of_a_path_agree(path: bytes) -> None:
    """Malformed, ambiguous, and both forms, on nothing but hostile paths."""
    reading = read_path(path)
    assert policy_model.well_formed(path) == (reading is not None)
    if reading is None:
        return
    assert policy_model.ambiguous(path) == reading.ambiguous
    assert policy_model.exact(path) == reading.exact.encode("latin-1")
    if not reading.ambiguous:
        assert policy_model.loose(policy_model.meant(path)) == reading.folded


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
    policy: list[dict[str, Any]] = [
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
    house = House(*(compiled(number, rule) for number, rule in enumerate(policy, 1)))
    doctor = {
        "national_id": "899700000042",
        "auth_mode": "CARD",
        "acr": "eidas1",
        "auth_time": NOW,
        "situations": [{"profession": "10", "sector": "SA01"}],
    }
    pharmacist = {**doctor, "national_id": "899700000043", "situations": [{"profession": "21", "sector": "SA33"}]}
    for number, (person, so) in enumerate([(doctor, expected), (pharmacist, None)], 1):
        ticket = house.enter(an_identity(person), number=number)
        modelled = decide(policy, person, method, path, NOW)
        assert modelled == asked_of_the_gate(house, ticket, method, path)
        assert modelled == so if so is not None else modelled[0] == ("open" if expected == ("open",) else "refuse")
    assert ORIGIN == house.site.origin


def test_the_model_is_a_second_witness() -> None:
    """It imports nothing of the program, and is short enough to be read beside the contract."""
    source = Path(policy_model.__file__).read_text("utf-8")
    imported = [
        name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    ]
    assert {"unicodedata", "collections.abc", "typing"} == set(imported)
    assert len(source.splitlines()) <= 200
