"""Why would this request pass, or not? Offline, for one person, one method and one address.

For: an administrator who asks before a professional calls. Uses the very rules and the very reading of paths of the gate. Refuses: to need a
running service, PSC or a session; the person is a userinfo document, taken as if authenticated at `now`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from forward_auth.identity import Identity, read_identity
from forward_auth.original import read_origin, read_path, read_target
from forward_auth.policy import App, Rule, judge, reasons
from forward_auth.settings import AppSettings, Settings
from forward_auth.sites import compile_app


@dataclass(frozen=True, slots=True)
class Explanation:
    """`decision`: allow | open | sign-in | refuse; `lines`: the story, one sentence a line."""

    decision: str
    lines: tuple[str, ...]


def person_of(userinfo: Mapping[str, object], settings: Settings, now: int) -> Identity:
    """The identity PSC would make of this userinfo document, just authenticated with what we ask for. Raises IdentityError."""
    subject = userinfo.get(settings.psc.subject_claim)
    claims = {
        "sub": userinfo.get("sub") or "explained",
        "acr": settings.psc.acr_values[0] if settings.psc.acr_values else "",
        "auth_time": now,
        "iat": now,
        settings.psc.subject_claim: subject,
    }
    return read_identity(userinfo, claims, issuer=settings.psc.issuer, subject_claim=settings.psc.subject_claim)


def explain(settings: Settings, identity: Identity, method: str, url: str, now: int) -> Explanation:
    """The decision about `method url` for this person, and why each earlier rule did not decide."""
    scheme, mark, rest = url.partition("://")
    cut = min((at for at in (rest.find("/"), rest.find("?"), rest.find("#")) if at >= 0), default=len(rest))
    origin = read_origin(_raw(scheme), _raw(rest[:cut])) if mark else None
    target = rest[cut:]
    read = read_target(_raw(target if target.startswith("/") else "/" + target))
    if origin is None or read is None:
        return Explanation("refuse", (f"{url}: not an absolute address with one scheme and one host",))
    app_settings = next((app for app in settings.apps if any(each.text == origin for each in app.origins)), None)
    if app_settings is None:
        return Explanation("refuse", (f"no app has the origin {origin}",))
    app = compile_app(app_settings, count(1), settings.server.path_prefix)
    path = read[0]
    found = app.find(_raw(method), path)
    lines = [f"app {app.name}: {origin}"]
    reading = read_path(path)
    if found.malformed or reading is None:
        return Explanation("refuse", (*lines, "the path or the method is malformed"))
    if found.misrouted:
        prefix = settings.server.path_prefix
        return Explanation("refuse", (*lines, f"{prefix}/* belongs to the outer door: route it there"))
    if found.rules is not None and not found.background:
        lines.append("the path has two readings: no open rule applies, and every other rule for this method must allow")
        return _explain_all(settings, app, found.rules, identity, now, lines)
    typed = reading.exact.encode("latin-1").decode("utf-8", "backslashreplace")  # it is bytes, shown as latin-1
    lines.append(f"path read as {typed} (open rules) and {reading.folded} (other rules)")
    rule = found.rule or (found.rules[0] if found.rules else None)
    for earlier in app.rules:
        if rule is not None and earlier.number >= rule.number:
            break
        lines.append(f"{_named(settings, earlier)} does not match: {_why_not(earlier, method, app_settings)}")
    if rule is None:
        return Explanation("refuse", (*lines, "no rule matches: refused"))
    if rule.open:
        return Explanation("open", (*lines, f"{_named(settings, rule)} is open: anybody passes, without identity"))
    return _explain_rule(settings, rule, identity, now, lines)


def _explain_all(
    settings: Settings, app: App, rules: tuple[Rule, ...], identity: Identity, now: int, lines: list[str]
) -> Explanation:
    if not rules:
        return Explanation("refuse", (*lines, "no such rule: refused"))
    said = lines
    for rule in rules:
        one = _explain_rule(settings, rule, identity, now, said)
        if one.decision != "allow":
            return one
        said = list(one.lines)
    return Explanation("allow", tuple(said))


def _explain_rule(settings: Settings, rule: Rule, identity: Identity, now: int, lines: list[str]) -> Explanation:
    verdict = judge(rule.require, identity, now)
    name = _named(settings, rule)
    if verdict.held:
        number = identity.situations.index(verdict.situation) + 1 if verdict.situation is not None else 0
        held = (
            f"situation {number} of {len(identity.situations)} makes it hold"
            if number
            else "it asks nothing of a situation"
        )
        return Explanation("allow", (*lines, f"{name} allows: {held}"))
    why = [f"  {reason}" for reason in reasons(rule.require, identity, now)]
    if verdict.step_up:
        return Explanation("sign-in", (*lines, f"{name} asks for a fresh authentication:", *why))
    return Explanation("refuse", (*lines, f"{name} refuses:", *why))


def _raw(text: str) -> bytes:
    """The bytes that were typed, also where they are no UTF-8 (Python keeps those of a command line as lone surrogates)."""
    return text.encode("utf-8", "surrogateescape")


def _named(settings: Settings, rule: Rule) -> str:
    place = f"{settings.path}:{rule.line}" if rule.line else "implicit"
    return f"rule {rule.number} ({place})"


def _why_not(rule: Rule, method: str, settings: AppSettings) -> str:
    if not rule.fits_method(_raw(method)):
        return f"methods are {', '.join(sorted(each.decode() for each in rule.methods or ()))}"
    return f"paths are {', '.join(rule.paths)}"
