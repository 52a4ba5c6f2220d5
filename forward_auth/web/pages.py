"""The pages people read: French first, English too, whole without JavaScript.

For: turning a page's name and its values into bytes, choosing the language, the headers every page leaves with, and the few
files the pages need. Everything is read and compiled when `Pages` is made; a request touches no file.

Refuses: a value nobody announced or one that is missing (a programming error, raised at once, never a hole in a page); markup
from a value (autoescape, and texts are filled by `Markup.format`, which escapes too); a link that is neither http(s) nor a
path of this host; scripts, inline styles, and anything loaded from another host. Knows no HTTP framework and no cookie.
"""

import base64
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from forward_auth.errors import ConfigError, Mistake

Language = Literal["fr", "en"]

PSC_EXPLAINED: Final = "https://esante.gouv.fr/produits-services/pro-sante-connect"
"""Where «en savoir plus» leads: the ANS's page for the public. A link, never loaded."""

_OTHER: Final[Mapping[Language, Language]] = MappingProxyType({"fr": "en", "en": "fr"})
_LANGUAGE_NAMES: Final[Mapping[Language, str]] = MappingProxyType({"fr": "Français", "en": "English"})
_MONTHS: Final[Mapping[Language, tuple[str, ...]]] = MappingProxyType(
    {
        "fr": (
            *("janvier", "février", "mars", "avril", "mai", "juin"),
            *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
        ),
        "en": (
            *("January", "February", "March", "April", "May", "June"),
            *("July", "August", "September", "October", "November", "December"),
        ),
    }
)
_LOGO_TYPES: Final[Mapping[str, tuple[str, bytes]]] = MappingProxyType(
    {  # suffix -> content type, and what such a file must contain near its beginning
        ".svg": ("image/svg+xml", b"<svg"),
        ".png": ("image/png", b"\x89PNG"),
        ".jpg": ("image/jpeg", b"\xff\xd8\xff"),
        ".jpeg": ("image/jpeg", b"\xff\xd8\xff"),
        ".webp": ("image/webp", b"WEBP"),
    }
)
_LOGO_LIMIT: Final = 256 * 1024  # bytes: each page of each person loads it, over the ward's network
_LOGO_HEAD: Final = 4096  # bytes: an SVG may open with a prolog and a licence

_STATIC_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # The operator's SVG could hold a script: opened by itself it lands in a sandbox, inside <img> it never runs.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "public, max-age=31536000, immutable",  # the name holds a hash of the content
    }
)


class PageSettings(Protocol):
    """What of the section `pages` is needed here; `config.PagesSettings` fits."""

    @property
    def language(self) -> str: ...
    @property
    def establishment(self) -> str: ...
    @property
    def contact(self) -> str: ...
    @property
    def logo(self) -> Path | None: ...


class StaticFile(NamedTuple):
    """One file below `path_prefix/static/`. `etag` is quoted, ready for the header."""

    content_type: str
    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """What one page is made of.

    `status`: the usual HTTP status. `tone`: the drawing beside the title. `needs`: values that must be given.
    `may`: values that may be given, with what stands when they are not.
    """

    status: int
    tone: Literal["key", "done", "person", "info", "wait", "stop"]
    needs: tuple[str, ...] = ("action_url",)
    may: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


EVERYWHERE: Final[Mapping[str, object]] = MappingProxyType(
    {
        "reference": None,  # str: the short reference that is in the log
        "app_title": "",  # str: the application's name as people know it
        "switch_person_url": None,  # str: «changer de professionnel», where a session exists (decision 15)
        "here": None,  # str: raw path?query of this page, for the language switch; None where reading it again makes no sense
    }
)
"""Values every page may be given."""

PAGES: Final[Mapping[str, Page]] = MappingProxyType(
    {
        # action_url is where the one main button leads (or posts). Beside each: what its other values are.
        "sign_in": Page(
            200, "key", ("action_url", "hidden"), {"notice": None}
        ),  # hidden: Mapping; notice: None or "ended"
        "sign_out": Page(200, "info", ("action_url", "hidden"), {"who": None, "cancel_url": None}),
        "signed_out": Page(200, "done", may={"psc_told": True}),  # False: PSC could not be told
        "session": Page(
            200,
            "person",
            # since, ends_at: Unix seconds; apps: [(title, url)]; action_url: sign-out; idle: seconds, 0 = not shown
            (
                "action_url",
                "given_name",
                "family_name",
                "profession",
                "structure",
                "auth_mode",
                "since",
                "ends_at",
                "apps",
            ),
            {"idle": 0},
        ),
        "refused": Page(403, "stop", ("action_url", "reason", "required", "who"), {"back_url": None}),  # see REASONS
        "refused_general": Page(403, "stop"),
        "unavailable": Page(503, "wait", may={"retry_after": 0}),  # seconds, 0 = not said
        "stale": Page(400, "info"),
        "loop": Page(400, "stop", may={"cause": None, "technical": ()}),  # see CAUSES; technical: lines for IT
        "lost": Page(401, "info"),
        "frame": Page(401, "key"),
        "denied": Page(403, "info"),
        "level": Page(403, "stop"),
        "error": Page(500, "stop"),
        "not_found": Page(404, "info"),
        "down": Page(503, "wait", ()),
        "handoff_problem": Page(400, "info"),
    }
)

REASONS: Final = ("rule", "acr", "max_age", "unknown")
"""Values of `reason` on the page `refused`."""

CAUSES: Final = ("cookies", "routing", "origin")
"""Values of `cause` on the page `loop`: cookies refused; `/psc/` not routed to us; scheme, host or port differ."""

NOTICES: Final = ("ended",)
"""Values of `notice` on the page `sign_in`."""


class Pages:
    """All pages of one configuration, compiled.

    Raises `ConfigError` when the logo cannot be used.
    """

    def __init__(self, settings: PageSettings, path_prefix: str = "/psc") -> None:
        here = resources.files("forward_auth.web")
        self._default: Language = "en" if settings.language == "en" else "fr"
        self._zone, self._zone_label = _paris()
        self._texts = _read_texts((here / "texts.toml").read_text("utf-8"))

        self._files: dict[str, StaticFile] = {}
        self._static_base = f"{path_prefix}/static/"
        css = (here / "static" / "pages.css").read_bytes()
        icon = (here / "static" / "icon.svg").read_bytes()
        look: dict[str, object] = {
            "css_url": self._keep("pages.css", "text/css; charset=utf-8", css),
            "icon_url": self._keep("icon.svg", "image/svg+xml", icon),
            "logo_url": None,
        }
        # The page of last resort is one file for the proxy to keep: everything inside it.
        inside: dict[str, object] = {
            "css_url": None,
            "css": Markup(css.decode("utf-8")),  # noqa: S704 - our own file, read from the package
            "css_hash": "sha256-" + base64.b64encode(hashlib.sha256(css).digest()).decode("ascii"),
            "icon_url": _data_url("image/svg+xml", icon),
            "logo_url": None,
        }
        if settings.logo is not None:
            content_type, body = _read_logo(settings.logo)
            look["logo_url"] = self._keep("logo" + settings.logo.suffix.lower(), content_type, body)
            inside["logo_url"] = _data_url(content_type, body)
        self._look, self._inside = look, inside

        environment = Environment(
            loader=DictLoader(
                {f.name: f.read_text("utf-8") for f in (here / "templates").iterdir() if f.name.endswith(".html")}
            ),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            cache_size=-1,
        )
        environment.globals.update(
            establishment=settings.establishment.strip(),
            contact=settings.contact.strip(),
            psc_explained=PSC_EXPLAINED,
            language_names=_LANGUAGE_NAMES,
        )
        environment.globals["moment"] = self._moment
        environment.globals["duration"] = duration
        self._templates: dict[str, Template] = {}
        for name in environment.list_templates():  # compiles base and parts as well, so that no request does
            self._templates[name.removesuffix(".html")] = environment.get_template(name)

    def render(self, name: str, language: str, *, status: int | None = None, **values: object) -> bytes:
        """The page as UTF-8 HTML.

        `values`: what `PAGES[name]` needs, and may have, and what `EVERYWHERE` may have; None stands for «not given» among the
        latter two. `status` is shown to the help desk beside the reference when it is an error; default `PAGES[name].status`.
        Raises KeyError for an unknown page, TypeError for a missing or unannounced value, ValueError for one that is no link
        or none of its table.
        """
        return self._render(name, language, status, values, self._look).encode("utf-8")

    def static_down_page(self, language: str) -> str:
        """The page for the proxy to show when this service cannot be reached: one file, nothing outside it."""
        return self._render("down", language, None, {}, self._inside)

    def language_of(self, accept_language: str | None, chosen: str | None = None) -> Language:
        """The language to answer in: the one chosen by `?lang=`, else the one `Accept-Language` clearly prefers (RFC 9110
        §12.5.4), else the configured one. Never raises, whatever the header holds.
        """
        if chosen == "fr":
            return "fr"
        if chosen == "en":
            return "en"
        if not accept_language:
            return self._default
        quality = _qualities(accept_language)
        other = _OTHER[self._default]
        return other if quality[other] > quality[self._default] else self._default

    def security_headers(
        self,
        form_action: Sequence[str] = (),
        *,
        https: bool = False,
        frame_ancestors: Sequence[str] | None = None,
    ) -> Mapping[str, str]:
        """The headers of every page (OWASP ASVS 5.0 3.4.1–3.4.8).

        `form_action`: addresses (only their origins are used) that an answer to a form of this page may redirect to, one hop
        or more: Chromium holds form-action against every redirect after a POST. `https`: also HSTS, for where the proxy does
        not send it. `frame_ancestors`: None, or for the page `frame` alone, the origins of applications in whose frame
        it may be shown beside our own. Raises ValueError for something that is no http(s) address.
        """
        forms = " ".join(["'self'", *_origins(form_action)])
        ancestors = "'none'" if frame_ancestors is None else " ".join(["'self'", *_origins(frame_ancestors)])
        headers = {
            "Content-Security-Policy": (
                "default-src 'none'; style-src 'self'; img-src 'self'; "
                f"form-action {forms}; object-src 'none'; base-uri 'none'; frame-ancestors {ancestors}"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            "Cache-Control": "no-store",
        }
        if frame_ancestors is None:
            headers["X-Frame-Options"] = "DENY"  # for ward browsers older than frame-ancestors
        if https:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        return headers

    def static(self, name: str) -> StaticFile | None:
        """The file of this exact name (hash included), or None. `name` is only ever looked up, never opened."""
        return self._files.get(name)

    def static_headers(self) -> Mapping[str, str]:
        """The headers every file of `static` leaves with, beside Content-Type and ETag."""
        return _STATIC_HEADERS

    def static_url(self, name: str) -> str | None:
        """The address of `pages.css`, `icon.svg` or `logo.*`, hash included; None when there is no such file."""
        stem, _, suffix = name.rpartition(".")
        for known in self._files:
            if known.startswith(f"{stem}-") and known.endswith(f".{suffix}"):
                return self._static_base + known
        return None

    def _keep(self, name: str, content_type: str, body: bytes) -> str:
        digest = hashlib.sha256(body).hexdigest()[:16]
        stem, _, suffix = name.rpartition(".")
        hashed = f"{stem}-{digest}.{suffix}"
        self._files[hashed] = StaticFile(content_type, body, f'"{digest}"')
        return self._static_base + hashed

    def _render(
        self, name: str, language: str, status: int | None, values: Mapping[str, object], look: Mapping[str, object]
    ) -> str:
        page = PAGES[name]
        spoken: Language = "en" if language == "en" else "fr"
        complete = _complete(name, page, values)
        texts = self._texts[spoken][name]
        title = str(complete["app_title"])
        shown = page.status if status is None else status
        return self._templates[name].render(
            **complete,
            **look,
            t=texts,
            language=spoken,
            tone=page.tone,
            app=texts["app_quoted"].format(app=title) if title else texts["app_unnamed"],
            error_status=shown if shown >= 400 else None,
            switch=_switch(complete["here"], _OTHER[spoken]),
            switch_language=_OTHER[spoken],
        )

    def _moment(self, seconds: int, language: Language) -> Markup:
        """A <time> element: «24 novembre 2026 à 14 h 05», Paris time where the zone is known, else UTC and says so."""
        at = datetime.fromtimestamp(seconds, self._zone)
        words = moment(at, language) + self._zone_label
        return Markup('<time datetime="{}">{}</time>').format(at.isoformat(timespec="minutes"), words)


def moment(at: datetime, language: Language) -> str:
    """A date and time in words, as the language writes it, with spaces that do not break inside the hour."""
    month = _MONTHS[language][at.month - 1]
    if language == "fr":
        day = "1er" if at.day == 1 else str(at.day)
        return f"{day} {month} {at.year} à {at.hour}\u00a0h\u00a0{at.minute:02d}"
    return f"{at.day} {month} {at.year} at {at.hour:02d}:{at.minute:02d}"


def duration(seconds: int, language: Language) -> str:
    """A length of time in words, rounded up to whole minutes from one minute on: «30 secondes», «1 minute», «4 heures»."""
    french = language == "fr"
    if seconds < 60:
        number, one, many = max(1, seconds), *(("seconde", "secondes") if french else ("second", "seconds"))
    elif seconds % 3600 == 0:
        number, one, many = seconds // 3600, *(("heure", "heures") if french else ("hour", "hours"))
    else:
        number, one, many = -(-seconds // 60), "minute", "minutes"
    return f"{number}\u00a0{one if number == 1 else many}"


def _complete(name: str, page: Page, values: Mapping[str, object]) -> dict[str, object]:
    missing = [key for key in page.needs if key not in values]
    unannounced = [key for key in values if key not in page.needs and key not in page.may and key not in EVERYWHERE]
    if missing or unannounced:
        raise TypeError(f"page {name}: missing {missing}, unannounced {unannounced}")
    defaults = {**EVERYWHERE, **page.may}
    complete = {**defaults, **values}
    for key, default in defaults.items():
        if complete[key] is None:
            complete[key] = default
    for key, value in complete.items():
        if key.endswith("_url") and value is not None:
            _check_link(str(value))
    for key, table in (("reason", REASONS), ("cause", CAUSES), ("notice", NOTICES)):
        if complete.get(key) is not None and complete[key] not in table:
            raise ValueError(f"page {name}: {key} is none of {table}")
    for _, url in _pairs(complete.get("apps", ())):
        _check_link(url)
    return complete


def _pairs(apps: object) -> Iterable[tuple[str, str]]:
    if not isinstance(apps, Iterable):
        raise TypeError("apps is a sequence of (title, url)")
    for title, url in apps:
        yield str(title), str(url)


_LINK: Final = re.compile(r"(?:https?://[^/\s\\]|/(?![/\\]))[^\s\\\x00-\x1f\x7f]*\Z")


def _check_link(url: str) -> None:
    """Stops `javascript:`, `data:` and `//elsewhere` (PAGE-01), whoever let them come so far."""
    if url != "/" and not _LINK.match(url):
        raise ValueError("a page links to http(s) addresses and to paths of this host only")


def _switch(here: object, other: Language) -> str | None:
    """The same address with `lang=` changed and every other byte kept. What is no plain path gets no switch."""
    if here is None:
        return None
    path, _, query = str(here).partition("?")
    if len(str(here)) > 8192 or not _LINK.match(path) or not path.startswith("/") or not str(here).isascii():
        return None
    kept = [part for part in query.split("&") if part and part != "lang" and not part.startswith("lang=")]
    return path + "?" + "&".join([*kept, f"lang={other}"])


def _qualities(accept_language: str) -> dict[Language, float]:
    """Quality of French and of English in an Accept-Language; `*` counts for a language that is not named."""
    named: dict[str, float] = {}
    for item in accept_language[:1000].split(",")[:32]:
        tag, *parameters = item.strip().lower().split(";")
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.strip().partition("=")
            if key == "q":
                quality = float(value) if re.fullmatch(r"[01](?:\.[0-9]{0,3})?", value) else 0.0
        primary = tag.strip().split("-")[0]
        named[primary] = max(named.get(primary, 0.0), min(quality, 1.0))
    rest = named.get("*", 0.0)
    return {"fr": named.get("fr", rest), "en": named.get("en", rest)}


_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")


def _origins(addresses: Sequence[str]) -> list[str]:
    """The origins of these addresses, each once. Raises ValueError rather than let `;` or a space into a CSP (PAGE-03)."""
    found: dict[str, None] = {}
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"} or not _AUTHORITY.match(parts.netloc) or not address.isprintable():
            raise ValueError("form-action and frame-ancestors take http(s) addresses only")
        found[f"{parts.scheme}://{parts.netloc.lower()}"] = None
    return list(found)


def _paris() -> tuple[tzinfo, str]:
    """Paris time, or UTC with the label that says so where the machine has no zone data."""
    try:
        return ZoneInfo("Europe/Paris"), ""
    except ZoneInfoNotFoundError:
        return UTC, "\u00a0(UTC)"


def _data_url(content_type: str, body: bytes) -> str:
    return f"data:{content_type};base64,{base64.b64encode(body).decode('ascii')}"


def _read_logo(logo: Path) -> tuple[str, bytes]:
    def wrong(problem: str, cure: str) -> ConfigError:
        return ConfigError((Mistake(str(logo), 0, "pages.logo", problem, cure),))

    known = _LOGO_TYPES.get(logo.suffix.lower())
    if known is None:
        raise wrong("not a picture a browser shows", f"give a file ending in {', '.join(_LOGO_TYPES)}")
    try:
        with logo.open("rb") as file:
            body = file.read(_LOGO_LIMIT + 1)
    except OSError as error:
        raise wrong(f"cannot be read ({error.strerror})", "give the path of a readable file") from error
    if len(body) > _LOGO_LIMIT:
        raise wrong("larger than 256 KiB", "give a smaller picture; it is shown 56 pixels high")
    content_type, mark = known
    if mark not in body[:_LOGO_HEAD]:
        raise wrong(f"not what its name says ({content_type})", "give the file its true ending")
    return content_type, body


def _read_texts(toml: str) -> dict[Language, dict[str, dict[str, Markup]]]:
    """texts.toml -> language -> page -> key -> text. A page's texts are the common ones and its own.

    Texts are written by us and are trusted markup; what is filled into them is escaped.
    """
    tables = tomllib.loads(toml)
    common = tables.pop("common")
    texts: dict[Language, dict[str, dict[str, Markup]]] = {"fr": {}, "en": {}}
    for language, pages in texts.items():
        for page, table in tables.items():
            pages[page] = {
                key: Markup(french(both[language]) if language == "fr" else both[language])  # noqa: S704 - our own file
                for key, both in {**common, **table}.items()
            }
    return texts


def french(text: str) -> str:
    """French spacing: no line may begin with `: ; ? !` or `»`, nor end with `«`; a narrow space stands before `; ? !`."""
    text = re.sub(r" ([;?!])", "\u202f\\1", text)
    return text.replace(" :", "\u00a0:").replace("« ", "«\u00a0").replace(" »", "\u00a0»")
