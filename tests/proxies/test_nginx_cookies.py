"""Decision 5: the application gets all cookies but ours, byte for byte, and never one of ours (in real nginx)."""

import random
import time

import pytest
from proxies.staging import Stage, Staging, allow

TICKET = "__Host-psc=" + "t" * 90
LOGIN = "__Host-psc-login-Ab3_-xYz=" + "l" * 700
PLAIN = "psc=" + "p" * 90
PLAIN_LOGIN = "psc-login-00000000=q"
OURS = (TICKET, LOGIN, PLAIN, PLAIN_LOGIN)


def through(place: Stage, *lines: str) -> bytes | None:
    """The Cookie header at the application when the browser sends these lines."""
    place.app.requests.clear()
    assert 200 == place.ask("/", [("Cookie", line) for line in lines]).status
    return place.seen.one("Cookie")


def model(header: str) -> str:
    """The same in Python, written another way: cut at semicolons, drop ours, put together what is left as it was."""

    def ours(piece: str) -> bool:
        name, mark, _ = piece.strip(" \t").partition("=")
        name = name.rstrip(" \t").removeprefix("__Host-")
        ending = name.removeprefix("psc-login-")
        return bool(mark) and (
            name == "psc"
            or (ending != name and len(ending) == 8 and ending.replace("_", "a").replace("-", "a").isalnum())
        )

    pieces = header.split(";")
    kept = ""
    leading = True
    for number, piece in enumerate(pieces):
        if ours(piece):
            continue
        if leading:
            kept = piece if number == 0 else piece.lstrip(" \t")
            leading = False
        else:
            kept += ";" + piece
    return kept


@pytest.fixture
def place(stage: Staging) -> Stage:
    return stage(allow())


@pytest.mark.parametrize("ours", OURS)
def test_ours_never_arrive(place: Stage, ours: str) -> None:
    """First, in the middle, last, alone, twice, without spaces: ours is gone and the others are as they were."""
    assert b"a=1; b=2" == through(place, f"{ours}; a=1; b=2")
    assert b"a=1; b=2" == through(place, f"a=1; {ours}; b=2")
    assert b"a=1; b=2" == through(place, f"a=1; b=2; {ours}")
    assert b"a=1; b=2" == through(place, f"{ours}; a=1; {ours}; b=2; {ours}")
    assert b"a=1;b=2" == through(place, f"{ours};a=1;{ours};b=2")
    assert b"a=1; b=2" == through(place, f"{ours}; {ours}; a=1; {ours}; {ours}; b=2; {ours}; {ours}")
    assert through(place, ours) is None
    assert through(place, f"{ours}; {ours}") is None
    assert b"a=1; b=2" == through(place, f"a=1; {ours}", f"{ours}; b=2")
    assert through(place, ours, ours) is None


@pytest.mark.parametrize(
    "header",
    [
        "a=1",
        "xpsc=1; __Host-pscx=2; __Host-psc2=3; _psc=4; psc_=5; PSC=6; __host-psc=7; psc.x=8",
        "psc-login-0000000=seven; psc-login-000000000=nine; psc-login-=none; psc-login=1; __Host-psc-login-=2; psc-login-!0000000=3",
        "__Secure-psc=1; __Host-__Host-psc=2; Host-psc=3; __Host-=4; psc",
        'q="x y"; j={"k":[1,2]}; e==; =v; f; g=psc=1; h=__Host-psc=t',
        "u=é€😀; l=\xe9; p=%70%73%63=1; sp=a b ; tab=a\tb",
        "a=1;b=2;  c=3;d=4;;e=5; ;f=6;",
        "a=$psc_kept1; b=${x}; c=\\1; d=$1; e=`id`; f='q'; g=#",
        "psc ; pscx =1",
    ],
)
def test_others_arrive_byte_for_byte(place: Stage, header: str) -> None:
    """Every other cookie is untouched, names that merely resemble ours included; with ours around them as well."""
    assert header.encode() == through(place, header)
    assert header.encode() == through(place, f"{TICKET}; {header}")
    assert f"{header}; z=1".encode() == through(place, f"{header}; {LOGIN}; {TICKET}; z=1")


def test_all_six_of_ours_apart(place: Stage) -> None:
    """The most our server sets (a ticket, five sign-ins under way), each between two others."""
    logins = [f"__Host-psc-login-{n}234567Z={n}" for n in "abcde"]
    mine = [TICKET, *logins]
    assert b"o0=0; o1=1; o2=2; o3=3; o4=4; o5=5; o6=6" == through(
        place, "o0=0; " + "; ".join(f"{cookie}; o{n}={n}" for n, cookie in enumerate(mine, 1))
    )


def test_too_many_apart(place: Stage) -> None:
    """More of ours, apart, than anybody sets: no cookie at all rather than one of ours."""
    assert through(place, "; ".join(f"{TICKET}; a{n}={n}" for n in range(9))) is None


def test_garbage(place: Stage) -> None:
    """Whatever the header holds, the application gets what a second implementation of the rule says."""
    chance = random.Random(6265)
    words = [
        "psc=1",
        "__Host-psc=2",
        "psc-login-abcdefgh=3",
        "a=1",
        "xpsc=1",
        "psc",
        "=psc=1",
        "psc =4",
        "\tpsc=5",
        " ",
        "",
        "b=psc=1",
        'c="',
        "psc==",
        "é=1",
    ]
    for _ in range(150):
        header = chance.choice([";", "; "]).join(chance.choices(words, k=chance.randint(1, 9))).strip(" \t")
        if header:
            expected = model(header).rstrip(" \t")  # HTTP strips around values
            assert (expected.encode() or None) == through(place, header), header


def test_DOS_09_a_hostile_header_costs_nothing(place: Stage) -> None:
    """Headers made to send a backtracking matcher astray are answered at once, and no limit of it is met."""
    begun = time.monotonic()
    for piece in (";", "; ", "psc", "psc=;a;", "__Host-", "psc-login-", "\t", "a=1;psc "):
        place.ask("/", [("Cookie", (piece * 16000)[:15000])])
    assert time.monotonic() - begun < 5
    assert "" == place.nginx.errors()


def test_the_check_gets_them_all(place: Stage) -> None:
    """Our server gets the header whole, two lines joined with a semicolon."""
    place.ask("/", [("Cookie", f"a=1; {TICKET}"), ("Cookie", "b=2")])
    assert f"a=1; {TICKET}; b=2".encode() == place.check.requests[0].one("Cookie")
