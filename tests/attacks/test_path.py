"""PATH-01 to PATH-10: the path that is judged is the path that the application gets, and no spelling of it is laxer than another.

The doctor may read /secret/, the nurse may not; /public/ is open to everybody; everything else is for whoever has signed in.
"""

import pytest
from attack_rig import DOCTOR, DOSSIER_HOST, NURSE, PRESCRIPTION_HOST, Place


def nobody_gets_in(place: Place, target: str | bytes, **more: str) -> None:
    """Not a stranger, not the nurse. Whether the doctor does, the model says."""
    for who in (None, NURSE):
        assert not place.ask(target, who, **more).passed, who
    place.ask(target, DOCTOR, **more)


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Uri", "x-forwarded-uri", "X-Original-URL", "X-Original-URI", "X-Rewrite-URL"]
)
def test_PATH_01_another_path_is_claimed(place: Place, header: str) -> None:
    """The request is for the secret; a header says that it is for what is open."""
    nobody_gets_in(place, "/secret/x", lines=f"{header}: /public/x\r\n")


@pytest.mark.parametrize(
    "target",
    [
        "/public/../secret/x",
        "/public/..;/secret/x",
        "/public/%2e%2e/secret/x",
        "/public/.%2e/secret/x",
        "/public/..%2fsecret/x",
        "/public/..%5csecret/x",
        "/public/..\\secret/x",
        "/public/%252e%252e/secret/x",
        "/public/./../secret/x",
        "/public//../secret/x",
    ],
)
def test_PATH_02_out_of_an_open_folder(place: Place, target: str) -> None:
    """A way out of what is open leads nobody in."""
    nobody_gets_in(place, target)


@pytest.mark.parametrize(
    "target",
    [
        "//secret/x",
        "/./secret/x",
        "/secret/x/",
        "/secret/.",
        "/secret",
        "/secret%20",
        "/SECRET/x",
        "/Secret/x",
        "/secret.",
        "/secret;x=1/y",
        "/secret/;/public/",
        "/x/../secret/y",
        "/x//secret/y",
    ],
)
def test_PATH_03_other_spellings(place: Place, target: str) -> None:
    """However an application's server may read it, it is never laxer than the rule for the secret."""
    nobody_gets_in(place, target)


@pytest.mark.parametrize(
    "target",
    [
        "/secret/x?",
        "/secret/x%3F",
        "/secret%3F",
        "/secret%3Fx",
        "/public/x%3Fy",
        "/secret/x%00",
        "/secret%00",
        "/se%63ret/x",
        "/%73ecret/x",
        "/secret%2Fx",
        "/secret\\x",
        "/secret%5cx",
        "/%2573ecret/x",
        "/secret%252fx",
        "/public%2fx",
        "/public/%5cx",
        "/public/x%00",
        "/public/%25x",
        "/public/x;y",
        "/public/x%0ay",
    ],
)
def test_PATH_04_escapes(place: Place, target: str) -> None:
    """An escape hides nothing; what may be read in two ways is not open, even below what is open."""
    nobody_gets_in(place, target)


@pytest.mark.parametrize(
    "target", ["/secret/x?next=/public/", "/secret/x?/public/x", "/secret/x;/public/x", "/secret?/../public/"]
)
def test_PATH_05_the_open_path_in_the_query(place: Place, target: str) -> None:
    """What stands behind the path opens nothing."""
    nobody_gets_in(place, target)


@pytest.mark.parametrize(
    "target",
    [
        "/secret/x#/public/x",
        "/secret#/public",
        "/public/x#/secret/y",
        "/public/x#/../../secret/y",
        "/public/#?/../secret/y",
        "/#/public/x",
        "/public/x%23/../../secret",
        "/public/x%23y",
        "/secret%23",
    ],
)
def test_PATH_06_a_fragment(place: Place, target: str) -> None:
    """A raw # never comes from a browser, and one server cuts there where the next goes on: it opens nothing, and whoever passes may go everywhere."""
    nobody_gets_in(place, target)


def test_PATH_06_a_fragment_behind_the_query(place: Place) -> None:
    """It changes no path: what is open stays open, what is not stays closed, and who must sign in comes back to the address without it."""
    assert place.ask("/public/x?a#/secret/").passed
    nobody_gets_in(place, "/secret/x?a#/public/")
    told = place.ask("/x#/public/?a", lines="Accept: text/html\r\n")
    assert told["Location"].endswith("%2Fx")


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"%",
        b"/%",
        b"/%zz",
        b"/public/%zz",
        b"secret/x",
        b"public/x",
        b"?x",
        b"/public/\x01",
        b"/public/\x7f",
        b"/" + b"a" * 20_000,
        b"/public/" + b"a" * 20_000,
    ],
    ids=lambda target: repr(target[:20]),
)
def test_PATH_07_malformed(place: Place, target: bytes) -> None:
    """What is no path gets nobody in, and no error of ours either: not even below what is open."""
    for who in (None, NURSE, DOCTOR):
        outcome = place.ask(target, who)
        assert not outcome.passed
        assert outcome.status in (0, 302, 400, 401, 403, 404, 414, 431)


@pytest.mark.parametrize("target", [b"/public/\x80", b"/public/\xff\xfe", b"/public/%ff/x", b"/public/\xc0\xae/x"])
def test_PATH_07_bytes_that_are_no_text(place: Place, target: bytes) -> None:
    """What is no UTF-8 is not open."""
    nobody_gets_in(place, target)


@pytest.mark.parametrize(
    ("target", "secret"),
    [
        ("/s%C3%A9cret/x", False),
        ("/se%CC%81cret/x", False),
        ("/%EF%BD%93ecret/x", True),
        ("/%EF%BC%B3ECRET/x", True),
        ("/%c0%afsecret/x", True),
        ("/public/%c0%ae%c0%ae/secret/x", True),
        ("/public/%EF%BC%8Fsecret", True),
        ("/%E2%80%8Bsecret/x", False),
    ],
)
def test_PATH_08_unicode(place: Place, target: str, secret: bool) -> None:
    """Full-width letters are the letters, overlong bytes are nothing; an accent is another path, judged as what it is."""
    if secret:
        nobody_gets_in(place, target)
    else:
        assert not place.ask(target).passed
        place.ask(target, NURSE)


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb?x=%20+",
        "/a//b",
        "/a/./b/../c",
        "/s%C3%A9cret?q=%zz",
        "/x;y=1",
        "/%7Euser/%41",
        "/a?b=1&c=/d?e",
        "/public/x%20y",
        "/secret/?a=b",
    ],
)
def test_PATH_09_what_is_judged_is_what_is_served(place: Place, target: str) -> None:
    """The application gets the bytes that the browser sent, and the model allows exactly these."""
    outcome = place.ask(target, DOCTOR)
    assert outcome.passed or outcome.status in (400, 403)
    for heard in outcome.heard:
        assert target.encode() == heard.target


@pytest.mark.parametrize(
    ("authority", "same"),
    [
        ("DOSSIER.hopital.example:{port}", True),
        ("Dossier.Hopital.Example:{port}", True),
        ("dossier.hopital.example.:{port}", None),
        ("dossier.hopital.example.evil.example:{port}", False),
        ("x.dossier.hopital.example:{port}", False),
        ("xn--dossier-x.hopital.example:{port}", False),
        ("dossier.hopital.example:1", None),
        ("hopital.example:{port}", False),
        ("127.0.0.1:{port}", False),
        ("dossier.h\xf4pital.example:{port}", False),
        ("dossier%2ehopital.example:{port}", False),
        (PRESCRIPTION_HOST + ":{port}", False),
    ],
)
def test_PATH_10_hosts(place: Place, authority: str, same: bool | None) -> None:
    """One host has one rule whatever the case of its letters; a host that is not ours is nobody's, and the nurse stays outside of the prescriptions."""
    told = authority.format(port=place.house.port)
    nurse = place.ask("/x", NURSE, host=DOSSIER_HOST, authority=told)
    if same is not None:
        assert same == nurse.passed
    assert not place.ask("/secret/x", NURSE, authority=told).passed
    assert not place.ask("/x", authority=told).passed
