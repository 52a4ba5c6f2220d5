"""The pages in a real browser, with their real headers: anybody can read them, on any screen, with a keyboard alone.

axe-core judges every page, light and dark, wide and narrow, against WCAG 2.2 AA; the rest is what axe does not see.
"""

import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import pytest
from page_samples import HOSTILE, SAMPLES, WITH_EVERYTHING, Settings, hostile
from playwright.sync_api import Browser, Page, sync_playwright

from forward_auth.web.pages import Pages

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
LOGO = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 60"><rect width="120" height="60" fill="#dfeee6"/>
<text x="12" y="38" font-size="24">CHE</text><script>document.title = "run"</script></svg>"""


# Variants that differ from another one in a word only are rendered by tests/web, and not looked at here again.
SEEN = sorted(
    SAMPLES.keys() - {"loop", "loop-routing", "loop-origin", "refused-acr", "refused-max_age", "unavailable-unknown"}
)


@dataclass
class Site:
    """A small real server: sample pages under /page/, the static files, and what a form's answer does."""

    pages: Pages
    port: int = 0
    posts: list[dict[str, str]] = field(default_factory=list)
    form_action: list[str] = field(default_factory=list)
    onward: str = ""

    def url(self, path: str, host: str = "dossier.localhost") -> str:
        return f"http://{host}:{self.port}{path}"

    def answer(self, path: str) -> tuple[str, bytes, Mapping[str, str]] | None:
        """Content type, body and headers for a GET."""
        if path.startswith("/psc/static/"):
            found = self.pages.static(path.removeprefix("/psc/static/"))
            return found and (found.content_type, found.body, self.pages.static_headers())
        kind, _, rest = path.strip("/").partition("/")
        html = "text/html; charset=utf-8"
        if kind == "down":
            return html, self.pages.static_down_page(rest).encode(), {}
        if kind == "framing":  # an application with our page in a frame
            return (
                html,
                f'<!doctype html><title>app</title><iframe src="{self.url(rest, "auth.localhost")}"></iframe>'.encode(),
                {},
            )
        if kind in {"page", "everything", "hostile", "framed"}:
            key, _, language = rest.partition("/")
            name, values = SAMPLES[key]
            given = {**values, **WITH_EVERYTHING, "here": path} if kind != "page" else dict(values)
            if kind == "hostile":
                given = hostile(given)
            ancestors = [self.url("/")] if kind == "framed" else None
            headers = self.pages.security_headers(self.form_action, frame_ancestors=ancestors)
            return html, self.pages.render(name, language, **given), headers
        return html, b"<!doctype html><html lang=fr><title>elsewhere</title><h1>elsewhere</h1>", {}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The pages of an establishment with a logo, on a free port, answering for every *.localhost."""
    logo = tmp_path_factory.mktemp("logo") / "logo.svg"
    logo.write_bytes(LOGO)
    here = Site(Pages(Settings(logo=logo)))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = here.answer(urlsplit(self.path).path)
            content_type, body, headers = found or ("text/plain", b"", {})
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            here.posts.append({"body": body, **{name.lower(): value for name, value in self.headers.items()}})
            self.send_response(303)
            self.send_header("Location", here.onward)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    quiet = [
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *quiet])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """One tab without JavaScript of ours to fear; what the console complains of, and what is loaded from elsewhere, fails the test."""
    context = browser.new_context(viewport=WIDE)
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on(
        "request",
        lambda request: (
            None if "localhost" in request.url or request.url.startswith("data:") else complaints.append(request.url)
        ),
    )
    site.posts.clear()
    site.form_action = []
    yield tab
    context.close()
    assert [] == complaints


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core, evaluated in the page: the policy forbids to add it as a script."""
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8")


def violations(page: Page, axe: str) -> list[str]:
    """What axe finds wrong with the page as it stands, one line each."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    found: dict[str, Any] = page.evaluate("tags => axe.run({runOnly: {type: 'tag', values: tags}})", WCAG)
    return [
        f"{violation['id']} ({violation['help']}): {node['html'][:160]} {node.get('failureSummary', '')}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def scrolls_sideways(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.mark.parametrize("key", SEEN)
def test_a_page_is_accessible_to_everybody(page: Page, site: Site, axe: str, key: str) -> None:
    """axe finds nothing, light and dark, wide and narrow, in both languages; nothing scrolls sideways even at 320 pixels."""
    for language in ("fr", "en"):
        page.goto(site.url(f"/everything/{key}/{language}"))
        for details in page.locator("details").all():
            details.evaluate("it => it.open = true")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for viewport in (WIDE, PHONE):
                page.set_viewport_size(viewport)
                if language == "fr" or (scheme == "light" and viewport is WIDE):
                    assert [] == violations(page, axe), f"{language}, {scheme}, {viewport['width']} px"
        page.set_viewport_size({"width": 320, "height": 640})
        assert not scrolls_sideways(page)


@pytest.mark.parametrize("key", SEEN)
def test_the_keyboard_reaches_the_main_button_and_shows_where_it_is(page: Page, site: Site, key: str) -> None:
    """Tab alone leads to the main button within four steps; it has a visible outline and is large enough for a thumb."""
    page.goto(site.url(f"/everything/{key}/fr"))
    for _ in range(4):
        page.keyboard.press("Tab")
        classes = page.evaluate("document.activeElement.className")
        if classes in {"psc", "button"}:
            break
    focused = page.locator(":focus-visible")
    assert 1 == page.locator(".psc:focus-visible, .button:focus-visible").count()
    assert "3px" == focused.evaluate("it => getComputedStyle(it).outlineWidth")
    box = focused.bounding_box()
    assert box is not None
    least = (224, 56) if classes == "psc" else (44, 44)
    assert least <= (box["width"], box["height"])
    assert least[1] <= box["height"]


def test_every_target_is_large_enough(page: Page, site: Site) -> None:
    """WCAG 2.5.8: each link and button outside a sentence is at least 24 pixels high, on a phone as well."""
    page.set_viewport_size(PHONE)
    for key in SEEN:
        page.goto(site.url(f"/everything/{key}/fr"))
        for target in page.locator("a, button, summary").all():
            box = target.bounding_box()
            assert box is not None
            assert 24 <= box["height"], f"{key}: {target.text_content()}"


def test_forced_colours_keep_the_buttons_visible(page: Page, site: Site) -> None:
    """Where the system imposes its colours (high contrast), the main button keeps an edge."""
    page.emulate_media(forced_colors="active")
    page.goto(site.url("/page/sign_in/fr"))
    button = page.locator(".psc")
    edge, width = button.evaluate("it => [getComputedStyle(it).borderColor, getComputedStyle(it).borderTopWidth]")
    assert edge != page.locator("body").evaluate("it => getComputedStyle(it).backgroundColor")
    assert "2px" == width


def test_page_01_an_attack_in_every_value_runs_nowhere(page: Page, site: Site) -> None:
    """PAGE-01: Chromium shows the attack as words; no script element, no dialog, no complaint of the policy."""
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for key in SEEN:
        page.goto(site.url(f"/hostile/{key}/fr"))
        assert 0 == page.locator("script").count()
        assert HOSTILE in page.locator("body").inner_text()
        assert "run" != page.title()
    assert [] == dialogs


def test_the_page_of_last_resort_stands_alone(page: Page, site: Site, axe: str) -> None:
    """Its own policy lets its style in; axe finds nothing; the button asks again for the address the person wanted."""
    asked: list[str] = []
    page.goto(site.url("/down/fr"))
    page.on("request", lambda request: asked.append(request.url))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert [] == violations(page, axe)
    assert "rgb(24, 35, 43)" == page.locator(".card").evaluate("it => getComputedStyle(it).backgroundColor")
    page.get_by_role("link", name="Réessayer").click()
    page.wait_for_load_state()
    assert [site.url("/down/fr")] == [url for url in asked if not url.startswith("data:")]


def test_the_logo_is_seen_and_its_script_is_not_run(page: Page, site: Site) -> None:
    """The operator's SVG is drawn on the page; opened by itself its script stays in the sandbox."""
    page.goto(site.url("/page/error/fr"))
    assert page.locator("img.logo").evaluate("it => it.complete && it.naturalWidth > 0")
    logo = site.pages.static_url("logo.svg")
    assert logo is not None
    alone = page.context.new_page()  # a tab of its own: here the browser has to complain, and does
    complaints: list[str] = []
    alone.on("console", lambda message: complaints.append(message.text))
    alone.goto(site.url(logo))
    assert "run" != alone.title()
    assert any("sandbox" in text.lower() or "script" in text.lower() for text in complaints)


def test_a_form_sends_its_hidden_fields_and_says_it_comes_from_here(page: Page, site: Site) -> None:
    """Under no-referrer a browser sends `Origin: null` with a form; that it is ours is told by `Sec-Fetch-Site` alone."""
    site.onward = "/elsewhere"
    page.goto(site.url("/page/sign_out/fr"))
    page.get_by_role("button", name="Me déconnecter").click()
    page.wait_for_url("**/elsewhere")
    [post] = site.posts
    assert ("token=t0ken", "null", "same-origin") == (post["body"], post["origin"], post["sec-fetch-site"])
    assert "referer" not in post


def test_a_form_may_lead_to_the_named_origins(page: Page, site: Site) -> None:
    """The answer to the sign-in form may redirect to PSC because the policy of the page names it."""
    site.onward = site.url("/elsewhere", "wallet.psc.localhost")
    site.form_action = [site.url("/", "wallet.psc.localhost")]
    page.goto(site.url("/page/sign_in/fr"))
    page.get_by_role("button", name="S'identifier avec Pro Santé Connect").click()
    page.wait_for_url("**/elsewhere")
    assert site.onward == page.url


def test_a_form_leads_to_no_other_origin(browser: Browser, site: Site) -> None:
    """Chromium holds form-action against the redirect as well: without the name of PSC the sign-in would stop here."""
    site.posts.clear()
    site.onward = site.url("/elsewhere", "wallet.psc.localhost")
    site.form_action = []
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(site.url("/page/sign_in/fr"))
    with tab.expect_console_message(lambda message: "form-action" in message.text):
        tab.get_by_role("button", name="S'identifier avec Pro Santé Connect").click()
    assert 1 == len(site.posts)
    assert tab.url.endswith("/page/sign_in/fr")
    context.close()


def test_in_a_frame_the_link_opens_the_sign_in_in_the_whole_window(page: Page, site: Site) -> None:
    """The page for frames is shown in the frame of a named application, and its button leaves the frame."""
    page.goto(site.url("/framing//framed/frame/fr"))
    frame = page.frame_locator("iframe")
    assert "Identification nécessaire" == frame.locator("h1").inner_text()
    assert "_top" == frame.get_by_role("link", name="Changer de professionnel").get_attribute("target")
    frame.get_by_role("link", name="S'identifier avec Pro Santé Connect").click()
    page.wait_for_url("**/psc/start**")
    assert 0 == page.locator("iframe").count()


def test_no_other_page_is_shown_in_a_frame(browser: Browser, site: Site) -> None:
    """Every other page refuses to be framed, by an application as well."""
    context = browser.new_context()
    tab = context.new_page()
    with tab.expect_console_message(lambda message: "frame-ancestors" in message.text or "X-Frame" in message.text):
        tab.goto(site.url("/framing//page/sign_out/fr"))
    assert 0 == tab.frame_locator("iframe").get_by_role("button").count()
    context.close()


def test_the_switch_changes_the_language_of_the_page(page: Page, site: Site) -> None:
    """The link «English» names itself in English and asks for the same page with lang=en."""
    page.goto(site.url("/everything/stale/fr"))
    page.get_by_role("link", name="English").click()
    page.wait_for_url(re.compile(r"/everything/stale/fr\?lang=en$"))
