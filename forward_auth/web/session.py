"""«My session» and «why was I refused»: /session and /refused.

For: telling a professional what we know of the session, and why a rule said no. Refuses: to show the details of a refusal to anybody but the
login it was made for; to show a token, ever (PAGE-02).
"""

import json

from aiohttp import web

from forward_auth import nomenclature
from forward_auth.identity import Situation
from forward_auth.logins import Login
from forward_auth.policy import Require
from forward_auth.web.app import OUTER, Outer, Where, failed, login_of, one, page, problem, query, redirect, wants_json
from forward_auth.web.signin import Start


async def session(request: web.Request, at: Where) -> web.StreamResponse:
    """GET /session: a page, or JSON by Accept."""
    outer = request.app[OUTER]
    login = await login_of(request, at)
    if login is None:
        if wants_json(request):
            return problem(401, "not_signed_in", "Not signed in", headers={"WWW-Authenticate": 'Bearer realm="psc"'})
        if not at.at_origin:
            return redirect(Start(at.origin + "/").address(outer))
        return redirect(Start(outer.url("session")).address(outer))
    situation = login.identity.situations[0] if login.identity.situations else Situation()
    if wants_json(request):
        return _as_json(outer, login, situation)
    origins = {
        site.app.name: (site.app.title, origin + "/") for origin, site in reversed(list(outer.gate.sites.items()))
    }
    return page(
        request,
        "session",
        switch=True,
        action_url=f"{outer.prefix}/sign-out",
        given_name=situation.given_name or login.identity.given_name,
        family_name=situation.family_name or login.identity.family_name,
        profession=nomenclature.title(situation),
        structure=situation.structure_name,
        auth_mode=login.identity.auth_mode,
        since=login.auth_time,
        ends_at=login.ends,
        idle=login.idle,
        apps=[origins[name] for name in sorted(login.entered) if name in origins],
        switch_person_url=Start(at.origin + "/" if at.site else outer.url("session"), switch=True).address(outer),
    )


def _as_json(outer: Outer, login: Login, situation: Situation) -> web.Response:
    document = {
        "signed_in": True,
        "given_name": situation.given_name or login.identity.given_name,
        "family_name": situation.family_name or login.identity.family_name,
        "profession": situation.profession,
        "structure": situation.structure,
        "acr": login.identity.acr,
        "auth_mode": login.identity.auth_mode,
        "auth_time": login.auth_time,
        "idle_ends": int(min(login.seen + login.idle, login.ends)),
        "ends": login.ends,
        "apps": sorted(login.entered),
    }
    return web.Response(
        body=json.dumps(document).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )


async def refused(request: web.Request, at: Where) -> web.StreamResponse:
    """GET /refused?ref=: the page of a 403. The reference alone shows nothing: the details are for the login they were made for."""
    outer = request.app[OUTER]
    reference = one(query(request), "ref") or ""
    refusal = outer.sessions.refusals.find(reference) if len(reference) <= 16 else None
    login = await login_of(request, at)
    home = at.origin + "/" if at.site is not None else outer.home()
    shown = reference if refusal is not None else None
    if refusal is None or login is None or login.id != refusal.login_id:
        if wants_json(request):
            return problem(403, "refused", "Refused", shown or "")
        return page(request, "refused_general", switch=True, reference=shown, action_url=home)
    app = next((app for app in outer.settings.apps if app.name == refusal.app), None)
    if app is None:
        return failed(
            request, "refused_general", "refused", "the app of a refusal is no longer configured", action_url=home
        )
    rule = next((rule for rule in app.rules if rule.number == refusal.rule), None)
    required = in_words(rule.require) if rule is not None and rule.require is not None else []
    if wants_json(request):
        return problem(403, "refused", "Refused", reference, detail="; ".join(required))
    who = f"{login.identity.given_name} {login.identity.family_name}".strip()
    switch = Start(home, switch=True).address(outer)
    return page(
        request,
        "refused",
        switch=True,
        reference=reference,
        app_title=app.title,
        action_url=switch,
        reason="rule",
        required=required,
        who=who or None,
        back_url=home,
    )


_WORDS = {
    "profession": "profession",
    "category": "catégorie professionnelle",
    "role": "rôle",
    "speciality": "spécialité",
    "sector": "secteur d’activité",
    "structure": "structure",
    "mode": "mode d’exercice",
}


def in_words(require: Require) -> list[str]:
    """What a rule asks, for a person: labels of the nomenclature where there are any. Nobody's national id is ever named."""
    lines: list[str] = []
    for key, word in _WORDS.items():
        codes: tuple[str, ...] = getattr(require, key)
        if codes:
            names = [label(key, code) for code in codes[:12]]
            lines.append(f"{word} : {', '.join(names)}" + (" …" if len(codes) > 12 else ""))
    if require.national_id or require.national_ids is not None:
        lines.append("faire partie de la liste tenue par l’établissement")
    if require.account is not None:
        lines.append("un compte local lié")
    for part in require.all or ():
        lines.extend(in_words(part))
    alternatives = [" ; ".join(in_words(part)) for part in require.any or ()]
    if any(alternatives):
        lines.append(" — ou — ".join(text for text in alternatives if text))
    if require.not_ is not None and in_words(require.not_):
        lines.append("sauf : " + " ; ".join(in_words(require.not_)))
    return lines


def label(field: str, code: str) -> str:
    """The label of a code of a `require` key, or the code."""
    for table in nomenclature.FIELDS.get(field, ()):
        text = nomenclature.label(table, code)
        if text:
            return text
    return code
