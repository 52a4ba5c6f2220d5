"""Professionals who come and go: a whole sign-in and sign-out through nginx, hop by hop, without a browser.

For: tickets that are real, and the knowledge of when each began and ended. Refuses: to call something done that was not acknowledged: `Unlucky` says where it
ended, and whoever called decides whether a fault was on at that time.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from running import Answer, Browser
from soak.hospital import DOSSIER, ORIGIN, PRESCRIPTION, Hospital

HOSTS = {"dossier": "dossier.hopital.example", "prescription": "prescription.autre.example"}


class Unlucky(Exception):
    """A step did not answer as it does on a good day."""


async def fetch(port: int, method: str, url: str, headers: Mapping[str, str], form: str | None = None) -> Answer:
    """One request on a connection of its own to 127.0.0.1:`port`; Host is the URL's. Raises Unlucky: no whole answer in 20 s."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = {"Host": parts.netloc, "Connection": "close", "Accept": "text/html", **headers}
    if form is not None:
        lines |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(form))}
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write((head + "\r\n" + (form or "")).encode())
                got = await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise Unlucky(f"{method} {parts.netloc}{parts.path}: {type(error).__name__}") from None
    first, mark, body = got.partition(b"\r\n\r\n")
    if not mark:
        raise Unlucky(f"{method} {parts.netloc}{parts.path}: no answer")
    status, *rest = first.decode("latin-1").split("\r\n")
    found: dict[str, list[str]] = {}
    for line in rest:
        name, _, value = line.partition(": ")
        found.setdefault(name.lower(), []).append(value)
    return Answer(int(status.split(" ")[1]), found, body, url)


@dataclass(eq=False)
class Visitor:
    """One professional at one browser. `state`: out, in, leaving (a sign-out is under way and not acknowledged: both answers are right). `version` rises with
    each change. `tickets`: app -> value, of the session under way."""

    name: str
    subject: str
    professions: frozenset[str]
    state: str = "out"
    version: int = 0
    tickets: dict[str, str] = field(default_factory=dict)
    browser: Browser = field(default_factory=Browser)
    heads: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    busy: bool = False
    ends: tuple[float, float] = (0.0, 0.0)  # its absolute limit, not before and not after
    out_version: int = 0  # when a sign-out was acknowledged last, and at which moment
    out_at: float = 0.0

    def turn(self, state: str) -> None:
        self.state = state
        self.version += 1


async def sign_in(hospital: Hospital, visitor: Visitor, *, apps: tuple[str, ...] = (DOSSIER, PRESCRIPTION)) -> int:
    """Into these apps, with a new browser. -> sign-ins that were acknowledged (PSC was asked once, unless something went wrong). Raises Unlucky."""
    browser = Browser()
    acknowledged = 0
    for app in apps:
        url = app + "/"
        for _ in range(16):
            parts = urlsplit(url)
            if (parts.hostname or "").endswith("psc.localhost"):
                choice = urlencode({"person": visitor.name, "mode": "CARD", "acr": "eidas1"})
                cookie = "; ".join(f"{name}={value}" for name, value in browser.psc.items())
                answer = await fetch(hospital.psc_port, "POST", url, {"Cookie": cookie} if cookie else {}, choice)
                for line in answer.headers.get("set-cookie", []):
                    name, _, value = line.split(";")[0].partition("=")
                    browser.psc[name] = value
            else:
                cookie = browser.cookies(parts.hostname or "")
                answer = await fetch(hospital.front, "GET", url, {"Cookie": cookie} if cookie else {})
                browser.keep(url, answer.headers.get("set-cookie", []))
                if parts.path == "/psc/callback" and answer.status == 303:
                    acknowledged += 1
            if answer.status not in (302, 303):
                break
            url = answer["location"]
        if answer.status not in (200, 403) or "__Host-psc" not in browser.jar.get(urlsplit(app).hostname or "", {}):
            raise Unlucky(f"sign-in ended at {urlsplit(url).netloc}{urlsplit(url).path} with {answer.status}")
    visitor.browser = browser
    visitor.tickets = {
        app: browser.jar[host]["__Host-psc"] for app, host in HOSTS.items() if "__Host-psc" in browser.jar.get(host, {})
    }
    return acknowledged


async def sign_out(hospital: Hospital, visitor: Visitor) -> bool:
    """-> True: this POST was acknowledged; False: the session was found ended already. Raises Unlucky."""
    browser = visitor.browser
    url = ORIGIN + "/psc/sign-out"
    host = urlsplit(ORIGIN).hostname or ""
    asked = await fetch(hospital.front, "GET", url, {"Cookie": browser.cookies(host)})
    token = asked.text.partition('name="token" value="')[2].partition('"')[0]
    if not token:
        if asked.status in (200, 303):
            return False
        raise Unlucky(f"the page of the sign-out: {asked.status}")
    answer = await fetch(hospital.front, "POST", url, {"Cookie": browser.cookies(host)}, f"token={token}")
    if answer.status != 303:
        raise Unlucky(f"the sign-out: {answer.status}")
    return True
