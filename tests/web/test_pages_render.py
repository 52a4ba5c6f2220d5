"""The pages as bytes: all of them render in both languages, nothing a value holds becomes markup, nothing is loaded from elsewhere."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from page_samples import HOSTILE, SAMPLES, WITH_EVERYTHING, Settings, hostile

from forward_auth.errors import ConfigError
from forward_auth.web import pages as pages_module
from forward_auth.web.pages import EVERYWHERE, PAGES, Pages, duration, french, moment

PAGES_FR = Pages(Settings())
LANGUAGES = ("fr", "en")
VOID = {"meta", "link", "img", "input", "br"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


class Reader(HTMLParser):
    """Reads a page the way a browser does, as far as these tests need: elements in order, text by element, balance."""

    def __init__(self, page: bytes | str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page if isinstance(page, str) else page.decode("utf-8"))
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len({name for name, _ in attrs})
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data))

    def all(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.elements if name == tag)

    @property
    def text(self) -> str:
        return "\n".join(text for element, text in self.texts if element != "style")


def every_page() -> list[tuple[str, str, str, Mapping[str, object]]]:
    return [
        (f"{key}-{language}", page, language, values)
        for key, (page, values) in SAMPLES.items()
        for language in LANGUAGES
    ]


EVERY_PAGE = [pytest.param(*rest, id=key) for key, *rest in every_page()]


@pytest.mark.parametrize(("page", "language", "values"), EVERY_PAGE)
def test_every_page_says_what_happened_and_has_one_main_button(
    page: str, language: str, values: Mapping[str, object]
) -> None:
    """Bare or with all it may hold, each page renders with its language, one h1, its landmarks and one main button."""
    for extra in ({}, WITH_EVERYTHING):
        body = PAGES_FR.render(page, language, **values, **extra)
        read = Reader(body)
        tags = [tag for tag, _ in read.elements]
        assert {"lang": language} == next(read.all("html"))
        assert [1, 1, 1, 1, 1] == [tags.count(tag) for tag in ("title", "h1", "main", "header", "footer")]
        mains = [a for tag, a in read.elements if tag in {"a", "button"} and a.get("class") in {"psc", "button"}]
        assert 1 == len(mains)
        assert Settings().contact in read.text
        assert Settings().establishment in read.text
        assert b"None" not in body
        assert b"{" not in body


@pytest.mark.parametrize(("page", "language", "values"), EVERY_PAGE)
def test_a_page_carries_its_reference_its_switch_and_the_change_of_person(
    page: str, language: str, values: Mapping[str, object]
) -> None:
    """Given a reference, the address of the page and a session, every page shows them as text and links."""
    read = Reader(PAGES_FR.render(page, language, **values, **WITH_EVERYTHING))
    links = {a["href"]: a for a in read.all("a")}
    other = "en" if language == "fr" else "fr"
    assert other == links[f"{WITH_EVERYTHING['here']}&lang={other}"]["lang"]
    assert WITH_EVERYTHING["switch_person_url"] in links
    assert ("Référence\u00a0: K7PM-2XQD" if language == "fr" else "Reference: K7PM-2XQD") in read.text


@pytest.mark.parametrize(("page", "language", "values"), EVERY_PAGE)
def test_page_01_no_value_becomes_markup(page: str, language: str, values: Mapping[str, object]) -> None:
    """PAGE-01: an attack in every text and address changes no element and no attribute but the values themselves."""
    settings = Settings(establishment=HOSTILE, contact=HOSTILE)
    bad = Pages(settings).render(page, language, **hostile(values), **hostile(WITH_EVERYTHING))
    good = PAGES_FR.render(page, language, **values, **WITH_EVERYTHING)

    def shape(body: bytes) -> set[tuple[str, tuple[str, ...]]]:
        return {(tag, tuple(attributes)) for tag, attributes in Reader(body).elements if tag != "strong"}

    assert shape(bad) <= shape(good)
    assert b"<script" not in bad.lower()
    assert b"alert(1)&lt;/script&gt;" in bad
    assert b"49" not in re.sub(rb"-[0-9a-f]{16}\.|K7PM|[0-9.]+", b"", bad)
    assert HOSTILE in Reader(bad).text


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//evil.example/", "/\\evil.example", "", "\tx"]
)
@pytest.mark.parametrize("key", ["action_url", "switch_person_url", "apps"])
def test_page_01_no_link_leads_into_a_script(key: str, url: str) -> None:
    """PAGE-01: a page with an address that is neither http(s) nor a path of this host is not made at all."""
    values = dict(SAMPLES["session"][1])
    values[key] = [("app", url)] if key == "apps" else url
    with pytest.raises(ValueError, match="links to http"):
        PAGES_FR.render("session", "fr", **values)


@pytest.mark.parametrize(("page", "language", "values"), EVERY_PAGE)
def test_page_02_nothing_is_loaded_from_elsewhere_and_nothing_runs(
    page: str, language: str, values: Mapping[str, object]
) -> None:
    """Style and pictures come from our own static addresses; there is no script, no inline style, no event attribute."""
    read = Reader(PAGES_FR.render(page, language, **values, **WITH_EVERYTHING))
    assert not {"script", "style", "iframe", "object", "embed", "base"} & {tag for tag, _ in read.elements}
    for tag, attributes in read.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        loaded = [attributes.get("src"), attributes.get("href") if tag == "link" else None]
        for address in filter(None, loaded):
            assert address.startswith("/psc/static/")
            assert PAGES_FR.static(address.removeprefix("/psc/static/")) is not None


def test_the_table_knows_every_page_and_every_value() -> None:
    """The samples cover the table, and each page of the table has a template and both languages."""
    assert set(PAGES) == {page for page, _ in SAMPLES.values()}
    for page, values in SAMPLES.values():
        shape = PAGES[page]
        assert set(shape.needs) <= set(values) <= set(shape.needs) | set(shape.may)
        assert not set(shape.needs) & set(EVERYWHERE)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_missing_or_unannounced_value_is_an_error(page: str) -> None:
    """A hole in a page or a misspelt value is found at once, not by the person reading."""
    values = dict(next(values for name, values in SAMPLES.values() if name == page))
    with pytest.raises(TypeError, match="unannounced \\['actoin_url'\\]"):
        PAGES_FR.render(page, "fr", **values, actoin_url="/")
    for key in PAGES[page].needs:
        with pytest.raises(TypeError, match="missing"):
            PAGES_FR.render(page, "fr", **{name: value for name, value in values.items() if name != key})


@pytest.mark.parametrize(("page", "key"), [("refused", "reason"), ("loop", "cause"), ("sign_in", "notice")])
def test_a_word_outside_its_table_is_an_error(page: str, key: str) -> None:
    """`reason`, `cause` and `notice` are words of a table; another one makes no page."""
    values = dict(next(values for name, values in SAMPLES.values() if name == page)) | {key: "bored"}
    with pytest.raises(ValueError, match=key):
        PAGES_FR.render(page, "fr", **values)


def test_the_button_says_exactly_what_psc_asks() -> None:
    """The words of the PSC button are there in one piece, on the sign-in page as a form's button and elsewhere as a link."""
    wording = "S'identifier avec Pro Santé Connect"
    for key in ("sign_in", "signed_out", "stale", "lost", "denied", "level", "error", "frame"):
        page, values = SAMPLES[key]
        assert f"<span>{wording}</span>" in PAGES_FR.render(page, "fr", **values).decode()
    form = next(Reader(PAGES_FR.render("sign_in", "fr", **SAMPLES["sign_in"][1])).all("form"))
    assert ("post", "/psc/start") == (form["method"], form["action"])


def test_hidden_fields_come_back_byte_identical() -> None:
    """What a form hides is what the browser will send."""
    hidden = {"to": "https://dossier.hopital.example/a?b=1&c=\"é'<", "token": "x" * 300}
    read = Reader(PAGES_FR.render("sign_out", "fr", action_url="/psc/sign-out", hidden=hidden))
    assert hidden == {a["name"]: a["value"] for a in read.all("input") if a["type"] == "hidden"}


def test_variants_say_what_differs() -> None:
    """An ended session, an untold PSC, a lost form and a probable cause are each said."""
    cases = {
        "sign_in-ended": "Votre session a pris fin",
        "signed_out-untold": "Fermez votre navigateur",
        "lost": "Rien n’a été envoyé",
        "loop-cookies": "le plus probable ici",
        "unavailable": "Réessayez dans 30\u00a0secondes",
        "refused-rule": "chirurgien-dentiste",
        "session": "24 novembre 2026 à 14\u00a0h\u00a005",
    }
    for key, words in cases.items():
        page, values = SAMPLES[key]
        assert words in Reader(PAGES_FR.render(page, "fr", **values)).text


def test_the_status_stands_beside_the_reference() -> None:
    """The help desk reads the status the browser got, the page's own unless another is given; a success shows none."""
    _, values = SAMPLES["error"]
    assert "(code 500)" in PAGES_FR.render("error", "fr", **values, reference="A").decode()
    assert "(code 502)" in PAGES_FR.render("error", "fr", status=502, **values, reference="A").decode()
    assert "(code" not in PAGES_FR.render("signed_out", "fr", **SAMPLES["signed_out"][1], reference="A").decode()


@pytest.mark.parametrize(
    ("default", "accept", "chosen", "language"),
    [
        ("fr", None, None, "fr"),
        ("fr", "", None, "fr"),
        ("fr", "fr-FR,fr;q=0.9,en;q=0.8", None, "fr"),
        ("fr", "en-GB,en;q=0.9,fr;q=0.8", None, "en"),
        ("fr", "en,fr", None, "fr"),
        ("fr", "de,en;q=0.4", None, "en"),
        ("fr", "de", None, "fr"),
        ("fr", "*", None, "fr"),
        ("fr", "en;q=0.5,*;q=0.7", None, "fr"),
        ("fr", "fr;q=0,*", None, "en"),
        ("fr", "EN-us ; Q=1", None, "en"),
        ("fr", "en;q=9", None, "fr"),
        ("fr", "en;q=nan,fr;q=inf", None, "fr"),
        ("fr", ";;;,=,en;q=,\x00,é" * 500, None, "fr"),
        ("fr", "en", "fr", "fr"),
        ("fr", "fr", "en", "en"),
        ("fr", "fr", "de", "fr"),
        ("en", None, None, "en"),
        ("en", "fr,en;q=0.5", None, "fr"),
        ("en", "fr,en", None, "en"),
    ],
)
def test_the_language_is_french_unless_english_is_clearly_preferred(
    default: str, accept: str | None, chosen: str | None, language: str
) -> None:
    """The switch decides, then a clear preference of the browser, then the configured language."""
    assert language == Pages(Settings(language=default)).language_of(accept, chosen)


@pytest.mark.parametrize(
    ("here", "link"),
    [
        ("/psc/session", "/psc/session?lang=en"),
        (
            "/psc/start?to=https%3A%2F%2Fx%2F%3Fa&lang=fr&why=ended",
            "/psc/start?to=https%3A%2F%2Fx%2F%3Fa&why=ended&lang=en",
        ),
        (None, None),
        ("//evil.example/x", None),
        ("https://evil.example/", None),
        ("/a b", None),
        ("/x?" + "y" * 9000, None),
    ],
)
def test_the_switch_keeps_the_address_and_leads_nowhere_else(here: str | None, link: str | None) -> None:
    """Only `lang` changes in the page's own address; what is no plain path of this host gets no switch."""
    read = Reader(PAGES_FR.render("error", "fr", **SAMPLES["error"][1], here=here))
    assert link == next((a["href"] for a in read.all("a") if a.get("class") == "switch"), None)


def test_headers_of_a_page_are_exactly_these() -> None:
    """The strict policy, word for word (ASVS 3.4): nothing but our own style, pictures and forms; no frame; no store."""
    assert {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Cache-Control": "no-store",
        "X-Frame-Options": "DENY",
    } == dict(PAGES_FR.security_headers())
    assert "max-age=31536000" == PAGES_FR.security_headers(https=True)["Strict-Transport-Security"]


def test_headers_name_the_origins_a_form_may_lead_to() -> None:
    """Addresses are reduced to their origins, each once; a frame's page names its applications and drops X-Frame-Options."""
    wallet = ["https://wallet.psc.example/auth?x", "https://Wallet.psc.example/", "http://psc.localhost:8080"]
    headers = PAGES_FR.security_headers(wallet, frame_ancestors=["https://dossier.hopital.example"])
    assert (
        "form-action 'self' https://wallet.psc.example http://psc.localhost:8080;" in headers["Content-Security-Policy"]
    )
    assert headers["Content-Security-Policy"].endswith("frame-ancestors 'self' https://dossier.hopital.example")
    assert "X-Frame-Options" not in headers


@pytest.mark.parametrize(
    "address",
    [
        "https://a; script-src *",
        "javascript:x",
        "*",
        "https://*",
        "https://u@a",
        "https://a\r\nX: y",
        "https://",
        "'none'",
        "https://a:99999999",
    ],
)
def test_page_03_no_address_writes_into_the_policy(address: str) -> None:
    """PAGE-03: what is no plain http(s) address never reaches the header."""
    with pytest.raises(ValueError, match="http"):
        PAGES_FR.security_headers([address])


def test_static_files_have_a_hash_in_their_name_and_their_own_policy() -> None:
    """The style is found under its hashed name only; nothing climbs out; even a hostile picture stays in its box."""
    url = PAGES_FR.static_url("pages.css")
    assert url is not None
    found = PAGES_FR.static(url.removeprefix("/psc/static/"))
    assert found is not None
    assert ("text/css; charset=utf-8", True) == (found.content_type, found.etag.strip('"') in url)
    for name in ("pages.css", "", ".", "..", "../pages.py", "texts.toml", url, "/etc/passwd", "PAGES.css"):
        assert PAGES_FR.static(name) is None
    assert PAGES_FR.static_url("logo.svg") is None
    assert PAGES_FR.static_headers()["Content-Security-Policy"].endswith("; sandbox")


@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [("logo.svg", b"<?xml version='1.0'?><svg/>", "image/svg+xml"), ("L.PNG", PNG, "image/png")],
)
def test_the_logo_is_served_and_shown(tmp_path: Path, name: str, content: bytes, content_type: str) -> None:
    """The operator's picture is read once at start, shown on every page and inside the page of last resort."""
    logo = tmp_path / name
    logo.write_bytes(content)
    pages = Pages(Settings(logo=logo), path_prefix="/auth")
    logo.unlink()
    picture = next(Reader(pages.render("error", "fr", **SAMPLES["error"][1])).all("img"))
    assert "" == picture["alt"]
    file = pages.static(picture["src"].removeprefix("/auth/static/"))
    assert file is not None
    assert (content_type, content) == (file.content_type, file.body)
    assert f"data:{content_type};base64," in pages.static_down_page("fr")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("logo.bmp", b"BM", "not a picture"),
        ("logo.png", b"<svg/>", "not what its name says"),
        ("logo.svg", b"<svg>" + b" " * 300_000, "larger than"),
        ("logo.png", None, "cannot be read"),
    ],
)
def test_a_logo_that_cannot_be_shown_is_a_mistake_of_the_configuration(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    """A wrong logo is refused at start with its key and what to do."""
    logo = tmp_path / name
    if content is not None:
        logo.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        Pages(Settings(logo=logo))
    assert "pages.logo" == refused.value.mistakes[0].key
    assert problem in refused.value.mistakes[0].problem


def test_without_a_name_or_contact_the_pages_still_help() -> None:
    """An empty section `pages` gives pages that say «service d’identification» and whom to call."""
    text = Reader(Pages(Settings(establishment="", contact=" ")).render("error", "fr", **SAMPLES["error"][1])).text
    assert "Service d’identification" in text
    assert "Contactez l’assistance informatique de votre établissement." in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_of_last_resort_needs_nobody(language: str) -> None:
    """The page the proxy shows when we are gone is one file: no address in it but data: and the one it is shown at."""
    page = PAGES_FR.static_down_page(language)
    read = Reader(page)
    assert [""] == [a["href"] for a in read.all("a")]
    assert all(a["href"].startswith("data:") for a in read.all("link"))
    assert "http" not in page.replace("http-equiv", "")
    assert len(page) < 16_384


@pytest.mark.parametrize(("key", "sample"), SAMPLES.items())
def test_french_typography_holds(key: str, sample: tuple[str, Mapping[str, object]]) -> None:
    """No French line can begin with `: ; ? !`, no guillemet stands alone, the apostrophe is the typographic one."""
    page, values = sample
    text = Reader(PAGES_FR.render(page, "fr", **values, **WITH_EVERYTHING)).text
    text = text.replace("S'identifier avec Pro Santé Connect", "")
    text = "\n".join(line for line in text.splitlines() if line not in {*_required(), *map(str, _technical(values))})
    assert not re.findall(r" [:;?!»]|« |\w'\w", text)
    assert not re.findall(r"\w[;?!]", text)


def _required() -> list[str]:
    return [str(line) for line in SAMPLES["refused-rule"][1]["required"]]  # type: ignore[attr-defined]  # a list of samples


def _technical(values: Mapping[str, object]) -> list[object]:
    return list(values.get("technical", ()))  # type: ignore[call-overload]  # a list of samples


def test_french_spacing() -> None:
    """The spaces French puts before double punctuation and inside guillemets do not break."""
    assert "Qui\u202f? «\u00a0Moi\u00a0»\u00a0: oui\u202f; 12:30" == french("Qui ? « Moi » : oui ; 12:30")


@pytest.mark.parametrize(
    ("at", "fr", "en"),
    [
        (
            datetime(2026, 11, 24, 14, 5, tzinfo=UTC),
            "24 novembre 2026 à 14\u00a0h\u00a005",
            "24 November 2026 at 14:05",
        ),
        (datetime(2027, 8, 1, 0, 0, tzinfo=UTC), "1er août 2027 à 0\u00a0h\u00a000", "1 August 2027 at 00:00"),
    ],
)
def test_dates_in_words(at: datetime, fr: str, en: str) -> None:
    """A date is written as each language writes it."""
    assert (fr, en) == (moment(at, "fr"), moment(at, "en"))


@pytest.mark.parametrize(
    ("seconds", "fr", "en"),
    [
        (0, "1\u00a0seconde", "1\u00a0second"),
        (30, "30\u00a0secondes", "30\u00a0seconds"),
        (60, "1\u00a0minute", "1\u00a0minute"),
        (61, "2\u00a0minutes", "2\u00a0minutes"),
        (3600, "1\u00a0heure", "1\u00a0hour"),
        (5400, "90\u00a0minutes", "90\u00a0minutes"),
        (14400, "4\u00a0heures", "4\u00a0hours"),
    ],
)
def test_lengths_of_time_in_words(seconds: int, fr: str, en: str) -> None:
    """A length of time is never said shorter than it is."""
    assert (fr, en) == (duration(seconds, "fr"), duration(seconds, "en"))


def test_without_zone_data_times_say_that_they_are_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without the zone of Paris, a time carries its label instead of being wrong by an hour."""
    from zoneinfo import ZoneInfoNotFoundError

    def nowhere(key: str) -> None:
        raise ZoneInfoNotFoundError(key)

    monkeypatch.setattr(pages_module, "ZoneInfo", nowhere)
    text = Reader(Pages(Settings()).render("session", "fr", **SAMPLES["session"][1])).text
    assert "24 novembre 2026 à 13\u00a0h\u00a005\u00a0(UTC)" in text


def test_no_request_touches_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once made, the pages render and serve without opening anything."""
    pages = Pages(Settings())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened for a request")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("os.stat", refuse)
    for page, values in SAMPLES.values():
        pages.render(page, "en", **values)
    pages.static_down_page("fr")
    pages.static("logo.svg")
