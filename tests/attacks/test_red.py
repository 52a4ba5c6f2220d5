"""RED-01 … RED-12: whatever address somebody gives us to go to, no browser ever leaves for a host that is not ours.

The payloads are generated (red_grammar.py). Each is put wherever an address can be given, alone (straight to the two doors) and through nginx
with the text of `proxy_config` (every second one): `to=` of start and hand-off, the sign-in form, the pages of the way out, and what a proxy tells of the original
request (target, host, Referer of a lost form and of a frame). Everything that comes back to be followed is judged by the URL parsers of Chromium
and Node, never by ours; a sample of each family is navigated to in Chromium, which must ask no other host for anything.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from browser_rig import ARGUMENTS, Person, Site, choose, make_certificates
from playwright.sync_api import Error, Page, sync_playwright
from proxies.nginx import binary
from proxies.wire import Heard
from red_grammar import FAMILIES, payloads
from red_rig import Emitted, Line, followed, judged, wrong
from running import Browser, Clock, SimulatorThread, shared_key

from forward_auth.web.pages import PSC_EXPLAINED

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt install chromium)"),
    pytest.mark.skipif(binary() is None, reason="nginx is not installed (Debian: apt install nginx)"),
]
EVIL = "evil.example"
NAVIGATES = (("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))
FRAMED = (("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One hospital for the file: service, nginx, two applications, PSC."""
    clock = Clock()
    with (
        SimulatorThread(clock=clock, key=shared_key()) as psc,
        Site(tmp_path_factory.mktemp("site"), psc, clock, make_certificates(tmp_path_factory.mktemp("tls"))) as here,
    ):
        yield here


@pytest.fixture(scope="module")
def doctor(site: Site) -> Browser:
    """Signed in everywhere: she is sent on at once, so that a wrong address shows in the first answer."""
    browser = Browser()
    for app in (site.dossier, site.prescription):
        assert 200 == site.running.sign_in(browser, "docteur-dupont", app + "/").status
    return browser


@pytest.fixture(scope="module")
def person(site: Site) -> Iterator[Person]:
    """Chromium, where the doctor is signed in at the origin and at the dossier."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        one = Person(chromium)
        tab = one.tab()
        tab.goto(site.dossier + "/")
        choose(tab)
        tab.wait_for_url(site.dossier + "/")
        yield one
        one.close()
        chromium.close()


@pytest.fixture(scope="module")
def judge(person: Person) -> Page:
    """A page that does nothing but read addresses."""
    return person.tab()


def allowed(site: Site) -> dict[str, tuple[str, ...]]:
    """Where a browser may be led: to our origins, to PSC, and to the public page about PSC."""
    psc = urlsplit(site.simulator.authorization_endpoint)
    return {
        site.auth: (),
        site.dossier: (),
        site.prescription: (),
        f"{psc.scheme}://{psc.netloc}": (site.simulator.authorization_endpoint + "?",),
        "https://esante.gouv.fr": (PSC_EXPLAINED,),
        "data://": ("data:image/svg+xml;base64,",),  # the icon of the page that nginx shows by itself
    }


class Sender:
    """Puts a payload somewhere in one place and keeps what comes back to be followed."""

    def __init__(self, site: Site, doctor: Browser, place: str, family: str) -> None:
        self.site, self.doctor, self.place, self.family = site, doctor, place, family
        self.emitted: list[Emitted] = []
        self.payload = ""
        running = site.running
        if place == "alone":
            self.lines = {"": Line(running.outer), "inner": Line(running.inner)}
        else:
            self.lines = {
                host: Line(site.port, urlsplit(host).hostname or "")
                for host in (site.auth, site.dossier, site.prescription)
            }
        self.secrets = [value.encode() for jar in doctor.jar.values() for value in jar.values()] + [b"s3cr3t-0f"]

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        for line in self.lines.values():
            line.__exit__()

    def _keep(self, how: str, heard: Heard, base: str) -> Heard:
        """The global oracle, and what is to be judged."""
        told = f"{self.family} {self.place} {how}: {self.payload!r} -> {heard.start!r}"
        # A control byte in a header is no HTTP. nginx hands it on, we refuse to judge it (400), and of that nginx makes its 503.
        no_http = self.place == "nginx" and how.startswith("Referer") and not self.payload.isprintable()
        assert heard.status < 500 or (no_http and heard.status == 503), told
        assert not [
            name
            for name, _ in heard.headers
            if name.lower().startswith(b"x-psc-") and name.lower() != b"x-psc-reference"
        ], told
        assert len([1 for name, _ in heard.headers if name.lower() == b"location"]) <= 1, told
        whole = b"".join(name + value for name, value in heard.headers) + heard.body
        assert not any(secret in whole for secret in self.secrets), told
        self.emitted += [
            Emitted(self.family, self.payload, f"{self.place} {how}", value, base) for value in followed(heard)
        ]
        return heard

    def outer_door(
        self, how: str, origin: str, target: str | bytes, *, known: bool = False, form: str | None = None
    ) -> Heard:
        """A browser's own request to an address of ours."""
        raw = target if isinstance(target, bytes) else target.encode()
        host = origin.partition("://")[2]
        cookies = self.doctor.cookies(urlsplit(origin).hostname or "") if known else ""
        headers: list[tuple[str, str | bytes]] = [
            ("Host", host),
            *NAVIGATES,
            *([("Cookie", cookies)] if cookies else []),
        ]
        if self.place == "alone":
            headers += [("X-Forwarded-Host", host), ("X-Forwarded-Proto", "https")]
        line = self.lines["" if self.place == "alone" else origin]
        body = None if form is None else form.encode()
        heard = line.ask("GET" if form is None else "POST", raw, headers, body)
        return self._keep(
            how, heard, origin + target if isinstance(target, str) and target.startswith("/") else origin + "/"
        )

    def check(
        self,
        how: str,
        origin: str,
        target: bytes,
        *more: tuple[str, str | bytes],
        method: str = "GET",
        host: bytes | None = None,
    ) -> None:
        """A stranger asks an application for something."""
        asked_host = origin.partition("://")[2].encode() if host is None else host
        if self.place == "nginx":
            heard = self.lines[origin].ask(
                method, target, [("Host", asked_host), *more], b"x=1" if method == "POST" else None
            )
        else:
            dialect = "forward" if len(self.payload) % 2 else "nginx"
            told: list[tuple[str, str | bytes]] = [
                ("Host", "inner"),
                ("X-Forwarded-Method", method),
                ("X-Forwarded-Proto", "https"),
            ]
            told += [("X-Forwarded-Host", asked_host), ("X-Forwarded-Uri", target), *more]
            heard = self.lines["inner"].ask("GET", f"/auth/{dialect}".encode(), told)
            assert 200 != heard.status
        self._keep(how, heard, origin + "/")

    def ingress(self, url: bytes) -> None:
        told = [("Host", "inner"), ("X-Original-URL", url), ("X-Original-Method", b"GET"), *NAVIGATES]
        heard = self.lines["inner"].ask("GET", b"/auth/ingress-nginx", told)
        assert 200 != heard.status
        self._keep("X-Original-URL", heard, self.site.dossier + "/")

    def onwards(self) -> None:
        """One step further: every address of start and hand-off that was given out, asked for by a browser that is signed in."""
        given = {
            urljoin(one.base, one.value): one.payload
            for one in self.emitted
            if "/psc/start?" in one.value or "/psc/handoff?" in one.value
        }
        for url, payload in given.items():
            self.payload = payload
            for origin in (self.site.auth, self.site.dossier, self.site.prescription):
                if url.startswith(f"{origin}/psc/") and url.isascii():
                    self.outer_door("followed", origin, url[len(origin) :].partition("#")[0], known=True)


def sendable(payload: str) -> bool:
    """Whether it can stand in one header line."""
    return not set("\r\n\0") & set(payload)


Attack = Callable[[str], None]


@pytest.fixture(params=["alone", "nginx"])
def place(request: pytest.FixtureRequest) -> str:
    """The way in."""
    way: str = request.param
    return way


@pytest.fixture
def attack(site: Site, doctor: Browser, judge: Page, place: str) -> Attack:
    """`attack(family)`: every payload of the family, everywhere; each Location, link, form and refresh that comes back must be ours, PSC's, or
    the page about PSC."""
    return lambda family: nothing_leads_away(site, doctor, judge, family, place)


def nothing_leads_away(site: Site, doctor: Browser, judge: Page, family: str, place: str) -> None:
    auth, dossier = site.auth, site.dossier
    with Sender(site, doctor, place, family) as sender:
        several = payloads(family, dossier, EVIL)
        for number, payload in enumerate(several if place == "alone" else several[::2]):
            sender.payload = payload
            full, bare = quote(payload, safe=""), quote(payload, safe=":/?[]@!$'()*,;=\\%~|`{}^")
            sender.outer_door("start, a stranger", auth, f"/psc/start?to={full}")
            sender.outer_door("start, signed in", auth, f"/psc/start?to={bare}", known=True)
            if number % 2:
                sender.outer_door("start at the app", dossier, f"/psc/start?to={bare}&frame={number // 2 % 2}&lost=1")
            else:
                sender.outer_door(
                    "hand-off", (auth, dossier)[number // 2 % 2], f"/psc/handoff?to={full}&bind={'A' * 43}", known=True
                )
            if number % 4 == 0:
                sender.outer_door("form", auth, "/psc/start", form=f"to={full}&token=x")
                sender.outer_door(
                    "signed out", dossier, f"/psc/signed-out?to={full}&state={full}&post_logout_redirect_uri={bare}"
                )
                sender.outer_door(
                    "sign out", dossier, f"/psc/sign-out?to={bare}", form=f"to={full}&token=x", known=True
                )
            if not sendable(payload):
                continue
            raw = payload.encode()
            sender.check("target", dossier, raw, *NAVIGATES)
            sender.check("host", dossier, b"/x", *NAVIGATES, host=raw)
            if number % 2:
                sender.check("Referer, lost", dossier, b"/save", *NAVIGATES, ("Referer", raw), method="POST")
            else:
                sender.check("Referer, frame", dossier, b"/in", *FRAMED, ("Referer", raw))
            if place == "alone":
                sender.ingress(raw)
        sender.onwards()
        emitted = sender.emitted
    assert len(emitted) > len(several)
    found = wrong(judged(judge, emitted), allowed(site))
    assert [] == found[:20], "\n".join(found[:20])
    assert 200 == site.running.check(doctor, dossier + "/").status


def test_RED_01_no_scheme(attack: Attack, place: str) -> None:
    """Two slashes and more: no scheme, another host."""
    attack("RED-01")


def test_RED_02_backslashes(attack: Attack, place: str) -> None:
    """Backslashes that browsers read as slashes."""
    attack("RED-02")


def test_RED_03_too_few_slashes(attack: Attack, place: str) -> None:
    """A scheme with less or more than two slashes behind it."""
    attack("RED-03")


def test_RED_04_blanks_and_controls(attack: Attack, place: str) -> None:
    """White space and controls that some parser drops or trims; a line end that would begin another header."""
    attack("RED-04")


def test_RED_05_encoded_again(attack: Attack, place: str) -> None:
    """Slashes, schemes and dots percent-encoded once, twice, three times."""
    attack("RED-05")


def test_RED_06_user_information(attack: Attack, place: str) -> None:
    """User information, and what makes a host of ours into it."""
    attack("RED-06")


def test_RED_07_other_schemes(attack: Attack, place: str) -> None:
    """javascript:, data: and nine more, in disguise."""
    attack("RED-07")


def test_RED_08_nearly_our_host(attack: Attack, place: str) -> None:
    """Hosts that begin or end like ours."""
    attack("RED-08")


def test_RED_09_ports_notations_and_look_alikes(attack: Attack, place: str) -> None:
    """Another port or scheme, addresses in other notations, letters that look alike."""
    attack("RED-09")


def test_RED_10_applications_of_others(attack: Attack, place: str) -> None:
    """Applications that are not configured here, and what states and codes of another deployment look like."""
    attack("RED-10")


def test_RED_11_hosts_in_the_path(attack: Attack, place: str) -> None:
    """Request targets that look like a host, given as an address."""
    attack("RED-11")


def test_RED_12_too_long_or_back_to_us(attack: Attack, place: str) -> None:
    """Addresses too long to promise, and ways back into our own pages."""
    attack("RED-12")


def test_RED_the_judges_can_say_no(site: Site, judge: Page) -> None:
    """What a server without this care would answer is seen: of the payloads themselves, sent back as they are, most lead away."""
    told = [
        Emitted(family, payload, "as it is", payload, site.dossier + "/")
        for family in FAMILIES
        for payload in payloads(family, site.dossier, EVIL)
    ]
    assert 400 <= len(told)
    bad = wrong(judged(judge, told), allowed(site))
    assert len(bad) > 200
    for family in ("RED-01", "RED-02", "RED-03", "RED-04", "RED-06", "RED-07", "RED-08", "RED-09", "RED-10", "RED-11"):
        assert any(line.startswith(family) for line in bad), family


def test_RED_12_no_way_back_into_our_own_pages(site: Site, doctor: Browser, judge: Page) -> None:
    """Wherever an address of RED-12 is handed on to, the path that Chromium would ask for there is none below our prefix, in no spelling."""
    handed = {}
    for payload in payloads("RED-12", site.dossier, EVIL):
        answer = site.running.get(doctor, f"{site.auth}/psc/start?to={quote(payload, safe='')}")
        assert answer["Location"].startswith(site.dossier + "/psc/handoff?to="), payload
        handed[payload] = unquote(answer["Location"].partition("?to=")[2])
    asked = judge.evaluate("(urls) => urls.map((url) => new URL(url).pathname)", list(handed.values()))
    back = [
        payload for payload, path in zip(handed, asked, strict=True) if unquote(path).casefold().startswith("/psc/")
    ]
    assert [] == back


# -- raw request targets -----------------------------------------------------------------------------------------------------------


def test_RED_11_raw_targets_on_every_route(site: Site, doctor: Browser, judge: Page, place: str) -> None:
    """A request line that looks like a host, on our own hosts, signed in or not: nothing in the answer leads away."""
    with Sender(site, doctor, place, "RED-11") as sender:
        for payload in payloads("RED-11", site.dossier, EVIL):
            sender.payload = payload
            for origin in (site.auth, site.dossier):
                sender.outer_door("raw", origin, payload.encode(), known=origin == site.auth)
        emitted = sender.emitted
    assert emitted
    found = wrong(judged(judge, emitted), allowed(site))
    assert [] == found[:20], "\n".join(found[:20])


# -- real navigation ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_RED_chromium_goes_nowhere_else(site: Site, person: Person, family: str) -> None:
    """A sample of the family, as links in a mail: whatever Chromium asks for, it asks of our hosts or of PSC."""
    here = {
        urlsplit(origin).netloc for origin in allowed(site) if "esante" not in origin and ":" in urlsplit(origin).netloc
    }
    asked: list[str] = []
    tab = person.tab()
    tab.on("request", lambda request: asked.append(request.url))
    several = payloads(family, site.dossier, EVIL)
    for payload in several[:: max(1, len(several) // 6)]:
        links = [f"{site.auth}/psc/start?to={quote(payload, safe='')}"]
        if payload.startswith("/") and sendable(payload):
            links.append(site.dossier + payload)
        for link in links:
            site.running.clock.advance(3)  # the guard against loops is not what is looked at
            begun = len(asked)
            try:
                tab.goto(link, wait_until="domcontentloaded")
            except Error:  # an answer that is no page
                pass
            assert len(asked) > begun
            away = [url for url in asked[begun:] if not url.startswith("data:") and urlsplit(url).netloc not in here]
            assert [] == away, (family, payload, link)
            assert urlsplit(tab.url).netloc in here or tab.url.startswith(("about:blank", "chrome-error:")), (
                family,
                payload,
            )
    tab.close()


# -- the good ones -----------------------------------------------------------------------------------------------------------------

PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@"
SPELLED = ("%20", "%2F", "%5C", "%25", "%C3%A9", "%c3%a9", "%E2%82%AC", "%23", "%3F", "%2e")


def deep_targets(count: int) -> list[str]:
    """Paths with queries, of everything that may stand in one."""
    chance = random.Random(12)
    made = []
    for _ in range(count):
        letters = [
            chance.choice(PLAIN) if chance.random() < 0.8 else chance.choice(SPELLED)
            for _ in range(chance.randrange(1, 60))
        ]
        path = "/p" + "".join("/" if chance.random() < 0.1 else letter for letter in letters)
        query = "".join(
            chance.choice(PLAIN + "/?=&&[]") if chance.random() < 0.9 else chance.choice(SPELLED)
            for _ in range(chance.randrange(0, 120))
        )
        made.append(path + (f"?{query}" if chance.random() < 0.8 else ""))
    return made


def test_RED_12_deep_targets_come_back_byte_for_byte(site: Site, doctor: Browser, place: str) -> None:
    """Sixty generated addresses: what a stranger asks for is, after PSC and every hand-off, exactly where the browser is sent."""
    with Sender(site, doctor, place, "RED-12") as sender:
        for target in deep_targets(60):
            sender.payload = target
            heard_url = asked_address(sender, target)
            answer = site.running.get(
                Browser(jar={"auth.hopital.example": dict(doctor.jar["auth.hopital.example"])}), heard_url
            )
            site.running.clock.advance(3)
            browser = Browser(jar={"auth.hopital.example": dict(doctor.jar["auth.hopital.example"])})
            while urlsplit(answer["Location"]).path.startswith("/psc/"):
                answer = site.running.get(browser, answer["Location"])
            assert site.dossier + target == answer["Location"]


def asked_address(sender: Sender, target: str) -> str:
    """Where a stranger who asks for `target` is sent: an address of /start that holds it whole."""
    site = sender.site
    host = urlsplit(site.dossier).netloc
    if sender.place == "nginx":
        heard = sender.lines[site.dossier].ask("GET", target.encode(), [("Host", host), *NAVIGATES])
    else:
        told = [
            ("Host", "inner"),
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", host),
            ("X-Forwarded-Uri", target),
        ]
        heard = sender.lines["inner"].ask("GET", b"/auth/nginx", [*told, *NAVIGATES])
    location = (heard.one("Location") or b"").decode("ascii")
    assert (
        site.dossier + target == unquote(location.partition("?to=")[2].partition("&")[0], errors="strict")
        or "%" in target
    )
    return location
