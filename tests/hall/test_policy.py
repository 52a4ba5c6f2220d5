"""Rules: which one judges a request, and whether a professional passes it. Whatever nobody said yes to is no."""

from dataclasses import replace
from typing import Any

import pytest
from hall_samples import DOCTOR, NOW, PHARMACIST, a_person, a_rule
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forward_auth.identity import Identity, Situation
from forward_auth.policy import FOREVER, App, Require, Rule, judge, reasons

DOCTOR_AND_PHARMACIST = a_person(DOCTOR, PHARMACIST)
NOBODY = replace(a_person(), situations=())


def held(require: Require, identity: Identity, now: int = NOW) -> bool:
    return judge(require, identity, now).held


# -- one key each ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("profession", ("10", "40"), ("40", "50")),
        ("category", ("C",), ("E",)),
        ("role", ("FON-35",), ("FON-03",)),
        ("speciality", ("SM26",), ("SM27",)),
        ("sector", ("SA01",), ("SA33",)),
        ("mode", ("S",), ("L", "B")),
        ("structure", ("F0B0100001",), ("F0B0100002",)),
        ("structure", ("0B0100001",), ("0B01",)),
        ("national_id", ("899700000042",), ("899700000043",)),
        ("national_id", ("899700000042",), ("99700000042",)),
        ("auth_mode", ("CARD",), ("MOBILE",)),
        ("acr", ("eidas1", "eidas2"), ("eidas2",)),
    ],
)
def test_RULE_01_each_key_lets_in_who_has_it_and_nobody_else(
    key: str, right: tuple[str, ...], wrong: tuple[str, ...]
) -> None:
    """Any of the values given; exact, never a part of one."""
    assert held(Require(**{key: right}), a_person())  # type: ignore[arg-type]
    assert not held(Require(**{key: wrong}), a_person())  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["profession", "category", "role", "speciality", "sector", "mode", "structure"])
def test_RULE_01_who_has_no_situation_passes_no_key_of_one(key: str) -> None:
    """Nor does somebody whose code PSC did not give."""
    assert not held(Require(**{key: ("10",)}), NOBODY)  # type: ignore[arg-type]
    assert not held(Require(**{key: ("10",)}), a_person(Situation()))  # type: ignore[arg-type]


def test_RULE_01_a_list_of_national_ids_from_a_file() -> None:
    """An empty list permits nobody."""
    assert held(Require(national_ids=frozenset({"899700000042"})), a_person())
    assert not held(Require(national_ids=frozenset({"899700000043"})), a_person())
    assert not held(Require(national_ids=frozenset()), a_person())


def test_RULE_02_not_of_who_somebody_is_holds_for_a_professional_without_situations() -> None:
    """A table that speaks of the person alone forbids whoever has no situation as well."""
    for table in (Require(auth_mode=("CARD",)), Require(acr=("eidas1",)), Require(national_id=("899700000042",))):
        assert not held(Require(not_=table), NOBODY)
    assert held(Require(not_=Require(auth_mode=("MOBILE",))), NOBODY)


@pytest.mark.parametrize("asked", [True, False])
def test_an_account_is_never_met_in_this_version(asked: bool) -> None:
    """Decision 23: until accounts exist nobody has one, and nobody is known to have none."""
    assert not held(Require(account=asked), a_person())
    assert ["situation 1: no linked account (accounts are not in this version)"] == reasons(
        Require(account=asked), a_person(), NOW
    )


def test_a_require_without_keys_asks_for_a_signed_in_professional() -> None:
    """And says of which situation the application hears: the first, or none."""
    assert (True, DOCTOR) == judge(Require(), DOCTOR_AND_PHARMACIST, NOW)[:2]
    assert (True, None) == judge(Require(), NOBODY, NOW)[:2]


# -- one situation (law) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"profession": ("10",), "structure": ("F0B0100001",)}, DOCTOR),
        ({"profession": ("21",), "structure": ("F0B0200002",)}, PHARMACIST),
        ({"profession": ("10",), "structure": ("F0B0200002",)}, None),
        ({"profession": ("21",), "sector": ("SA01",)}, None),
        ({"profession": ("10", "21"), "sector": ("SA33",)}, PHARMACIST),
        ({"profession": ("10", "21")}, DOCTOR),
        ({"profession": ("10",), "all": (Require(sector=("SA33",)),)}, None),
        ({"all": (Require(profession=("10",)), Require(sector=("SA33",)))}, None),
        ({"profession": ("10",), "any": (Require(sector=("SA33",)), Require(mode=("L",)))}, None),
        ({"profession": ("21",), "any": (Require(sector=("SA01",)), Require(mode=("L",)))}, PHARMACIST),
    ],
)
def test_RULE_02_keys_hold_in_one_and_the_same_situation(keys: dict[str, Any], expected: Situation | None) -> None:
    """A profession held here and a structure held there do not add up, in sub-tables neither; the headers carry the situation that held."""
    verdict = judge(Require(**keys), DOCTOR_AND_PHARMACIST, NOW)
    assert (expected is not None, expected) == (verdict.held, verdict.situation)


# -- all, any, not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("require", "expected"),
    [
        (Require(any=(Require(profession=("21",)), Require(role=("FON-35",)))), True),
        (Require(any=(Require(profession=("21",)), Require(role=("FON-03",)))), False),
        (Require(any=()), False),
        (Require(all=(Require(profession=("10",)), Require(role=("FON-35",)))), True),
        (Require(all=(Require(profession=("10",)), Require(role=("FON-03",)))), False),
        (Require(profession=("21",), any=(Require(),)), False),
        (Require(any=(Require(all=(Require(mode=("S",)), Require(any=(Require(acr=("eidas1",)),)))),)), True),
        (Require(not_=Require(profession=("21",))), True),
        (Require(not_=Require(profession=("10",))), False),
        (Require(profession=("10",), not_=Require(acr=("eidas1",))), False),
        (Require(not_=Require(not_=Require(profession=("10",)))), True),
    ],
)
def test_RULE_02_tables_combine(require: Require, expected: bool) -> None:
    """`all` and `any` as they read; an empty `any` permits nobody."""
    assert expected is held(require, a_person())


@pytest.mark.parametrize("excluded", [("10",), ("21",)])
def test_RULE_02_not_speaks_of_the_person(excluded: tuple[str, ...]) -> None:
    """It holds only if no situation satisfies the table (decision 9), so nobody slips past it with another of theirs."""
    require = Require(not_=Require(profession=excluded))
    assert not held(require, DOCTOR_AND_PHARMACIST)
    assert not held(replace(require, profession=("10", "21")), DOCTOR_AND_PHARMACIST)
    assert not held(Require(any=(require,)), DOCTOR_AND_PHARMACIST)


def test_RULE_02_not_of_a_key_excludes_nobody_without_situations() -> None:
    """Who has no profession is not a doctor."""
    assert held(Require(not_=Require(profession=("10",))), NOBODY)


# -- age and step-up ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "expected"), [(0, True), (899, True), (900, True), (901, False)])
def test_RULE_01_a_max_age_is_exact_to_the_second(age: int, expected: bool) -> None:
    """OIDC Core §3.1.2.1: older than max_age is too old."""
    assert expected is held(Require(max_age=900), a_person(), NOW + age)


def test_CACHE_05_a_verdict_says_until_when_it_stands() -> None:
    """The first max_age that runs out, in whatever table; FOREVER without one."""
    person = a_person()
    assert FOREVER == judge(Require(), person, NOW).until
    assert NOW + 901 == judge(Require(max_age=900), person, NOW).until
    nested = Require(
        max_age=900, all=(Require(max_age=60),), any=(Require(max_age=300),), not_=Require(max_age=30, mode=("L",))
    )
    assert NOW + 31 == judge(nested, person, NOW).until
    assert NOW + 61 == judge(nested, person, NOW + 31).until
    assert FOREVER == judge(Require(max_age=900), person, NOW + 901).until


def test_CACHE_05_a_verdict_that_says_no_may_become_yes_when_an_age_runs_out() -> None:
    """`not` of a max_age: no now, and judged again when it might be yes."""
    require = Require(not_=Require(max_age=60))
    verdict = judge(require, a_person(), NOW)
    assert (False, NOW + 61) == (verdict.held, verdict.until)
    assert held(require, a_person(), verdict.until)


STRONG = a_person(acr="eidas2")


@pytest.mark.parametrize(
    ("require", "age", "expected"),
    [
        (Require(acr=("eidas2",)), 0, (True, ("eidas2",), None)),
        (Require(acr=("eidas2", "eidas3")), 0, (True, ("eidas2", "eidas3"), None)),
        (Require(max_age=60), 61, (True, (), 60)),
        (Require(acr=("eidas2",), max_age=60), 61, (True, ("eidas2",), 60)),
        (Require(acr=("eidas1",), max_age=60), 61, (True, (), 60)),
        (Require(acr=("eidas2",), max_age=60), 0, (True, ("eidas2",), None)),
        (Require(max_age=300, all=(Require(max_age=60),)), 301, (True, (), 60)),
        (Require(max_age=300, all=(Require(max_age=60),)), 61, (True, (), 60)),
        (Require(all=(Require(acr=("eidas2",)), Require(max_age=60))), 61, (True, ("eidas2",), 60)),
        (Require(any=(Require(profession=("21",)), Require(max_age=60))), 61, (True, (), 60)),
        (Require(any=(Require(profession=("21",), acr=("eidas2",)), Require(max_age=60))), 61, (True, (), 60)),
        (Require(any=(Require(max_age=60), Require(max_age=300))), 301, (True, (), 300)),
        (Require(acr=("eidas2",), any=(Require(max_age=60), Require(max_age=300))), 301, (True, ("eidas2",), 300)),
        (Require(max_age=60, any=(Require(acr=("eidas1",)), Require(acr=("eidas2",)))), 61, (True, (), 60)),
        (Require(profession=("21",), acr=("eidas2",)), 0, (False, (), None)),
        (Require(profession=("21",), max_age=60), 61, (False, (), None)),
        (Require(account=True, max_age=60), 61, (False, (), None)),
        (Require(acr=("eidas2",), not_=Require(profession=("10",))), 0, (False, (), None)),
        (Require(not_=Require(acr=("eidas1",))), 0, (False, (), None)),
        (Require(acr=("eidas2",), any=()), 0, (False, (), None)),
    ],
)
def test_what_a_fresh_sign_in_can_mend_is_asked_for_and_nothing_else_is(
    require: Require, age: int, expected: tuple[bool, tuple[str, ...], int | None]
) -> None:
    """Decision 13: acr and max_age step up, with exactly those parameters; whoever is the wrong person is refused at once."""
    verdict = judge(require, a_person(), NOW + age)
    assert (False, *expected) == (verdict.held, verdict.step_up, verdict.acr, verdict.max_age)


def test_a_step_up_asks_for_the_situation_that_can_hold() -> None:
    """The doctor's table can be mended, the pharmacist's not."""
    require = Require(
        any=(Require(profession=("21",), structure=("nowhere",)), Require(profession=("10",), max_age=60))
    )
    verdict = judge(require, a_person(PHARMACIST, DOCTOR), NOW + 61)
    assert (True, 60) == (verdict.step_up, verdict.max_age)


# -- laws --------------------------------------------------------------------------------------------------------------

CODES = st.sampled_from(["", "a", "b"])
SITUATIONS = st.builds(
    Situation, profession=CODES, sector=CODES, structures=st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple)
)
PEOPLE = st.builds(
    lambda situations, acr, age: replace(
        a_person(), situations=tuple(situations), acr=acr, auth_time=NOW - age, subject="a"
    ),
    st.lists(SITUATIONS, max_size=3),
    st.sampled_from(["eidas1", "eidas2"]),
    st.integers(min_value=0, max_value=10),
)
VALUES = st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple)
ACRS = st.sampled_from([(), ("eidas1",), ("eidas2",), ("eidas1", "eidas2")])
AGES = st.one_of(st.none(), st.integers(min_value=0, max_value=10))
LEAVES = st.builds(
    Require, profession=VALUES, sector=VALUES, structure=VALUES, national_id=VALUES, acr=ACRS, max_age=AGES
)
REQUIRES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda leaf, every, some, none: replace(
            leaf, all=tuple(every) or None, any=tuple(some) or None, not_=none if not leaf.sector else None
        ),
        LEAVES,
        st.lists(inner, max_size=2),
        st.lists(inner, max_size=2),
        st.one_of(st.none(), inner),
    ),
    max_leaves=5,
)


@given(REQUIRES, PEOPLE)
def test_there_is_a_reason_exactly_when_it_does_not_hold(require: Require, person: Identity) -> None:
    """`explain` never stays silent and never invents."""
    assert held(require, person) == (reasons(require, person, NOW) == [])


@given(REQUIRES, PEOPLE, st.integers(min_value=0, max_value=30))
def test_CACHE_05_until_its_until_a_verdict_is_what_it_would_be_again(
    require: Require, person: Identity, later: int
) -> None:
    """Law of remembered decisions: judging again before `until` gives the same answer."""
    verdict = judge(require, person, NOW)
    assume(NOW + later < verdict.until)
    again = judge(require, person, NOW + later)
    assert (verdict.held, verdict.situation) == (again.held, again.situation)


def tables(require: Require) -> list[Require]:
    inner = [*(require.all or ()), *(require.any or ()), *([require.not_] if require.not_ else [])]
    return [require, *(table for each in inner for table in tables(each))]


@settings(max_examples=300)
@given(REQUIRES, PEOPLE)
def test_what_a_step_up_brings_is_enough(require: Require, person: Identity) -> None:
    """Law: with any of the acr asked for, and fresh if age was asked for, the rule holds. (Not where a table
    forbids a level or a fresh sign-in: the page after it says so.)"""
    every = tables(require)
    assume(all(not (t.acr or t.max_age is not None) for each in every if each.not_ for t in tables(each.not_)))
    verdict = judge(require, person, NOW)
    if not verdict.step_up:
        return
    assert verdict.acr or verdict.max_age is not None
    for acr in verdict.acr or (person.acr,):
        came = replace(person, acr=acr, auth_time=NOW if verdict.max_age is not None else person.auth_time)
        assert held(require, came)


def test_a_step_up_asks_for_an_acr_that_satisfies_every_table() -> None:
    """Where one table takes eidas1 or eidas2 and another eidas2 or eidas3, only eidas2 helps."""
    require = Require(acr=("high", "both"), all=(Require(acr=("both", "low")),))
    assert ("both",) == judge(require, a_person(), NOW).acr


def test_a_step_up_takes_the_alternative_that_can_be_mended() -> None:
    """One alternative asks for a level that another table forbids; the next only for a fresh authentication."""
    require = Require(acr=("eidas1",), any=(Require(acr=("eidas2",)), Require(max_age=60)))
    assert (True, (), 60) == judge(require, a_person(), NOW + 61)[3:]


# -- reasons -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("require", "identity", "fragments"),
    [
        (Require(profession=("21",)), a_person(), ["profession", "10", "21"]),
        (Require(structure=("X",)), a_person(), ["structure", "F0B0100001", "X"]),
        (Require(profession=("21",)), NOBODY, ["profession", "21"]),
        (Require(structure=("X",)), NOBODY, ["structure", "X"]),
        (Require(national_id=("1",)), a_person(), ["national id", "listed"]),
        (Require(national_ids=frozenset()), a_person(), ["national id", "file"]),
        (Require(auth_mode=("MOBILE",)), a_person(), ["auth_mode", "CARD", "MOBILE"]),
        (Require(acr=("eidas2",)), a_person(), ["acr", "eidas1", "eidas2"]),
        (Require(all=(Require(mode=("L",)),)), a_person(), ["mode", "L"]),
        (Require(any=(Require(mode=("L",)), Require(mode=("B",)))), a_person(), ["none of", "L", "B"]),
        (Require(not_=Require(mode=("S",))), a_person(), ["not"]),
    ],
)
def test_a_reason_names_the_key_and_the_codes(require: Require, identity: Identity, fragments: list[str]) -> None:
    """In English; LOG-04: never a national id or a name."""
    lines = "\n".join(reasons(require, identity, NOW))
    assert all(fragment in lines for fragment in fragments), lines
    assert not any(secret in lines for secret in ("899700000042", "Camille", "Martin"))


MET = Require(
    profession=("10", "21"),
    structure=("F0B0100001", "X"),
    national_id=("899700000042", "1"),
    national_ids=frozenset({"899700000042"}),
    auth_mode=("CARD", "MOBILE"),
    acr=("eidas1", "eidas2"),
    max_age=60,
    all=(Require(mode=("S",)),),
    any=(Require(mode=("L",)), Require(mode=("S",))),
    not_=Require(mode=("L",)),
)
UNKNOWN = a_person(Situation(), acr="", auth_mode="")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"profession": ("40", "50")}, "profession is 10, not one of 40, 50"),
        ({"structure": ("X", "Y")}, "structure is F0B0100001, 0B0100001, not one of X, Y"),
        ({"national_id": ("1",)}, "national id is not one of those listed"),
        ({"national_ids": frozenset({"1"})}, "national id is not in the file"),
        ({"auth_mode": ("MOBILE", "OTHER")}, "auth_mode is CARD, not one of MOBILE, OTHER"),
        ({"acr": ("eidas2", "eidas3")}, "acr is eidas1, not one of eidas2, eidas3"),
        ({"max_age": 59}, "authenticated 60 s ago, more than 59 s"),
        ({"all": (Require(mode=("L",)), Require(mode=("S",)))}, "mode is S, not one of L"),
        (
            {"any": (Require(mode=("L",), acr=("eidas2",)), Require(mode=("B",)))},
            "none of: mode is S, not one of L; acr is eidas1, not one of eidas2 | mode is S, not one of B",
        ),
        ({"not_": Require(mode=("S",))}, "`not` forbids it"),
    ],
)
def test_a_reason_is_given_for_what_is_wrong_and_for_nothing_else(wrong: dict[str, Any], sentence: str) -> None:
    """Of ten things asked for nine are met: one line."""
    assert [] == reasons(MET, a_person(), NOW + 60)
    assert [f"situation 1: {sentence}"] == reasons(replace(MET, **wrong), a_person(), NOW + 60)


def test_a_reason_says_what_is_not_known() -> None:
    """Codes that PSC did not give; a professional without any situation."""
    require = Require(profession=("10",), structure=("X",), auth_mode=("CARD",), acr=("eidas1",))
    about = [f"{key} is unknown, not one of {code}" for key, code in (("profession", "10"), ("structure", "X"))]
    about += [f"{key} is unknown, not one of {code}" for key, code in (("auth_mode", "CARD"), ("acr", "eidas1"))]
    assert [f"situation 1: {line}" for line in about] == reasons(require, UNKNOWN, NOW)
    nobody = replace(UNKNOWN, situations=())
    assert [f"no situation: {line}" for line in about] == reasons(require, nobody, NOW)
    assert ["no situation: `not` forbids it"] == reasons(Require(not_=Require(acr=("eidas1",))), NOBODY, NOW)


def test_who_passes_by_the_second_situation_needs_no_reason() -> None:
    """That the first would not do is no reason then."""
    assert [] == reasons(Require(profession=("21",)), DOCTOR_AND_PHARMACIST, NOW)


def test_a_reason_tells_the_age() -> None:
    """Seconds, both."""
    assert any("61" in line and "60" in line for line in reasons(Require(max_age=60), a_person(), NOW + 61))


def test_reasons_speak_of_each_situation() -> None:
    """Somebody with two situations reads why neither will do."""
    lines = "\n".join(reasons(Require(profession=("40",)), DOCTOR_AND_PHARMACIST, NOW))
    assert "10" in lines
    assert "21" in lines


# -- which rule --------------------------------------------------------------------------------------------------------


def found(app: App, path: str | bytes, method: bytes = b"GET") -> int | tuple[int, ...] | str:
    """Number of the rule that decides; numbers of all that must allow; or `malformed`; 0 for none."""
    what = app.find(method, path.encode() if isinstance(path, str) else path)
    if what.malformed:
        return "malformed"
    if what.rules is not None:
        return tuple(rule.number for rule in what.rules)
    return what.rule.number if what.rule is not None else 0


HOUSE = App(
    "dossier",
    [
        a_rule(1, "/public/*", "/favicon.ico", open=True),
        a_rule(2, "/secret", "/secret/*", methods=["GET"], profession=("10",)),
        a_rule(3, "/secret/*", profession=("21",)),
        a_rule(4, "/exact", profession=("40",)),
        a_rule(5, "/été/*", profession=("50",)),
        a_rule(6, "/*"),
    ],
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/public/", 1),
        ("/public/a/b", 1),
        ("/%70ublic/a", 1),
        ("/public/%7Ea", 1),
        ("/favicon.ico", 1),
        ("/public", 6),  # an open rule protects nothing: not /public itself
        ("/publicity", 6),
        ("/Public/a", 6),
        ("/favicon.ico/", 6),
        ("/favicon.ico.", 6),
        ("/favicon.ICO", 6),
        ("/secret", 2),
        ("/secret/", 2),
        ("/SECRET", 2),
        ("/secret.", 2),
        ("/secret%20", 2),
        ("/se%63ret", 2),
        ("/%73ecret/x", 2),
        ("/secrets", 6),
        ("/exact", 4),
        ("/exact/", 4),
        ("/EXACT.", 4),
        ("/exact/below", 6),
        ("/%C3%A9t%C3%A9/x", 5),
        ("/e\u0301te\u0301/x", 5),
        ("/\u00c9T\u00c9", 5),
        ("/ｅ\u0301te\u0301/x", 5),
        ("/ｓｅｃｒｅｔ", 2),
        ("/public/ｓecret", 1),
        ("/", 6),
    ],
)
def test_PATH_03_04_08_the_first_rule_that_fits_decides(path: str, expected: int) -> None:
    """Open rules byte for byte, the others however an application may spell it."""
    assert expected == found(HOUSE, path)


@pytest.mark.parametrize(
    "path",
    [
        "/public/../secret",
        "/public/..;/secret",
        "/public/%2e%2e/secret",
        "/public/.%2e/secret",
        "//secret",
        "//public/x",
        "/./secret",
        "/public;x=1",
        "/public/a%2Fb",
        "/public/a\\b",
        "/public/%5c",
        "/public/%2500",
        "/public/a%00",
        "/secret;/public",
        "/secret%3F",
        "/secret%23x",
        "/public/x#/../../secret",
    ],
)
def test_PATH_02_04_05_a_path_with_two_readings_needs_every_rule(path: str) -> None:
    """No open rule, and all the others whose method fits, in their order."""
    assert (2, 3, 4, 5, 6) == found(HOUSE, path)
    assert (3, 4, 5, 6) == found(HOUSE, path, b"POST")


def test_methods_choose_among_rules() -> None:
    """The first whose path and method fit; a method is compared exactly."""
    assert [2, 3, 3] == [found(HOUSE, "/secret", method) for method in (b"GET", b"POST", b"get")]


def test_nothing_matches_and_nothing_is_found() -> None:
    """An app without rules, or without one that fits, refuses."""
    assert 0 == found(App("empty", []), "/")
    assert () == found(App("empty", []), "//")
    only = App("one", [a_rule(1, "/a", methods=["GET"])])
    assert [0, 0] == [found(only, "/b"), found(only, "/a", b"POST")]
    assert () == found(App("open", [a_rule(1, "/*", open=True)]), "/a//b")


@pytest.mark.parametrize(
    ("path", "method"),
    [("/%zz", b"GET"), ("/%", b"GET"), ("x", b"GET"), ("", b"GET"), ("/", b""), ("/", b"GET,POST"), ("/", b"A" * 33)],
)
def test_PATH_07_what_is_malformed_finds_nothing(path: str, method: bytes) -> None:
    """Never a rule, whatever the rules."""
    assert "malformed" == found(HOUSE, path, method)


@pytest.mark.parametrize(
    ("pattern", "matches", "does_not"),
    [
        ("/x/*", ["/x/", "/x/y", "/x", "/X/y"], ["/xy", "/"]),
        ("/*", ["/", "/x", "/x/y"], []),
        ("/", ["/"], ["/x"]),
        ("/x/", ["/x", "/x/"], ["/x/y"]),
        ("/X.Y/*", ["/x.y", "/x.y/z"], ["/xyy"]),
        ("/%61b", ["/ab", "/AB"], ["/%2561b"]),
    ],
)
def test_a_pattern_that_protects_is_exact_or_a_whole_prefix(
    pattern: str, matches: list[str], does_not: list[str]
) -> None:
    """`/x/*` protects /x as well (decision 8), and never /xy."""
    app = App("one", [a_rule(1, pattern)])
    assert [1] * len(matches) == [found(app, path) for path in matches]
    assert all(found(app, path) in (0, (1,)) for path in does_not)


@pytest.mark.parametrize(
    ("pattern", "matches", "does_not"),
    [
        ("/x/*", ["/x/", "/x/y", "/%78/y"], ["/x", "/X/y", "/xy"]),
        ("/*", ["/", "/x"], []),
        ("/", ["/"], ["/x"]),
        ("/x/", ["/x/"], ["/x", "/x/y"]),
        ("/été", ["/%C3%A9t%C3%A9", "/%c3%a9t%c3%a9"], ["/ete", "/e\u0301te\u0301", "/\u00e9t\u00e9"]),
        ("/a%20b", ["/a%20b"], ["/a+b"]),
        ("/%7ea", ["/~a", "/%7Ea"], []),
    ],
)
def test_a_pattern_that_opens_is_exact_bytes(pattern: str, matches: list[str], does_not: list[str]) -> None:
    """An open rule opens what it says and nothing that only resembles it."""
    app = App("one", [a_rule(1, pattern, open=True)])
    assert [1] * len(matches) == [found(app, path) for path in matches]
    assert [0] * len(does_not) == [found(app, path) for path in does_not]


def test_rules_keep_their_order_whatever_index_they_stand_in() -> None:
    """A protecting rule before an open one wins, and the other way round."""
    first = App("a", [a_rule(1, "/p/secret"), a_rule(2, "/p/*", open=True), a_rule(3, "/*")])
    assert [1, 1, 2] == [found(first, path) for path in ("/p/secret", "/p/SECRET", "/p/x")]
    second = App("b", [a_rule(1, "/p/*", open=True), a_rule(2, "/p/secret"), a_rule(3, "/*")])
    assert [1, 1, 3] == [found(second, path) for path in ("/p/secret", "/p/SECRET", "/P/x")]


def test_a_background_path_is_judged_but_not_remembered() -> None:
    """It finds the same rule, by the road that does not count as activity; an open rule needs none."""
    app = App("a", [a_rule(1, "/open/*", open=True), a_rule(2, "/*")], "Title", ["/poll", "/live/*", "/open/poll"])
    assert ("Title", 2) == (app.title, len(app.rules))
    for path in ("/poll", "/live/", "/live/x"):
        what = app.find(b"GET", path.encode())
        assert (None, True) == (what.rule, what.background)
        assert (2,) == found(app, path)
    for path in ("/poll/x", "/live", "/POLL", "/other"):
        assert 2 == found(app, path)
    assert 1 == found(app, "/open/poll")
    assert "a" == App("a", []).title


def test_CACHE_03_what_an_app_remembers_of_paths_is_bounded() -> None:
    """A flood of paths, long paths or long methods cannot fill the memory, and what is found stays right."""
    app = App("a", [a_rule(1, "/a/*"), a_rule(2, "/*")])
    for number in range(5000):
        app.find(b"GET", b"/%d" % number)
    assert 0 < len(app.paths) <= 4096
    app.paths.clear()
    app.find(b"GET", b"/" + b"x" * 600)
    app.find(b"M" * 600, b"/")
    assert {} == app.paths
    assert [1, 1, 2] == [found(app, "/a/x"), found(app, "/a/x"), found(app, "/b")]
    assert {(b"GET", b"/a/x"), (b"GET", b"/b")} == set(app.paths)


def test_a_rule_shows_whether_a_method_fits() -> None:
    """None means all of them."""
    assert a_rule(1).fits_method(b"ANY")
    assert not Rule(1, 1, 0, ("/*",), frozenset({b"GET"}), False).fits_method(b"POST")
