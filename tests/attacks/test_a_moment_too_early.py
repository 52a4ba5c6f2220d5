"""CACHE-05, LO-04, SESS-05: what was remembered, read or looked at a moment too early must not let anybody in."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from running import APPS, DOSSIER, Browser, Clock, Running, configuration

from forward_auth.config import load
from forward_auth.simulator import Simulator
from forward_auth.sites import compile_sites
from forward_auth.stores import Selection


def rules(first: str, second: str) -> str:
    """The dossier with two rules, each the paths and the professions of one line."""
    return APPS.replace(
        'origins = ["https://dossier.hopital.example"]\n',
        f'origins = ["https://dossier.hopital.example"]\n\n[[apps.dossier.rules]]\n{first}\n\n[[apps.dossier.rules]]\n{second}\n',
    )


ADMIN_FIRST = rules(
    'paths = ["/admin/*"]\nrequire = { profession = ["10", "60"] }', 'paths = ["/*"]\nrequire = { acr = ["eidas1"] }'
)
ADMIN_LAST = rules(
    'paths = ["/notes/*"]\nrequire = { acr = ["eidas1"] }', 'paths = ["/*"]\nrequire = { profession = ["10"] }'
)


def test_CACHE_05_a_rule_number_is_no_rule(running: Running) -> None:
    """The nurse had /admin by rule 1. The new rule 1 is about /notes, and only doctors have the rest: from the instant the gate has the new rules,
    a remembered head for /admin is refused, though rule 1 allows her its notes."""
    nurse = Browser()
    running.reload(apps=ADMIN_FIRST)
    running.sign_in(nurse, "infirmiere-leroy")
    for _ in range(4):
        assert 200 == running.check(nurse, DOSSIER + "/admin/x").status
    path = configuration(running.folder, running.simulator.issuer, apps=ADMIN_LAST)
    sites = compile_sites(load(path, {}), running.service.memory)

    async def half_a_reload() -> None:
        running.service.gate.replace(sites, running.service.ring)

    running.call(half_a_reload())
    assert 200 == running.check(nurse, DOSSIER + "/notes/1").status
    assert 403 == running.check(nurse, DOSSIER + "/admin/x").status


def test_LO_04_a_slow_reader_brings_nobody_back(running: Running) -> None:
    """A check has read the login from the store and not yet gone on when the professional signs out: after that answer, nobody is let in."""
    browser = Browser()
    running.sign_in(browser, "docteur-dupont")
    kept = Browser(jar={host: dict(jar) for host, jar in browser.jar.items()})
    store = running.service.sessions.store
    read = store.find
    held, go = asyncio.Event(), asyncio.Event()

    async def slowly(digest: bytes, now: int) -> object:
        rows = await read(digest, now)
        held.set()
        await go.wait()
        return rows

    async def forget() -> None:
        running.service.memory.forget_everything()
        store.find = slowly  # type: ignore[method-assign,assignment] - the same store behind a slow thread

    async def leave() -> None:
        await held.wait()
        store.find = read  # type: ignore[method-assign]
        login_id = (await store.logins(int(running.clock())))[0].id
        await running.service.sessions.end(Selection(login_id=login_id), "person")
        go.set()

    running.call(forget())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(running.check, kept, DOSSIER + "/")
        running.call(leave())
        assert 401 == waiting.result(10).status
    assert 401 == running.check(kept, DOSSIER + "/").status


def test_SESS_05_an_app_shorter_than_the_session(tmp_path: Path, psc: Simulator, clock: Clock) -> None:
    """An app's own minute of idleness holds to the second, also where the session's own limit was stretched to hours."""
    apps = APPS.replace('title = "Dossier patient"', 'title = "Dossier patient"\nidle = "1m"')
    more = 'session: idle = "8h"\nsession: absolute = "9h"\nsession: insecure_allow_longer_than_psc = true'
    with Running(tmp_path, psc, clock, apps=apps, more=more) as service:
        browser = Browser()
        service.sign_in(browser, "docteur-dupont")
        service.audit()  # the first entry is written down by now, which looks at the limits again
        assert 200 == service.check(browser, DOSSIER + "/").status
        clock.advance(60)
        assert 200 == service.check(browser, DOSSIER + "/").status
        clock.advance(61)
        assert 401 == service.check(browser, DOSSIER + "/").status
