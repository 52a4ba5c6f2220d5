"""BCL-01 to BCL-10: whoever says that somebody has left PSC must prove it; through nginx as well, to which PSC's own server speaks.

How each token is wrong in detail is told in tests/web; here each family comes the whole way, with a live session that must (not) end.
"""

from itertools import count
from typing import Any

import pytest
from attack_rig import AUTH_HOST, DOSSIER_HOST, NURSE, Place
from running import Answer, Browser

EVENT = "http://schemas.openid.net/event/backchannel-logout"


_VISITS = count()


class Visit:
    """The nurse in a browser of her own, and her session at PSC."""

    def __init__(self, place: Place) -> None:
        # Bad tokens are counted by minute, and through nginx all of them come from one address; yet the whole file fits into one login.
        place.clock.advance(61 if next(_VISITS) % 5 == 0 else 0)
        self.place = place
        self.browser = Browser()
        place.sign_in(self.browser, NURSE)
        simulator = place.simulator
        self.session = simulator.realm.sessions[list(simulator.realm.sessions)[-1]]

    def token(self, **changes: Any) -> str:
        claims = self.place.simulator.logout_claims("hopital", self.session) | changes
        return self.place.simulator.sign(
            "logout_token", {name: each for name, each in claims.items() if each is not None}
        )

    def tell(self, token: str, method: str = "POST", **more: Any) -> Answer:
        url = self.place.origin(AUTH_HOST) + "/psc/backchannel-logout"
        form = more.pop("form", f"logout_token={token}")
        told = self.place.request(
            Browser(), method, url, form=form, headers={"Accept": "*/*", **more.pop("headers", {})}
        )
        self.place.look_over(told)
        return told

    def inside(self) -> bool:
        return self.place.check(self.browser, self.place.origin() + "/dossier").status == 200


def test_BCL_01_other_tokens(place: Place) -> None:
    """Her own ID token, her access and refresh tokens: no logout tokens."""
    visit = Visit(place)
    simulator = place.simulator
    tokens = [
        simulator.sign("id_token", simulator.id_claims("hopital", session=visit.session)),
        *list(simulator.realm.access)[-2:],
        *list(simulator.realm.refresh)[-2:],
        "",
        "a.b.c",
    ]
    for token in tokens:
        assert 400 == visit.tell(token).status
    assert visit.inside()


@pytest.mark.parametrize(
    "changes",
    [
        {"events": None},
        {"events": {}},
        {"events": {"http://evil.example/event": {}}},
        {"events": [EVENT]},
        {"events": {EVENT: "x"}},
        {"nonce": "n"},
        {"sub": None, "sid": None},
        {"sid": 7},
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"jti": None},
        {"iat": None},
        {"exp": 1},
    ],
)
def test_BCL_02_03_04_05_06_wrong_claims(place: Place, changes: dict[str, Any]) -> None:
    """Properly signed, and one claim wrong: 400, and she is in."""
    visit = Visit(place)
    assert 400 == visit.tell(visit.token(**changes)).status
    assert visit.inside()


@pytest.mark.parametrize(
    "fault",
    [
        "alg_none",
        "alg_hs256_public_key",
        "alg_hs256_secret",
        "signature_bad",
        "signature_empty",
        "key_foreign",
        "header_jwk",
    ],
)
def test_BCL_05_wrong_signatures(place: Place, fault: str) -> None:
    """No algorithm, a shared one, a broken signature, a stranger's key."""
    visit = Visit(place)
    with place.simulator.faults.during(f"logout_token.{fault}"):
        token = visit.token()
    assert 400 == visit.tell(token).status
    assert visit.inside()


def test_BCL_06_replayed(place: Place) -> None:
    """The second time the same token is 400, and ends no later session."""
    visit = Visit(place)
    token = visit.token()
    assert (200, "no-store") == ((told := visit.tell(token)).status, told["Cache-Control"])
    assert not visit.inside()
    place.sign_in(visit.browser, NURSE)
    assert 400 == visit.tell(token).status


def test_BCL_07_unknown(place: Place) -> None:
    """A session that nobody here has: 200, kept by nobody."""
    visit = Visit(place)
    told = visit.tell(visit.token(sid="00000000-0000-4000-8000-00000000dead"))
    assert (200, "no-store", b"") == (told.status, told["Cache-Control"], told.body)
    assert visit.inside()


def test_BCL_08_while_the_sign_in_is_under_way(place: Place) -> None:
    """The logout comes before the callback: the session never becomes usable."""
    place.clock.advance(61)
    visit = Visit(place)
    browser = Browser()
    start = f"{place.origin(AUTH_HOST)}/psc/start?to={place.origin()}/dossier"
    callback = place.simulator.sign_in(place.get(browser, start)["Location"], NURSE, cookies=browser.psc)
    visit.session = place.simulator.realm.sessions[list(place.simulator.realm.sessions)[-1]]
    assert 200 == visit.tell(visit.token()).status
    assert 400 == place.get(browser, callback).status
    assert place.check(browser, place.origin() + "/dossier").status in (302, 401)
    assert DOSSIER_HOST not in browser.jar or "__Host-psc" not in browser.jar[DOSSIER_HOST]


def test_BCL_09_methods_types_and_sizes(place: Place) -> None:
    """GET, JSON, two tokens, none, too much of it: refused with the good token in it, which then still works."""
    visit = Visit(place)
    token = visit.token()
    assert visit.tell(token, "GET", form=None).status in (400, 405)
    assert 405 == visit.tell(token, "PUT").status
    assert 400 == visit.tell(token, headers={"Content-Type": "application/json"}).status
    for form in (f"logout_token={token}&logout_token={token}", "", "token=" + token):
        assert 400 == visit.tell(token, form=form).status
    assert 413 == visit.tell(token, form=f"logout_token={token}&padding={'x' * 17_000}").status
    assert 413 == visit.tell(token, form="x" * 1024 * 1024).status
    assert visit.inside()
    assert 200 == visit.tell(token).status
    assert not visit.inside()


@pytest.mark.parametrize("kind", ["logout+jwt", "JWT", "at+jwt", "ID", ""])
def test_BCL_10_the_type_in_the_header(place: Place, kind: str) -> None:
    """What the header calls something else is no logout token, plain JWT neither."""
    visit = Visit(place)
    with place.simulator.faults.during("logout_token.typ_header", kind):
        token = visit.token()
    told = visit.tell(token)
    assert (200 if kind == "logout+jwt" else 400) == told.status
    assert (told.status == 200) == (not visit.inside())
