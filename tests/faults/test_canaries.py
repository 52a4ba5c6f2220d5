"""LOG-02, LOG-04: a whole day of a real program behind a real nginx, at log level debug, in which every secret that is used is written down and
looked for afterwards, in every place where somebody reads.

For: tokens, codes, cookies, keys, the client secret, national ids, states, nonces, verifiers' hashes. Each has the places where it may stand: a
code in the address that carries it, an ID token in the hint of the sign-out, the national id in the trail and in the header for the application.
Refuses: to look for what was never there: a canary that the day did not produce fails the test too.
"""

import base64
import gc
import hashlib
import http.client
import json
import logging
import re
import signal
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import browser_rig
import pytest
from browser_rig import HOSTS, SECRET, Site, make_certificates
from cli.commands import run, until
from proxies.nginx import binary
from running import DOSSIER, ORIGIN, PRESCRIPTION, Answer, Browser, Running, SimulatorThread, exchange, shared_key
from web.web_steps import logout_token, returned, tell_logout

from forward_auth.logs import OneLine
from forward_auth.simulator import Simulator, people

PEOPLE = ("docteur-dupont", "infirmiere-leroy", "sage-femme-petit")
CARRIED = frozenset({"code", "state", "nonce", "code_challenge", "bind", "id_token_hint", "session_state", "token"})


class Eyes(Browser):
    """A browser before nginx that keeps all it saw: `pages`, `addresses` it was sent to, `lines` of headers, and what of it is secret."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.pages: list[str] = []
        self.addresses: list[str] = []
        self.lines: list[str] = []
        self.cookies_seen: set[str] = set()
        self.carried: set[str] = set()

    def keep(self, url: str, lines: Any) -> None:
        self.cookies_seen |= {line.partition("=")[2].partition(";")[0] for line in lines}
        super().keep(url, lines)

    def went(self, url: str) -> None:
        self.addresses.append(url)
        self.carried |= {value for name, value in parse_qsl(urlsplit(url).query) if name in CARRIED}

    def ask(
        self, url: str, method: str = "GET", body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request through nginx, with TLS."""
        parts = urlsplit(url)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=15)
        connection.sock = context.wrap_socket(raw, server_hostname=parts.hostname)
        sent = {"Host": parts.netloc, "Accept": "text/html", "Cookie": self.cookies(parts.hostname or "")}
        if body is not None:
            sent |= {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body, {**sent, **(headers or {})})
            got = connection.getresponse()
            found: dict[str, list[str]] = {}
            for name, value in got.getheaders():
                found.setdefault(name.lower(), []).append(value)
            answer = Answer(got.status, found, got.read(), url)
        finally:
            connection.close()
        self.keep(url, found.get("set-cookie", []))
        self.pages.append(answer.body.decode("utf-8", "replace"))
        shown = [(name, value) for name, values in found.items() for value in values if name != "set-cookie"]
        self.lines += [f"{name}: {value}" for name, value in shown if name != "location"]
        if answer["Location"]:
            self.went(answer["Location"])
        return answer

    def walk(self, simulator: Simulator, url: str, person: str) -> Answer:
        """Follow, through PSC, to where it ends."""
        for _ in range(15):
            if (urlsplit(url).hostname or "").endswith("psc.localhost"):
                url = simulator.sign_in(url, person, cookies=self.psc)
                self.went(url)
                continue
            answer = self.ask(url)
            if not answer["Location"]:
                return answer
            url = answer["Location"]
        raise AssertionError(f"a loop at {url}")


def ids() -> set[str]:
    """National ids, with and without their first digit, and PSC's own names of the people who take part."""
    found = set()
    for name in PEOPLE:
        said = people()[name]["userinfo"]
        found |= {str(said["SubjectNameID"]), str(said["SubjectNameID"])[1:], str(said["sub"])}
    return found


def forms(canaries: set[str]) -> set[str]:
    """As they are, and as they may be written: decoded, percent-encoded, in base64, the parts of a token; short ones say nothing."""
    more = {unquote(each) for each in canaries} | {quote(each, safe="") for each in canaries}
    more |= {part for each in canaries for part in each.split(".")[1:] if each.count(".") == 2 and len(part) > 60}
    more |= {base64.b64encode(each.encode()).decode() for each in canaries}
    return {each for each in canaries | more if len(each) >= 11}


def found_in(text: str, canaries: set[str]) -> list[str]:
    return sorted(each[:16] for each in canaries if each in text)


def secrets_of(simulator: Simulator, folder: Path) -> set[str]:
    """What PSC gave and what the service has: tokens, refresh tokens, sessions, the client secret in its forms, the keys of the ring."""
    realm = simulator.realm
    keys = [word for line in (folder / "keys").read_text().splitlines() for word in line.split() if len(word) > 30]
    assert keys
    assert realm.refresh
    return {*realm.access, *realm.refresh, *realm.sessions, SECRET, f"hopital:{SECRET}", *keys}


@pytest.mark.skipif(binary() is None, reason="nginx is not installed (Debian: apt install nginx)")
def test_LOG_02_LOG_04_a_day_behind_nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign-ins, checks, refusals, PSC's faults, bad requests, foreign and repeated callbacks, a reload, a crash, sign-outs: then nothing of it is in
    our log, nginx's logs, metrics, readiness, lists, pages, headers; in addresses only what an address is for; the person only in the trail."""
    write = browser_rig.write_configuration

    def chatty(folder: Path, issuer: str, port: int) -> Path:
        path = write(folder, issuer, port)
        path.write_text(path.read_text() + '[log]\nlevel = "debug"\n')
        return path

    monkeypatch.setattr(browser_rig, "write_configuration", chatty)
    certificates = tmp_path / "tls"
    certificates.mkdir()
    make_certificates(certificates)
    with (
        SimulatorThread(key=shared_key()) as simulator,
        Site(tmp_path, simulator, None, certificates) as site,
    ):
        doctor, nurse, third = (Eyes(site.port) for _ in PEOPLE)
        everybody = (doctor, nurse, third)
        link = site.dossier + "/patients/DURAND?nom=DURAND"
        assert 200 == doctor.walk(simulator, link, "docteur-dupont").status
        assert 200 == doctor.walk(simulator, site.prescription + "/", "").status
        assert 200 == nurse.walk(simulator, site.dossier + "/", "infirmiere-leroy").status
        assert 403 == nurse.walk(simulator, site.prescription + "/x", "").status
        doctor.ask(site.auth + "/psc/session", headers={"Accept": "application/json"})
        doctor.ask(site.auth + "/psc/session")
        for fault in (
            "id_token.nonce_wrong", "code.oauth_error", "userinfo.error_500", "userinfo.sub_other", "id_token.acr_lower",
            "token.not_json", "token.html", "id_token.alg_none", "token.token_type_mac", "token.close",
        ):  # fmt: skip
            url = third.ask(third.ask(site.dossier + "/")["Location"])["Location"]
            callback = simulator.sign_in(url, PEOPLE[2], cookies=third.psc)
            third.went(callback)
            with simulator.faults.during(fault):
                third.ask(callback)
            third.ask(callback)
            doctor.ask(callback)
            third.ask(callback + "&state=x")
        ticket = doctor.jar[HOSTS[1]]["__Host-psc"]
        for headers in (
            {"Cookie": f"__Host-psc={ticket}; __Host-psc={ticket}"},
            {"Cookie": f"__Host-psc={ticket}\x01"},
            {"Cookie": f"__Host-psc={ticket[::-1]}"},
            {"Cookie": "x=" + "y" * 9000},
            {"Authorization": f"Bearer {next(iter(simulator.realm.access))}"},
            {"X-Forwarded-Uri": f"/{ticket}", "X-PSC-Subject": "899700000001"},
        ):
            third.ask(site.dossier + "/", headers=headers)
            third.ask(site.auth + "/psc/session", headers=headers)
        third.ask(site.auth + "/psc/backchannel-logout", "POST", f"logout_token={next(iter(simulator.realm.access))}")
        third.ask(f"{site.auth}/psc/start?to=https://evil.example/{ticket}")
        third.ask(f"{site.dossier}/psc/handoff?code={ticket}")
        third.ask(f"{site.dossier}/psc/refused?ref={ticket}")
        third.ask(site.auth + "/psc/callback?code=" + "c" * 40 + "&state=" + next(iter(third.carried)))
        assert site.program.process is not None
        site.program.process.send_signal(signal.SIGHUP)
        assert until(lambda: "reload" in site.program.log().lower())
        site.program.kill()
        site.program.start()
        assert 200 == doctor.ask(site.dossier + "/").status
        for eyes in (nurse, doctor):
            form = eyes.ask(site.auth + "/psc/sign-out").body.decode()
            token = form.partition('name="token" value="')[2].partition('"')[0]
            assert token
            assert 303 == eyes.ask(site.auth + "/psc/sign-out", "POST", f"token={token}").status
            eyes.ask(site.auth + "/psc/signed-out")
        inner = site.program.inner
        places = {
            "metrics": exchange(inner, "GET", "/metrics", {"Host": "i"}).text,
            "readyz": exchange(inner, "GET", "/readyz", {"Host": "i"}).text,
            "sessions list": run("sessions", "list", "--json", "--config", site.program.path).out,
        }
        assert until(lambda: (tmp_path / "audit.jsonl").read_text().count('"sign_out"') == 2)
        site.program.end()
        places |= {
            "log": site.program.log(),
            "nginx access log": (tmp_path / "access.log").read_text(),
            "headers": "\n".join(line for eyes in everybody for line in eyes.lines),
            # A form and a link carry what they are for; what is shown, and every script and style, does not.
            "pages": "\n".join(re.sub(r'(?:value|href|action)="[^"]*"', "", page) for eyes in everybody for page in eyes.pages),
        }  # fmt: skip
        trail = (tmp_path / "audit.jsonl").read_text()
        kept = secrets_of(simulator, tmp_path)
        hints = {value for eyes in everybody for value in eyes.carried if value.startswith("eyJ")}
    carried = {value for eyes in everybody for value in eyes.carried}
    cookies = {value for eyes in everybody for value in eyes.cookies_seen}
    assert len(cookies) > 20
    assert len(carried) > 60
    assert len(hints) > 1
    assert places["log"].count("\n") > 40
    canaries = forms(kept | carried | cookies)
    for place, text in (places | {"trail": trail}).items():
        assert [] == found_in(text, canaries), place
        assert "DURAND" not in text or place in ("nginx access log", "pages"), place
    persons = ids()
    for place in ("log", "metrics", "readyz", "nginx access log"):
        assert [] == found_in(places[place], persons), place
    shown = "\n".join(page for eyes in everybody for page in eyes.pages if "x-psc-subject" not in page.lower())
    assert [] == found_in(shown, persons)
    assert "899700000001" in trail
    addresses = "\n".join(address for eyes in everybody for address in eyes.addresses)
    # What PSC and we carry in addresses is for one use or says nothing; no cookie, key, secret or token of the back channel is ever there.
    assert [] == found_in(
        addresses, forms(kept - carried) | persons | {each for each in cookies - carried - {ticket} if len(each) > 10}
    )
    for address in (address for eyes in everybody for address in eyes.addresses):
        if any(quote(hint, safe="") in address or hint in address for hint in hints):
            assert "/logout?" in address
    assert [] == found_in((tmp_path / "nginx" / "error.log").read_text(), forms(kept | (cookies - {""})))


def values_of(running: Running) -> set[str]:
    """Secrets as the running service holds them in this process."""
    service = running.service
    ring = [key.secret for key in service.ring.keys]
    logins = [login.key for login in service.memory]
    raw = [*ring, *logins]
    return {
        *(repr(each)[2:-1] for each in raw),
        *(each.hex() for each in raw),
        *(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in raw),
        CLIENT_SECRET,
    }


CLIENT_SECRET = "s3cr3t-0f-th3-t3sts"


def test_LOG_02_no_object_shows_a_secret(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever object of the service is printed, by a debugger, a traceback or a log line of somebody new: no token, key, seal, ticket or
    client secret is in it, while sign-ins are under way, after faults, and when an exception is shown with everything it holds."""
    caplog.set_level(logging.DEBUG)
    doctor, nurse, coming = Browser(), Browser(), Browser()
    running.sign_in(doctor, "docteur-dupont")
    running.follow(doctor, PRESCRIPTION + "/")
    running.sign_in(nurse, "infirmiere-leroy")
    for fault in ("id_token.nonce_wrong", "token.not_json", "userinfo.sub_other", "id_token.sub_missing"):
        with running.simulator.faults.during(fault):
            running.get(coming, returned(running, coming))
    tell_logout(running, logout_token(running, sid="another"))
    under_way = returned(running, coming)
    browsers = (doctor, nurse, coming)
    tickets = {value for browser in browsers for jar in browser.jar.values() for value in jar.values()}
    realm = running.simulator.realm
    canaries = forms({*realm.access, *realm.refresh, *realm.codes, *tickets, f"hopital:{CLIENT_SECRET}"})
    canaries |= values_of(running)
    assert len(canaries) > 60

    async def everything() -> list[str]:
        gc.collect()
        places = ((each, str(type(each).__module__)) for each in gc.get_objects())
        ours = [each for each, place in places if place.startswith("forward_auth.") and "simulator" not in place]
        told = []
        for each in ours:
            with suppress(ReferenceError):
                told.append(f"{type(each).__module__}.{type(each).__qualname__} {each!r} {each!s}")
        return told

    texts = running.call(everything())
    names = {text.partition(" ")[0] for text in texts}
    assert {"forward_auth.service.Service", "forward_auth.logins.Login", "forward_auth.secret.Secret", "forward_auth.sealing.KeyRing"} <= names  # fmt: skip
    for text in texts:
        assert [] == found_in(text, canaries), text.partition(" ")[0]
    formatter = OneLine("json")
    for record in caplog.records:
        if record.name.startswith("forward_auth") and "simulator" not in record.name:
            assert [] == found_in(formatter.format(record), canaries | ids()), record.name
    assert hashlib.sha256(under_way.encode()).digest()  # it was under way all the while


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    """The look itself: a token whole, in part, in base64 and percent-encoded is found; what is not there is not."""
    token = ".".join(hashlib.sha512(bytes([part])).hexdigest() for part in range(3))
    hay = forms({token, "a+b/c=d&e=f-0123"})
    for text in (token, token.split(".")[1], base64.b64encode(token.encode()).decode(), "a%2Bb%2Fc%3Dd%26e%3Df-0123"):
        assert found_in(json.dumps({"x": f"..{text}.."}), hay)
    assert [] == found_in(json.dumps({"x": DOSSIER + ORIGIN}), hay)
