"""Every attack of the list is a test, or coverage.toml says why not. Refuses: an id in neither place, one in both, an unknown one, an empty reason.

coverage.toml holds two tables of reasons: `not_yet`, attacks on what this version does not have, which no test names; and `one_way`, attacks that are run
in one way only: no proxy stands where they happen (or nothing but a proxy does).
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from attacks.attack_ids import ALONE, FAMILIES, KNOWN, NGINX, TRAEFIK, ids_in, ways_of, written

FILE = Path(__file__).with_name("coverage.toml")


def mistakes(tests: Iterable[tuple[str, str, str]], reasons: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What is wrong, a sentence each."""
    found: list[str] = []
    ways: dict[str, set[str]] = {}
    for each, way, where in tests:
        ways.setdefault(each, set()).add(way)
        if each not in KNOWN:
            found.append(f"{each}: {where} names it, the list does not")
    for table, entries in reasons.items():
        if table not in ("not_yet", "one_way"):
            found.append(f"{table}: no such table")
        for each, reason in entries.items():
            if each not in KNOWN:
                found.append(f"{each}: coverage.toml names it, the list does not")
            if not reason.strip():
                found.append(f"{each}: its reason is empty")
    not_yet, one_way = reasons.get("not_yet", {}), reasons.get("one_way", {})
    for each in KNOWN:
        run = ways.get(each, set())
        if not run and each not in not_yet:
            found.append(f"{each}: no test, and no reason")
        if run and each in not_yet:
            found.append(f"{each}: there is a test, and a reason why there is none")
        both = ALONE in run and NGINX in run
        if run and not both and each not in one_way:
            found.append(f"{each}: run {' and '.join(sorted(run))} only, and no reason")
        if both and each in one_way:
            found.append(f"{each}: run both ways, and a reason why it is not")
        if not run and each in one_way:
            found.append(f"{each}: a reason for one way, and no test")
    return found


def test_every_attack_is_a_test_or_has_a_reason() -> None:
    """The whole list, as the tests stand."""
    assert [] == mistakes(written(), tomllib.loads(FILE.read_text(encoding="utf-8")))


def everything() -> list[tuple[str, str, str]]:
    return [(each, way, "x") for each in KNOWN for way in (ALONE, NGINX)]


@pytest.mark.parametrize(
    ("tests", "reasons", "sentence"),
    [
        (everything()[2:], {}, "TOK-01: no test, and no reason"),
        (everything()[2:], {"not_yet": {"TOK-01": " "}}, "TOK-01: its reason is empty"),
        (everything(), {"not_yet": {"TOK-01": "r"}}, "TOK-01: there is a test, and a reason why there is none"),
        (everything()[1:], {}, "TOK-01: run nginx only, and no reason"),
        (everything(), {"one_way": {"TOK-01": "r"}}, "TOK-01: run both ways, and a reason why it is not"),
        ([*everything(), ("TOK-99", ALONE, "x")], {}, "TOK-99: x names it, the list does not"),
        (everything(), {"not_yet": {"TOK-99": "r"}}, "TOK-99: coverage.toml names it, the list does not"),
        (everything(), {"other": {}}, "other: no such table"),
    ],
)
def test_what_is_missing_is_told(
    tests: list[tuple[str, str, str]], reasons: Mapping[str, Mapping[str, str]], sentence: str
) -> None:
    """Each way of being incomplete is found, and nothing else."""
    assert [] == mistakes(everything(), {})
    assert [sentence] == mistakes(tests, reasons)


def test_the_list() -> None:
    """176 ids in 23 families."""
    assert (23, 176, 176) == (len(FAMILIES), len(KNOWN), len(set(KNOWN)))


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("test_HDR_05_connection_lists", ["HDR-05"]),
        ("test_PATH_02_04_05_a_path", ["PATH-02", "PATH-04", "PATH-05"]),
        ("test_COOK_02_INT_01_every_bit", ["COOK-02", "INT-01"]),
        ("test_HDR_02_HDR_03_aliases_12", ["HDR-02", "HDR-03"]),
        ("test_utf_08", []),
    ],
)
def test_ids_in_a_name(name: str, ids: list[str]) -> None:
    """As they are written in the names of tests."""
    assert ids == ids_in(name)


def test_ways() -> None:
    """Where a test stands tells how it attacks."""
    assert (ALONE, NGINX) == ways_of(Path("attacks/test_hdr.py"), {"place", "header"})
    assert (ALONE,) == ways_of(Path("attacks/test_observer.py"), {"running"})
    assert (NGINX,) == ways_of(Path("proxies/test_nginx_cookies.py"), {"place"})
    assert (TRAEFIK,) == ways_of(Path("proxies/test_traefik.py"), set())
    assert (NGINX,) == ways_of(Path("stories/test_browser.py"), set())
    assert (ALONE,) == ways_of(Path("web/test_start.py"), {"running"})
