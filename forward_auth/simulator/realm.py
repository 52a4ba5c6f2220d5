"""What the pretend PSC remembers: clients, browser sessions, codes, tokens, CIBA requests; and how long each lives.

No network and no clock here: every question brings `now` (Unix seconds). The lifetimes are those the ANS publishes for
Pro Santé Connect; where it publishes nothing, Keycloak's behaviour stands in. Refuses: a code used twice (the session then
dies, as in Keycloak), a refresh token whose session is idle or too old, anything it did not issue itself.
"""

import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


class OAuthError(Exception):
    """An error answer of a back-channel endpoint (RFC 6749 §5.2)."""

    def __init__(self, code: str, description: str = "", status: int = 400) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description
        self.status = status


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds. Access token, refresh token, SSO (absolute and idle): the ANS's figures. Code: at most 60. CIBA: as seen."""

    access: int = 120
    refresh: int = 1800
    session: int = 14400
    idle: int = 1800
    code: int = 60
    ciba: int = 120
    ciba_interval: int = 1


@dataclass(frozen=True, slots=True)
class Client:
    """A service declared at PSC. Redirect URIs are compared byte for byte.

    `post_logout_redirect_uris` None: anything on the origin of a redirect URI. `jwks`: the public keys of a client that
    signs its own assertion (private_key_jwt). `tls_subject`: the common name of its certificate (tls_client_auth; needs a
    simulator started with TLS).
    """

    client_id: str
    secret: str = ""
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] | None = None
    backchannel_logout_uri: str = ""
    backchannel_logout_session_required: bool = True
    jwks: Mapping[str, object] | None = None
    tls_subject: str = ""
    ciba: bool = True
    require_pkce: bool = False
    open: bool = False

    def may_return_to(self, uri: str) -> bool:
        """Whether a code may be sent to `uri`."""
        return local(uri) if self.open else uri in self.redirect_uris

    def may_sign_out_to(self, uri: str) -> bool:
        """Whether a browser may be sent to `uri` after sign-out."""
        if self.open:
            return local(uri)
        if self.post_logout_redirect_uris is not None:
            return uri in self.post_logout_redirect_uris
        return _origin(uri) in {_origin(known) for known in self.redirect_uris}


def _origin(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.scheme, parts.netloc


def local(uri: str) -> bool:
    """localhost, *.localhost, *.example, loopback addresses: all an undeclared client may name."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and not parts.fragment
        and (host in ("localhost", "127.0.0.1", "::1") or host.endswith((".localhost", ".example")))
    )


@dataclass(slots=True)
class Session:
    """One authentication in one browser (or one CIBA approval). `cookie` finds it again from the browser."""

    sid: str
    cookie: str
    person: str
    acr: str
    mode: str
    auth_time: int
    started: int
    last_seen: int
    clients: set[str] = field(default_factory=set)
    ended: bool = False


@dataclass(slots=True)
class Code:
    """An authorization code, until it is used."""

    client_id: str
    redirect_uri: str
    session: Session
    nonce: str
    challenge: str
    method: str
    scope: str
    issued: int
    used: bool = False


@dataclass(slots=True)
class Grant:
    """What an access or refresh token stands for. `family` joins the tokens that came from one authorization."""

    client_id: str
    session: Session
    person: str
    scope: str
    nonce: str
    issued: int
    expires: int
    family: str
    generation: int = 0
    jti: str = ""


@dataclass(slots=True)
class BackchannelRequest:
    """A CIBA request under way. `decision`: "" until the person decides, then approve, deny or cancel."""

    auth_req_id: str
    client_id: str
    person: str
    channel: str
    binding_message: str
    acr: str
    scope: str
    issued: int
    decision: str = ""
    last_poll: float = 0.0
    used: bool = False


class Realm:
    """The state. `rotation`: "keep" = an old refresh token stays good (Keycloak's default); "revoke" = it is refused, and
    using it again ends its whole family."""

    def __init__(self, clients: Iterable[Client] | None, lifetimes: Lifetimes, rotation: str) -> None:
        self.lifetimes = lifetimes
        self.rotation = rotation
        self.open = clients is None
        self.clients: dict[str, Client] = {client.client_id: client for client in clients or ()}
        self.sessions: dict[str, Session] = {}
        self.cookies: dict[str, Session] = {}
        self.codes: dict[str, Code] = {}
        self.access: dict[str, Grant] = {}
        self.refresh: dict[str, Grant] = {}
        self.generations: dict[str, int] = {}
        self.dead_families: set[str] = set()
        self.ciba: dict[str, BackchannelRequest] = {}
        self.nonces: list[str] = []
        self.assertions: set[str] = set()

    # -- clients

    def client(self, client_id: str) -> Client | None:
        """The client of that id; in an open realm any id is a client."""
        known = self.clients.get(client_id)
        if known is None and self.open and client_id:
            return Client(client_id, open=True)
        return known

    # -- sessions

    def begin(self, person: str, acr: str, mode: str, now: int) -> Session:
        """A new session, after an authentication."""
        session = Session(str(uuid.uuid4()), secrets.token_urlsafe(32), person, acr, mode, now, now, now)
        self.sessions[session.sid] = session
        self.cookies[session.cookie] = session
        return session

    def alive(self, session: Session, now: int) -> bool:
        """Neither ended, nor idle for 30 min, nor older than 4 h."""
        return (
            not session.ended
            and now - session.started < self.lifetimes.session
            and now - session.last_seen < self.lifetimes.idle
        )

    def of_cookie(self, cookie: str, now: int) -> Session | None:
        """The live session a browser's cookie belongs to."""
        session = self.cookies.get(cookie)
        return session if session is not None and self.alive(session, now) else None

    def end(self, session: Session) -> None:
        """The session is over; its tokens with it."""
        session.ended = True
        self.sessions.pop(session.sid, None)
        self.cookies.pop(session.cookie, None)

    # -- codes

    def make_code(self, code: Code) -> str:
        """The code for a callback, shaped like Keycloak's."""
        text = f"{uuid.uuid4()}.{code.session.sid}.{uuid.uuid4()}"
        self.codes[text] = code
        code.session.clients.add(code.client_id)
        if code.nonce:
            self.nonces.append(code.nonce)
            del self.nonces[:-1000]
        self._forget(code.issued)
        return text

    def spend_code(self, text: str, client_id: str, redirect_uri: str, now: int, *, again: bool = False) -> Code:
        """The code, once. Raises OAuthError invalid_grant. `again`: a faulty PSC that lets a code be used twice."""
        code = self.codes.get(text)
        if code is None:
            raise OAuthError("invalid_grant", "Code not valid")
        if code.used and not again:
            self.end(code.session)
            raise OAuthError("invalid_grant", "Code already used")
        code.used = True
        if code.client_id != client_id:
            raise OAuthError("invalid_grant", "Auth error: code of another client")
        if now - code.issued >= self.lifetimes.code:
            raise OAuthError("invalid_grant", "Code is expired")
        if code.redirect_uri != redirect_uri:
            raise OAuthError("invalid_grant", "Incorrect redirect_uri")
        if not self.alive(code.session, now):
            raise OAuthError("invalid_grant", "Session not active")
        return code

    # -- refresh tokens

    def spend_refresh(self, text: str, client_id: str, now: int) -> Grant:
        """What the refresh token stands for; keeps the session awake. Raises OAuthError invalid_grant."""
        grant = self.refresh.get(text)
        if grant is None:
            raise OAuthError("invalid_grant", "Invalid refresh token")
        if grant.client_id != client_id:
            raise OAuthError("invalid_grant", "Invalid refresh token: token client and authorized client do not match")
        if not self.alive(grant.session, now) or grant.family in self.dead_families:
            raise OAuthError("invalid_grant", "Session not active")
        if now >= grant.expires:
            raise OAuthError("invalid_grant", "Token is not active")
        if self.rotation == "revoke" and grant.generation != self.generations.get(grant.family, 0):
            self.dead_families.add(grant.family)
            raise OAuthError("invalid_grant", "Maximum allowed refresh token reuse exceeded")
        self.generations[grant.family] = grant.generation + 1
        grant.session.last_seen = now
        return grant

    def revoke(self, text: str, client_id: str) -> None:
        """RFC 7009. An access token dies alone; a refresh token takes its family along. Unknown ones are nobody's business."""
        grant = self.access.get(text)
        if grant is not None and grant.client_id == client_id:
            del self.access[text]
        grant = self.refresh.get(text)
        if grant is not None and grant.client_id == client_id:
            self.dead_families.add(grant.family)

    def active(self, text: str, now: int) -> tuple[str, Grant] | None:
        """("Bearer" | "Refresh", grant) of a token that is good now."""
        for kind, tokens in (("Bearer", self.access), ("Refresh", self.refresh)):
            grant = tokens.get(text)
            if grant is None:
                continue
            good = now < grant.expires and self.alive(grant.session, now) and grant.family not in self.dead_families
            if kind == "Refresh" and self.rotation == "revoke":
                good = good and grant.generation == self.generations.get(grant.family, 0)
            return (kind, grant) if good else None
        return None

    def _forget(self, now: int) -> None:
        """Long runs: what has been over for an hour is dropped now and then."""
        if len(self.codes) < 5000:
            return
        self.codes = {text: code for text, code in self.codes.items() if now - code.issued < 3600}
        self.access = {text: grant for text, grant in self.access.items() if now - grant.expires < 3600}
        self.refresh = {text: grant for text, grant in self.refresh.items() if now - grant.expires < 3600}
        self.sessions = {sid: session for sid, session in self.sessions.items() if self.alive(session, now)}
        self.cookies = {session.cookie: session for session in self.sessions.values()}
        kept = {grant.family for grant in self.refresh.values()}
        self.generations = {family: number for family, number in self.generations.items() if family in kept}
        self.dead_families &= kept
