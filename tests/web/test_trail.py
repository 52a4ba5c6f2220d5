"""What is left behind by everything that happens: audit lines by their schema, and nowhere a token, a code, a cookie or a state."""

import json
import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from running import DOSSIER, ORIGIN, PRESCRIPTION, Browser, Running
from web_steps import heard, logout_token, returned, soon, tell_logout

SCHEMA = json.loads((Path(__file__).parents[2] / "config" / "audit.schema.json").read_text("utf-8"))
TYPES = {"string": str, "integer": int}


def valid(line: dict[str, Any]) -> None:
    """What of JSON Schema the trail's schema uses: required, additionalProperties, type, enum, pattern, minimum."""
    assert set(SCHEMA["required"]) <= set(line)
    assert not set(line) - set(SCHEMA["properties"])
    for name, value in line.items():
        rule = SCHEMA["properties"][name]
        assert not set(rule) - {"type", "enum", "pattern", "minimum", "description"}
        if "type" in rule:
            assert type(value) is TYPES[rule["type"]], name
        if "enum" in rule:
            assert value in rule["enum"], (name, value)
        if "pattern" in rule:
            assert re.search(rule["pattern"], value), (name, value)
        if "minimum" in rule:
            assert value >= rule["minimum"]


def a_day(running: Running, secrets: set[str], texts: list[str]) -> None:
    """A bit of everything. `secrets`: what must appear nowhere; `texts`: bodies and headers of every page and check."""
    real_get, real_check = running.request, running.check

    def request(browser: Browser, method: str, url: str, **more: Any) -> Any:
        answer = real_get(browser, method, url, **more)
        for line in answer.headers.get("set-cookie", []):
            value = line.partition("=")[2].partition(";")[0]
            if value:
                secrets.add(value)
        query = parse_qs(urlsplit(answer["Location"]).query) | parse_qs(urlsplit(url).query)
        for name in ("code", "state", "nonce", "code_challenge", "id_token_hint", "bind"):
            secrets.update(value for value in query.get(name, []) if len(value) > 20)
        texts.append(
            answer.text
            + str({key: value for key, value in answer.headers.items() if key not in ("set-cookie", "location")})
        )
        return answer

    def check(*arguments: Any, **more: Any) -> Any:
        answer = real_check(*arguments, **more)
        texts.append(answer.text + str(answer.headers))
        return answer

    running.request, running.check = request, check  # type: ignore[method-assign]  # the test's own hands, not the program
    doctor, nurse, third = Browser(), Browser(), Browser()
    running.sign_in(doctor, "docteur-dupont", DOSSIER + "/patients/canary-path?q=canary-query")
    running.follow(doctor, PRESCRIPTION + "/")
    running.sign_in(nurse, "infirmiere-leroy")
    refused = running.follow(nurse, PRESCRIPTION + "/x")
    running.get(nurse, f"{PRESCRIPTION}/psc/refused?ref={refused['X-PSC-Reference']}")
    running.get(doctor, ORIGIN + "/psc/session")
    url = returned(running, third)
    for fault in ("id_token.nonce_wrong", "code.oauth_error", "userinfo.error_500", "id_token.acr_lower"):
        with running.simulator.faults.during(fault):
            running.get(third, url)
        url = returned(running, third)
    running.get(third, url + "&state=x")
    running.get(third, re.sub("state=.", "state=B", url))
    running.get(third, f"{DOSSIER}/psc/handoff?code=" + "A" * 64)
    running.clock.advance(660)
    heard(running)
    running.check(doctor, DOSSIER + "/")
    soon(lambda: running.check(doctor, DOSSIER + "/") and running.simulator.counts["refresh"])
    tell_logout(running, "a.b.c")
    token = logout_token(running)
    secrets.add(token)
    tell_logout(running, token)
    doctor.psc.clear()
    running.follow(
        doctor,
        f"{ORIGIN}/psc/start?to={DOSSIER}/&switch=1",
        "sage-femme-petit" if "sage-femme-petit" in running.simulator.people else "infirmiere-leroy",
    )
    running.sign_out(doctor)
    running.clock.advance(1801)
    running.check(nurse, DOSSIER + "/")
    running.call(running.service.sessions._lapse())
    realm = running.simulator.realm
    secrets.update(realm.access, realm.refresh, realm.codes, running.simulator.realm.nonces)
    secrets.add("s3cr3t-0f-th3-t3sts")
    del running.request, running.check


def test_LOG_02_04_canaries_and_schema(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """LOG-02: no token, code, cookie value, state or client secret in any page, log line, metric, or audit line; LOG-04: no national id in the
    log, a page or a metric; and every audit line is of the schema, with no path and no query in it."""
    caplog.set_level(logging.DEBUG, "forward_auth")
    secrets: set[str] = set()
    texts: list[str] = []
    a_day(running, secrets, texts)
    assert len(secrets) > 40
    lines = running.audit()
    trail = (running.folder / "audit.jsonl").read_text()
    logged = "\n".join(record.getMessage() + str(record.exc_info or "") for record in caplog.records)
    measured = str(running.metrics())
    pages = "\n".join(text for text in texts if "x-psc-subject" not in text)
    assert len(caplog.records) >= 8
    for place, text in (("trail", trail), ("log", logged), ("metrics", measured), ("pages", pages)):
        assert not [secret[:12] for secret in secrets if secret in text], place
    for text in (logged, measured, pages):
        for subject in ("899700000001", "899700000002"):
            assert subject not in text
    assert "canary" not in trail + logged + measured
    for line in lines:
        valid(line)
    assert {"sign_in", "enter", "refused", "sign_out", "ended"} == {line["event"] for line in lines}
    assert {"success", "refused", "denied", "level", "unavailable"} & {line["outcome"] for line in lines}


def test_trail_of_one_visit(running: Running) -> None:
    """Who signed in, entered where, and left: one line each, joined by the login, from the address that the proxy told."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    for _ in range(3):
        running.check(browser, DOSSIER + "/a")
    running.follow(browser, PRESCRIPTION + "/")
    running.sign_out(browser)
    lines = running.audit()
    assert ["sign_in", "enter", "enter", "sign_out"] == [line["event"] for line in lines]
    assert 1 == len({line["login"] for line in lines})
    assert {"899700000001"} == {line["subject"] for line in lines}
    assert {"192.0.2.7"} == {line["address"] for line in lines}
    assert ["dossier", "prescription"] == [line["app"] for line in lines if line["event"] == "enter"]


def test_nobody_enters_while_the_trail_cannot_be_written(running: Running) -> None:
    """LIFE-03: the trail cannot be written: who is in stays in, who arrives reads a page, and afterwards it works again."""
    inside, new = Browser(), Browser()
    running.sign_in(inside, "docteur-dupont")
    running.audit()
    trail = running.folder / "audit.jsonl"
    trail.rename(running.folder / "old.jsonl")
    trail.mkdir()
    running.follow(inside, PRESCRIPTION + "/")  # an event that cannot be written
    soon(lambda: running.service.audit.failing)
    assert 200 == running.check(inside, DOSSIER + "/").status
    page = running.get(new, running.check(new, DOSSIER + "/")["Location"])
    assert (503, True) == (page.status, bool(page["Retry-After"]))
    assert "audit" not in page.text
    trail.rmdir()
    soon(lambda: not running.service.audit.failing)
    assert 200 == running.sign_in(new, "docteur-dupont").status
    assert "enter" == running.audit()[0]["event"]  # the line that waited
