"""A small relying party, written from the OpenID Connect texts and not from ours: what the simulator is tried with."""

import base64
import hashlib
import http.client
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest

from forward_auth.simulator import Client, Key, Simulator, SimulatorThread

CALLBACK = "http://auth.localhost:9401/psc/callback"
SCOPE = "openid scope_all"


@dataclass
class Answer:
    """An HTTP answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class RelyingParty:
    """Speaks to the simulator over real HTTP, at 127.0.0.1 with the Host of the URL."""

    psc: Simulator
    client_id: str = "hopital"
    secret: str = "un secret d'essai"
    jar: dict[str, str] = field(default_factory=dict)

    def http(self, method: str, url: str, form=None, headers=None, timeout=5) -> Answer:
        """`form`: dict or list of pairs. Redirects are never followed."""
        parts = urlsplit(url)
        sent = {"Host": parts.netloc, **(headers or {})}
        body = None
        if form is not None:
            body = urlencode(form)
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        if self.jar and "Cookie" not in sent:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        connection = http.client.HTTPConnection("127.0.0.1", self.psc.port, timeout=timeout)
        try:
            connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, sent)
            answer = connection.getresponse()
            read = Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()
        for line in read.headers.get_all("Set-Cookie") or ():
            name, _, value = line.split(";")[0].partition("=")
            self.jar[name] = value
        return read

    def discovery(self):
        return self.http("GET", self.psc.discovery_url).json

    def request(self, **changes):
        """(URL, parameters, verifier) of a correct authorization request; None removes a parameter."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": SCOPE,
            "acr_values": "eidas1",
            "state": secrets.token_urlsafe(16),
            "nonce": secrets.token_hex(32),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        asked = {name: value for name, value in asked.items() if value is not None}
        return self.psc.authorization_endpoint + "?" + urlencode(asked), asked, verifier

    def callback(self, person="docteur-dupont", *, mode="CARD", acr="eidas1", **changes):
        """(parameters of the callback, parameters asked, verifier); person "" relies on single sign-on."""
        url, asked, verifier = self.request(**changes)
        location = self.psc.sign_in(url, person, mode=mode, acr=acr, cookies=self.jar)
        assert location.startswith(CALLBACK + "?")
        return dict(parse_qsl(urlsplit(location).query, keep_blank_values=True)), asked, verifier

    def basic(self, client_id=None, secret=None) -> dict[str, str]:
        pair = urlencode({client_id or self.client_id: secret or self.secret}).replace("=", ":")
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def token(self, form, **kwargs) -> Answer:
        return self.http("POST", self.psc.endpoint("token"), form, kwargs.pop("headers", self.basic()), **kwargs)

    def redeem(self, code, verifier=None, **changes) -> Answer:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": verifier,
            **changes,
        }
        return self.token({name: value for name, value in form.items() if value is not None})

    def sign_in(self, person="docteur-dupont", **changes):
        """The token response of a whole sign-in, and the nonce that was asked for."""
        back, asked, verifier = self.callback(person, **changes)
        answer = self.redeem(back["code"], verifier)
        assert answer.status == 200, answer.text
        return answer.json, asked["nonce"]

    def refresh(self, refresh_token) -> Answer:
        return self.token({"grant_type": "refresh_token", "refresh_token": refresh_token})

    def userinfo(self, access_token) -> Answer:
        return self.http("GET", self.psc.endpoint("userinfo"), headers={"Authorization": f"Bearer {access_token}"})

    def verify(self, token, **options):
        """The claims, if PyJWT believes the token with the published keys. The clock is not PyJWT's business here."""
        keys = jwt.PyJWKSet.from_dict(self.http("GET", self.psc.endpoint("certs")).json)
        kid = jwt.get_unverified_header(token)["kid"]
        return jwt.decode(
            token,
            keys[kid].key,
            algorithms=["RS256"],
            audience=self.client_id,
            issuer=self.psc.issuer,
            options={
                "require": ["exp", "iat", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_iat": False,
                **options,
            },
        )


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def key() -> Key:
    """One key for all: making one is the slowest thing a simulator does."""
    return Key.rsa()


@pytest.fixture
def psc(clock: Clock, key: Key) -> Iterator[Simulator]:
    """A simulator with one declared client, on a free port, with a clock that stands."""
    with SimulatorThread(
        clients=[Client("hopital", "un secret d'essai", (CALLBACK,))], clock=clock, key=key
    ) as simulator:
        yield simulator


@pytest.fixture
def rp(psc: Simulator) -> RelyingParty:
    return RelyingParty(psc)


@pytest.fixture
def relying_party() -> type[RelyingParty]:
    """The class, for tests that start a simulator of their own."""
    return RelyingParty
