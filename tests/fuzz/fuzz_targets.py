"""What is fuzzed: nine readers of bytes that others write, each with its oracle.

For: `make fuzz`, which looks for bytes that break an oracle, and test_fuzz_corpus.py, which replays what it has found. A target is a function of bytes
that returns, or raises OracleError: only the documented exceptions, never a yes to a stranger, the same answer at the second reading, and what an
independent reading by the standard library says too. Refuses: oracles that ask the code under test whether it was right.
"""

import asyncio
import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

import hall_samples
import psc.token_forge as forge
from inner.inner_wire import answers

from forward_auth import dialects
from forward_auth.config import load
from forward_auth.cookies import LARGEST_HEADER, read_cookie, read_cookies
from forward_auth.decision import Allow
from forward_auth.dialects import Addresses, Pages, Unread
from forward_auth.errors import ConfigError, PSCAnswerRefused
from forward_auth.gate import Lookup
from forward_auth.headers import ENCODINGS, PROFILES, HeaderPlan
from forward_auth.identity import IdentityError, from_record, read_identity, to_record
from forward_auth.inner.check import Check
from forward_auth.inner.door import Door
from forward_auth.inner.protocol import Connection
from forward_auth.metrics import Metrics
from forward_auth.psc.keys import read_jwks
from forward_auth.psc.messages import Answer, check_id_token, check_subject, read_metadata, read_userinfo
from forward_auth.targets import read_to

CORPUS: Final = Path(__file__).parent / "corpus"
LARGEST: Final = 4096  # bytes of one input; what is larger has its own tests
NAME: Final = b"__Host-psc"
TICKET: Final = b"AQ" + b"dossier" * 8 + b"dossie"  # opens the doctor's login, because the memory of this house says so
SUBJECT: Final = b"899700000042"


class OracleError(AssertionError):
    """What was promised did not hold."""


def must(held: object, what: str) -> None:
    if not held:
        raise OracleError(what)


# -- the house, as in every test of the hall: an app with an open corner, and a doctor who is in -------------------------------------


def _house() -> hall_samples.House:
    house = hall_samples.House(
        hall_samples.a_rule(1, "/public/*", open=True), hall_samples.a_rule(2, "/*", acr=("eidas1",))
    )
    house.memory.remember(house.host, TICKET, hall_samples.a_login())
    return house


_HOUSE: Final = _house()
_DIALECTS: Final = dialects.dialects(
    Addresses("https://auth.hopital.example", "/psc"), Pages(b"refused", b"away", b"Content-Type: text/html\r\n")
)


class _NoStore:
    """No input holds a ticket that the store would have to be asked for: nobody can make one."""

    async def fetch(self, lookup: Lookup, now: float) -> None:
        raise OracleError("a stranger's ticket reached the store")

    def refused(self, *_: object) -> str:
        return "REF"

    def tell(self, *_: object) -> None:
        return None


_METRICS: Final = Metrics(("nginx", "ingress-nginx", "forward"), ("dossier", "radio"))


def _door() -> Door:
    endpoints: dict[bytes, Any] = {
        address: Check(
            dialect, _HOUSE.gate, _NoStore(), _HOUSE.memory.news, NAME, _METRICS, lambda: float(hall_samples.NOW)
        )
        for address, dialect in _DIALECTS.items()
    }
    loopback = (ip_network("127.0.0.1"),)
    return Door(lambda: endpoints, trusted=lambda: loopback, observers=lambda: loopback, cookie=NAME)


class _Wire(asyncio.Transport):
    """The end of a connection that writes down what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 9) if name == "peername" else default

    def write(self, data: Any) -> None:
        must(not self.closed, "something was written after the end")
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        return None

    resume_reading = pause_reading


def _heard(door: Door, pieces: list[bytes]) -> tuple[bytes, bool]:
    wire = _Wire()
    connection = Connection(door)
    connection.connection_made(wire)
    for piece in pieces:
        if not wire.closed:
            connection.data_received(piece)
    connection.connection_lost(None)
    return wire.sent, wire.closed


_STATUSES: Final = frozenset({200, 302, 303, 400, 401, 403, 404, 413, 414, 431})
_LINE: Final = re.compile(rb"[A-Za-z-]+: ?[\x20-\x7e]*")


def inner(data: bytes) -> None:
    """Bytes to the inner door: whole answers of few statuses; the doctor's name only to whoever sent the doctor's ticket; the same in one read,
    in two, and a second time on a door that has seen it all before (both roads)."""
    door = _door()
    first = _heard(door, [data])
    for pieces in ([data], [data]):
        must(_heard(door, pieces) == first, "a head that was seen before is answered otherwise")
    middle = len(data) // 2
    must(_heard(_door(), [data[:middle], data[middle:]]) == first, "two reads are answered otherwise than one")
    try:
        found = answers(first[0], heads_only=b"HEAD " in data)
    except AssertionError:
        if b"HEAD " not in data:
            raise
        return  # a HEAD among others: where its answer ends only it can say
    for heard in found:
        must(heard.status in _STATUSES, f"status {heard.status}")
        for line in heard.head.split(b"\r\n")[1:]:
            must(_LINE.fullmatch(line), f"a header line {line!r}")
        if heard.status == 200 and heard[b"X-PSC-Subject"]:
            must(heard[b"X-PSC-Subject"] == SUBJECT and TICKET in data, "somebody was let in without the ticket")
        if heard.status != 200:
            must(not heard.all(b"X-PSC-Subject"), "an identity on a refusal")
    must(all(not heard.closes for heard in found[:-1]), "something was answered behind a last answer")


def cookie(data: bytes) -> None:
    """A Cookie header: our value is one that stands in it exactly once under our exact name, read a second time in the plainest way."""
    data = data[:LARGEST_HEADER]
    value = read_cookie(data, NAME)
    plain = [part.lstrip(b" \t").split(b"=", 1) for part in data.split(b";")]
    ours = [part[1] for part in plain if len(part) == 2 and part[0] == NAME]
    must(value == (ours[0] if len(ours) == 1 else None), f"read {value!r} where there is {ours!r}")
    must(value == read_cookie(data, NAME), "another answer the second time")
    if value is not None and value != TICKET:
        must(_HOUSE.ring.read_ticket(value, "ticket", hall_samples.HOST) is None, "a ticket that nobody made")
    for name, found in read_cookies(data, NAME + b"-login-").items():
        same = [part[1] for part in plain if len(part) == 2 and part[0] == name]
        must(found == (same[0] if len(same) == 1 else None), f"read {name!r} as {found!r}")


_ORIGIN: Final = re.compile(r"https?://[a-z0-9.:\[\]-]*")


def forwarded(data: bytes) -> None:
    """Header lines of a proxy, `Name: value` each: no exception; a canonical origin or no reading; nobody passes without a ticket but into the
    open corner, judged again by the bare bytes; the answer has header lines and nothing else."""
    headers: dict[bytes, bytes] = {}
    doubled: set[bytes] = set()
    for line in data.split(b"\n"):
        name, mark, value = line.partition(b":")
        name = name.strip().lower()
        if not mark or not name:
            continue
        if name in headers:
            doubled.add(name)
        else:
            headers[name] = value.strip(b" \t")
    for dialect in _DIALECTS.values():
        original = dialect.read(headers, doubled)
        must(type(original) is type(dialect.read(headers, doubled)), "another reading the second time")
        if isinstance(original, Unread):
            must(original.cure, "refused without a cure")
            continue
        must(_ORIGIN.fullmatch(original.origin), f"origin {original.origin!r}")
        decision = _HOUSE.gate.check(original, None, hall_samples.NOW)
        must(not isinstance(decision, Lookup), "asked the store for nobody")
        if isinstance(decision, Allow):
            path = unquote_to_bytes(original.path)
            must(decision.outcome == "open" and SUBJECT not in decision.lines, "a stranger was let in")
            must(original.origin == hall_samples.ORIGIN, "the open corner of another app")
            must(path.startswith(b"/public/"), f"{path!r} is not in the open corner")
            odd = (b"..", b"//", b"\\", b";", b"%", b"\0")
            must(not any(each in path for each in odd), f"{path!r} can be read in two ways")
        said = dialect.speak(decision, original)
        head = said if isinstance(said, bytes) else said[0]
        must(head.startswith(b"HTTP/1.1 ") and head.endswith(b"\r\n"), "no head")
        for line in head.removesuffix(b"\r\n").split(b"\r\n")[1:]:
            must(_LINE.fullmatch(line), f"a header line {line!r}")


_OURS: Final = ("https://dossier.hopital.example", "https://auth.hopital.example")
_LOCATION: Final = re.compile(r"https://(dossier|auth)\.hopital\.example/[\x21-\x7e]*")


def target(data: bytes) -> None:
    """An address to come back to: none, or one that begins with an origin of ours and a slash, in bytes that no browser reads otherwise, and
    that reads as itself."""
    found = read_to(data, _OURS, prefix="/psc")
    must(found == read_to(data, _OURS, prefix="/psc"), "another answer the second time")
    if found is None:
        return
    must(_LOCATION.fullmatch(found.location), f"location {found.location!r}")
    parts = urlsplit(found.location)
    must(f"{parts.scheme}://{parts.netloc}" == found.origin, "another origin than it says")
    must("\\" not in parts.path, "a backslash in the path")
    must(not re.match(r"/psc/", parts.path, re.IGNORECASE), "back to our own addresses: a loop")
    must(read_to(found.location.encode(), _OURS, prefix="/psc") in (found, None), "does not read as itself")


_CLAIMS: Final = forge.id_claims()
_PLANS: Final = [HeaderPlan(profile, encoding) for profile in PROFILES for encoding in ENCODINGS]


def userinfo(data: bytes) -> None:
    """PSC's userinfo: refused, or the very person of the ID token, with headers that are lines of their own and a record that reads back."""
    claims = check_id_token(
        _TOKEN, _KEYS, forge.PROVIDER, forge.CLIENT, nonce=forge.NONCE, access_token=forge.ACCESS_TOKEN, acr_values=("eidas1",), max_age=None, now=forge.NOW
    )  # fmt: skip
    try:
        found = read_userinfo(Answer(200, "application/json", data), claims.sub)
        check_subject(claims, found, "SubjectNameID")
        identity = read_identity(found, claims.claims, issuer=forge.ISSUER)
    except (PSCAnswerRefused, IdentityError):
        return
    must(identity.subject == _CLAIMS["SubjectNameID"] and identity.sub == _CLAIMS["sub"], "another person")
    must(identity == read_identity(json.loads(data), claims.claims, issuer=forge.ISSUER), "read otherwise by json")
    must(identity == from_record(json.loads(json.dumps(to_record(identity)))), "the record reads back otherwise")
    for situation in (None, *identity.situations[:2]):
        for plan in _PLANS:
            block = plan.render(identity, situation)
            lines = block.removesuffix(b"\r\n").split(b"\r\n")
            must(len(block) <= 4096, f"{len(block)} bytes of headers")
            must([line.partition(b":")[0].decode() for line in lines] == list(plan.names), "a header line of its own")
            must(not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", block.replace(b"\r\n", b"")), "a control")


_KEYS: Final = forge.keyset()
_TOKEN: Final = forge.id_token()
_FRESH: Final = (forge.NOW - 60, forge.NOW + 2**33)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    must(len(dict(pairs)) == len(pairs), "a member twice was accepted")
    return dict(pairs)


def id_token(data: bytes) -> None:
    """An ID token: header and payload, a line each, which we sign honestly; without a second line the whole token. Refused, or every claim is
    as the standard library reads it; bytes that nobody signed are never believed."""
    head, mark, payload = data.partition(b"\n")
    token = forge.sign(head, payload) if mark else data.decode("latin-1")
    try:
        claims = check_id_token(
            token, _KEYS, forge.PROVIDER, forge.CLIENT, nonce=forge.NONCE, access_token=forge.ACCESS_TOKEN, acr_values=("eidas1",), max_age=None, now=forge.NOW
        )  # fmt: skip
    except PSCAnswerRefused as error:
        must(error.code and "\n" not in error.detail and len(error.detail) < 400, "a detail that is no line")
        return
    must(mark, "a token that nobody signed was believed")
    told, said = (json.loads(part, object_pairs_hook=_once) for part in (head, payload))
    must(told["alg"] == "RS256" and told.get("typ", "JWT") == "JWT", "another kind of token")
    must(not {"crit", "jwk", "jku", "x5u", "x5c", "b64"} & told.keys(), "a header that brings its own key")
    must(said["iss"] == forge.ISSUER and said["aud"] in (forge.CLIENT_ID, [forge.CLIENT_ID]), "for somebody else")
    must(said.get("azp", forge.CLIENT_ID) == forge.CLIENT_ID and "events" not in said, "for somebody else")
    must(said["nonce"] == forge.NONCE and said["acr"] == "eidas1", "of another sign-in")
    must(claims.sub == said["sub"] and claims.sub, "another person")
    for name in ("exp", "iat", "auth_time"):
        moment = said.get(name, forge.NOW)
        must(type(moment) in (int, float) and math.isfinite(moment), f"{name} is no moment")
    must(_FRESH[0] <= said["exp"] <= _FRESH[1] and said["iat"] <= forge.NOW + 60, "of another time")


def jwks(data: bytes) -> None:
    """A key set: refused, or only public RSA keys of 2048 bits and more, none of them by a name that stands for two."""
    try:
        found = read_jwks(data)
    except PSCAnswerRefused:
        return
    keys = [*found.by_kid.values(), *found.unnamed]
    must(keys, "an empty set")
    for key in keys:
        numbers = key.public_numbers()
        must(key.key_size >= 2048 and numbers.e > 1 and numbers.e % 2 == 1, "a weak key")
    members = [each for each in json.loads(data)["keys"] if isinstance(each, dict)]
    for kid in found.by_kid:
        same = [each for each in members if each.get("kid") == kid and each.get("kty") == "RSA" and "d" not in each]
        must(same, "a key of a name that is not there")
    must(len(keys) + found.skipped <= len(json.loads(data)["keys"]), "more keys than there are")


def discovery(data: bytes) -> None:
    """Metadata: refused, or of exactly our issuer, with every endpoint on https."""
    try:
        found = read_metadata(data, forge.ISSUER)
    except PSCAnswerRefused:
        return
    said = json.loads(data, object_pairs_hook=_once)
    must(said["issuer"] == found.issuer == forge.ISSUER, "of another issuer")
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint"):
        address = getattr(found, name)
        must(address is None or address == said[name], f"{name} is not what it says")
        must(address is None or address.lower().startswith("https://"), f"{name} without TLS: {address}")
        must(address is None or not re.search(r"[\s\\#]", address), f"{name}: {address!r}")
        must(address is None or "@" not in urlsplit(address).netloc, f"{name}: {address!r}")


_PLACE: Final[list[Path]] = []


def toml(data: bytes) -> None:
    """A configuration: settings, or all its mistakes, each with a cure in one line; the same the second time."""
    if not _PLACE:
        _PLACE.append(Path(tempfile.mkdtemp(prefix="fuzz-")))
        (_PLACE[0] / "secret").write_text("kZ7-un-secret-qui-ne-sort-pas")
        (_PLACE[0] / "secret").chmod(0o600)
    path = _PLACE[0] / "config.toml"
    path.write_bytes(data)
    told = []
    for _ in range(2):
        try:
            settings = load(path, {})
        except ConfigError as error:
            told.append([str(each) for each in error.mistakes])
            must(error.mistakes and all(each.cure and "\n" not in str(each) for each in error.mistakes), "no cure")
            must(any(not each.warning for each in error.mistakes), "refused for a warning")
        else:
            must("kZ7" not in repr(settings), "the secret in a repr")
            must(settings.server.trusted_proxies or settings.server.inner[0].kind == "unix", "everybody is trusted")
            must(settings.session.absolute <= 4 * 3600 or b"longer" in data, "longer than PSC's session")
            told.append([repr(settings)])
    must(told[0] == told[1], "another answer the second time")


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    each.__name__: each for each in (inner, cookie, forwarded, target, userinfo, id_token, jwks, discovery, toml)
}


def corpus(name: str) -> list[bytes]:
    """The inputs that are kept of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
