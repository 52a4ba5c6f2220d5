"""A small house for the tests of the hall: one app, its rules, a key ring, a memory, and people who have signed in."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forward_auth.config import load
from forward_auth.decision import Allow, Decision
from forward_auth.gate import PURPOSE, Gate, Lookup, Site
from forward_auth.headers import HeaderPlan
from forward_auth.identity import Identity, Situation
from forward_auth.logins import Login, Memory
from forward_auth.original import Original
from forward_auth.policy import App, Require, Rule
from forward_auth.sealing import KeyRing, RingKey
from forward_auth.settings import Settings

NOW = 1_800_000_000
HOST = "dossier.hopital.example"
ORIGIN = f"https://{HOST}"
ELSEWHERE = "radio.hopital.example"

CONFIG_HEAD = """\
[psc]
environment = "custom"
issuer = "https://auth.psc.example/realms/wallet"
client_id = "hopital"
client_secret_file = "secret"

[server]
origin = "https://auth.hopital.example"
trusted_proxies = ["127.0.0.1"]
"""

DOCTOR = Situation(
    profession="10",
    category="C",
    role="FON-35",
    speciality="SM26",
    sector="SA01",
    mode="S",
    structure="F0B0100001",
    structure_name="Hôpital de l’Exemple",
    structures=("F0B0100001", "0B0100001"),
)
PHARMACIST = Situation(
    profession="21", category="C", sector="SA33", mode="L", structure="F0B0200002", structures=("F0B0200002",)
)


def loaded(place: Path, text: str) -> Settings:
    """The settings of a configuration file with this text, and a client secret beside it."""
    (place / "secret").write_text("kZ7-un-secret-qui-ne-sort-pas")
    (place / "secret").chmod(0o600)
    (place / "config.toml").write_text(text)
    return load(place / "config.toml", {})


def a_person(*situations: Situation, **changes: Any) -> Identity:
    """Somebody who has just authenticated with a card; a hospital doctor unless situations are given."""
    facts: dict[str, Any] = {
        "issuer": "https://auth.psc.example/realms/wallet",
        "sub": "f:1:899700000042",
        "subject": "899700000042",
        "given_name": "Camille",
        "family_name": "Martin",
        "situations": situations or (DOCTOR,),
        "acr": "eidas1",
        "auth_mode": "CARD",
        "auth_time": NOW,
    }
    return Identity(**(facts | changes))


def a_ring(*ids: int) -> KeyRing:
    """A ring whose keys are the same each time, the first of `ids` sealing."""
    return KeyRing([RingKey(each, NOW, None, bytes((each + n * 7) % 256 for n in range(32))) for each in ids or (1,)])


def a_login(number: int = 1, identity: Identity | None = None, **changes: Any) -> Login:
    """A login that began at NOW, limits as PSC's: idle 30 min, absolute 4 h."""
    identity = identity or a_person()
    facts: dict[str, Any] = {
        "id_": number.to_bytes(16, "big"),
        "key": bytes(32),
        "identity": identity,
        "sid": f"sid-{number}",
        "auth_time": identity.auth_time,
        "created": NOW,
        "seen": NOW,
        "idle": 1800,
        "ends": NOW + 14_400,
        "version": 1,
    }
    return Login(**(facts | changes))


def a_rule(number: int, *paths: str, methods: Sequence[str] | None = None, **require: Any) -> Rule:
    """A rule that asks for `require`; `open=True` makes it open."""
    is_open = bool(require.pop("open", False))
    return Rule(
        id=number,
        number=number,
        line=0,
        paths=paths or ("/*",),
        methods=None if methods is None else frozenset(each.encode() for each in methods),
        open=is_open,
        require=Require(**require),
    )


class House:
    """An app at ORIGIN behind a gate. `check` asks it about one request; `enter` gives somebody a ticket."""

    def __init__(
        self,
        *rules: Rule,
        background: Sequence[str] = (),
        idle: int | None = None,
        preflight: bool = False,
        prefix: str = "/psc",
    ) -> None:
        self.memory = Memory()
        self.ring = a_ring()
        self.plan = HeaderPlan()
        self.app = App("dossier", rules or (a_rule(1, "/*", acr=("eidas1",)),), "Dossier", background, prefix)
        self.host = self.memory.host(HOST)
        self.site = Site(ORIGIN, self.host, self.app, self.plan, idle=idle, preflight=preflight)
        other = App("radio", (a_rule(101, "/*", acr=("eidas1",)),))
        self.elsewhere = self.memory.host(ELSEWHERE)
        self.other_site = Site(f"https://{ELSEWHERE}", self.elsewhere, other, self.plan, idle=None, preflight=False)
        self.gate = Gate({ORIGIN: self.site, f"https://{ELSEWHERE}": self.other_site}, self.memory, self.ring)

    def ticket(self, host: str = HOST) -> bytes:
        """A genuine ticket that no memory knows yet."""
        return self.ring.new_ticket(PURPOSE, host)[0].encode()

    def enter(self, identity: Identity | None = None, *, number: int = 1, host: str = HOST, **changes: Any) -> bytes:
        """Sign somebody in: -> the ticket of that browser at `host`."""
        ticket = self.ticket(host)
        self.memory.remember(self.memory.host(host), ticket, a_login(number, identity, **changes))
        return ticket

    def login(self, number: int = 1) -> Login:
        return self.memory.by_id[number.to_bytes(16, "big")]

    def check(
        self,
        path: str | bytes = "/",
        ticket: bytes | None = None,
        *,
        method: bytes = b"GET",
        now: float = NOW,
        origin: str = ORIGIN,
        headers: Mapping[bytes, bytes] | None = None,
    ) -> Decision | Lookup:
        raw = path.encode() if isinstance(path, str) else path
        path_only, mark, query = raw.partition(b"?")
        return self.gate.check(
            Original(origin, method, path_only, query if mark else None, b"", headers or {}), ticket, now
        )

    def allowed(self, path: str | bytes = "/", ticket: bytes | None = None, **more: Any) -> bool:
        return isinstance(self.check(path, ticket, **more), Allow)


def told(decision: object) -> dict[str, str]:
    """The identity headers of an allow, as a reader sees them."""
    assert isinstance(decision, Allow)
    return dict(line.split(": ", 1) for line in decision.lines.decode().removesuffix("\r\n").split("\r\n"))


def flipped(text: bytes, bit: int) -> bytes:
    """`text` with one bit the other way."""
    changed = bytearray(text)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
