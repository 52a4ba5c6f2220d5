"""Where attacks are tried: the real program, alone and behind a real nginx with the very files of deploy/, in front of an application that
records what it gets. After every case the five questions that hold for all of them are asked.

    def test_PATH_05_query(place: Place) -> None:             # the fixture runs it twice: `alone`, then through `nginx`
        outcome = place.ask("/secret/x?next=/public/", NURSE)
        assert not outcome.passed

`ask` writes one request as bytes. Alone, it is what a proxy asks the inner door about that request; through nginx, it is the request itself. What
comes of it is judged at once, whatever the test asserts:

(a) it passed only if a second account of the policy (tests/model) says so about the very path, method and person;
(b) identity goes out on an allow alone, each header once at most, and it is that person's (nobody's on an open rule);
(c) no ticket, token, code or secret stands in an answer, at the application, or in a log of ours or of nginx;
(d) the process lives: somebody else's next good request is allowed, as that person;
(e) nothing answers 5xx, unless the case says `fault=True`.

`check`, `request`, `get`, `follow`, `sign_in` and `sign_out` are those of `running.Doors`, through nginx where the place is nginx.
Refuses: to tidy what a case sends, to judge by what the service says of itself.
"""

import logging
import re
import ssl
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trustme
from inner.inner_wire import Wire, answers
from model.policy import decide
from proxies.nginx import Nginx, free_port
from proxies.staging import INCLUDED, NAMES, shipped
from proxies.wire import Client as TlsClient
from proxies.wire import Heard, Server, answer
from running import Answer, Browser, Clock, Doors, Running, SimulatorThread, configuration, shared_key

from forward_auth.config import load
from forward_auth.logs import OneLine
from forward_auth.settings import Settings
from forward_auth.simulator import Client

AUTH_HOST, DOSSIER_HOST, PRESCRIPTION_HOST = HOSTS = (
    "auth.hopital.example",
    "dossier.hopital.example",
    "prescription.autre.example",
)
DOCTOR, NURSE, WITNESS = "docteur-dupont", "infirmiere-leroy", "sage-femme-petit"
SUBJECTS = {DOCTOR: "899700000001", NURSE: "899700000043", WITNESS: "899700000027"}
PROFESSIONS = {DOCTOR: "10", NURSE: "60", WITNESS: "50"}
SECRET = "s3cr3t-0f-th3-t3sts"
KEYS = re.compile(r"[A-Za-z0-9_+/-]{40,}")  # in the ring's file
TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ")  # two parts of a signed token of PSC

APPS = """
[apps.dossier]
title = "Dossier patient"
origins = ["https://dossier.hopital.example"]

[[apps.dossier.rules]]
paths = ["/public/*", "/favicon.ico"]
open = true

[[apps.dossier.rules]]
paths = ["/secret/*"]
require = { profession = ["10"] }

[[apps.dossier.rules]]
paths = ["/signer/*"]
methods = ["POST"]
require = { profession = ["10"], max_age = "15m" }

[[apps.dossier.rules]]
paths = ["/*"]
require = { acr = ["eidas1"] }

[apps.prescription]
title = "Prescription"
origins = ["https://prescription.autre.example"]

[[apps.prescription.rules]]
paths = ["/*"]
require = { profession = ["10", "50"] }
"""


def rules_of(apps: str) -> dict[str, list[dict[str, Any]]]:
    """Hostname -> its rules, as the model takes them."""
    rules: dict[str, list[dict[str, Any]]] = {}
    for app in tomllib.loads(apps)["apps"].values():
        for rule in app["rules"]:
            if "max_age" in rule.get("require", ()):
                rule["require"]["max_age"] = int(rule["require"]["max_age"].removesuffix("m")) * 60
        for origin in app["origins"]:
            rules[urlsplit(origin).hostname or ""] = app["rules"]
    return rules


def situations_of(userinfo: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What PSC says of somebody, as the model takes it."""
    found = []
    for exercise in userinfo["SubjectRefPro"]["exercices"]:
        for activity in exercise["activities"]:
            ids = (
                "identifiantTechniqueDeLaStructure",
                "numeroFinessSite",
                "numeroSiretSite",
                "numeroFinessetablissementJuridique",
            )
            found.append(
                {
                    "profession": exercise["codeProfession"],
                    "category": exercise["codeCategorieProfessionnelle"],
                    "speciality": exercise["codeSavoirFaire"],
                    "role": activity["codeRole"],
                    "sector": activity["codeSecteurDactivite"],
                    "mode": activity["codeModeExercice"],
                    "structures": [activity[each] for each in ids if activity[each]],
                }
            )
    return found


def variable(name: bytes) -> bytes:
    """The variable that CGI, WSGI and PHP make of a header's name."""
    return re.sub(rb"[^A-Za-z0-9]", b"_", name).upper()


IDENTITY = {variable(name.encode()): name for name in NAMES}


@dataclass
class Outcome(Answer):
    """What the client was answered, and what came of it. `status` 0: closed without an answer. `passed`: the check allowed it (alone), the
    application got it (nginx). `identity`: name -> values, as they went out. `heard`: what the application got. `following`: further answers on
    the connection."""

    passed: bool = False
    identity: Mapping[str, list[str]] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    following: list[int] = field(default_factory=list)

    @property
    def subject(self) -> str:
        return "".join(self.identity.get("X-PSC-Subject", [""]))


class _Lines(logging.Handler):
    """Every line that the log would have had, at its most talkative."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(OneLine("json"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class _Service(Running):
    """On hosts with nginx's port; its outer door is where nginx looks for it, after a restart too."""

    port = 0
    outer_port = 0

    def load(self) -> Settings:
        self.outer_port = self.outer_port or free_port()
        outer = f"127.0.0.1:{self.outer_port}"
        path = configuration(self.folder, self.simulator.issuer, apps=self.apps, more=self.more, outer=outer)
        path.write_text(path.read_text().replace('.example"', f'.example:{self.port}"'))
        return load(path, {})


class House:
    """One service, one nginx, one application, and people who have signed in. `browsers`: person -> browser, with a ticket on every host."""

    def __init__(self, running: _Service, nginx: Nginx, app: Server, trust: ssl.SSLContext, log: _Lines) -> None:
        self.running = running
        self.nginx = nginx
        self.app = app
        self.trust = trust
        self.log = log
        self.port = running.port
        self.browsers: dict[str, Browser] = {}
        self.since: dict[str, int] = {}
        self.secrets: set[str] = {SECRET}

    def origin(self, host: str) -> str:
        return f"https://{host}:{self.port}"

    def enter(self, person: str) -> Browser:
        """A new browser in which that person signs in, at every app."""
        browser = Browser()
        for host in (DOSSIER_HOST, PRESCRIPTION_HOST):
            self.running.sign_in(browser, person, self.origin(host) + "/")
        assert "__Host-psc" in browser.jar[PRESCRIPTION_HOST]
        self.browsers[person] = browser
        self.since[person] = int(self.running.clock.now)
        return browser

    def canaries(self) -> set[str]:
        """Whatever must stand nowhere: tickets and cookies of sign-ins, codes and tokens of PSC, the client's secret, the key ring."""
        for browser in self.browsers.values():
            for jar in browser.jar.values():
                self.secrets.update(value for name, value in jar.items() if "psc" in name)
        realm = self.running.simulator.realm
        self.secrets.update(realm.codes, realm.access, realm.refresh)
        self.secrets.update(KEYS.findall((self.running.folder / "keys").read_text()))
        return self.secrets


@contextmanager
def house(folder: Path, *, apps: str = APPS, more: str = "") -> Iterator[House]:
    """Everything, until the end of the block."""
    authority = trustme.CA()
    clock = Clock()
    with ExitStack() as stack:
        port, plain_port = free_port(), free_port()
        auth = f"https://{AUTH_HOST}:{port}"
        client = Client(
            "hopital", SECRET, (auth + "/psc/callback",), (auth + "/psc/signed-out",), auth + "/psc/backchannel-logout"
        )
        simulator = stack.enter_context(SimulatorThread(clients=[client], clock=clock, key=shared_key()))
        log = _Lines()
        for name in ("forward_auth", "asyncio", "aiohttp"):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            stack.callback(logger.removeHandler, log)
            logger.addHandler(log)
            logger.setLevel(logging.DEBUG)
        running = _Service(folder, simulator, clock, apps=apps, more=more)
        running.port = port
        stack.enter_context(running)
        app = stack.enter_context(Server(lambda _heard: answer("200 OK", [("X-App", "yes")], b"from the application")))
        changes = {
            "unix:/run/psc-forward-auth/inner.sock": f"unix:{running.inner_unix}",
            "127.0.0.1:9401": "{}:{}".format(*running.outer),
            "http://127.0.0.1:8080": f"http://127.0.0.1:{app.port}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "listen 80;": f"listen 127.0.0.1:{plain_port};",
        }
        files = shipped(folder / "nginx", authority, changes, hosts=HOSTS)
        nginx = stack.enter_context(Nginx(folder / "nginx", INCLUDED, ports=[port, plain_port], files=files))
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        place = House(running, nginx, app, trust, log)
        for person in (WITNESS, NURSE, DOCTOR):
            place.enter(person)
        yield place


class Place(Doors):
    """The house, as one of the two ways in reaches it."""

    def __init__(self, house: House, way: str) -> None:
        self.house = house
        self.way = way
        self.running = house.running
        self.clock = house.running.clock
        self.simulator = house.running.simulator
        self.rules = rules_of(self.running.apps)

    @property
    def inner(self) -> Any:  # type: ignore[override]  # a restart moves it
        return self.running.inner

    @property
    def outer(self) -> Any:  # type: ignore[override]
        return self.running.outer

    @property
    def by_nginx(self) -> bool:
        return self.way == "nginx"

    def origin(self, host: str = DOSSIER_HOST) -> str:
        return self.house.origin(host)

    def ticket(self, person: str, host: str = DOSSIER_HOST) -> str:
        return self.house.browsers[person].jar[host]["__Host-psc"]

    # -- one request as bytes ------------------------------------------------------------------------------------------------------

    def ask(
        self,
        target: str | bytes = "/",
        who: str | None = None,
        *,
        proves: str | None = "",
        cookie: str | bytes | None = None,
        method: str = "GET",
        host: str = DOSSIER_HOST,
        lines: str | bytes = b"",
        body: bytes = b"",
        fault: bool = False,
        authority: str = "",
    ) -> Outcome:
        """`who` sends their own cookie, unless `cookie` is given: then `proves` says whose credential it truly is (None: nobody's). `lines`: further
        header lines, each with its CRLF. `body` goes out as it stands, without any length but that of `lines`. `authority`: what stands for the host."""
        person = who if proves == "" else proves
        if cookie is None:
            cookie = self.house.browsers[who].cookies(host) if who else b""
        target, cookie, lines = (
            each if isinstance(each, bytes) else each.encode("latin-1") for each in (target, cookie, lines)
        )
        if cookie:
            lines = b"Cookie: " + cookie + b"\r\n" + lines
        netloc = (authority or f"{host}:{self.house.port}").encode("latin-1")
        if self.by_nginx:
            head = method.encode() + b" " + target + b" HTTP/1.1\r\nHost: " + netloc + b"\r\n" + lines
        else:
            told = (
                (b"Method", method.encode()),
                (b"Proto", b"https"),
                (b"Host", netloc),
                (b"Uri", target),
                (b"For", b"192.0.2.7"),
            )
            forwarded = b"".join(b"X-Forwarded-" + name + b": " + value + b"\r\n" for name, value in told)
            head = b"GET /auth/nginx HTTP/1.1\r\nHost: inner\r\n" + forwarded + lines
        if b"connection:" not in lines.lower():
            head += b"Connection: close\r\n"
        return self.send(head + b"\r\n" + body, person, host=host, method=method, target=target, fault=fault, name=host)

    def send(
        self,
        data: bytes,
        person: str | None,
        *,
        host: str = DOSSIER_HOST,
        method: str = "GET",
        target: bytes = b"/",
        fault: bool = False,
        name: str = DOSSIER_HOST,
    ) -> Outcome:
        """Bytes as they are: to the inner door, or over TLS to nginx (`name`: the server's, in the handshake). `person`: whose credential is in
        them. What is asked of the policy: alone, about `host`, `method`, `target`; through nginx, about what the application got."""
        before = len(self.house.app.requests)
        if self.by_nginx:
            outcome = self._through_nginx(data, name)
            outcome.heard = self.house.app.requests[before:]
            outcome.passed = bool(outcome.heard)
            outcome.identity = self._judge_heard(outcome.heard, person)
        else:
            outcome = self._to_the_door(data)
            found: dict[str, list[str]] = {
                known: outcome.headers[known.lower()] for known in NAMES if known.lower() in outcome.headers
            }
            outcome.passed = 200 <= outcome.status < 300
            outcome.identity = found
            if outcome.passed:
                self.judge(host, method.encode(), target, person, found, all_of_them=True)
            else:
                assert {} == found, "(b) identity on a deny"
        self.look_over(outcome, fault=fault)
        return outcome

    def _to_the_door(self, data: bytes) -> Outcome:
        with Wire(self.inner) as wire:
            wire.send(data)
            told = answers(wire.finish())
        if not told:
            return Outcome(0, {}, b"")
        headers: dict[str, list[str]] = {}
        for line in told[0].head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            headers.setdefault(key.decode().lower(), []).append(value.strip().decode())
        assert all(each.status // 100 != 2 for each in told[1:]), "(a) a second answer that allows"
        return Outcome(told[0].status, headers, told[0].body, following=[each.status for each in told[1:]])

    def _through_nginx(self, data: bytes, name: str) -> Outcome:
        with TlsClient(self.house.port, tls=self.house.trust, name=name) as client:
            client.socket.settimeout(8)
            told = []
            try:
                client.socket.sendall(data)
                while (heard := client.wire.message(request=False)) is not None:
                    told.append(heard)
                    if heard.status == 413:
                        break  # nginx now waits for the rest of the body
            except (ConnectionError, ssl.SSLError):
                pass  # nginx may reset who goes on sending
        if not told:
            return Outcome(0, {}, b"")
        headers: dict[str, list[str]] = {}
        for key, value in told[0].headers:
            headers.setdefault(key.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        return Outcome(told[0].status, headers, told[0].body, following=[each.status for each in told[1:]])

    def _facts(self, person: str | None) -> dict[str, Any] | None:
        if person is None:
            return None
        userinfo = self.simulator.people[person]["userinfo"]
        return {
            "national_id": userinfo["SubjectNameID"],
            "auth_mode": "CARD",
            "acr": "eidas1",
            "auth_time": self.house.since[person],
            "situations": situations_of(userinfo),
        }

    def may(self, target: str, person: str | None, *, method: str = "GET", host: str = DOSSIER_HOST) -> bool:
        """What the model says."""
        path = target.partition("?")[0].encode("latin-1")
        said = decide(self.rules[host], self._facts(person), method.encode(), path, int(self.clock.now))
        return said[0] in ("open", "allow")

    # -- the five questions --------------------------------------------------------------------------------------------------------

    def judge(
        self,
        host: str,
        method: bytes,
        target: bytes,
        person: str | None,
        identity: Mapping[str, list[str]],
        *,
        all_of_them: bool,
    ) -> None:
        """(a) and (b), of one request that was allowed."""
        path = re.sub(rb"^https?://[^/?#]*", b"", target).partition(b"?")[
            0
        ]  # of absolute-form the path counts, never the host
        rules = self.rules.get(host)
        assert rules is not None, f"(a) nobody knows {host}"
        said = decide(rules, self._facts(person), method, path, int(self.clock.now))
        assert said[0] in ("open", "allow"), f"(a) {method!r} {host} {target!r} by {person}: the model says {said}"
        assert all(1 == len(values) for values in identity.values()), f"(b) one header twice: {identity}"
        if all_of_them:
            assert set(NAMES) == set(identity), "(b) a header is missing"
        subject = "".join(identity.get("X-PSC-Subject", [""]))
        if said[0] == "open":
            assert not any("".join(values) for values in identity.values()), f"(b) identity on an open rule: {identity}"
        else:
            assert person is not None
            assert SUBJECTS[person] == subject, f"(b) {subject} instead of {person}"
            assert [PROFESSIONS[person]] == identity.get("X-PSC-Profession")

    def _judge_heard(self, heard: Iterable[Heard], person: str | None) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for each in heard:
            found = {}
            for key, value in each.headers:
                if variable(key) in IDENTITY:
                    found.setdefault(IDENTITY[variable(key)], []).append(value.decode("latin-1"))
            told = (each.one("Host") or b"").decode("latin-1")
            host, _, port = told.partition(":")
            assert each.target.startswith(b"/"), "(a) another host in the request line"
            assert str(self.house.port) == port, told
            self.judge(host, each.method, each.target, person, found, all_of_them=False)
            for cookies in each.all("Cookie"):
                names = [piece.partition(b"=")[0].strip() for piece in cookies.split(b";") if b"=" in piece]
                ours = re.compile(rb"(__Host-)?psc(-login-.{8})?")
                assert not any(ours.fullmatch(one) for one in names), "(c) a cookie of ours at the application"
        return found

    def look_over(self, outcome: Answer, *, fault: bool = False, hands_out: bool = False) -> None:
        """(c), (d), (e), of any answer. `hands_out`: it may set cookies of ours."""
        shown = {name: values for name, values in outcome.headers.items() if not (hands_out and name == "set-cookie")}
        text = repr(shown) + outcome.body.decode("latin-1")
        for canary in self.house.canaries():
            assert canary not in text, f"(c) a secret in the answer {outcome.status}"
        shown.pop("location", None)  # PSC is told whose session ends, by its own token (decision 16)
        assert not TOKEN.search(repr(shown) + outcome.body.decode("latin-1")), "(c) a token in the answer"
        assert fault or outcome.status < 500, f"(e) {outcome.status}"
        self.good_request()

    def good_request(self) -> None:
        """(d): the witness, who has done nothing, is let in as herself."""
        if self.by_nginx:
            before = len(self.house.app.requests)
            browser = self.house.browsers[WITNESS]
            head = f"GET /temoin HTTP/1.1\r\nHost: {DOSSIER_HOST}:{self.house.port}\r\nCookie: {browser.cookies(DOSSIER_HOST)}\r\nConnection: close\r\n\r\n"
            outcome = self._through_nginx(head.encode(), DOSSIER_HOST)
            heard = self.house.app.requests[before:]
            assert (200, 1) == (outcome.status, len(heard)), f"(d) {outcome.status}"
            assert SUBJECTS[WITNESS].encode() == heard[0].one("X-PSC-Subject"), "(d)"
            return
        told = self.running.check(self.house.browsers[WITNESS], self.origin() + "/temoin")
        assert (200, SUBJECTS[WITNESS]) == (told.status, told["X-PSC-Subject"]), f"(d) {told.status}"

    def look_at_the_logs(self) -> None:
        """(c), of all that was logged since the last look."""
        text = "\n".join(self.house.log.lines)
        self.house.log.lines.clear()
        for path in (
            self.house.nginx.folder / "error.log",
            self.house.nginx.folder.parent / "psc-forward-auth.log",
            self.running.folder / "audit.jsonl",
        ):
            if path.exists():
                text += path.read_text(errors="replace")
        for canary in self.house.canaries():
            assert canary not in text, "(c) a secret in a log"
        assert not TOKEN.search(text), "(c) a token in a log"

    # -- what running.Doors does, through nginx as well ----------------------------------------------------------------------------

    def check(self, browser: Browser | None, url: str, **options: Any) -> Answer:
        """Alone as in `Running`. Through nginx: the request itself; `headers` of the answer are what nginx says, and the identity that the application
        got."""
        if not self.by_nginx:
            return self.running.check(browser, url, **options)
        parts = urlsplit(url)
        accept = "text/html" if options.get("navigation", True) else "application/json"
        sent = {"Accept": accept} | dict(options.get("headers") or {})
        cookies = browser.cookies(parts.hostname or "") if browser is not None else ""
        if cookies and "Cookie" not in sent:
            sent["Cookie"] = cookies
        before = len(self.house.app.requests)
        told = self._browse(options.get("method", "GET"), url, sent, None)
        heard = self.house.app.requests[before:]
        told.passed = bool(heard)
        if heard:
            told.heard = heard
            seen = {key.decode().lower(): [value.decode("latin-1")] for key, value in heard[-1].headers}
            told.headers = {
                **told.headers,
                **{key: each for key, each in seen.items() if variable(key.encode()) in IDENTITY},
            }
        return told

    def request(
        self,
        browser: Browser,
        method: str,
        url: str,
        *,
        form: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        if not self.by_nginx:
            return self.running.request(browser, method, url, form=form, headers=headers)
        sent = {"Accept": "text/html"}
        cookies = browser.cookies(urlsplit(url).hostname or "")
        if cookies:
            sent["Cookie"] = cookies
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        told = self._browse(method, url, {**sent, **(headers or {})}, form)
        browser.keep(url, told.headers.get("set-cookie", []))
        return told

    def _browse(self, method: str, url: str, headers: Mapping[str, str], form: str | None) -> Outcome:
        """One request of a browser, on a connection of its own."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body = b"" if form is None else form.encode()
        if form is not None:
            lines += f"Content-Length: {len(body)}\r\n"
        head = f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}Connection: close\r\n\r\n"
        told = self._through_nginx(head.encode("latin-1") + body, parts.hostname or "")
        told.url = url
        return told

    def follow(
        self, browser: Browser, url: str, person: str = "", *, mode: str = "CARD", acr: str = "eidas1", hops: int = 15
    ) -> Answer:
        """As `Doors.follow`; nginx sends a browser on with 302 where the check said 401."""
        if not self.by_nginx:
            return self.running.follow(browser, url, person, mode=mode, acr=acr, hops=hops)
        for _ in range(hops):
            parts = urlsplit(url)
            if parts.hostname and parts.hostname.endswith("psc.localhost"):
                url = self.simulator.sign_in(url, person, mode=mode, acr=acr, cookies=browser.psc)
                continue
            told = self.get(browser, url) if parts.path.startswith("/psc/") else self.check(browser, url)
            if told.status not in (302, 303):
                return told
            url = told["Location"]
        raise AssertionError(f"more than {hops} redirects: a loop, last at {url}")

    def sign_in(
        self, browser: Browser, person: str, url: str = "", *, mode: str = "CARD", acr: str = "eidas1"
    ) -> Answer:
        return self.follow(browser, url or self.origin() + "/", person, mode=mode, acr=acr)

    def sign_out(self, browser: Browser, origin: str = "") -> Answer:
        return super().sign_out(browser, origin or self.origin(AUTH_HOST))
