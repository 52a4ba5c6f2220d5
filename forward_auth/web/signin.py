"""Sign-in: /start and /callback.

For: beginning a sign-in at PSC for one browser and one address, and ending it once. All that is known of a sign-in under way is sealed in a
cookie of that browser, under a name made of its state: the server keeps nothing per attempt. Refuses: a callback that no cookie of this
browser belongs to, one that was answered before (claimed in the store, so across restarts and processes), a code without its state, and any
second use of a code. Nothing loops: what cannot go on ends in a page with one button.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from secrets import token_bytes
from typing import Final

from aiohttp import web

from forward_auth.cookies import read_cookies, set_cookie
from forward_auth.errors import ForwardAuthError, PSCAnswerRefused, PSCDenied, PSCUnavailable, SignInRefused
from forward_auth.identity import Identity, IdentityError, read_identity
from forward_auth.logins import Login, Record
from forward_auth.psc.client import Authentication
from forward_auth.psc.messages import callback_state
from forward_auth.refusals import new_reference
from forward_auth.sealing import NotOurs, from_text, to_text
from forward_auth.secret import Secret
from forward_auth.stores import Selection
from forward_auth.targets import Target
from forward_auth.web.app import (
    OUTER,
    Outer,
    Where,
    cookie_header,
    expired,
    failed,
    failure,
    login_of,
    one,
    page,
    query,
    redirect,
    same_origin,
    ticket_of,
)

log = logging.getLogger("forward_auth.signin")

UNDER_WAY_SECONDS: Final = 900  # the professional may leave for the telephone and come back (psc.md: 15 min)
MOST_UNDER_WAY: Final = 5
MOST_COOKIE_BYTES: Final = 6 * 1024
LEAST_REMAINING: Final = 300  # a login that would end sooner is asked of PSC again, with a fresh authentication
_PASSES: Final = 3
_PASSES_OF_HOST: Final = 12
_PASS_SECONDS: Final = 30
_PLACES: Final = 32


@dataclass(frozen=True, slots=True)
class Start:
    """What /start was asked. `to`: the address to come back to; the rest as the check wrote it, or a page of ours."""

    to: str | None
    max_age: int | None = None
    acr: tuple[str, ...] = ()
    ended: bool = False
    lost: bool = False
    frame: bool = False
    switch: bool = False
    again: int = 0

    @property
    def step_up(self) -> bool:
        return self.max_age is not None or bool(self.acr) or self.switch

    def address(self, outer: Outer, origin: str | None = None) -> str:
        """The same question as an address of /start."""
        to = None if self.to is None else self.to.encode("utf-8", "surrogateescape")
        return outer.url(
            "start",
            origin,
            to=to,
            max_age=self.max_age,
            acr=" ".join(self.acr) or None,
            why="ended" if self.ended else None,
            lost="1" if self.lost else None,
            frame="1" if self.frame else None,
            switch="1" if self.switch else None,
            again=self.again or None,
        )


def read_start(pairs: Collection[tuple[str, str]]) -> Start:
    """From query or form; what is not of its shape counts as absent, which never asks PSC for less than the rule will."""
    acr = tuple((one(pairs, "acr") or "").split())[:8]
    return Start(
        to=one(pairs, "to"),
        max_age=_number(one(pairs, "max_age"), 4 * 3600),
        acr=acr if all(value.isascii() and len(value) <= 64 and value.isprintable() for value in acr) else (),
        ended=one(pairs, "why") == "ended",
        lost=one(pairs, "lost") == "1",
        frame=one(pairs, "frame") == "1",
        switch=one(pairs, "switch") == "1",
        again=_number(one(pairs, "again"), 99) or 0,
    )


def _number(text: str | None, most: int) -> int | None:
    return min(int(text), most) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None


# -- /start ----------------------------------------------------------------------------------------------------------------------


async def start(request: web.Request, at: Where) -> web.StreamResponse:
    """GET /start: to PSC at once, or to the next step when this browser is signed in at the origin already."""
    outer = request.app[OUTER]
    asked = read_start(query(request))
    target = outer.target(asked.to) if asked.to is not None else outer.target(outer.home())
    if target is None:
        return failed(
            request,
            "error",
            "bad_target",
            "the address to come back to is none of ours",
            status=400,
            action_url=outer.home(),
        )
    asked = replace(asked, to=target.location)
    plain = replace(asked, lost=False, frame=False, ended=False)
    title = _title(outer, target)
    if asked.frame:
        return page(request, "frame", status=200, frames=True, app_title=title, action_url=plain.address(outer))
    if not at.at_origin:
        return redirect(asked.address(outer))
    if asked.lost:
        return page(request, "lost", status=200, app_title=title, action_url=plain.address(outer), switch=True)
    if asked.again >= _PASSES:
        outer.metrics.sign_ins.labels("loop").inc()
        return failed(
            request,
            "loop",
            "loop",
            "three sign-ins came back without their cookie",
            cause="cookies",
            technical=_technical(outer, target),
            app_title=title,
            action_url=outer.app_home(_app(outer, target)),
        )
    login = await login_of(request, at)
    if login is not None and not asked.step_up:
        return onwards(request, at, login, target)
    if asked.ended or (_sign_in_page(outer, target) and not asked.step_up):
        hidden = {"token": outer.form_token("start", at.hostname.encode()), **_hidden(plain)}
        notice = "ended" if asked.ended else None
        return page(
            request,
            "sign_in",
            forms=True,
            switch=True,
            app_title=title,
            action_url=f"{outer.prefix}/start",
            hidden=hidden,
            notice=notice,
        )
    return await begin(request, target, plain)


async def start_posted(request: web.Request, at: Where) -> web.StreamResponse:
    """POST /start: the button of a page of ours."""
    outer = request.app[OUTER]
    form = await request.post()
    pairs = [(name, value) for name, value in form.items() if isinstance(value, str)]
    asked = replace(read_start(pairs), ended=False, lost=False, frame=False)
    target = outer.target(asked.to)
    if target is None:
        return failed(
            request,
            "error",
            "bad_target",
            "the address to come back to is none of ours",
            status=400,
            action_url=outer.home(),
        )
    if not same_origin(request, at) or not outer.form_ok("start", at.hostname.encode(), one(pairs, "token") or ""):
        return redirect(
            replace(asked, to=target.location, ended=True).address(outer)
        )  # the page again, with a fresh token
    login = await login_of(request, at)
    if login is not None and not asked.step_up:
        return onwards(request, at, login, target)
    return await begin(request, target, asked)


def _hidden(asked: Start) -> Mapping[str, str]:
    values = {
        "to": asked.to,
        "max_age": asked.max_age,
        "acr": " ".join(asked.acr) or None,
        "switch": "1" if asked.switch else None,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _app(outer: Outer, target: Target) -> str:
    site = outer.gate.sites.get(target.origin)
    return "" if site is None else site.app.name


def _title(outer: Outer, target: Target) -> str:
    site = outer.gate.sites.get(target.origin)
    return "" if site is None else site.app.title


def _sign_in_page(outer: Outer, target: Target) -> bool:
    name = _app(outer, target)
    return any(app.name == name and app.sign_in == "page" for app in outer.settings.apps)


def _technical(outer: Outer, target: Target) -> tuple[str, ...]:
    return (
        f"origin: {outer.origin}",
        f"app: {target.origin}",
        f"{target.origin}{outer.prefix}/ must be routed to the outer door, with the scheme, host and port that the browser uses",
        f"cookies {outer.cookies.ticket} and {outer.cookies.login_prefix}… must reach it unchanged",
    )


def onwards(
    request: web.Request, at: Where, login: Login, target: Target, cookies: Collection[str] = ()
) -> web.Response:
    """The next step for somebody signed in at the origin: the address itself when it is on this host, else the hand-off to its host."""
    outer = request.app[OUTER]
    if target.hostname == at.hostname:
        if not may_pass(login, target, outer.clock()):
            return looping(request, target)
        return redirect(target.location, cookies)
    return redirect(outer.url("handoff", target.origin, to=target.location), cookies)


def may_pass(login: Login, target: Target, now: float) -> bool:
    """The loop guard. The third time within 30 s that one login is sent to one address, or the twelfth time to one host, something is wrong
    and a page says what. (A loop repeats its address; five tabs that a browser restores at once each have their own.)"""
    for place, most in ((target.location, _PASSES), (target.hostname, _PASSES_OF_HOST)):
        recent = [moment for moment in login.passes.get(place, ()) if now - moment < _PASS_SECONDS]
        if len(recent) >= most - 1:
            return False
        if len(login.passes) >= _PLACES and place not in login.passes:
            login.passes.clear()
        login.passes[place] = [*recent, now]
    return True


def looping(request: web.Request, target: Target) -> web.Response:
    outer = request.app[OUTER]
    outer.metrics.sign_ins.labels("loop").inc()
    detail = f"three hand-offs of one login to {target.origin} within {_PASS_SECONDS} s: the check does not see the cookie that was set"
    return failed(
        request,
        "loop",
        "loop",
        detail,
        cause="routing",
        technical=_technical(outer, target),
        app_title=_title(outer, target),
        action_url=target.location,
    )


# -- a sign-in under way ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UnderWay:
    """One sign-in under way, as its cookie holds it. From `seed` come the two values that bind PSC's answer to this browser."""

    seed: bytes
    to: str
    began: int
    max_age: int | None
    acr: tuple[str, ...]
    fresh: bool  # the professional was, or will be, asked to authenticate anew
    repeated: bool  # asked a second time because the first left too little of the session

    def to_bytes(self) -> bytes:
        members = {
            "s": to_text(self.seed),
            "u": self.to,
            "t": self.began,
            "m": self.max_age,
            "c": list(self.acr),
            "f": self.fresh,
            "r": self.repeated,
        }
        return json.dumps(members, separators=(",", ":")).encode()


def read_under_way(plain: bytes) -> UnderWay:
    """Of something that our own seal has just opened; raises ValueError and its like when another version wrote it."""
    members = json.loads(plain)
    return UnderWay(
        seed=from_text(members["s"]),
        to=str(members["u"]),
        began=int(members["t"]),
        max_age=None if members["m"] is None else int(members["m"]),
        acr=tuple(map(str, members["c"])),
        fresh=bool(members["f"]),
        repeated=bool(members["r"]),
    )


def cookie_name(outer: Outer, state: str) -> str:
    return outer.cookies.login_prefix + hashlib.sha256(state.encode()).hexdigest()[:8]


async def begin(
    request: web.Request,
    target: Target,
    asked: Start,
    *,
    repeated: bool = False,
    fresh: bool = False,
    cookies: Collection[str] = (),
) -> web.Response:
    """Send the browser to PSC. Costs no server state: all of it is in the cookie."""
    outer = request.app[OUTER]
    if outer.audit.refuses_sign_ins:
        outer.metrics.sign_ins.labels("unavailable").inc()
        return failed(
            request, "error", "audit_failing", outer.audit.failing, status=503, action_url=asked.address(outer)
        )
    if not await outer.psc.answering():  # better our page than the browser's own about a host that does not answer
        outer.metrics.sign_ins.labels("unavailable").inc()
        away = PSCUnavailable("psc_away", "PSC does not answer; nobody was sent there")
        return failure(request, away, asked.address(outer))
    now = int(outer.clock())
    acr = tuple(value for value in asked.acr if value)
    under_way = UnderWay(token_bytes(32), target.location, now, asked.max_age, acr, fresh or asked.switch, repeated)
    about = json.dumps(
        {"a": _app(outer, target), "t": now, "n": asked.again, "r": to_text(token_bytes(12))}, separators=(",", ":")
    )
    state = to_text(outer.ring.seal("state", about.encode()))
    try:
        location = outer.psc.sign_in_url(
            state, under_way.seed, anew=under_way.fresh, max_age=asked.max_age, levels=acr or None
        )
    except PSCUnavailable as error:
        outer.metrics.sign_ins.labels("unavailable").inc()
        return failure(request, error, asked.address(outer))
    name = cookie_name(outer, state)
    value = to_text(outer.ring.seal("login", under_way.to_bytes(), name.encode()))
    lines = [set_cookie(name, value, secure=outer.cookies.secure, max_age=UNDER_WAY_SECONDS)]
    lines += make_room(request, outer, len(name) + len(value))
    return redirect(location, [*cookies, *lines])


def make_room(request: web.Request, outer: Outer, size: int) -> list[str]:
    """Expire the oldest cookies of sign-ins (and hand-offs) under way, so that with one more of `size` bytes there are at most
    MOST_UNDER_WAY and MOST_COOKIE_BYTES of them. What is not ours goes first. -> Set-Cookie lines."""
    prefix = outer.cookies.login_prefix.encode()
    ages: list[tuple[int, bytes, int]] = []
    for name, value in read_cookies(cookie_header(request), prefix).items():
        ages.append((began_of(outer, name, value), name, len(name) + len(value or b"")))
    ages.sort(reverse=True)
    lines: list[str] = []
    count, total = 1, size
    for began, name, length in ages:
        count, total = count + 1, total + length
        if began < 0 or count > MOST_UNDER_WAY or total > MOST_COOKIE_BYTES:
            count, total = count - 1, total - length
            if name.isascii() and len(lines) < 50:
                lines.append(expired(name.decode("ascii"), secure=outer.cookies.secure))
    return lines


def began_of(outer: Outer, name: bytes, value: bytes | None) -> int:
    """When the sign-in or hand-off of this cookie began; -1 when it is not ours."""
    for purpose in ("login", "handoff cookie"):
        try:
            return int(
                json.loads(outer.ring.open(purpose, from_text((value or b"").decode("ascii", "replace")), name))["t"]
            )
        except (NotOurs, ValueError, KeyError, TypeError):
            continue
    return -1


# -- /callback -------------------------------------------------------------------------------------------------------------------


async def callback(request: web.Request, at: Where) -> web.StreamResponse:
    """GET /callback: the end of one sign-in, once."""
    outer = request.app[OUTER]
    pairs = query(request)
    try:
        state = callback_state(pairs)
        about = json.loads(outer.ring.open("state", from_text(state)))
        app, again = str(about["a"]), int(about["n"])
    except (ForwardAuthError, ValueError, KeyError, TypeError):
        return stale(request, "", 0, "a callback whose state was not made here")
    name = cookie_name(outer, state)
    under_way = _under_way(request, outer, name)
    if under_way is None or not 0 <= outer.clock() - under_way.began <= UNDER_WAY_SECONDS:
        login = await login_of(request, at)
        if (
            login is not None
        ):  # the back button, a second tab, a restored session: this sign-in has done its work already
            return redirect(outer.app_home(app))
        return stale(request, app, again + 1, "a callback that no sign-in under way in this browser belongs to")
    done = [expired(name, secure=outer.cookies.secure)]
    target = outer.target(under_way.to)
    if target is None:  # the app was removed from the configuration meanwhile
        return stale(request, app, 0, "the app of this sign-in is no longer configured", done)
    asked = Start(target.location, under_way.max_age, under_way.acr, switch=under_way.fresh and not under_way.repeated)
    try:
        # Before anything in it is read, errors included: whoever sends one answer a thousand times writes one line in the trail.
        if not await outer.sessions.claim(
            "callback " + hashlib.sha256(state.encode()).hexdigest(), UNDER_WAY_SECONDS * 2
        ):
            return stale(request, app, again + 1, "a callback was repeated", done)
        code = outer.psc.read_callback(pairs)
        answer = await outer.psc.finish_sign_in(
            code, under_way.seed, max_age=under_way.max_age, levels=under_way.acr or None
        )
        identity = read_identity(
            answer.userinfo,
            answer.id_claims.claims,
            issuer=outer.psc.issuer,
            subject_claim=outer.settings.psc.subject_claim,
        )
    except ForwardAuthError as error:
        return _refused(
            request, error, Start(target.location, under_way.max_age, under_way.acr), at, _title(outer, target), done
        )
    remaining = answer.id_claims.auth_time + outer.settings.session.absolute - outer.clock()
    if remaining < LEAST_REMAINING:
        if not under_way.repeated:
            return await begin(request, target, asked, repeated=True, fresh=True, cookies=done)
        refusal = PSCAnswerRefused("auth_too_old", "PSC gave an old authentication although a new one was asked for")
        return _refused(request, refusal, Start(target.location), at, _title(outer, target), done)
    return await _signed_in(request, at, target, identity, answer, app, done)


def _under_way(request: web.Request, outer: Outer, name: str) -> UnderWay | None:
    value = read_cookies(cookie_header(request), name.encode()).get(name.encode())
    if value is None:
        return None
    try:
        return read_under_way(outer.ring.open("login", from_text(value.decode("ascii", "replace")), name.encode()))
    except (NotOurs, ValueError, KeyError, TypeError):
        return None


async def _signed_in(
    request: web.Request,
    at: Where,
    target: Target,
    identity: Identity,
    answer: Authentication,
    app: str,
    done: list[str],
) -> web.StreamResponse:
    """Everything about the answer was believed: the login begins, and the browser goes on."""
    outer = request.app[OUTER]
    now = int(outer.clock())
    tokens = answer.tokens
    record = Record(
        identity=identity,
        claims=answer.id_claims.to_record(),
        sid=answer.id_claims.sid or "",
        id_token=tokens.id_token or Secret(""),
        refresh_token=tokens.refresh_token or Secret(""),
        refresh_issued=now,
        refresh_lives=(tokens.refresh_expires_in or 1800) if tokens.refresh_token else 0,
    )
    old_ticket = ticket_of(request)
    previous = await login_of(request, at)
    if previous is not None and previous.identity.subject != identity.subject:
        await outer.sessions.end(Selection(login_id=previous.id), "another_person", address=at.address)
        previous = None
    begun = await outer.sessions.begin(
        record, at.hostname, answer.id_claims.auth_time, at.address, previous=previous, old_ticket=old_ticket
    )
    if begun is None:
        return stale(request, app, 0, "a sign-out of this session arrived before its sign-in ended", done)
    ticket, login = begun
    outer.metrics.sign_ins.labels("success").inc()
    situation = identity.situations[0] if identity.situations else None
    outer.audit.write(
        "sign_in",
        outcome="success",
        login=login.id.hex()[:16],
        subject=identity.subject,
        structure=situation.structure if situation else "",
        acr=identity.acr,
        auth_mode=identity.auth_mode,
        auth_time=identity.auth_time,
        app=app,
        address=at.address,
    )
    lines = [*done, set_cookie(outer.cookies.ticket, ticket, secure=outer.cookies.secure), *forgotten(outer, at)]
    return onwards(request, at, login, target, lines)


def forgotten(outer: Outer, at: Where) -> list[str]:
    """Set-Cookie lines that end the application's own session on this host, where the configuration names its cookies: with a new
    ticket the next professional must not find the last one's session (decisions on shared workstations)."""
    site = at.site
    if site is None:
        return []
    names = next((app.forget_cookies for app in outer.settings.apps if app.name == site.app.name), ())
    return [f"{name}=; Path=/; Max-Age=0" + ("; Secure" if outer.cookies.secure else "") for name in names]


def stale(request: web.Request, app: str, again: int, detail: str, cookies: Collection[str] = ()) -> web.Response:
    """The page for a callback that leads nowhere: one button that begins again at the app."""
    outer = request.app[OUTER]
    outer.metrics.sign_ins.labels("stale").inc()
    home = outer.app_home(app)
    action = Start(home, again=again).address(outer)
    return failed(request, "stale", "stale", detail, cookies=cookies, action_url=action)


_PAGES: Final[Mapping[str, str]] = {"acr_insufficient": "level", "auth_too_old": "level", "access_denied": "denied"}
_OUTCOMES: Final[Mapping[str, str]] = {
    "acr_insufficient": "level",
    "auth_too_old": "level",
    "access_denied": "cancelled",
}


def _refused(
    request: web.Request, error: ForwardAuthError, asked: Start, at: Where, title: str, cookies: Collection[str]
) -> web.Response:
    """A sign-in that PSC, or we, refused: counted, in the trail, on a page."""
    outer = request.app[OUTER]
    reference = new_reference()
    if isinstance(error, PSCUnavailable):
        outcome, name, status = "unavailable", "unavailable", 503
    elif isinstance(error, PSCDenied):
        outcome, name, status = _OUTCOMES.get(error.code, "denied"), "denied", 403
    elif isinstance(error, PSCAnswerRefused | SignInRefused | IdentityError):
        outcome, name = _OUTCOMES.get(error.code, "refused"), _PAGES.get(error.code, "error")
        status = 403 if name == "level" else 400
    else:
        outcome, name, status = "error", "error", 503
    outer.metrics.sign_ins.labels(outcome).inc()
    outer.audit.write("sign_in", outcome=outcome, reason=error.code, address=at.address, reference=reference)
    return failed(
        request,
        name,
        error.code,
        error.detail,
        status=status,
        reference=reference,
        cookies=cookies,
        app_title=title,
        action_url=asked.address(outer),
    )
