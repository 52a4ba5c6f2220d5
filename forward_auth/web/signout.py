"""Leaving: /sign-out, /signed-out, and /backchannel-logout, by which PSC says that somebody has left there.

For: ending a login on every host at once, here first and then at PSC. Refuses: to do anything on a GET, or on a POST without the token of our
own form (LO-01); to depend on PSC (LO-02): what was acknowledged here is over, whether PSC can be told or not.
"""

import asyncio
import logging
from typing import Final

from aiohttp import web

from forward_auth.errors import ForwardAuthError, PSCUnavailable, StoreUnavailable
from forward_auth.logins import Record
from forward_auth.sealing import to_text
from forward_auth.stores import Selection
from forward_auth.web.app import (
    OUTER,
    Outer,
    Where,
    client_address,
    expired,
    login_of,
    one,
    page,
    peer_is_trusted,
    problem,
    query,
    redirect,
    ticket_of,
    wants_json,
)
from forward_auth.web.signin import Start, forgotten

_LARGEST_BODY: Final = 16 * 1024
_MOST_BAD: Final = 100  # refused tokens of one address a minute; each costs a signature check
_TASKS: Final[set[asyncio.Task[bool]]] = set()


async def sign_out_asked(request: web.Request, at: Where) -> web.StreamResponse:
    """GET /sign-out: asks."""
    outer = request.app[OUTER]
    login = await login_of(request, at)
    ticket = ticket_of(request)
    if login is None or ticket is None:
        return redirect(outer.url("signed-out", at.origin))
    hidden = {"token": outer.form_token("sign-out", ticket)}
    who = f"{login.identity.given_name} {login.identity.family_name}".strip()
    cancel = (at.origin + "/") if at.site is not None else outer.url("session")
    return page(
        request,
        "sign_out",
        forms=True,
        switch=True,
        action_url=f"{outer.prefix}/sign-out",
        hidden=hidden,
        who=who or None,
        cancel_url=cancel,
    )


async def sign_out(request: web.Request, at: Where) -> web.StreamResponse:
    """POST /sign-out: does. The token is bound to this browser's ticket, so no other site can have it."""
    outer = request.app[OUTER]
    form = await request.post()
    token = form.get("token")
    ticket = ticket_of(request)
    login = await login_of(request, at)
    gone = [expired(outer.cookies.ticket, secure=outer.cookies.secure), *forgotten(outer, at)]
    if login is None or ticket is None:
        # Without a ticket this may be another site's form: SameSite kept our cookie back, but would let it be cleared here (LO-01).
        return redirect(outer.url("signed-out", at.origin), gone if ticket is not None else ())
    if not isinstance(token, str) or not outer.form_ok("sign-out", ticket, token):
        if wants_json(request):
            return problem(403, "form_token", "The form's token is missing or old")
        return await sign_out_asked(request, at)
    kept = await outer.sessions.record(login)
    await outer.sessions.end(Selection(login_id=login.id), "person", address=at.address)
    location = await _farewell(outer, None if kept is None else kept[1])
    return redirect(location or outer.url("signed-out", psc="untold"), gone)


async def _farewell(outer: Outer, record: Record | None) -> str | None:
    """Where PSC ends its own session in this browser; None when it cannot be told now. The refresh token is given back in any case."""
    if record is None:
        return None
    if record.refresh_token:
        task = asyncio.get_running_loop().create_task(outer.psc.revoke(record.refresh_token))
        _TASKS.add(task)
        task.add_done_callback(_TASKS.discard)
    if not await outer.psc.answering():
        return None
    return outer.psc.end_session_url(record.id_token.reveal() or None, to_text(outer.ring.seal("signed out", b"")))


async def signed_out(request: web.Request, at: Where) -> web.StreamResponse:
    """GET /signed-out: where PSC, or we, send the browser afterwards. Believes nothing of its query (LO-03)."""
    outer = request.app[OUTER]
    told = one(query(request), "psc") != "untold"
    home = at.origin + "/" if at.site is not None else outer.home()
    return page(request, "signed_out", switch=True, psc_told=told, action_url=Start(home).address(outer))


async def back_channel(request: web.Request) -> web.Response:
    """POST /backchannel-logout (OpenID Connect Back-Channel Logout 1.0). Its only credential is its signed token, so any host will do.
    200 when the logout is stored, 400 when the token is not believed, 503 when PSC should try again."""
    outer = request.app[OUTER]
    counted = (_peer(request), int(outer.clock() // 60))
    if outer.bad_logouts.get(counted, 0) >= _MOST_BAD:
        return problem(429, "too_many", "Too many refused logout tokens", headers={"Retry-After": "60"})
    response = await _back_channel(request, outer)
    if response.status == 400:
        outer.bad_logouts[counted] = outer.bad_logouts.get(counted, 0) + 1
    return response


def _peer(request: web.Request) -> str:
    """Whose bad tokens are counted: the nearest address that is no proxy of ours."""
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    near = peer[0] if isinstance(peer, tuple) else ""
    trusted = request.app[OUTER].settings.server.trusted_proxies
    if peer_is_trusted(request, trusted):
        return client_address(", ".join(request.headers.getall("X-Forwarded-For", [])), near, trusted)
    return near


async def _back_channel(request: web.Request, outer: Outer) -> web.Response:
    if request.content_type != "application/x-www-form-urlencoded":
        return problem(400, "logout_token", "Send application/x-www-form-urlencoded")
    body = bytearray()
    async for piece in request.content.iter_any():  # a single read() gives what has come so far, perhaps half a token
        body += piece
        if len(body) > _LARGEST_BODY:
            return problem(413, "logout_token", "Too large")
    pairs = [part.partition("=") for part in body.decode("ascii", "replace").split("&")]
    tokens = [value for name, _, value in pairs if name == "logout_token"]
    if len(tokens) != 1:
        return problem(400, "logout_token", "Send exactly one logout_token")
    try:
        claims = await outer.psc.check_logout_token(tokens[0])
        sessions = outer.sessions
        if claims.sid is not None:
            for tag in sessions.tags("sid", claims.sid):
                await sessions.end(Selection(sid_tag=tag), "back_channel", same=lambda login: login.sid == claims.sid)
        else:
            for tag in sessions.tags("sub", claims.sub or ""):
                await sessions.end(
                    Selection(sub_tag=tag, before=claims.iat),
                    "back_channel",
                    same=lambda login: login.identity.sub == claims.sub and login.auth_time <= claims.iat,
                )
        # Remembered last: had the store failed in between, PSC could try again. Ending twice is ending once.
        if not await sessions.claim(f"logout {claims.issuer} {claims.jti}", 24 * 3600):
            return problem(400, "replayed", "This logout token was used before")
    except (StoreUnavailable, PSCUnavailable) as error:
        outer.pace.say(
            "logout 503", logging.ERROR, "a back-channel logout could not be kept; PSC may try again: %s", error
        )
        return problem(503, error.code, "Try again", headers={"Retry-After": "5"})
    except ForwardAuthError as error:
        outer.pace.say("logout 400", logging.WARNING, "a back-channel logout was not believed: %s", error)
        return problem(400, "logout_token", "The logout token is not believed")
    return web.Response(status=200, headers={"Cache-Control": "no-store"})
