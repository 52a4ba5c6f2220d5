"""One sign-in for several hosts: the ticket of the origin becomes a ticket of an application's host.

For: /handoff, three steps in one browser. At the app's host without a code: a fresh secret goes into a cookie there, its hash to the origin.
At the origin: a live ticket makes a one-time code for that host and that hash. At the app's host with the code: it is consumed whatever comes of
it, and only the browser that holds the secret gets the ticket. So a code that leaks opens nothing, and nobody can push a login of his own into
another's browser. Works across domains: every step is a top-level redirect. Refuses: codes in any other order, host or browser.
"""

import json
import logging
import secrets
from typing import Final

from aiohttp import web

from forward_auth.cookies import read_cookies, set_cookie
from forward_auth.sealing import SECRET_BYTES, NotOurs, from_text, to_text
from forward_auth.sessions import bind_of
from forward_auth.stores import Selection
from forward_auth.targets import Target
from forward_auth.web.app import (
    OUTER,
    Outer,
    Where,
    cookie_header,
    expired,
    failed,
    login_of,
    one,
    query,
    redirect,
    ticket_of,
)
from forward_auth.web.signin import Start, forgotten, looping, make_room, may_pass

log = logging.getLogger("forward_auth.handoff")
_SECONDS: Final = 300  # for the browser's cookie; the code itself lives 30 s
_PURPOSE: Final = "handoff cookie"


async def handoff(request: web.Request, at: Where) -> web.StreamResponse:
    """GET /handoff, at the origin or at an app's host."""
    pairs = query(request)
    code = one(pairs, "code")
    if code is not None and not at.at_origin:
        return await _arrive(request, at, code)
    outer = request.app[OUTER]
    target = outer.target(one(pairs, "to"))
    if target is None or target.origin not in outer.gate.sites:
        return _problem(request, "the address of a hand-off is none of ours", outer.home())
    bind = one(pairs, "bind")
    if at.at_origin and bind is not None:
        return await _give(request, at, target, bind)
    if at.at_origin or target.origin != at.origin:
        return redirect(Start(target.location).address(outer))
    return _ask(request, at, target)


def _ask(request: web.Request, at: Where, target: Target) -> web.Response:
    """At the app's host: bind what follows to this browser."""
    outer = request.app[OUTER]
    secret = secrets.token_bytes(SECRET_BYTES)
    bind = bind_of(secret)
    name = _cookie_name(outer, bind)
    plain = json.dumps(
        {"s": to_text(secret), "u": target.location, "t": int(outer.clock())}, separators=(",", ":")
    ).encode()
    value = to_text(outer.ring.seal(_PURPOSE, plain, name.encode()))
    lines = [
        set_cookie(name, value, secure=outer.cookies.secure, max_age=_SECONDS),
        *make_room(request, outer, len(name) + len(value)),
    ]
    return redirect(outer.url("handoff", to=target.location, bind=to_text(bind)), lines)


async def _give(request: web.Request, at: Where, target: Target, bind: str) -> web.Response:
    """At the origin: a code for that host and browser, if this browser is signed in here."""
    outer = request.app[OUTER]
    try:
        digest = from_text(bind)
    except NotOurs:
        digest = b""
    if len(digest) != 32:
        return _problem(request, "a hand-off without a proper bind", target.location)
    login = await login_of(request, at)
    if login is None:
        return redirect(Start(target.location).address(outer))
    if not may_pass(login, target, outer.clock()):
        return looping(request, target)
    code = await outer.sessions.make_code(login, target.hostname, digest)
    if code is None:
        return redirect(Start(target.location).address(outer))
    return redirect(outer.url("handoff", target.origin, code=code))


async def _arrive(request: web.Request, at: Where, code: str) -> web.Response:
    """At the app's host, with a code."""
    outer = request.app[OUTER]
    held = _held(request, outer)
    taken = await outer.sessions.take_code(code.encode("ascii", "replace"), at.hostname, held.keys())
    if taken is None:
        outer.metrics.sign_ins.labels("handoff").inc()
        login = await login_of(request, at)
        if login is not None:  # the back button: it has been consumed, and this browser is in
            return redirect(at.origin + "/")
        return _problem(
            request,
            "a hand-off code that is unknown, consumed, too old, or of another host or browser",
            at.origin + "/",
        )
    ticket, login, bind = taken
    name, to = held[bind]
    previous = await login_of(request, at)
    if previous is not None and previous.id != login.id and previous.identity.subject != login.identity.subject:
        await outer.sessions.end(Selection(login_id=previous.id), "another_person", address=at.address)
    old_ticket = ticket_of(request)
    if old_ticket is not None:
        await outer.sessions.drop(at.hostname, old_ticket)
    target = outer.target(to)
    location = at.origin + "/" if target is None or target.origin != at.origin else target.location
    lines = [
        expired(name, secure=outer.cookies.secure),
        set_cookie(outer.cookies.ticket, ticket, secure=outer.cookies.secure),
        *forgotten(outer, at),
    ]
    return redirect(location, lines)


def _held(request: web.Request, outer: Outer) -> dict[bytes, tuple[str, str]]:
    """The secrets this browser holds: bind -> (cookie's name, address to go to)."""
    held: dict[bytes, tuple[str, str]] = {}
    for name, value in read_cookies(cookie_header(request), outer.cookies.login_prefix.encode()).items():
        if value is None:
            continue
        try:
            members = json.loads(outer.ring.open(_PURPOSE, from_text(value.decode("ascii", "replace")), name))
            if 0 <= outer.clock() - int(members["t"]) <= _SECONDS:
                held[bind_of(from_text(members["s"]))] = (name.decode("ascii"), str(members["u"]))
        except (NotOurs, ValueError, KeyError, TypeError):
            continue
    return held


def _cookie_name(outer: Outer, bind: bytes) -> str:
    return outer.cookies.login_prefix + bind.hex()[:8]


def _problem(request: web.Request, detail: str, retry: str) -> web.Response:
    return failed(request, "handoff_problem", "handoff", detail, action_url=retry)
