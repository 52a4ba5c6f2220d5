"""The simulator's own addresses, below `/_simulator/`: switch faults, turn the clock, end sessions, see what arrived.

For: tests in another process, curl, a demonstration. JSON in and out. Refuses nothing to whoever reaches the port, which is why
the simulator listens on loopback unless told otherwise.

    GET    /_simulator/                 what there is
    GET    /_simulator/faults           {"on": {name: value}, "known": {name: {endpoint, does, expect, value}}}
    POST   /_simulator/faults           {"name": …, "value"?: …, "times"?: …}, or a list of these, or a list of names
    DELETE /_simulator/faults[?name=…]  all off, or one
    GET    /_simulator/requests         {"counts": {endpoint: number}, "requests": [the last 100, or ?last=N]}
    DELETE /_simulator/requests         forgets them
    POST   /_simulator/rotate-keys      {"keep"?: true} -> {"kid": …}
    GET    /_simulator/sessions         the live sessions
    POST   /_simulator/end-session      {"sid": …} or {"person": …} or {"all": true}; "notify"?: true -> {"ended": number}
    GET    /_simulator/clock            {"now": seconds, "offset": seconds}
    POST   /_simulator/clock            {"advance": seconds} or {"offset": seconds} or {"now": seconds}
    GET    /_simulator/people           {name: {label, userinfo}}
    GET    /_simulator/clients          the declared clients, without secrets
    POST   /_simulator/clients          {"client_id", "secret", "redirect_uris": [..], …}: declares one (or replaces it)
    GET    /_simulator/ciba             the CIBA requests that wait
    POST   /_simulator/ciba             {"who": auth_req_id | person, "decision": "approve" | "deny"}
    GET    /_simulator/phone            the same as a page, for a human
    GET    /_simulator/backchannel      the back-channel logouts sent
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from typing import Any, Final

from aiohttp import web

from . import pages
from .faults import FAULTS, UnknownFaultError
from .realm import Client

Simulator = Any  # server.Simulator, which calls us: naming its module here would close a circle

BASE: Final = "/_simulator"


class _WrongError(ValueError):
    """The control request itself makes no sense."""


def add_routes(app: web.Application, simulator: Simulator) -> None:
    """Puts the control addresses into the application."""
    for method, path, act in (
        ("GET", "/", _index),
        ("GET", "/faults", _faults),
        ("POST", "/faults", _set_faults),
        ("DELETE", "/faults", _clear_faults),
        ("GET", "/requests", _requests),
        ("DELETE", "/requests", _forget_requests),
        ("POST", "/rotate-keys", _rotate),
        ("GET", "/sessions", _sessions),
        ("POST", "/end-session", _end_session),
        ("GET", "/clock", _clock),
        ("POST", "/clock", _turn_clock),
        ("GET", "/people", _people),
        ("GET", "/clients", _clients),
        ("POST", "/clients", _declare),
        ("GET", "/ciba", _ciba),
        ("POST", "/ciba", _decide),
        ("GET", "/backchannel", _backchannel),
    ):
        app.router.add_route(method, BASE + path, _json_door(simulator, act))

    async def phone(request: web.Request) -> web.Response:
        if request.method == "POST":
            form = await request.post()
            simulator.decide(str(form.get("auth_req_id", "")), "deny" if form.get("decision") == "deny" else "approve")
        waiting = [
            (one.auth_req_id, simulator.people[one.person]["label"], one.channel, one.binding_message)
            for one in simulator.waiting()
        ]
        return web.Response(
            text=pages.phone(f"{BASE}/phone", waiting), content_type="text/html", headers={"Cache-Control": "no-store"}
        )

    app.router.add_get(f"{BASE}/phone", phone)
    app.router.add_post(f"{BASE}/phone", phone)


_Act = Callable[[Simulator, web.Request, Any], Awaitable[Any]]


def _json_door(simulator: Simulator, act: _Act) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            text = await request.text() if request.method == "POST" else ""
            done = await act(simulator, request, json.loads(text) if text.strip() else {})
        except (ValueError, KeyError, TypeError) as error:
            return web.json_response({"error": f"{error}"}, status=400)
        return web.Response(
            text=json.dumps(done, ensure_ascii=False, default=str) + "\n",
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return answer


async def _index(simulator: Simulator, request: web.Request, said: Any) -> Any:
    return {
        "what": "a simulator, not Pro Santé Connect",
        "issuer": simulator.issuer,
        "discovery": simulator.discovery_url,
        "authorization": simulator.authorization_endpoint,
        "control": [
            f"{BASE}/{name}"
            for name in (
                "faults",
                "requests",
                "rotate-keys",
                "sessions",
                "end-session",
                "clock",
                "people",
                "clients",
                "ciba",
                "phone",
                "backchannel",
            )
        ],
    }


async def _faults(simulator: Simulator, request: web.Request, said: Any) -> Any:
    return {
        "on": simulator.faults.active(),
        "known": {
            name: {"endpoint": fault.endpoint, "does": fault.does, "expect": fault.expect, "value": fault.value}
            for name, fault in FAULTS.items()
        },
    }


async def _set_faults(simulator: Simulator, request: web.Request, said: Any) -> Any:
    wanted: list[Any] = [
        {"name": one} if isinstance(one, str) else one for one in (said if isinstance(said, list) else [said])
    ]
    for one in wanted:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise _WrongError("expected {name, value?, times?}, or a list of these")
        if one["name"] not in FAULTS:
            raise UnknownFaultError(f"no fault {one['name']!r}: GET {BASE}/faults lists them")
    for one in wanted:
        simulator.faults.set(one["name"], one.get("value"), one.get("times"))
    return {"on": simulator.faults.active()}


async def _clear_faults(simulator: Simulator, request: web.Request, said: Any) -> Any:
    simulator.faults.clear(request.query.get("name"))
    return {"on": simulator.faults.active()}


async def _requests(simulator: Simulator, request: web.Request, said: Any) -> Any:
    last = int(request.query.get("last", "100"))
    return {"counts": dict(simulator.counts), "requests": [asdict(seen) for seen in list(simulator.requests)[-last:]]}


async def _forget_requests(simulator: Simulator, request: web.Request, said: Any) -> Any:
    simulator.requests.clear()
    simulator.counts.clear()
    return {"counts": {}}


async def _rotate(simulator: Simulator, request: web.Request, said: Any) -> Any:
    return {"kid": simulator.rotate_keys(keep=bool(said.get("keep", True)))}


async def _sessions(simulator: Simulator, request: web.Request, said: Any) -> Any:
    now = simulator.now()
    return [
        {
            "sid": session.sid,
            "person": session.person,
            "acr": session.acr,
            "mode": session.mode,
            "auth_time": session.auth_time,
            "last_seen": session.last_seen,
            "clients": sorted(session.clients),
        }
        for session in list(simulator.realm.sessions.values())
        if simulator.realm.alive(session, now)
    ]


async def _end_session(simulator: Simulator, request: web.Request, said: Any) -> Any:
    person = simulator.find_person(str(said["person"])) if "person" in said else None
    sids = [
        sid
        for sid, session in list(simulator.realm.sessions.items())
        if said.get("all") or sid == said.get("sid") or (person is not None and session.person == person)
    ]
    for sid in sids:
        await simulator.end_session(sid, notify=bool(said.get("notify", True)))
    return {"ended": len(sids)}


async def _clock(simulator: Simulator, request: web.Request, said: Any) -> Any:
    return {"now": simulator.now(), "offset": simulator.clock_offset}


async def _turn_clock(simulator: Simulator, request: web.Request, said: Any) -> Any:
    if "advance" in said:
        simulator.advance(float(said["advance"]))
    elif "offset" in said:
        simulator.clock_offset = float(said["offset"])
    elif "now" in said:
        simulator.advance(float(said["now"]) - simulator.now())
    else:
        raise _WrongError("expected advance, offset or now")
    return await _clock(simulator, request, said)


async def _people(simulator: Simulator, request: web.Request, said: Any) -> Any:
    return simulator.people


async def _clients(simulator: Simulator, request: web.Request, said: Any) -> Any:
    return {
        "open": simulator.realm.open,
        "clients": [_public(client) for client in simulator.realm.clients.values()],
    }


def _public(client: Client) -> dict[str, Any]:
    return {name: value for name, value in asdict(client).items() if name != "secret"}


async def _declare(simulator: Simulator, request: web.Request, said: Any) -> Any:
    known = {field.name for field in fields(Client)}
    unknown = sorted(set(said) - known)
    if unknown or not isinstance(said.get("client_id"), str):
        raise _WrongError(f"unknown members: {', '.join(unknown)}" if unknown else "client_id is missing")
    members: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    client = Client(**members)
    simulator.realm.clients[client.client_id] = client
    return await _clients(simulator, request, said)


async def _ciba(simulator: Simulator, request: web.Request, said: Any) -> Any:
    return [asdict(one) for one in simulator.waiting()]


async def _decide(simulator: Simulator, request: web.Request, said: Any) -> Any:
    decision = said.get("decision", "approve")
    if decision not in ("approve", "deny", "cancel"):
        raise _WrongError("decision is approve, deny or cancel")
    return {"answered": simulator.decide(str(said["who"]), decision)}


async def _backchannel(simulator: Simulator, request: web.Request, said: Any) -> Any:
    return [asdict(notice) for notice in list(simulator.notices)]
